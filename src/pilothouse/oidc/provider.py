"""One provider, asked over HTTP: its description and keys.

What it answers is not trusted beyond its issuer: its documents must name that, its addresses are vetted, redirects are
not followed, and answers are bounded in time and bytes.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from joserfc.jwk import Key

from pilothouse.errors import ClusterUnavailable, InvalidSettings, ProviderUnavailable
from pilothouse.kubernetes.addresses import Addresses, read_entries
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.oidc.configuration import ProviderConfiguration, read_providers
from pilothouse.oidc.kept import Kept
from pilothouse.oidc.key_set import KeySet
from pilothouse.outgoing import VettedTransport
from pilothouse.settings import OidcSettings

_ALLOWED: Final = "PILOTHOUSE_OIDC__ALLOWED"
_OK: Final = 200


@dataclass(frozen=True)
class Description:
    """What a provider says of itself; an address that it does not name is empty."""

    keys: str
    authorization: str
    token: str
    userinfo: str
    secret_in_body: bool
    names_itself: bool


class Provider:
    """One provider; its documents are kept."""

    def __init__(
        self,
        configuration: ProviderConfiguration,
        settings: OidcSettings,
        look_up: LookUp,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise InvalidSettings for a list of addresses or certificates that cannot be read."""
        self.configuration = configuration
        self.settings = settings
        self._look_up = look_up
        self._tls = _trust(settings)
        self._addresses = Addresses(
            allow_loopback=settings.allow_loopback,
            entries=read_entries(settings.allowed, _ALLOWED),
            setting=_ALLOWED,
            servers="identity provider",
        )
        self._description = Kept(self._read_description, settings, clock=clock)
        self._keys = Kept(self._read_keys, settings, clock=clock)

    async def describe(self) -> Description:
        """Return its description; raise ProviderUnavailable."""
        return await self._description.get()

    async def find_key(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key that a token names; None if it has none, asked again if that is due.

        Raises ProviderUnavailable.
        """
        found = (await self._keys.get()).find(kid, algorithm)
        return found or (await self._keys.get_newer()).find(kid, algorithm)

    def transport(self) -> VettedTransport:
        """Return a transport for one exchange with the provider."""
        return VettedTransport(self._addresses, self._look_up, tls=self._tls, largest=self.settings.answer_bytes)

    async def read_json(self, url: str, *, token: str = "") -> dict[str, Any]:
        """Return the JSON object at that address, fetched with a bearer token if one is given.

        Raises ProviderUnavailable, never in the provider's own words.
        """
        headers = {"accept": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        with self.failures():
            async with (
                asyncio.timeout(self.settings.answer_seconds),
                httpx2.AsyncClient(transport=self.transport(), trust_env=False, timeout=None) as http,
            ):
                answer = await http.get(url, headers=headers)
                if answer.status_code != _OK:
                    raise ProviderUnavailable(f"{_place(url)} answered {answer.status_code}")
                document = json.loads(answer.content)
            if not isinstance(document, dict):
                raise ProviderUnavailable(f"{_place(url)} did not answer with a JSON object")
        return document

    def failures(self) -> "_Failures":
        """Return a context in which what goes wrong between us and the provider is ProviderUnavailable."""
        return _Failures(self.configuration.shown, self.settings.answer_seconds)

    async def _read_description(self) -> Description:
        issuer = self.configuration.issuer
        document = await self.read_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        methods = document.get("token_endpoint_auth_methods_supported")
        with self.failures():
            if document.get("issuer") != issuer:
                raise ProviderUnavailable(f"it calls itself another issuer than {issuer}")
            return Description(
                keys=self._address(document, "jwks_uri", needed=True),
                authorization=self._address(document, "authorization_endpoint"),
                token=self._address(document, "token_endpoint"),
                userinfo=self._address(document, "userinfo_endpoint"),
                secret_in_body=isinstance(methods, list) and "client_secret_basic" not in methods,
                names_itself=document.get("authorization_response_iss_parameter_supported") is True,
            )

    def _address(self, document: dict[str, Any], name: str, *, needed: bool = False) -> str:
        address = document.get(name, "")
        schemes = {"https", urlsplit(self.configuration.issuer).scheme}
        if not isinstance(address, str) or (address and _scheme(address) not in schemes):
            raise ProviderUnavailable(f"it names no https address as {name}")
        if needed and not address:
            raise ProviderUnavailable(f"it does not say its {name}")
        return address

    async def _read_keys(self) -> KeySet:
        description = await self._description.get()
        with self.failures():
            return KeySet(await self.read_json(description.keys))

    async def close(self) -> None:
        """End what is under way."""
        await self._keys.close()
        await self._description.close()


def providers_of(settings: OidcSettings, look_up: LookUp) -> dict[str, Provider]:
    """Return the providers of the settings by name; raise InvalidSettings."""
    return {name: Provider(one, settings, look_up) for name, one in read_providers(settings).items()}


class _Failures:
    """Convert errors of connections and documents to ProviderUnavailable."""

    def __init__(self, provider: str, seconds: float) -> None:
        self._provider = provider
        self._seconds = seconds

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        cause = ""
        if isinstance(error, ProviderUnavailable):
            cause = str(error)
            if cause.startswith("the identity provider"):
                return
        elif isinstance(error, TimeoutError):
            cause = f"it did not answer within {self._seconds:g} s"
        elif isinstance(error, ClusterUnavailable):
            cause = str(error)  # an address that is refused, or a name that is not found
        elif isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | ssl.SSLError):
            cause = f"the connection failed ({type(error).__name__})"
        elif isinstance(error, ValueError | RecursionError):
            cause = "its answer is not JSON"
        if cause:
            raise ProviderUnavailable(f"the identity provider {self._provider} cannot be used now: {cause}") from error


def _trust(settings: OidcSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"PILOTHOUSE_OIDC__CA={settings.ca} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _place(url: str) -> str:
    """Return host and path of an address, for messages."""
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"[:200]
