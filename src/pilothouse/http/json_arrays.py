"""JSON arrays as answers: complete if small, else streamed part by part as they are read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse

Place = TypeVar("Place")

#: What is given to the connection at a time: it keeps copies of what the client does not take.
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class ArrayPart(Generic[Place]):
    """Members of an array, as the JSON text of a separate array; ``rest``: where to continue, None at the end."""

    text: bytes
    rest: Place | None


def array_response(
    first: ArrayPart[Place],
    read: Callable[[Place], Awaitable[ArrayPart[Place]]],
    *,
    headers: dict[str, str] | None = None,
) -> Response:
    """Answer with the first part and what follows it.

    The caller reads the first part: a failure before the first byte can still be answered with an error.
    """
    if first.rest is None:
        return Response(first.text, media_type="application/json", headers=headers)
    return StreamingResponse(_stream(first, read), media_type="application/json", headers=headers)


async def _stream(part: ArrayPart[Place], read: Callable[[Place], Awaitable[ArrayPart[Place]]]) -> AsyncIterator[bytes]:
    """Stream one JSON array; a failure breaks the connection, so that no client takes a part for the whole.

    While a client reads slowly, only the text of one part is kept.
    """
    separator = b"["
    while True:
        end = len(part.text) - 1  # without the brackets
        if end > 1:
            yield separator
            for start in range(1, end, _PIECE_BYTES):
                yield part.text[start : min(start + _PIECE_BYTES, end)]
            separator = b","
        if part.rest is None:
            yield b"]" if separator == b"," else b"[]"
            return
        part = await read(part.rest)
