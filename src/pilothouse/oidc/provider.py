"""One provider, asked over HTTP: its description and keys.

What it answers is not trusted beyond its issuer: its documents must name that, its addresses are vetted, redirects are
not followed, and answers are bounded in time and bytes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from joserfc.jwk import Key

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.oidc.configuration import ProviderConfiguration, read_providers
from pilothouse.oidc.key_set import KeySet
from pilothouse.outgoing import VettedTransport
from pilothouse.providers.exchange import Exchange, Failures, place_of, read_object
from pilothouse.providers.kept import Kept
from pilothouse.settings import OidcSettings

_OK: Final = 200
_REFUSED: Final = frozenset({401, 403})


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
        self._exchange = Exchange(configuration.shown, settings, look_up, group="PILOTHOUSE_OIDC__")
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
        return self._exchange.transport()

    def failures(self) -> Failures:
        """Return a context in which what goes wrong between us and the provider is ProviderUnavailable."""
        return self._exchange.failures()

    async def read_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at that address; raise ProviderUnavailable, never in the provider's own words."""
        with self.failures():
            return _document(await self._exchange.send("GET", url, headers={}), url)

    async def read_user_info(self, url: str, access_token: str) -> dict[str, Any]:
        """Return the user info that the access token opens.

        Raises NotAuthenticated for a token that the provider refuses, or ProviderUnavailable.
        """
        with self.failures():
            answer = await self._exchange.send("GET", url, headers={"authorization": f"Bearer {access_token}"})
            if answer.status_code in _REFUSED:
                raise NotAuthenticated("The provider does not show its user info for this access token.")
            return _document(answer, url)

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
    return {name: Provider(provider, settings, look_up) for name, provider in read_providers(settings).items()}


def _document(answer: httpx2.Response, url: str) -> dict[str, Any]:
    if answer.status_code != _OK:
        raise ProviderUnavailable(f"{place_of(url)} answered {answer.status_code}")
    return read_object(answer)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
