"""Requests to where charts come from, under the rules for addresses; each redirect is judged like the first address.

Users choose the address, and a source chooses where it redirects to, so neither is trusted: names are resolved here and
vetted each time, and credentials go to the source's own host and port only. Nothing of what a source answers is quoted
in errors, nor the query of a URL, which signs those of storage services.
"""

import asyncio
import base64
import hashlib
import io
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO, Final, cast
from urllib.parse import urljoin, urlsplit

import aiohttp
import yarl

from pilothouse.errors import Busy, ClusterUnavailable, InvalidSource, SourceDenied, SourceUnavailable, SourceUntrusted
from pilothouse.kubernetes.addresses import addresses_of, is_public, resolve
from pilothouse.kubernetes.connector import describe_failure, new_session
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.settings import SourceSettings

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_PORTS: Final = {"https": 443, "http": 80}
_LONGEST_URL: Final = 300
_PIECE: Final = 64 * 1024
_IN_MEMORY: Final = 1024 * 1024
_MOST_RETRY_AFTER: Final = 3600
_RETRY_AFTER_DIGITS: Final = 9
#: An answer that is not a success is read no further than this, so that its connection can be used again.
_SHORT: Final = 64 * 1024
_FIRST_REDIRECT, _FIRST_ERROR, _TOO_MANY = 300, 400, 429


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A source and its credentials; ``known``: it has answered as a source before."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    known: bool = False

    @property
    def basic(self) -> str:
        """Return the header of the credentials; empty without any."""
        if not self.username and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Answer:
    """An answer: its body, unless that went into a file, with its size and SHA-256 in hex; none of a refusal."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    url: str
    body: bytes = field(repr=False)
    size: int
    digest: str


def authority(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; raise InvalidSource for one that is not valid."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise InvalidSource(f"{shown(url)} is not an https:// URL") from None
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise InvalidSource(f"{shown(url)} must name a host, and no credentials")
    return parts.scheme, parts.hostname.lower(), port


def joined(base: str, url: str) -> str:
    """Return the URL that ``url``, which may be relative, means at ``base``; raise InvalidSource if it is none."""
    try:
        target = urljoin(base, url)
        urlsplit(target)
    except ValueError:
        raise InvalidSource(f"{shown(base)} leads to {shown(url)!r}, which is not a URL") from None
    return target


def shown(url: str) -> str:
    """Return a URL for errors and logs: without credentials and query, which can hold secrets."""
    text = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    text = "".join(char for char in f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if char.isprintable())
    return text if len(text) <= _LONGEST_URL else text[:_LONGEST_URL] + "…"


class Fetch:
    """Requests to one source, and to where it leads, over connections of its own."""

    def __init__(self, origin: Origin, settings: SourceSettings, look_up: LookUp) -> None:
        """Use the origin's credentials for its own host; raise InvalidSource if its authorities cannot be read."""
        self.origin = origin
        self.authorization = origin.basic
        self.settings = settings
        self._home = authority(origin.url)
        self._look_up = look_up
        self._rules = addresses_of(settings)
        self._tls = _tls_context(origin.ca)
        self._sessions: dict[tuple[str, str, int], aiohttp.ClientSession] = {}
        self._resolved: dict[tuple[str, int], list[str]] = {}

    def is_home(self, url: str) -> bool:
        """Return True if the URL is at the source's own host and port."""
        return authority(url) == self._home

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        most_bytes: int,
        into: BinaryIO | None = None,
    ) -> Answer:
        """Return the answer, after following redirects; a body of more than ``most_bytes`` is InvalidSource.

        ``authorization`` replaces the source's own, and is sent to the host of this URL only. Raises Busy if the source
        asks to come back later, SourceUnavailable, and InvalidSource.
        """
        own = authority(url)
        for _ in range(_MOST_REDIRECTS + 1):
            sent = dict(headers or {})
            if authorization is not None:
                sent |= {"authorization": authorization} if authorization and authority(url) == own else {}
            elif self.authorization and self.is_home(url):
                sent["authorization"] = self.authorization
            response = await self._send("GET", url, sent)
            try:
                if response.status not in _REDIRECTS:
                    _refuse_when_busy(response, url)
                    return await self._read(response, url, most_bytes=most_bytes, into=into)
                url = self._follow(url, response.headers.get("location", ""))
            finally:
                response.close()  # what was read to its end has given its connection back already
        raise InvalidSource(f"{shown(url)} redirects more than {_MOST_REDIRECTS} times")

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        authorization: str,
        body: bytes | None,
        most_bytes: int,
    ) -> Answer:
        """Return the answer to a request that may write; no redirect is followed, so that a body stays with its host.

        Raises Busy if the source asks to come back later, SourceUnavailable, and InvalidSource.
        """
        sent = {**headers, **({"authorization": authorization} if authorization else {})}
        response = await self._send(method, url, sent, body)
        try:
            _refuse_when_busy(response, url)
            return await self._read(response, url, most_bytes=most_bytes, into=None)
        finally:
            response.close()

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()

    def _follow(self, url: str, location: str) -> str:
        target = joined(url, location)
        if not location or urlsplit(target).scheme not in _PORTS:
            raise InvalidSource(f"{shown(url)} redirects to {shown(target)!r}, which is not an https:// URL")
        if urlsplit(target).scheme != "https" and urlsplit(url).scheme == "https":
            raise InvalidSource(
                f"{shown(url)} redirects to {shown(target)}, which is not encrypted; that is not followed"
            )
        return target

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """Return the response with its body unread, from the first of the vetted addresses that accepts."""
        scheme, host, port = authority(url)
        if scheme != "https" and not self.settings.allow_http:
            raise InvalidSource(
                f"{shown(url)} is not encrypted; the server's setting PILOTHOUSE_SOURCES__ALLOW_HTTP=true allows that"
            )
        began = time.monotonic()
        parts = urlsplit(url)
        session = self._session((scheme, host, port))
        seconds = self.settings.connect_seconds
        # what is stored may take its time: of that, the limit of everything is the only one
        pause = seconds if body is None else self.settings.fetch_seconds
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=pause)
        failure: Exception = OSError("no address")
        for address in await self._resolve(host, port):
            literal = f"[{address}]" if ":" in address else address
            target = f"{scheme}://{literal}:{port}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
            try:
                return await session.request(
                    method,
                    yarl.URL(target, encoded=True),
                    headers={
                        "host": parts.netloc,
                        "user-agent": "pilothouse",
                        "accept-encoding": "identity",
                        **headers,
                    },
                    data=io.BytesIO(body) if body is not None else None,
                    server_hostname=host if scheme == "https" else None,
                    timeout=timeout,
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
                failure = error
        raise await self._unreachable(url, failure, began) from failure

    async def _unreachable(self, url: str, error: Exception, began: float) -> SourceUnavailable:
        """Return the error: who names an address first must not learn what is in our network, nor from the time.

        Of public addresses everybody may learn it as well without us, and of what the operator has listed by itself
        there is nothing else to learn.
        """
        reason = describe_failure(error)
        if "certificate is not trusted" in reason:
            hint = "send the authority that signed it as ca"
            return SourceUntrusted(f"{shown(url)} cannot be reached: {reason}; {hint}")
        _, host, port = authority(url)
        reached = self._resolved.get((host, port), [])
        if (self.origin.known and self.is_home(url)) or (reached and all(self._may_be_told(host, port))):
            return SourceUnavailable(f"{shown(url)} cannot be reached: {reason}")
        await asyncio.sleep(max(0.0, began + self.settings.connect_seconds - time.monotonic()))
        return SourceUnavailable(
            f"{shown(url)} cannot be reached as a chart source: nothing listens there, it did not answer in time, or "
            "not as expected; which of these is told of public addresses, and of those that "
            "PILOTHOUSE_SOURCES__ALLOWED lists one by one, and otherwise in the log of Pilothouse: ask whoever may "
            "read it",
            detail=reason,
        )

    def _may_be_told(self, host: str, port: int) -> Iterator[bool]:
        name = host.lower().rstrip(".")
        for address in self._resolved.get((host, port), []):
            yield is_public(address) or self._rules.names(address, port=port, name=name)

    async def _resolve(self, host: str, port: int) -> list[str]:
        if (host, port) not in self._resolved:
            try:
                found = await resolve(host, port=port, addresses=self._rules, look_up=self._look_up)
            except ClusterUnavailable as error:
                raise InvalidSource(str(error)) from error
            self._resolved[host, port] = found
        return self._resolved[host, port]

    def _session(self, place: tuple[str, str, int]) -> aiohttp.ClientSession:
        # One for each host: connections are kept by address, and two names may have the same.
        if place not in self._sessions:
            self._sessions[place] = new_session(self._tls)
        return self._sessions[place]

    async def _read(
        self, response: aiohttp.ClientResponse, url: str, *, most_bytes: int, into: BinaryIO | None
    ) -> Answer:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InvalidSource(f"{shown(url)} compresses its answer although it was asked not to")
        body, size, digest = bytearray(), 0, hashlib.sha256()
        is_refused, file = response.status >= _FIRST_REDIRECT, into
        try:
            async for piece in response.content.iter_chunked(_PIECE):
                size += len(piece)
                if is_refused:  # nobody looks at it
                    if size > _SHORT:
                        break
                    continue
                if size > most_bytes:
                    raise InvalidSource(f"{shown(url)} answers with more than {most_bytes} bytes, the limit")
                digest.update(piece)
                if file is not None:
                    file.write(piece)
                else:
                    body += piece
        except (aiohttp.ClientError, OSError) as error:
            raise SourceUnavailable(
                f"{shown(url)} stopped in the middle of its answer: {describe_failure(error)}"
            ) from error
        return Answer(response.status, response.headers, url, bytes(body), size, digest.hexdigest())


@contextmanager
def spool() -> Iterator[BinaryIO]:
    """Open a file for what is fetched, which is in memory as long as it is small."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="pilothouse-") as file:
        yield cast("BinaryIO", file)


@asynccontextmanager
async def fetching(origin: Origin, settings: SourceSettings, look_up: LookUp) -> AsyncIterator[Fetch]:
    """Open requests to a source for the block, which ends after ``fetch_seconds`` with SourceUnavailable."""
    fetch = Fetch(origin, settings, look_up)
    try:
        async with asyncio.timeout(settings.fetch_seconds) as limit:
            yield fetch
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise SourceUnavailable(
            f"{shown(origin.url)} did not answer completely within {settings.fetch_seconds:g} s"
        ) from error
    finally:
        await fetch.close()


def _refuse_when_busy(response: aiohttp.ClientResponse, url: str) -> None:
    if response.status == _TOO_MANY:
        after = response.headers.get("retry-after", "")
        seconds = (
            min(int(after[:_RETRY_AFTER_DIGITS]), _MOST_RETRY_AFTER) if after.isascii() and after.isdigit() else 60
        )
        raise Busy(f"{shown(url)} answers 429, too many requests; retry in {seconds} s", retry_after_seconds=seconds)


def _tls_context(ca: str) -> ssl.SSLContext:
    """Return the context that trusts the system's authorities and those of the source."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    if ca:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError, TypeError) as error:  # a TypeError: not ASCII
            raise InvalidSource("ca: it holds no certificate in PEM form, or a damaged one") from error
        # As Go does: the server's own certificate, or one between, may be what is trusted.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def refuse_error(answer: Answer, what: str) -> None:
    """Return for a success, else raise SourceUnavailable or InvalidSource with the status; ``what`` was asked for."""
    where = shown(answer.url)
    if answer.status in (401, 403):
        detail = f"{where} refuses the credentials of the source, or needs some ({answer.status})"
        raise SourceDenied(detail, asked=f"{where} answered {answer.status}")
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailable(f"{where} answered {answer.status}")
    if answer.status >= _FIRST_REDIRECT:
        raise InvalidSource(f"{where} answered {answer.status}: {what} is not there")
