"""Detection of callers that disconnect once their request is complete.

An ASGI server reports the end of a connection to whoever waits for its next message, and the framework's handlers do
not wait: they would work on for nobody. So one task waits here, for everyone who wants to know.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Message, Receive, Scope

_STATE: Final = "disconnect"


class Disconnect:
    """The end of one caller's connection while its request is served; ``receive`` must have no other messages left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._waiting: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        """Return the server's next message, the disconnect; every caller gets the same one."""
        return await asyncio.shield(self._begin())

    def then(self, act: Callable[[], None]) -> None:
        """Call ``act`` as soon as the caller is gone; never, if the answer is complete before."""

        def ended(done: asyncio.Future[Message]) -> None:
            if not done.cancelled() and done.exception() is None:
                act()

        self._begin().add_done_callback(ended)

    async def is_within(self, seconds: float) -> bool:
        """Wait so long, and no longer than the caller does; return whether it is gone."""
        done, _ = await asyncio.wait({self._begin()}, timeout=seconds)
        return bool(done)

    def close(self) -> None:
        """Stop waiting: the request has been answered."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _begin(self) -> asyncio.Future[Message]:
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._receive())
        return self._waiting


def remember(scope: Scope, disconnect: Disconnect) -> None:
    """Store it for the application."""
    scope["state"][_STATE] = disconnect


def disconnect_of(scope: Scope) -> Disconnect | None:
    """Return the Disconnect of this request; None outside of the gateway."""
    found = scope.get("state", {}).get(_STATE)
    return found if isinstance(found, Disconnect) else None
