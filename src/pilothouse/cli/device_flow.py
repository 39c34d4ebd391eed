"""Log-in at an identity provider from a terminal: a browser on any device confirms a code.

Source: RFC 8628 (OAuth 2.0 Device Authorization Grant); OpenID Connect Discovery 1.0.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pilothouse.cli.exits import NoServer
from pilothouse.cli.provider_requests import ProviderDown, ProviderRequests, is_provider_address
from pilothouse.errors import InvalidRequest

_OK: Final = 200
#: Too many requests, or a server in front of the provider that has none behind it now.
_LATER: Final = frozenset({429, 500, 502, 503, 504})
_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL: Final = 5.0
#: What a provider may ask for; a longer one would keep the person waiting for nothing.
_SHORTEST, _LONGEST = 1.0, 60.0
_SLOWER: Final = 5.0
_MOST_SECONDS: Final = 3600.0
_LONGEST_CODE: Final = 4096
_CODE: Final = re.compile(rf"[!-~]{{1,{_LONGEST_CODE}}}")
#: Short enough to be typed, and on one line.
_USER_CODE: Final = re.compile(r"[!-~]{1,32}")
_LONGEST_ERROR: Final = 80
_REFUSALS: Final = {
    "access_denied": "the log-in was refused there",
    "expired_token": "the code has expired before it was confirmed; begin again",
    "invalid_client": "it does not know the client {client}; the server's administrator can correct device_client_id",
    "unauthorized_client": "its client {client} may not log in from terminals; allow it device authorization there",
    "unsupported_grant_type": "it does not let anybody log in from terminals; allow device authorization there",
    "invalid_scope": "it does not know the scopes that the server names; its administrator can correct them",
    "invalid_grant": "it does not accept the code any more; begin again",
}


@dataclass(frozen=True)
class DeviceClient:
    """What our server says: a provider, and the client that this program is there."""

    name: str
    title: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """What the person does, and how the provider is asked about it."""

    user_code: str
    page: str
    page_with_code: str
    seconds: float
    interval: float
    device_code: str = field(repr=False)


@dataclass(frozen=True)
class GivenTokens:
    """What the provider gave for the log-in."""

    id_token: str = field(repr=False)
    access_token: str = field(repr=False)


@dataclass(frozen=True)
class _Endpoints:
    device: str
    token: str


class DeviceFlow:
    """Log in at one provider."""

    def __init__(
        self,
        client: DeviceClient,
        requests: ProviderRequests,
        *,
        plain: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``plain``: a provider on this machine may speak plain HTTP; ``clock`` is monotonic."""
        self._client = client
        self._requests = requests
        self._plain = plain
        self._clock = clock
        self._sleep = sleep

    async def log_in(self, show: Callable[[Code], None]) -> GivenTokens:
        """Return what the provider gives when the person has confirmed the code that ``show`` is called with.

        Raises NoServer for a provider that cannot be used, InvalidRequest for a log-in that it refuses.
        """
        endpoints = await self._discover()
        code = await self._begin(endpoints)
        until = self._clock() + code.seconds
        show(code)
        return await self._poll(endpoints, code, until)

    async def _discover(self) -> _Endpoints:
        issuer = self._client.issuer
        if not is_provider_address(issuer, plain=self._plain):
            raise self._unusable(f"the server names {issuer!r} as its issuer, which is no https:// address")
        answer = await self._requests.ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        document = answer.document
        if answer.status != _OK:
            raise self._unusable(f"it answered {answer.status} where it should describe itself")
        if document.get("issuer") != issuer:
            raise self._unusable(f"it calls itself another issuer than {issuer}")
        if not document.get("device_authorization_endpoint"):
            raise self._unusable(
                "it has no device authorization (RFC 8628): its description names no device_authorization_endpoint. "
                "Switch it on there; or log in to the console in a browser and make an access key, or with a password"
            )
        device, token = (self._address(document, f"{name}_endpoint") for name in ("device_authorization", "token"))
        return _Endpoints(device, token)

    def _address(self, document: Any, name: str) -> str:
        address = document.get(name)
        if not is_provider_address(address, plain=self._plain):
            raise self._unusable(f"it names no https:// address as {name}")
        return str(address)

    async def _begin(self, endpoints: _Endpoints) -> Code:
        asked = {"client_id": self._client.client_id, "scope": " ".join(self._client.scopes)}
        answer = await self._requests.ask("POST", endpoints.device, asked)
        said = answer.document
        if answer.status != _OK:
            raise self._refused(said, answer.status)
        page = said.get("verification_uri", said.get("verification_url"))  # some have the name of an early draft
        with_code = said.get("verification_uri_complete")
        if not is_provider_address(page, plain=self._plain):
            raise self._unusable("it names no https:// page to open")
        return Code(
            user_code=self._text(said, "user_code", _USER_CODE),
            page=str(page),
            page_with_code=str(with_code) if is_provider_address(with_code, plain=self._plain) else "",
            seconds=min(self._number(said, "expires_in", None), _MOST_SECONDS),
            interval=min(max(self._number(said, "interval", _INTERVAL), _SHORTEST), _LONGEST),
            device_code=self._text(said, "device_code", _CODE),
        )

    async def _poll(self, endpoints: _Endpoints, code: Code, until: float) -> GivenTokens:
        """Ask for the tokens as often as the provider allows, until they are there, refused, or too late."""
        asked = {"grant_type": _GRANT, "device_code": code.device_code, "client_id": self._client.client_id}
        interval = code.interval
        while True:
            left = until - self._clock()
            if left <= 0:
                raise InvalidRequest(f"{self._client.title}: {_REFUSALS['expired_token']}")
            await self._sleep(min(interval, left))
            try:
                answer = await self._requests.ask("POST", endpoints.token, asked)
            except ProviderDown:
                if until - self._clock() <= 0:
                    raise
                interval = min(interval * 2, _LONGEST)  # as section 3.5 has it
                continue
            if answer.status == _OK:
                return self._tokens(answer.document)
            error = answer.document.get("error")
            if error == "slow_down":
                interval += _SLOWER
            elif answer.status in _LATER:
                interval = min(interval * 2, _LONGEST)
            elif error != "authorization_pending":
                raise self._refused(answer.document, answer.status)

    def _tokens(self, said: Any) -> GivenTokens:
        id_token, access_token = said.get("id_token"), said.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise self._unusable("it gave no ID token; its device authorization must support the scope openid")
        return GivenTokens(id_token, access_token)

    def _text(self, said: Any, name: str, form: re.Pattern[str]) -> str:
        text = said.get(name)
        if not isinstance(text, str) or not form.fullmatch(text):
            raise self._unusable(f"it answered without a usable {name}")
        return text

    def _number(self, said: Any, name: str, default: float | None) -> float:
        number = said.get(name, default)
        if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
            raise self._unusable(f"it answered without a usable {name}")
        return float(number)

    def _refused(self, said: Any, status: int) -> InvalidRequest:
        error = said.get("error")
        if not isinstance(error, str):
            return InvalidRequest(f"the identity provider {self._client.title} refused the log-in with {status}")
        known = _REFUSALS.get(error, "").format(client=self._client.client_id)
        text = known or f"it answered {error[:_LONGEST_ERROR]!r}"
        return InvalidRequest(f"the identity provider {self._client.title} refused the log-in: {text}")

    def _unusable(self, why: str) -> NoServer:
        return NoServer(f"the identity provider {self._client.title} cannot be used from a terminal: {why}")
