"""Requests of a command to an identity provider, which is not trusted: no redirects, answers bounded in time and bytes.

Unlike requests to our server these keep to the proxies that the environment names: a provider may be on the internet.
One on this machine is asked without them.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import orjson

from pilothouse.cli.exits import NoServer

_LARGEST: Final = 256 * 1024
#: No other characters: what a person compares must be what is opened.
_ADDRESS: Final = re.compile(r"[!-\[\]-~]{1,2048}")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_HOST_IN_BRACKETS: Final = re.compile(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class ProviderDown(NoServer):
    """The provider did not answer in time, or the connection failed: the same request may succeed later."""


@dataclass(frozen=True)
class ProviderAnswer:
    """Status and JSON object of an answer."""

    status: int
    document: Mapping[str, Any]


class ProviderRequests:
    """Ask one provider."""

    def __init__(self, title: str, *, answer_seconds: float = 15.0) -> None:
        self._title = title
        self._seconds = answer_seconds
        self._clients: dict[bool, httpx2.AsyncClient] = {}

    async def ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> ProviderAnswer:
        """Return the answer with its JSON object; raise ProviderDown, or NoServer for another answer."""
        try:
            async with asyncio.timeout(self._seconds), self._client(url).stream(method, url, data=form) as answer:
                if answer.is_redirect:
                    raise NoServer(f"{self._named(url)} answers with a redirect, which is not followed")
                content = await self._read(answer, url)
        except TimeoutError as error:
            raise ProviderDown(f"{self._named(url)} did not answer within {self._seconds:g} s") from error
        except httpx2.HTTPError as error:
            raise self._failed(url, error) from error
        except httpx2.InvalidURL as error:
            raise NoServer(f"{self._named(url)} has an address that cannot be asked: {error}") from error
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            said = f"{self._named(url)} answered {answer.status_code} without a JSON object"
            raise ProviderDown(said) if answer.is_server_error else NoServer(said)
        return ProviderAnswer(answer.status_code, document)

    def _client(self, url: str) -> httpx2.AsyncClient:
        """Return the client for that address; raise NoServer for a proxy in the environment that cannot be used."""
        on_this_machine = urlsplit(url).hostname in LOOPBACK
        if on_this_machine not in self._clients:
            try:
                self._clients[on_this_machine] = httpx2.AsyncClient(
                    verify=ssl.create_default_context(),
                    timeout=None,  # the whole exchange has one
                    follow_redirects=False,
                    headers={"accept": "application/json", "accept-encoding": "identity"},
                    trust_env=not on_this_machine,
                )
            except (ImportError, ValueError, httpx2.InvalidURL) as error:  # it repeats the proxy, which may be a secret
                raise NoServer(
                    f"{self._named(url)} cannot be asked: HTTPS_PROXY or ALL_PROXY names a proxy of a kind that is not "
                    "known here; give one as http://HOST:PORT, or name the provider in NO_PROXY"
                ) from error
        return self._clients[on_this_machine]

    async def _read(self, answer: httpx2.Response, url: str) -> bytes:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise NoServer(f"{self._named(url)} compresses its answer, which was not asked for")
        content = bytearray()
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > _LARGEST:
                raise NoServer(f"{self._named(url)} answers with more than {_LARGEST // 1024} KiB")
        return bytes(content)

    def _failed(self, url: str, error: httpx2.HTTPError) -> NoServer:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return NoServer(
                f"the certificate of {self._named(url)} is not trusted: {error}; if its authority is your own, name it "
                "in SSL_CERT_FILE; if it is said to be not valid yet or expired, look at the clock of this machine"
            )
        return ProviderDown(f"{self._named(url)} cannot be reached: {str(error) or type(error).__name__}")

    def _named(self, url: str) -> str:
        parts = urlsplit(url)
        return f"the identity provider {self._title} ({parts.netloc}{parts.path})"

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()


def is_provider_address(said: object, *, plain: bool) -> bool:
    """Return True for an HTTPS address, or with ``plain`` also one of plain HTTP on this machine."""
    if not isinstance(said, str) or not _ADDRESS.fullmatch(said):
        return False
    try:
        parts = urlsplit(said)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    form = _HOST_IN_BRACKETS if "[" in parts.netloc else _HOST
    if "@" in parts.netloc or not form.fullmatch(host):
        return False
    return parts.scheme == "https" or (plain and parts.scheme == "http" and host in LOOPBACK)
