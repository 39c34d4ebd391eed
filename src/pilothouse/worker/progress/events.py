"""What Helm reports while it works, told as events that a person understands.

Helm says far more than anybody wants to read: an event is written at most every half second, and it is the newest
state that counts. What is waited for is looked at in the cluster now and then. An operation that is over before the
first half second has no events, and pays nothing for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pilothouse.engine.protocol import ProgressEvent

_EVERY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 2.0

Tell = Callable[[str, str], Awaitable[None]]
Look = Callable[[ProgressEvent], Awaitable[str]]


class Progress:
    """Collects Helm's reports while it is entered, and hands ``tell`` the newest, as kind and text.

    ``look`` says what the object of a report lacks, or nothing. What either raises ends the telling and nothing else:
    progress is never a reason for an operation to fail.
    """

    def __init__(self, tell: Tell, look: Look) -> None:
        self._tell = tell
        self._look = look
        self._newest: ProgressEvent | None = None
        self._looked_at: tuple[str, str, str] | None = None
        self._looked = 0.0
        self._lacks = ""
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: ProgressEvent) -> None:
        """Takes a report of the engine's; quick, and never blocks."""
        if event.phase != "storage":
            self._newest = event

    async def __aenter__(self) -> Self:
        """Begins to tell."""
        self._task = asyncio.create_task(self._tell_now_and_then())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops telling."""
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
        one = (event.object_kind, event.object_namespace, event.object_name)
        if one != self._looked_at or time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._lacks = await self._look(event)
            self._looked_at, self._looked = one, time.monotonic()
        return self._lacks


def describe(event: ProgressEvent) -> str:
    """The report in a few words: what is done, to which object, and how many of how many."""
    one = f"{event.object_kind} {event.object_name}".strip()
    match event.phase:
        case "render":
            text = "rendering"
        case "hook":
            text = f"running hook {one}" if one else "running a hook"
        case "apply" if event.done is not None and event.total:
            text = f"applying {event.done} of {event.total} objects" + (f": {one}" if one else "")
        case "apply" | "delete":
            text = f"{'applying' if event.phase == 'apply' else 'deleting'} {one or 'objects'}"
        case "wait" if one or event.total:
            text = f"waiting for {one or f'{event.total} objects'}"
        case _:
            text = event.message
    return text
