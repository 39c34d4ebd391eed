"""Checks of ``pilothouse doctor`` at the Keystone of the settings: it answers, and our service user can do its work."""

import shlex
from typing import Final

import httpx2

from pilothouse.cli.findings import Finding, State
from pilothouse.errors import ClusterUnavailable, InvalidSettings, ProviderUnavailable
from pilothouse.keystone.client import Keystone
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.redaction import redact
from pilothouse.settings import KeystoneSettings, Settings

_SERVER: Final = "keystone"
_USER: Final = "keystone user"
_NOT_IT: Final = "set PILOTHOUSE_KEYSTONE__URL to the address of Keystone's version 3, as its catalog has it"


async def check_keystone(settings: Settings) -> list[Finding]:
    """Return what was found; nothing if no Keystone is set up. Raise InvalidSettings for settings that contradict."""
    if not settings.keystone.url:
        return []
    clients = ClusterClients(settings.cluster)
    keystone = Keystone(settings.keystone, clients.resolver.of("identity providers"))
    try:
        try:
            version = await keystone.find_version()
        except ProviderUnavailable as error:
            return [
                _failed(_SERVER, error, _advice(error, otherwise=_NOT_IT)),
                Finding(_USER, State.SKIPPED, f"see {_SERVER}"),
            ]
        answers = Finding(_SERVER, State.OK, f"{settings.keystone.url}: Identity API {version}")
        return [answers, await _service_user(keystone, settings.keystone)]
    finally:
        await keystone.close()
        await clients.close()


async def _service_user(keystone: Keystone, settings: KeystoneSettings) -> Finding:
    prefix = "PILOTHOUSE_KEYSTONE__"
    advice = (
        f"set {prefix}USER, {prefix}USER_DOMAIN, {prefix}PROJECT and {prefix}PROJECT_DOMAIN to what Keystone has, and "
        f"write the password into {settings.password_file}"
    )
    try:
        token = await keystone.log_in()
        advice = f"in Keystone: {_role_command(settings)} (old releases: admin instead of service)"
        await keystone.check_right(token)
    except ProviderUnavailable as error:
        return _failed(_USER, error, _advice(error, otherwise=advice))
    return Finding(_USER, State.OK, f"{settings.user}, in project {settings.project}, may validate tokens")


def _role_command(settings: KeystoneSettings) -> str:
    of_user = ("--user", settings.user, "--user-domain", settings.user_domain)
    of_project = ("--project", settings.project, "--project-domain", settings.project_domain)
    return shlex.join(["openstack", "role", "add", *of_user, *of_project, "service"])


def _failed(check: str, error: ProviderUnavailable, advice: str) -> Finding:
    reason = f": {error.__cause__}" if isinstance(error.__cause__, httpx2.HTTPError) else ""
    return Finding(check, State.FAILED, redact(f"{error.cause}{reason}"), advice)


def _advice(error: ProviderUnavailable, *, otherwise: str) -> str:
    """Return what to do about a failed connection; ``otherwise`` about an answer."""
    match error.__cause__:
        case TimeoutError():
            return "see why Keystone is slow, or give it more time with PILOTHOUSE_KEYSTONE__ANSWER_SECONDS"
        case InvalidSettings():
            return "write the service user's password into that file, and let the server's account read it"
        case ClusterUnavailable():
            return "set PILOTHOUSE_KEYSTONE__URL, and PILOTHOUSE_KEYSTONE__ALLOWED if the address is meant"
        case httpx2.HTTPError() as failed if "CERTIFICATE" in str(failed):
            return "name the authority of Keystone's certificate in PILOTHOUSE_KEYSTONE__CA"
        case httpx2.HTTPError():
            return "start Keystone, or set PILOTHOUSE_KEYSTONE__URL to where it listens"
        case _:
            return otherwise
