"""One child from the parent's view: one call at a time, and guaranteed termination.

A call ends in one of four ways: the outcome, Helm's error, a crash (the child is gone, its last output is kept), or the
deadline (the process group was killed). In the last two, and if the calling task is cancelled, this child is finished
and must be replaced; its changes in the cluster remain.
"""

import asyncio
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import structlog

from pilothouse import tracing
from pilothouse.engine.connections import Connections, SocketAddress
from pilothouse.engine.deadline import WATCHDOG_EXIT, Fence, SharedDeadline, boottime
from pilothouse.engine.frames import (
    BODY_LIMIT,
    HEAD_LIMIT,
    HEADER,
    decode_outcome,
    encode_request,
    parse_head,
)
from pilothouse.engine.helm_errors import helm_error
from pilothouse.engine.protocol import ProgressEvent
from pilothouse.engine.request import Body, Request
from pilothouse.errors import EngineCrashed, EngineTimeout, EngineUnavailable
from pilothouse.metrics import engine_call
from pilothouse.settings import ChartLimits

log = structlog.get_logger(__name__)

OutcomeT = TypeVar("OutcomeT")
ProgressCallback = Callable[[ProgressEvent], None]

#: How many a child keeps: ``keptClusters`` of engine/cluster.go.
KEPT_CLUSTERS = 32
_MIB = 1024 * 1024
_PIECE = 256 * 1024
_STDERR_TAIL = 4 * 1024
_STDERR_SEARCHED = 256 * 1024
_FATAL = re.compile(rb"^(runtime: |fatal error: |panic: )", re.MULTILINE)
_STACK_FULL = re.compile(r"goroutine stack exceeds (\d+)-byte limit")
_NO_CPU = "SIGXCPU: cpu limit exceeded"
_NO_MEMORY = re.compile(r"out of memory|cannot allocate memory|failed to (create|allocate)", re.IGNORECASE)
#: How the Go runtime ends what it cannot go on with.
_GO_ABORT = 2
# The child's own deadline lies behind the parent's, so that the parent is the one who reports it.
_WATCHDOG_GRACE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """Resource limits of every child of a pool; see EngineSettings for the reasons."""

    memory_bytes: int
    cpu_seconds: int
    charts: ChartLimits
    qps: float
    burst: int
    parallel_objects: int
    start_seconds: float = 30.0
    file_bytes: int = 64 * 1024 * 1024


class ChildProcess:
    """A running child. Created by ``spawn_child``; calls must not overlap."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        *,
        output: BinaryIO,
        folder: Path,
        limits: ChildLimits,
        deadline_fd: int,
        connections: Connections,
    ) -> None:
        self.pid = process.pid
        self.calls = 0
        self.idle_since = 0.0
        #: Another child has been started in its place.
        self.replaced = False
        #: The clusters that this child has connections to and has discovered, as hashes of their kubeconfigs.
        self.clusters: deque[int] = deque(maxlen=KEPT_CLUSTERS)
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.versions: dict[str, str] = {}
        self._process = process
        self._output = output
        self._folder = folder
        self._limits = limits
        self._deadline = SharedDeadline(deadline_fd)
        self._connections = connections
        self._calling = asyncio.Lock()
        self._reap_lock = threading.Lock()
        self._killed = False
        self._cpu_seconds = 0.0
        self._first_address_bytes = 0
        self._address_bytes = 0
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def usable(self) -> bool:
        """True if the child can take the next call."""
        return not self._killed and not self.exited.done()

    @property
    def bloated(self) -> bool:
        """True if past calls left so much address space in use that the next one would have too little."""
        room = self._limits.memory_bytes - self._first_address_bytes
        return self._address_bytes - self._first_address_bytes > room // 2

    async def connect(self, channel: socket.socket) -> None:
        """Wait until the child can be called; raise EngineUnavailable, with the reason, if it cannot."""
        self._reader, self._writer = await asyncio.open_connection(sock=channel)
        try:
            async with asyncio.timeout(self._limits.start_seconds):
                head = await self._read_frame()
        except TimeoutError:
            raise self._unfit(f"did not start within {self._limits.start_seconds:g} s") from None
        except _BROKEN:
            self.kill()
            raise self._unfit(f"{describe_exit(await self._death())} while starting") from None
        if head.get("type") != "ready":
            raise self._unfit(f"cannot be used: {head.get('message')}")
        self.versions = head["versions"]
        self._note_spent(head)
        self._first_address_bytes = self._address_bytes

    async def call(
        self,
        request: Request[OutcomeT],
        *,
        addresses: Sequence[SocketAddress] = (),
        deadline_seconds: float,
        fence: Fence | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> OutcomeT:
        """Return the outcome of ``request``; the errors are those of ``EnginePool.run``.

        The child is connected to ``addresses``, its cluster's, and to nothing else.
        """
        async with self._calling, engine_call(request.action):
            self.calls += 1
            prefix, body = encode_request(
                request,
                progress=on_progress is not None,
                call=self.calls,
                addresses=[host for host, _ in addresses],
                cpu_limit_seconds=self._cpu_limit(),
            )
            self._connections.begin(self.calls, addresses, on_misuse=self.kill)
            with tracing.span(f"helm {request.action}"), tracing.steps() as steps:
                try:
                    answer = await self._exchange(
                        request,
                        (prefix, body),
                        deadline_seconds=deadline_seconds,
                        fence=fence,
                        on_progress=_recorded(on_progress, steps),
                    )
                finally:
                    self._connections.end()
                return self._read_outcome(request, answer)

    async def _exchange(
        self,
        request: Request[Any],
        frame: tuple[bytes, Body],
        *,
        deadline_seconds: float,
        fence: Fence | None,
        on_progress: ProgressCallback | None,
    ) -> dict[str, Any]:
        hard = boottime() + deadline_seconds + _WATCHDOG_GRACE_SECONDS
        self._deadline.set(hard)
        try:
            if fence is not None:
                fence.attach(lambda until: self._deadline.set(min(until, hard)), self.kill)
            self._output.truncate(0)
            async with asyncio.timeout(deadline_seconds):
                await self._send(*frame)
                return await self._read_answer(on_progress)
        except TimeoutError:
            self.kill()
            raise EngineTimeout(
                f"the {request.action} call was stopped after {deadline_seconds:g} s; its changes until then remain"
            ) from None
        except _BROKEN:
            self.kill()
            code = await self._death()
            if code == WATCHDOG_EXIT or (fence is not None and fence.passed):
                raise EngineTimeout(
                    f"the {request.action} call was ended: its time was not extended; its changes until then remain"
                ) from None
            raise self._crash(request, code) from None
        except EngineTimeout:
            raise
        except BaseException:
            self.kill()
            raise
        finally:
            if fence is not None:
                fence.detach()
            self._deadline.set(0)

    async def _send(self, prefix: bytes, body: Body) -> None:
        """Send a frame in pieces: written at once, a large archive would be copied into the writer's buffer."""
        self._writer.write(prefix)
        await self._writer.drain()
        file = io.BytesIO(body) if isinstance(body, bytes) else body
        file.seek(0)
        while piece := file.read(_PIECE):
            self._writer.write(piece)
            await self._writer.drain()

    def kill(self) -> None:
        """Kill the child's process group with SIGKILL; thread-safe, immediate, and harmless if it is already dead."""
        self._killed = True
        with self._reap_lock:
            if self._process.returncode is None:
                # not reaped, so the number still belongs to this group
                os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill the child, wait for its death, and remove all its files."""
        self.kill()
        await self._death()
        async with self._calling:
            if hasattr(self, "_writer"):
                self._writer.close()
            self._connections.close()
            self._deadline.close()
            self._output.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _death(self) -> int:
        return await asyncio.shield(self.exited)

    def _reap(self) -> None:
        with self._reap_lock:
            code = self._process.poll()
        if code is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.exited.set_result(code)

    def _cpu_limit(self) -> int:
        """Return RLIMIT_CPU, which counts the whole life of a process: what was used plus one operation's share.

        The child sets it for itself: for a process of another account we would need CAP_SYS_RESOURCE.
        """
        return int(self._cpu_seconds) + 1 + self._limits.cpu_seconds

    async def _read_answer(self, on_progress: ProgressCallback | None) -> dict[str, Any]:
        while True:
            head = await self._read_frame()
            if head.get("type") != "progress":
                self._note_spent(head)
                return head
            if on_progress is not None:
                try:
                    on_progress(ProgressEvent(**head["event"]))
                except Exception:
                    log.exception("progress_callback_failed")

    async def _read_frame(self) -> dict[str, Any]:
        head_length, body_length = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        if head_length > HEAD_LIMIT or body_length > BODY_LIMIT:
            raise ConnectionError("the child sent a frame that no child of ours sends")
        return parse_head(await self._reader.readexactly(head_length))

    def _read_outcome(self, request: Request[OutcomeT], answer: dict[str, Any]) -> OutcomeT:
        try:
            match answer["type"]:
                case "outcome":
                    return decode_outcome(request, answer["outcome"])
                case "refused":
                    raise helm_error(answer["message"], kind=answer["kind"])
                case _:
                    message = f"{answer['message']} during {request.action}"
        except (KeyError, TypeError) as error:
            message = f"the Helm engine sent a malformed answer to {request.action} ({type(error).__name__})"
        self.kill()
        raise EngineCrashed(message, stderr_tail=self._stderr())

    def _note_spent(self, head: dict[str, Any]) -> None:
        self._cpu_seconds = float(head.get("cpu_seconds", 0.0))
        self._address_bytes = int(head.get("address_bytes", 0))

    def _unfit(self, what: str) -> EngineUnavailable:
        memory = self._limits.memory_bytes // _MIB
        return EngineUnavailable(f"the Helm engine {what} (memory limit {memory} MiB)", stderr_tail=self._stderr())

    def _crash(self, request: Request[Any], code: int) -> EngineCrashed:
        stderr = self._stderr()
        return EngineCrashed(
            f"the Helm engine {describe_exit(code)} during {request.action}: {self._exceeded(code, stderr)}",
            stderr_tail=stderr,
        )

    def _exceeded(self, code: int, stderr: str) -> str:
        """Return which limit a chart or its values exceeded."""
        if code == -signal.SIGXCPU or _NO_CPU in stderr:
            return f"the templates needed more than {self._limits.cpu_seconds} s of CPU time, the limit"
        if (full := _STACK_FULL.search(stderr)) is not None:
            return f"templates or values recurse without end: the stack reached {full[1]} bytes, the limit"
        if _NO_MEMORY.search(stderr):
            return f"the templates needed more than {self._limits.memory_bytes} bytes of memory, the limit"
        return "a chart or values that recurse or use much memory or time can do that"

    def _stderr(self) -> str:
        """Return the last output: around the runtime's reason, if there is one, because long traces follow it."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _STDERR_SEARCHED))
        written = self._output.read()
        reason = _FATAL.search(written)
        if reason is not None:
            written = written[max(0, reason.start() - _STDERR_TAIL // 2) : reason.start() + _STDERR_TAIL // 2]
        return written[-_STDERR_TAIL:].decode(errors="replace").strip()


def _recorded(on_progress: ProgressCallback | None, steps: tracing.Steps | None) -> ProgressCallback | None:
    """Return a callback that records each report as a step, by kinds of objects only, and forwards it."""
    if on_progress is None or steps is None:
        return on_progress

    def record(event: ProgressEvent) -> None:
        steps.begin(f"{event.phase} {event.object_kind}".strip(), {"pilothouse.phase": event.phase})
        on_progress(event)

    return record


_BROKEN = (asyncio.IncompleteReadError, ConnectionError, ValueError, TypeError)


def describe_exit(code: int) -> str:
    """Describe how a process ended, in words that follow its name."""
    if code == _GO_ABORT:
        return "aborted"
    if code >= 0:
        return f"ended with exit code {code}"
    reasons = {
        signal.SIGXCPU: "was stopped",
        signal.SIGABRT: "aborted",
        signal.SIGKILL: "was killed",
    }
    return reasons.get(signal.Signals(-code), f"was ended by {signal.Signals(-code).name}")
