"""Server-sent events: how many streams a user may have open, and their answer."""

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pilothouse.services.identity.bootstrap import Caller
from pilothouse.shares import Counted

MEDIA_TYPE: Final = "text/event-stream"


class EventStreams(Counted):
    """The open event streams of each user."""

    def open(self, caller: Caller, messages: AsyncIterator[bytes]) -> "EventStream":
        """Return the answer with these messages; raise Busy if the caller has too many open."""
        self.add(caller.user_id, 1)
        return EventStream(messages, counted=self, user_id=caller.user_id)


class EventStream(StreamingResponse):
    """A stream of messages; its place is given back however it ends, even if it never begins."""

    def __init__(self, messages: AsyncIterator[bytes], *, counted: EventStreams, user_id: str) -> None:
        super().__init__(messages, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})
        self._counted = counted
        self._user_id = user_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the messages."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._counted.remove(self._user_id, 1)
