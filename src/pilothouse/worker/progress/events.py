"""Helm's progress reports, converted to events for people.

Helm reports far more than anyone wants to read: an event is written at most every half second, with the newest state.
Objects that are waited for are read from the cluster now and then. An operation that ends within the first half second
has no events and no cost.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pilothouse.engine.protocol import ProgressEvent

_EVERY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 2.0
#: Nobody waits for one of these: it has only not been looked at yet.
_READY_AS_THEY_ARE: Final = frozenset(
    {"ServiceAccount", "ConfigMap", "Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
)

Tell = Callable[[str, str], Awaitable[None]]
Look = Callable[[ProgressEvent], Awaitable[str]]


class Progress:
    """Collect Helm's reports while entered, and pass the newest to ``tell`` as kind and text.

    ``look`` returns what the object of a report lacks, or nothing. An exception of either ends the reporting and
    nothing else: progress never fails an operation.
    """

    def __init__(self, tell: Tell, look: Look) -> None:
        self._tell = tell
        self._look = look
        self._newest: ProgressEvent | None = None
        self._observed: tuple[str, str, str] | None = None
        self._observed_at = 0.0
        self._lacks = ""
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Record a report of the engine; quick, and never blocks."""
        if event.phase != "storage":
            self._newest = event

    async def __aenter__(self) -> Self:
        """Start reporting."""
        self._task = asyncio.create_task(self._tell_now_and_then())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reporting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tell_now_and_then(self) -> None:
        last = ""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            event = self._newest
            if event is None:
                continue
            lacks = await self._what_lacks(event)
            text = describe(event) + (f": {lacks}" if lacks else "")
            if text != last:
                last = text
                await self._tell(f"{event.phase}_progress", text)

    async def _what_lacks(self, event: ProgressEvent) -> str:
        if event.phase not in {"wait", "hook"} or not event.object_name:
            return ""
        key = (event.object_kind, event.object_namespace, event.object_name)
        if key != self._observed or time.monotonic() - self._observed_at >= _LOOK_SECONDS:
            self._lacks = await self._look(event)
            self._observed, self._observed_at = key, time.monotonic()
        return self._lacks


def describe(event: ProgressEvent) -> str:
    """Describe the report in a few words: the step, the object, and how many of how many."""
    subject = f"{event.object_kind} {event.object_name}".strip()
    match event.phase:
        case "render":
            text = "rendering"
        case "hook":
            text = f"running hook {subject}" if subject else "running a hook"
        case "apply" if event.done is not None and event.total:
            text = f"applying {event.done} of {event.total} objects" + (f": {subject}" if subject else "")
        case "apply" | "delete":
            text = f"{'applying' if event.phase == 'apply' else 'deleting'} {subject or 'objects'}"
        case "wait" if event.total and event.object_kind in _READY_AS_THEY_ARE:
            text = f"waiting for {event.total - (event.done or 0)} of {event.total} objects"
        case "wait" if subject or event.total:
            text = f"waiting for {subject or f'{event.total} objects'}"
        case _:
            text = event.message
    return text
