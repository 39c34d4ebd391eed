"""What Helm reports while it works, told as events that a person understands.

Helm says far more than anybody wants to read: an event is written at most every half second, and it is the newest
state that counts. An operation that is over before the first half second has none, and pays nothing for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from pilothouse.engine.base import ProgressEvent

_EVERY_SECONDS: Final = 0.5

Tell = Callable[[str, str], Awaitable[None]]


class Progress:
    """Collects Helm's reports while it is entered, and hands ``tell`` the newest, as kind and text.

    What ``tell`` raises ends the telling and nothing else: progress is never a reason for an operation to fail.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._newest: ProgressEvent | None = None
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
            if self._newest is not None and (text := describe(self._newest)) != last:
                last = text
                await self._tell(f"{self._newest.phase}_progress", text)


def describe(event: ProgressEvent) -> str:
    """The report in a few words: what is done, to which object, and how many of how many."""
    one = f"{event.object_kind} {event.object_name}".strip()
    match event.phase:
        case "apply" if event.done is not None and event.total:
            return f"applying {event.done} of {event.total} objects" + (f": {one}" if one else "")
        case "apply":
            return f"applying {one or 'objects'}"
        case "delete":
            return f"deleting {one or 'objects'}"
        case "wait" if one:
            return f"waiting for {one}"
        case "wait" if event.total:
            return f"waiting for {event.total} objects"
        case _:
            return event.message
