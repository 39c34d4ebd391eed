"""Messages of event streams: unnamed ones are HTML that takes the place of what the page shows."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

Made = TypeVar("Made")

#: Nothing has happened, and the connection lives.
QUIET: Final = b": nothing new\n\n"
#: The stream is over, and the browser does not connect again.
END: Final = b"event: end\ndata: \n\n"
#: The person may not see it any more, which the page finds out by asking again.
REFUSED: Final = b"event: refused\ndata: \n\n"


def message(html: str) -> bytes:
    """Return the message with that part of a page."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"{lines}\n".encode()


class Shared(Generic[Made]):
    """What several ask for at once is made once; the newest are kept for those who come a little later."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._made: OrderedDict[Hashable, asyncio.Future[Made]] = OrderedDict()

    async def share(self, key: Hashable, make: Callable[[], Awaitable[Made]]) -> Made:
        """Return what was made for the key; raise what making it raised, and try again next time."""
        known = self._made.get(key)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self._made[key] = asyncio.ensure_future(make())
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        # Others wait for it too, when the one who came first has gone.
        return await asyncio.shield(known)
