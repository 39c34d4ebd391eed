"""Detection of peers that do not read their answer: each occupies a connection and the memory of the answer."""

import asyncio
from typing import Final

#: What a slow line must take in the given time, unless less is there to take.
_LEAST_BYTES: Final = 64 * 1024


class Progress:
    """What of one connection's answers is still unsent, and since when too little was read."""

    def __init__(self, *transports: asyncio.Transport, now: float) -> None:
        """``transports`` are the layers of the connection, each of which may buffer bytes."""
        self._transports = transports
        self._since = now
        self._taken = self._goal = 0

    def unsent(self) -> int:
        """Return how many bytes wait in this process."""
        return sum(transport.get_write_buffer_size() for transport in self._transports)

    def look(self, sent: int, now: float) -> bool:
        """Check again after ``sent`` bytes in all; return True if any were read since the last check."""
        unsent = self.unsent()
        taken = sent - unsent
        moved = taken > self._taken
        self._taken = taken
        if not unsent or taken >= self._goal:
            self._since = now
            self._goal = taken + min(unsent, _LEAST_BYTES)
        return moved

    def stalled_seconds(self, now: float) -> float:
        """Return for how long the peer has read too little."""
        return now - self._since
