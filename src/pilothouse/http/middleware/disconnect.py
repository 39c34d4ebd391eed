"""Whether the caller is still there, once its request is complete.

An ASGI server tells that a connection ended to whoever waits for its next message, and the framework's handlers do not
wait: their work goes on for nobody. So one task waits here, for all who want to know.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Message, Receive, Scope

_STATE: Final = "disconnect"


class Disconnect:
    """The end of one caller's connection, while its request is served; ``receive`` must have nothing else to say."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._waiting: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        """Return the server's next message, which is that of the end; everybody who asks gets the same one."""
        return await asyncio.shield(self._begin())

    def then(self, act: Callable[[], None]) -> None:
        """Call ``act`` as soon as the caller is gone; never, if the answer is complete before."""

        def ended(done: asyncio.Future[Message]) -> None:
            if not done.cancelled() and done.exception() is None:
                act()

        self._begin().add_done_callback(ended)

    def close(self) -> None:
        """Wait no longer: the request has been answered."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _begin(self) -> asyncio.Future[Message]:
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._receive())
        return self._waiting


def remember(scope: Scope, disconnect: Disconnect) -> None:
    """Keep it for the application."""
    scope["state"][_STATE] = disconnect


def disconnect_of(scope: Scope) -> Disconnect | None:
    """Return what tells the end of this request's caller; None outside of the gateway."""
    found = scope.get("state", {}).get(_STATE)
    return found if isinstance(found, Disconnect) else None
