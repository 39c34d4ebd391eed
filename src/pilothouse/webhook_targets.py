"""One message to the target of a webhook, by the rules for addresses of clusters.

Users choose the target, and the message is sent from here, where more may be reachable than from there. So the name is
resolved and vetted for each message, the connection goes to a vetted address, and redirects are not followed. Nothing
that the target answers is kept but its status; why it cannot be reached is for the log, because it would tell the user
about the network.
"""

import asyncio
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

import aiohttp
import yarl

from pilothouse.errors import ClusterUnavailable, InvalidArgument, InvalidRequest, InvalidSettings
from pilothouse.kubernetes.addresses import Addresses, read_entries, resolve
from pilothouse.kubernetes.connector import describe_failure, new_session
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.settings import ClusterSettings, WebhookSettings

_LONGEST_URL: Final = 2048
_ALLOWED: Final = "PILOTHOUSE_WEBHOOKS__ALLOWED"
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Reply:
    """What came of a message: ``problem`` says why the target did not take it, ``detail`` the cause, for the log."""

    status: int | None
    problem: str = ""
    detail: str = ""


class Targets:
    """Check targets, and send to them."""

    def __init__(self, settings: WebhookSettings, clusters: ClusterSettings) -> None:
        """``clusters`` limit the lookups of names."""
        self._settings = settings
        self._addresses = Addresses(
            allow_loopback=settings.allow_loopback,
            entries=read_entries(settings.allowed, _ALLOWED),
            setting=_ALLOWED,
            servers="server that may be told",
        )
        self._resolver = Resolver(clusters)
        self._tls: ssl.SSLContext | None = None

    def check(self, url: str) -> str:
        """Return the origin of a target's URL; raise InvalidRequest if nothing is ever sent there."""
        parts = _split(url)
        if parts.scheme == "http" and not self._settings.plain_http:
            raise InvalidRequest(
                "url: must begin with https://; http:// needs PILOTHOUSE_WEBHOOKS__PLAIN_HTTP=true on the server"
            )
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            refusal = self._addresses.refusal(host, port=port)
        except ValueError:  # a name, which is vetted when it is resolved
            refusal = None
        if refusal is not None:
            raise InvalidRequest(f"url: {refusal}")
        return f"{parts.scheme}://{_in_url(host)}:{port}"

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, project: str) -> Reply:
        """Send the message; ``project`` takes part in the lookups of names."""
        seconds = self._settings.answer_seconds
        detail = f"no answer within {seconds:g} s"
        try:
            async with asyncio.timeout(seconds):
                return await self._post(_split(url), body, headers, project)
        except TimeoutError:
            pass
        except (ClusterUnavailable, InvalidRequest, InvalidSettings) as error:
            detail = str(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            detail = describe_failure(error)
        problem = f"it cannot be reached, or did not answer within {seconds:g} s; the log of Pilothouse has the cause"
        return Reply(None, problem, detail)

    async def _post(self, parts: SplitResult, body: bytes, headers: dict[str, str], project: str) -> Reply:
        if parts.scheme == "http" and not self._settings.plain_http:
            raise InvalidRequest("http:// is not allowed any more")
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        look_up = self._resolver.of(project)
        failure: aiohttp.ClientConnectorError | None = None
        # A session for each message: the library would use a connection of one name for another at the same address.
        async with new_session(self._trust()) as http:
            for address in await resolve(host, port=port, addresses=self._addresses, look_up=look_up):
                query = f"?{parts.query}" if parts.query else ""
                try:
                    answer = await http.post(
                        yarl.URL(f"{parts.scheme}://{_in_url(address)}:{port}{parts.path or '/'}{query}", encoded=True),
                        data=body,
                        headers={**headers, "host": parts.netloc, "accept-encoding": "identity"},
                        server_hostname=host if parts.scheme == "https" else None,
                        allow_redirects=False,
                        # Less than the limit around it: only its own makes the library close a half-open connection.
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.answer_seconds * 0.9),
                    )
                except aiohttp.ClientConnectorError as error:
                    failure = error
                    continue
                answer.close()  # nothing of the body is wanted, however long it is
                return _judge(answer.status)
        raise failure or OSError("no address")

    def _trust(self) -> ssl.SSLContext:
        """Return who is trusted; loaded once, when it is first needed."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._settings.ca is not None:
                try:
                    self._tls.load_verify_locations(self._settings.ca)
                except (OSError, ssl.SSLError) as error:
                    self._tls = None
                    raise InvalidSettings(f"PILOTHOUSE_WEBHOOKS__CA: {self._settings.ca}: {error}") from error
        return self._tls


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that can be a target's; raise InvalidRequest for another."""
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidArgument(f"url: at most {_LONGEST_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidArgument(f"url: {url!r} is no URL") from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise InvalidArgument("url: must read https://HOST[:PORT]/PATH")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidArgument("url: must have no user, no password and no fragment; the signature is what proves us")
    return parts


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _judge(status: int) -> Reply:
    if status < HTTPStatus.OK or status >= HTTPStatus.MULTIPLE_CHOICES:
        moved = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
        return Reply(status, f"it answered {status}" + (", a redirect, which is not followed" if moved else ""))
    return Reply(status)
