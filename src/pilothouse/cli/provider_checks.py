"""Checks of ``pilothouse doctor`` at OpenID Connect providers: each describes itself and publishes its keys."""

import asyncio

from pilothouse.cli.findings import Finding, State
from pilothouse.errors import ProviderUnavailable
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.oidc.provider import Provider, providers_of
from pilothouse.redaction import redact
from pilothouse.settings import Settings


async def check_providers(settings: Settings) -> list[Finding]:
    """Return one finding for each provider; raise InvalidSettings for a file of providers that is wrong."""
    if settings.oidc.file is None:
        return []
    clients = ClusterClients(settings.cluster)
    try:
        providers = providers_of(settings.oidc, clients.resolver.of("identity providers")).values()
        try:
            return list(await asyncio.gather(*(_check(provider) for provider in providers)))
        finally:
            for provider in providers:
                await provider.close()
    finally:
        await clients.close()


async def _check(provider: Provider) -> Finding:
    configuration, name = provider.configuration, f"provider {provider.configuration.name}"
    try:
        await provider.describe()
        await provider.find_key(None, configuration.algorithms[0])
    except ProviderUnavailable as error:
        return Finding(
            name,
            State.FAILED,
            redact(f"{configuration.issuer}: {error.cause}"),
            "see that this machine reaches it, and that its issuer in PILOTHOUSE_OIDC__FILE is what it calls itself; "
            "PILOTHOUSE_OIDC__CA names its authority, PILOTHOUSE_OIDC__ALLOWED its address",
        )
    return Finding(name, State.OK, f"{configuration.issuer}: describes itself and its keys")
