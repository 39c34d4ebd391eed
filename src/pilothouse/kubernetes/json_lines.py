"""JSON from a peer: split into lines, and refused if it unfolds into too many values."""

import orjson

#: A value of two bytes takes a hundred as an object, and parsing holds the interpreter: no real answer has as many.
MOST_VALUES = 250_000
_MOST_VALUES_IN_LINE = 20_000
_CONTAINERS_AND_SEPARATORS = (b",", b"[", b"{")


def parse_line(line: bytes) -> object:
    """Return the JSON value of a stream's line; None if it is not JSON, or unfolds into too many values."""
    if count_values(line) > _MOST_VALUES_IN_LINE:
        return None
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def count_values(text: bytes) -> int:
    """Return a lower bound of the number of values in JSON text: the separators, including those in strings."""
    return sum(text.count(mark) for mark in _CONTAINERS_AND_SEPARATORS)


class LineCutter:
    """Split arriving data into lines, and buffer no more than the longest allowed line."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._rest = bytearray()
        self._too_long = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that the piece completes; one that is too long is b''."""
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            self._add(end)
            lines.append(b"" if self._too_long else bytes(self._rest))
            self._rest.clear()
            self._too_long = False
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        if self._too_long or len(self._rest) + len(part) > self._largest:
            self._too_long = True
            self._rest.clear()
        else:
            self._rest += part
