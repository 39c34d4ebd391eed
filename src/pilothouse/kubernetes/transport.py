"""One request to one API server: its destination, time limit and size limit.

The peer is untrusted until it has answered as a Kubernetes API server. The name is resolved here and the connection
goes to a vetted address, so that a name cannot change between check and use; redirects are not followed; proxies and
environment variables are ignored; text from a peer is never repeated, except the message of a Kubernetes Status.
Answers are requested uncompressed: on a near network inflating costs more than reading, and an inflated answer has no
size limit.

lightkube is not used, for watches either: it supports neither ``tls-server-name`` nor impersonation, resolves names
itself, and raises exceptions of five libraries for an answer that is not a Kubernetes object.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
import yarl

from pilothouse import tracing
from pilothouse.errors import ClusterDenied, ClusterUnavailable
from pilothouse.kubernetes.addresses import addresses_of, resolve
from pilothouse.kubernetes.budget import Reading, Room, limited
from pilothouse.kubernetes.connector import describe_failure, new_session
from pilothouse.kubernetes.credentials import account_headers, tls_context
from pilothouse.kubernetes.json_lines import MOST_VALUES, LineCutter, count_values
from pilothouse.kubernetes.resolver import LookUp, Resolver
from pilothouse.metrics import CLUSTER_SECONDS
from pilothouse.settings import ClusterSettings

#: How long a resolved name is believed.
_RESOLVED_SECONDS = 30.0
_LONGEST_MESSAGE = 500
_FIRST_REDIRECT, _FIRST_ERROR, _FIRST_SERVER_ERROR = 300, 400, 500


_is_limited: ContextVar[bool] = ContextVar("is_limited", default=False)


#: The API server's words for fields of wrong types in an apply, which it answers with 500
#: (k8s.io/apimachinery/pkg/util/managedfields/internal/structuredmerge.go).
_MISTYPED: Final = "failed to create typed patch object"
_INVALID: Final = 422


class AnswerTooLarge(ClusterUnavailable):
    """The answer exceeded the size limit; a list can be requested in smaller pages."""


class StreamRefused(ClusterUnavailable):
    """The server answered a request for a stream with an error of this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An API server's answer: a success, or an error that the caller can handle."""

    status: int
    body: dict[str, Any] = field(repr=False)
    #: The time that the server's clock had, in whole seconds; None if it does not tell.
    at: datetime | None = None

    @property
    def ok(self) -> bool:
        """True if it succeeded."""
        return self.status < _FIRST_REDIRECT

    @property
    def message(self) -> str:
        """The message of a Kubernetes Status on one line; '' for anything else."""
        message = self.body.get("message") if self.body.get("kind") == "Status" else None
        if not isinstance(message, str):
            return ""
        line = "".join(char if char.isprintable() else " " for char in message[: _LONGEST_MESSAGE + 1])
        return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + "…"


class Transport:
    """Send requests to one server as one account, over persistent connections that are reopened when needed."""

    def __init__(
        self,
        kubeconfig: str,
        settings: ClusterSettings,
        *,
        room: Room | None = None,
        look_up: LookUp | None = None,
        known: bool = True,
    ) -> None:
        """``kubeconfig`` comes from ``sanitise``; InvalidKubeconfig if TLS cannot use its certificates.

        ``room`` limits the memory for answers, and ``look_up`` finds the server's addresses; without them, the
        transport has its own. ``known``: the server has answered as a Kubernetes API server before, to whoever
        registered it.
        """
        document = json.loads(kubeconfig)
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self.server = str(cluster["server"])
        self._settings = settings
        self._room = room or new_room(settings)
        url = urlsplit(self.server)
        self._host, self._authority, self._path = url.hostname or "", url.netloc, url.path
        self._port = url.port or 443
        self._tls_name = cluster.get("tls-server-name") or self._host
        self._tls = tls_context(cluster, user)
        self._headers = account_headers(user)
        #: The user that the account impersonates; empty: it acts as itself.
        self.acts_as = str(user.get("as", ""))
        self._http: aiohttp.ClientSession | None = None
        self._allowed = addresses_of(settings)
        self.look_up: LookUp = look_up or Resolver(settings).of("")
        self._known = known
        self._addresses: list[str] = []
        #: Where this process has met a Kubernetes API server under this name.
        self._confirmed: set[str] = set()
        self._resolved_at = 0.0

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        accept: str = "application/json",
        body: Any = None,
        content_type: str = "application/json",
        largest: int,
    ) -> Answer:
        """Return the answer to one request, within ``answer_seconds``.

        Anything of 2xx, and any 4xx with a Kubernetes Status but 401, 403 and 429, is an answer. Raises ClusterDenied,
        or ClusterUnavailable (AnswerTooLarge for more than ``largest`` bytes).
        """
        headers = [("host", self._authority), ("accept", accept), *self._headers]
        content = None
        if body is not None:
            headers.append(("content-type", content_type))
            content = orjson.dumps(body)
        async with self.within_limit(), self._measured(method) as answered:
            response = await self._send(method, path, params=params, headers=headers, content=content)
            answered.append(response.status)
            try:
                text = await self._read(response, largest=largest)
            except (aiohttp.ClientError, OSError) as error:
                raise self._unreachable(error) from error
            finally:
                response.close()  # what was read to its end has given its connection back already
            return self._judge(response, text)

    async def stream(
        self,
        path: str,
        *,
        params: dict[str, str],
        idle_seconds: float,
        seconds: float,
        largest_line: int,
        largest: int,
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield the lines of a streamed answer as they arrive; the first list, possibly empty, when it is accepted.

        A line of more than ``largest_line`` bytes is yielded as b''. Ends when the server ends the answer, or after
        ``seconds``. Raises what ``ask`` raises, and also ClusterUnavailable after ``idle_seconds`` without a byte, or
        after more than ``largest`` bytes. Close it to end it early.
        """
        headers = [("host", self._authority), ("accept", "application/json"), *self._headers]
        async with self.within_limit():
            response = await self._send(
                "GET", path, params=params, headers=headers, content=None, idle_seconds=idle_seconds
            )
        try:
            if response.status >= _FIRST_REDIRECT:
                async with self.within_limit():
                    answer = self._judge(response, await self._read(response, largest=largest_line))
                raise StreamRefused(answer.status, f"{self.server} answered {answer.status}: {answer.message}")
            yield []
            lines = LineCutter(largest_line)
            until, size = time.monotonic() + seconds, 0
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > largest:
                    raise AnswerTooLarge(f"{self.server} sent more than {largest} bytes in one answer, the limit")
                if complete := lines.feed(piece):
                    yield complete
                if time.monotonic() > until:
                    return
            if rest := lines.feed(b"\n"):
                yield [line for line in rest if line]
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"{self.server} stopped responding: nothing arrived for {idle_seconds:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    @asynccontextmanager
    async def _measured(self, method: str) -> AsyncIterator[list[int]]:
        """Measure a request; the block adds the status of its answer. A server that is tried out names no series."""
        began, answered = time.monotonic(), [0]
        try:
            with tracing.span(f"{method} Kubernetes", "client", attributes={"http.request.method": method}) as span:
                yield answered
                span.note({"http.response.status_code": answered[-1]})
        finally:
            server = self.server if self._known else ""
            CLUSTER_SECONDS.labels(server, method, str(answered[-1])).observe(time.monotonic() - began)

    @asynccontextmanager
    async def within_limit(self) -> AsyncIterator[None]:
        """Limit the requests inside to ``answer_seconds`` together, else raise ClusterUnavailable.

        If the cause of a failure would help an untrusted caller to map the network, it goes to the log only, and every
        failure takes as long as a timeout.
        """
        seconds, outermost = self._settings.answer_seconds, not _is_limited.get()
        failure: ClusterUnavailable | ClusterDenied
        began, token = time.monotonic(), _is_limited.set(True)
        try:
            async with limited(seconds):
                yield
        except TimeoutError as error:
            failure = ClusterUnavailable(f"{self.server} did not answer within {seconds:g} s")
            failure.__cause__ = error
        except (ClusterUnavailable, ClusterDenied) as error:
            failure = error
        else:
            return
        finally:
            _is_limited.reset(token)
        if outermost and not self._tells() and not isinstance(failure, AnswerTooLarge):
            async with limited(seconds + 1):
                await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            raise ClusterUnavailable(
                f"{self.server} cannot be reached as a Kubernetes API server; the log of Pilothouse has the cause",
                detail=str(failure),
            ) from failure
        raise failure

    def _tells(self) -> bool:
        """Return True if callers may learn the cause of a failure: not if a name has unconfirmed addresses.

        Whoever registered it may have changed the name's addresses since.
        """
        if self._addresses and self._confirmed.issuperset(self._addresses):
            return True
        return self._known and (self._addresses == [self._host] or not self._addresses)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None,
        headers: list[tuple[str, str]],
        content: bytes | None,
        idle_seconds: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Return the response with its body unread, from the first address that accepts the connection."""
        http = self._http = self._http or new_session(self._tls)
        # Less than the limit around it: only its own time-out makes the library close a half-open connection.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.answer_seconds * 0.9, sock_read=idle_seconds
        )
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        failure: Exception | None = None
        for address in await self._resolve():
            host = f"[{address}]" if ":" in address else address
            try:
                return await http.request(
                    method,
                    yarl.URL(f"https://{host}:{self._port}{self._path}{path}{query}", encoded=True),
                    headers=headers,
                    data=content,
                    server_hostname=self._tls_name,
                    timeout=timeout,
                    allow_redirects=False,
                )
            except aiohttp.ClientConnectorError as error:
                failure = error
            except TimeoutError:
                raise
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise self._unreachable(error) from error
        self._resolved_at = 0.0
        raise self._unreachable(failure or OSError("no address")) from failure

    async def _resolve(self) -> list[str]:
        now = time.monotonic()
        if not self._resolved_at or now - self._resolved_at > _RESOLVED_SECONDS:
            self._addresses = []
            self._addresses = await resolve(self._host, port=self._port, addresses=self._allowed, look_up=self.look_up)
            self._resolved_at = now
        return self._addresses

    async def _read(self, response: aiohttp.ClientResponse, *, largest: int) -> bytes:
        """Return the whole answer; its pieces are kept as they came, as a text that grows is moved again and again."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ClusterUnavailable(f"{self.server} compresses answers although it was asked not to")
        pieces: list[bytes] = []
        size = values = 0
        reading = Reading(self._room, self.server)
        try:
            async for piece in response.content.iter_any():
                reading.spend(len(piece))
                values += count_values(piece)
                size += len(piece)
                self._check(size, values, largest=largest)
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            pieces.clear()  # the traceback keeps this frame for as long as somebody keeps the error
            reading.close()

    def _check(self, size: int, values: int, *, largest: int) -> None:
        if size > largest:
            raise AnswerTooLarge(f"{self.server} sent more than {largest} bytes in one answer, the limit")
        if values > MOST_VALUES:
            raise AnswerTooLarge(f"{self.server} sent more than {MOST_VALUES} values in one answer, the limit")

    def _judge(self, response: aiohttp.ClientResponse, text: bytes) -> Answer:
        status = response.status
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError:
            body = None
        answer = Answer(status, body if isinstance(body, dict) else {}, _time_in(response.headers.get("date", "")))
        if "gitVersion" in answer.body or isinstance(answer.body.get("kind"), str):
            self._confirmed.add(str(response.url.host))
        detail = f": {answer.message}" if answer.message else ""
        if answer.ok:
            if isinstance(body, dict):
                return answer
        elif status < _FIRST_ERROR:
            raise ClusterUnavailable(f"{self.server} answered with a redirect ({status}), which is not followed")
        elif status in (401, 403):
            account = (
                f"{self.acts_as!r}, as whom the registered account acts" if self.acts_as else "the registered account"
            )
            raise ClusterDenied(f"{self.server} refuses {account} ({status}){detail}")
        elif body is not None and answer.body.get("kind") == "Status":
            if status < _FIRST_SERVER_ERROR and status != 429:  # noqa: PLR2004  # too many requests
                return answer
            if answer.message.startswith(_MISTYPED):
                return Answer(_INVALID, answer.body, answer.at)
            raise ClusterUnavailable(f"{self.server} answered {status}{detail}")
        raise ClusterUnavailable(f"{self.server} answered {status}, but not as a Kubernetes API server")

    def _unreachable(self, error: Exception) -> ClusterUnavailable:
        return ClusterUnavailable(f"{self.server} cannot be reached: {describe_failure(error)}")


def _time_in(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def new_room(settings: ClusterSettings) -> Room:
    """Return the memory limit of one process for answers."""
    return Room(each=settings.held_bytes, total=3 * settings.held_bytes)
