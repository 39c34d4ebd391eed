"""``/livez``, ``/readyz`` and ``/metrics`` of a process, on a port of its own and off the public listener.

The listener is a thread, so that a blocked event loop is seen as what it is: ``/livez`` asks the loop, and says no when
it does not answer. Nobody needs credentials here: bind it to an address that only Prometheus and Kubernetes reach.
"""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeVar

import structlog
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from pilothouse.errors import DatabaseUnavailable, InvalidSettings
from pilothouse.metrics import READY, REGISTRY
from pilothouse.settings import MonitoringSettings

T = TypeVar("T")

#: How long the event loop may take to answer; Prometheus gives up after 10 s.
_LOOP_SECONDS: Final = 5.0
#: For a request to arrive as a whole; of more connections at a time the oldest ends: a probe must not wait for others.
_REQUEST_SECONDS: Final = 2.0
_MOST_CONNECTIONS: Final = 32

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Probes:
    """What one kind of process tells about itself; both run in its event loop.

    ``not_ready`` returns why the process cannot do its work now, or an empty text. ``gauges`` returns the metrics that
    are read when they are asked for; DatabaseUnavailable if they cannot be.
    """

    not_ready: Callable[[], Coroutine[Any, Any, str]]
    gauges: Callable[[], Coroutine[Any, Any, list[Metric]]]


async def no_gauges() -> list[Metric]:
    """Return nothing, for a process that has only what it counts."""
    return []


@contextmanager
def monitored(settings: MonitoringSettings, probes: Probes) -> Iterator[None]:
    """Answer about the running event loop while inside the block; without a port, do nothing.

    Raises InvalidSettings if the address cannot be listened on.
    """
    if not settings.port:
        yield
        return
    try:
        server = _Server(settings.host, settings.port, probes, asyncio.get_running_loop())
    except OSError as error:
        raise InvalidSettings(
            f"cannot listen on {settings.host}:{settings.port} for metrics: {error.strerror}; end the program that"
            " listens there, or set PILOTHOUSE_MONITORING__PORT or PILOTHOUSE_MONITORING__HOST"
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
        log.info("monitoring", host=settings.host, port=settings.port)
        try:
            yield
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    """Serve each connection in a thread, so many at a time; nobody waits for them at the end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, probes: Probes, loop: asyncio.AbstractEventLoop) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.probes, self._loop = probes, loop
        self._open: dict[socket.socket, None] = {}
        self._changing = threading.Lock()
        self._not_ready = ""
        super().__init__((host, port), _Handler)

    def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the event loop answers; raise TimeoutError if it does not in time."""
        future = self.begin(question)
        try:
            return future.result(_LOOP_SECONDS)
        finally:
            future.cancel()

    def begin(self, question: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Ask the event loop, and wait for nothing."""
        return asyncio.run_coroutine_threadsafe(question(), self._loop)

    def find_not_ready(self) -> str:
        """Return why the process is not ready, which a change of also goes to the log; empty if it is."""
        try:
            reason = self.ask(self.probes.not_ready)
        except TimeoutError:
            reason = f"no answer within {_LOOP_SECONDS:g} s"
        except DatabaseUnavailable as error:
            reason = str(error)
        READY.set(not reason)
        with self._changing:
            before, self._not_ready = self._not_ready, reason
        if reason and not before:
            log.warning("not_ready", cause=reason)
        elif before and not reason:
            log.info("ready_again", cause=before)
        return reason

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the connection in a thread; if there are too many, end the oldest."""
        with self._changing:
            oldest = next(iter(self._open)) if len(self._open) >= _MOST_CONNECTIONS else None
            self._open.pop(oldest or request, None)
            self._open[request] = None
        if oldest is not None:
            end(oldest)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Forget the connection when it has been served."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changing:
                self._open.pop(request, None)

    def handle_error(self, *_: object) -> None:
        """Log what a thread could not handle, instead of printing it."""
        log.warning("monitoring_failed", cause=str(sys.exception()))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_SECONDS
    server_version, sys_version = "pilothouse", ""

    def handle(self) -> None:
        """Serve the connection, but end it if its request has not arrived in time, however steadily it comes."""
        self._late = threading.Timer(_REQUEST_SECONDS, end, [self.connection])
        self._late.daemon = True
        self._late.start()
        try:
            super().handle()
        finally:
            self._late.cancel()

    def do_GET(self) -> None:
        """Answer one request; the connection ends with it."""
        self._late.cancel()
        answer = {"/livez": self._live, "/readyz": self._ready, "/metrics": self._metrics}.get(self.path.split("?")[0])
        with suppress(ConnectionError):
            if answer is None:
                self._send(HTTPStatus.NOT_FOUND, "here are /livez, /readyz and /metrics\n")
            else:
                answer()

    def log_message(self, *_: object) -> None:
        """Log no line for each probe."""

    def _live(self) -> None:
        try:
            self.server.ask(_answer)
        except TimeoutError:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"the event loop has not answered for {_LOOP_SECONDS:g} s\n")
        else:
            self._send(HTTPStatus.OK, "ok\n")

    def _ready(self) -> None:
        reason = self.server.find_not_ready()
        self._send(HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK, f"{reason or 'ok'}\n")

    def _metrics(self) -> None:
        up = GaugeMetricFamily("pilothouse_database_up", "1 if the database answers this process.", value=1)
        until = time.monotonic() + _LOOP_SECONDS
        asked = self.server.begin(self.server.probes.gauges)
        try:
            self.server.find_not_ready()  # at the same time: who scrapes waits for both
            gauges = [up, *asked.result(max(0.0, until - time.monotonic()))]
        except (TimeoutError, DatabaseUnavailable):
            gauges = [GaugeMetricFamily(up.name, up.documentation, value=0)]
            READY.set(0)
        finally:
            asked.cancel()
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(HTTPStatus.OK, encode(_Collected(gauges)), content_type)

    def _send(self, status: HTTPStatus, body: str | bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def end(connection: socket.socket) -> None:
    """Make whoever reads from the connection, or writes to it, stop."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Collected:
    """The process's own metrics, and those that were read for this answer."""

    def __init__(self, gauges: list[Metric]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        return [*self._gauges, *REGISTRY.collect()]


async def _answer() -> None:
    """Show that the event loop runs."""
