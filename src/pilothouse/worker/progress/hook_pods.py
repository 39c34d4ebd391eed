"""Follows the pods of hooks while Helm runs them: Helm may delete a hook with its pods as soon as it fails.

A hook that ends before its first wait lasts (see ``progress``) is not followed, and costs nothing.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from pilothouse.engine.protocol import ProgressEvent
from pilothouse.engine.tested import RunTestsOutcome
from pilothouse.errors import ClusterUnavailable, PilothouseError
from pilothouse.kubernetes.pods import Pods
from pilothouse.kubernetes.readiness import containers, mapping
from pilothouse.kubernetes.transport import AnswerTooLarge

log = structlog.get_logger(__name__)

Object = dict[str, Any]
Container = tuple[str, str, str]  # namespace, pod, container

MOST_LINES: Final = 100
_MOST_PODS: Final = 10
_MOST_LOGS: Final = 10
_WINDOW_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0
#: Of a log, when it is read first; a tail may begin within a secret.
_MOST_READ: Final = 10_000
#: After the end of the call: how long lines may still be on their way. After a success they end with a short silence.
_LAST_LINES_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 0.2


@dataclass(frozen=True)
class LogSource:
    """Whose log it is; ``run``: how often the container was restarted before."""

    hook: str
    namespace: str
    pod: str
    container: str
    run: int


class LogReader(Protocol):
    """Who is told each line of the logs once."""

    def add(self, source: LogSource, lines: Sequence[bytes], /) -> None:
        """Take the next lines; must be quick."""

    def end(self, source: LogSource, /) -> None:
        """Note that the log has ended."""

    async def close(self) -> None:
        """Finish, as nothing comes any more."""


@dataclass
class Followed:
    """What was recorded: each pod in its last state, with its hook, and its containers' last lines.

    ``removed`` are the hooks' objects before the worker removed them: kind, namespace and name to object. ``tests``
    is what the engine told of tests after their end. ``since`` is when the attempt began, by this process's clock.
    """

    pods: dict[tuple[str, str], tuple[str, Object]] = field(default_factory=dict)
    logs: dict[Container, deque[bytes]] = field(default_factory=dict)
    removed: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    tests: RunTestsOutcome | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


class HookPods:
    """Follow the hooks of one engine call, at most for ``seconds``.

    Read-only, and no failure here affects the call: what could not be read is missing.
    """

    def __init__(
        self, connect: Callable[[], Pods], followed: Followed, reader: LogReader | None = None, *, seconds: float
    ) -> None:
        """``connect`` is called for the first hook; results go into ``followed``, and each line to ``reader``."""
        self._connect = connect
        self._reader = reader
        self._read_lines: Counter[LogSource] = Counter()
        self._heard_at = 0.0
        self._seconds = seconds
        self._cluster: Pods | None = None
        self._hooks: set[tuple[str, str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: dict[Container, int] = {}
        self._followed = followed

    def notice(self, event: ProgressEvent) -> None:
        """Process a report of the engine: a hook that is waited for is followed from now on."""
        hook = (event.object_namespace, event.object_kind, event.object_name)
        if event.phase == "hook" and event.object_kind in {"Job", "Pod"} and hook not in self._hooks:
            self._hooks.add(hook)
            self._begin(self._follow(*hook))

    async def close(self, *, failed: bool | None) -> None:
        """Stop following, after the last lines have come; None: the call was interrupted, and nothing is awaited."""
        try:
            # a watch goes on as long as it may, a log ends with its container
            logs = [task for task in self._tasks if task.get_name() == "log"]
            if failed and self._tasks:
                await asyncio.wait(logs or self._tasks, timeout=_LAST_LINES_SECONDS)
            elif failed is False and logs and self._reader is not None:
                await self._await_quiet(logs)
        finally:  # also when the attempt is cancelled in that second
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._cluster is not None:
                await self._cluster.close()
            if self._reader is not None:
                await self._reader.close()

    async def _await_quiet(self, logs: list[asyncio.Task[None]]) -> None:
        until = time.monotonic() + _LAST_LINES_SECONDS
        while (now := time.monotonic()) < until:
            _, reading = await asyncio.wait(logs, timeout=_QUIET_SECONDS)
            if not reading or self._heard_at < now:
                return

    def _begin(self, work: Coroutine[Any, Any, None], *, name: str = "watch") -> None:
        task = asyncio.create_task(_quietly(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, namespace: str, kind: str, name: str) -> None:
        """Watch repeatedly: a connection may die silently, and a hook may run for long."""
        cluster = self._cluster = self._cluster or self._connect()
        which = {"selector": f"job-name={name}"} if kind == "Job" else {"name": name}
        while True:
            try:
                async for pod in cluster.watch(namespace=namespace, seconds=_WINDOW_SECONDS, **which):
                    self._take(cluster, namespace, f"{kind}/{name}", pod)
            except ClusterUnavailable as error:
                log.info("hook_watch_broken", cause=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take(self, cluster: Pods, namespace: str, owner: str, pod: Object) -> None:
        key = (namespace, str(mapping(pod.get("metadata")).get("name")))
        if key not in self._followed.pods and len(self._followed.pods) >= _MOST_PODS:
            return
        self._followed.pods[key] = (owner, pod)
        for container in containers(pod):
            container_key = (*key, container.name)
            # each run of a container has a log of its own
            if (
                container.started
                and self._reading.get(container_key, -1) < container.restarts
                and len(self._reading) < _MOST_LOGS
            ):
                self._reading[container_key] = container.restarts
                source = LogSource(owner, *container_key, container.restarts)
                self._begin(self._read(cluster, source), name="log")

    async def _read(self, cluster: Pods, source: LogSource) -> None:
        namespace, pod, container = container_key = source.namespace, source.pod, source.container
        began, known = time.monotonic(), self._read_lines[source]
        kept: deque[bytes] = deque(maxlen=MOST_LINES)
        log_of = cluster.read_log(
            namespace=namespace,
            pod=pod,
            container=container,
            most_lines=_MOST_READ,
            follow=True,
            seconds=self._seconds,
        )
        try:
            async for lines in log_of:
                kept.extend(lines)
                if kept:  # in place of an earlier run's, or of what came before the connection broke
                    self._followed.logs[container_key] = kept
                self._tell(source, lines[known:])
                known = max(0, known - len(lines))  # a log that is read again begins at its beginning
            if self._reader is not None and time.monotonic() - began < self._seconds:
                self._reader.end(source)
        except AnswerTooLarge:
            log.info("hook_log_too_long", pod=pod, container=container)
        except ClusterUnavailable:
            self._reading.pop(container_key, None)  # the next look at the pod begins again
            raise

    def _tell(self, source: LogSource, lines: Sequence[bytes]) -> None:
        self._read_lines[source] += len(lines)
        self._heard_at = time.monotonic()
        if self._reader is not None:
            self._reader.add(source, lines)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except PilothouseError as error:
        log.info("hook_not_followed", cause=str(error))
