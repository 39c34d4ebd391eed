"""Multipart forms, parsed as they arrive: one file to disk, short texts to memory, unrequested parts discarded.

Uses python-multipart's parser rather than Starlette's form, which turns a file without a file name into text, lets the
last of two equal parts win, keeps unrequested files, and changes threads for each piece. Clients differ in the order of
the parts, in file names, and in the parts' types; all of that is ignored here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pilothouse.errors import InvalidArgument, UnsupportedContentType

#: A file over this size lies on disk.
_MEMORY_BYTES: Final = 256 * 1024
_PARTS: Final = 32


@dataclass
class Form:
    """A parsed form: the file, at its beginning, and the given texts."""

    file: BinaryIO
    texts: dict[str, str]


@asynccontextmanager
async def read_form(request: Request, *, file: str, texts: Mapping[str, int]) -> AsyncIterator[Form]:
    """Yield the form with the part ``file`` and, if given, ``texts`` (name to maximum number of bytes).

    The file is deleted when the block ends. Raises UnsupportedContentType, or InvalidRequest that names the part.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise UnsupportedContentType(
            f"Content-Type: must be multipart/form-data, with the file as the part {file!r}"
            + "".join(f" and, optionally, the text {name!r}" for name in texts)
        )
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
        parts = _Parts(file_name=file, file=cast("BinaryIO", spool), limits=texts)
        await _feed(request, parts, boundary=options.get(b"boundary", b""))
        if file not in parts.seen:
            raise InvalidArgument(f"{file}: missing; send the file as the form's part {file!r}")
        spool.seek(0)
        yield Form(file=parts.file, texts={name: _decode(name, data) for name, data in parts.texts.items()})


async def _feed(request: Request, parts: "_Parts", *, boundary: bytes) -> None:
    if not boundary:
        raise InvalidArgument("Content-Type: the multipart form's boundary is missing")
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.add_header_name,
                "on_header_value": parts.add_header_value,
                "on_header_end": parts.end_header,
                "on_headers_finished": parts.end_headers,
                "on_part_data": parts.add_data,
                "on_end": parts.end,
            },
        )
        async for piece in request.stream():
            parser.write(piece)
            await asyncio.sleep(0)  # the body lies ready: nothing else would let other requests in
    except FormParserError as error:
        raise InvalidArgument(f"invalid multipart form: {error}") from error
    if not parts.complete:
        raise InvalidArgument("the multipart form ends before its last boundary")


@dataclass
class _Parts:
    """Receive the parser's events and route each piece by the part's name."""

    file_name: str
    file: BinaryIO
    limits: Mapping[str, int]
    texts: dict[str, bytearray] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    complete: bool = False
    count: int = 0
    name: str = ""
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes | None = None

    def begin(self) -> None:
        self.count += 1
        if self.count > _PARTS:
            raise InvalidArgument(f"the multipart form has more than {_PARTS} parts, the limit")
        self.disposition = None

    def add_header_name(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def add_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            if self.disposition is not None:
                raise InvalidArgument("the multipart form has a part with two Content-Disposition lines")
            self.disposition = bytes(self.value)
        self.header.clear()
        self.value.clear()

    def end_headers(self) -> None:
        _, options = parse_options_header(self.disposition or b"")
        if b"name" not in options:
            raise InvalidArgument("the multipart form has a part whose Content-Disposition gives no name")
        self.name = options[b"name"].decode("utf-8", "replace")
        if self.name not in {self.file_name, *self.limits}:
            return
        if self.name in self.seen:
            raise InvalidArgument(f"{self.name}: the form has this part twice; send it once")
        self.seen.add(self.name)
        if self.name in self.limits:
            self.texts[self.name] = bytearray()

    def add_data(self, data: bytes, start: int, end: int) -> None:
        if self.name == self.file_name:
            self.file.write(data[start:end])
        elif self.name in self.limits:
            text = self.texts[self.name]
            text += data[start:end]
            if len(text) > (limit := self.limits[self.name]):
                raise InvalidArgument(f"{self.name}: more than {limit} bytes, the limit")

    def end(self) -> None:
        self.complete = True


def _decode(name: str, data: bytearray) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name}: not UTF-8 text (byte {error.start})") from None
