"""Log-in of a person from a terminal: its program asks the provider itself, and brings what that gives.

The program is a client of its own, without a secret, so nothing but the provider's signature counts.

Source: RFC 8628; OpenID Connect Core 1.0, sections 3.1.3.7 and 5.3.
"""

from collections.abc import Mapping

from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.log_in_tokens import verify_tokens
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.verification import Statement


class DeviceFlow:
    """Verify what people's programs got at the providers, by name."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = {name: one for name, one in providers.items() if one.configuration.device_client_id}

    def configurations(self) -> list[ProviderConfiguration]:
        """Return the providers at which people can log in from a terminal."""
        return [one.configuration for one in self._providers.values()]

    async def accept(self, name: str, *, id_token: str, access_token: str) -> Statement:
        """Return what the provider says of the person; raise NotAuthenticated or ProviderUnavailable."""
        provider = self._providers[name]
        return await verify_tokens(
            provider,
            id_token=id_token,
            access_token=access_token,
            client_id=provider.configuration.device_client_id,
            nonce="",
        )
