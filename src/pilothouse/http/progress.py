"""Whether a peer takes what it is sent: one that does not read holds a place and the memory of its answer."""

import asyncio
from typing import Final

#: What a slow line must take in the given time, unless less is there to take.
_LEAST_BYTES: Final = 64 * 1024


class Progress:
    """What of one connection's answers is still to be taken, and since when too little has been."""

    def __init__(self, *transports: asyncio.Transport, now: float) -> None:
        """``transports`` are the layers of the connection, each of which may hold bytes back."""
        self._transports = transports
        self._since = now
        self._taken = self._goal = 0

    def unsent(self) -> int:
        """Return how many bytes wait in this process."""
        return sum(transport.get_write_buffer_size() for transport in self._transports)

    def look(self, sent: int, now: float) -> bool:
        """Look at it again after ``sent`` bytes in all; return whether any were taken since the last look."""
        unsent = self.unsent()
        taken = sent - unsent
        moved = taken > self._taken
        self._taken = taken
        if not unsent or taken >= self._goal:
            self._since = now
            self._goal = taken + min(unsent, _LEAST_BYTES)
        return moved

    def stalled_seconds(self, now: float) -> float:
        """Return for how long the peer has taken too little."""
        return now - self._since
