"""Pages that are the same for everyone: unauthenticated clients may request them, so they must be cheap."""

import asyncio
from collections.abc import Callable

from fastapi import Response


class Page:
    """One page, generated at the first request for it, off the event loop."""

    def __init__(
        self,
        make: Callable[[], bytes],
        *,
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        """``make`` returns the content; it runs in a thread."""
        self._make = make
        self._media_type = media_type
        self._headers = headers
        self._made: asyncio.Future[bytes] | None = None

    async def answer(self) -> Response:
        """Return the page; raises what generating it raised, and tries again next time."""
        if self._made is None or (self._made.done() and self._made.exception() is not None):
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
        # Others wait for it too, when the caller who came first has gone.
        content = await asyncio.shield(self._made)
        return Response(content, media_type=self._media_type, headers=self._headers)
