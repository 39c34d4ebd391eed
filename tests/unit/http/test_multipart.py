"""Multipart forms: every part goes where its name says, and what is no form is refused with its reason."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from pilothouse.errors import InvalidRequest, UnsupportedContentType
from pilothouse.http.multipart import read_form

BOUNDARY = "0123456789abcdef"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
LIMIT = 1000
GZIP = b"\x1f\x8b\x08\x00\r\n--0123456789abcde\r\n\xff\x00"


def part(head: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"


def named(name: str, content: bytes, *, more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"{more}', content)


END = f"--{BOUNDARY}--\r\n".encode()
CONTENT = named("content", GZIP, more='; filename="x.tgz"')
PARAMETERS = named("parameters", b'{"a": 1}')


def read(body: bytes, *, content_type: str = TYPE, pieces: Sequence[int] = ()) -> tuple[bytes, dict[str, str]]:
    """Return the file and the texts; ``pieces`` are the sizes in which the body arrives."""
    messages = _messages(body, pieces)

    async def receive() -> Message:
        return next(messages)

    async def run() -> tuple[bytes, dict[str, str]]:
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode("latin-1"))]}
        async with read_form(Request(scope, receive), file="content", texts={"parameters": LIMIT}) as form:
            return form.file.read(), form.texts

    return asyncio.run(run())


def _messages(body: bytes, pieces: Sequence[int]) -> Iterator[Message]:
    for size in pieces:
        yield {"type": "http.request", "body": body[:size], "more_body": True}
        body = body[size:]
    yield {"type": "http.request", "body": body, "more_body": False}


@pytest.mark.parametrize(
    "body",
    [
        PARAMETERS + CONTENT + END,
        CONTENT + PARAMETERS + END,
        CONTENT + PARAMETERS + END[:-2],
        b"\r\n" + CONTENT + PARAMETERS + END + b"what follows the end",
        named("other", b"x" * 5000) + CONTENT + PARAMETERS + named("", b"") + END,
        named("other", b"x", more='; filename="other"') + CONTENT + PARAMETERS + END,
        named("content", GZIP) + PARAMETERS + END,
        named("content", GZIP, more='; filename=""') + PARAMETERS + END,
        part("content-disposition:form-data;name=content;filename=../../x", GZIP) + PARAMETERS + END,
        part('Content-Type: x/y\r\nContent-Disposition: form-data; name="content"', GZIP) + PARAMETERS + END,
        CONTENT + named("parameters", b'{"a": 1}', more='; filename="p.json"') + END,
        CONTENT + named("parameters", b'\xef\xbb\xbf{"a": 1}') + END,
    ],
    ids=[
        *("texts-first", "file-first", "no-last-line-end", "text-around", "unknown-parts", "unknown-file"),
        *("no-file-name", "empty-file-name", "unquoted-path", "type-first", "text-as-file", "byte-order-mark"),
    ],
)
def test_the_file_and_the_texts_are_found_in_every_order_and_form(body: bytes):
    assert read(body) == (GZIP, {"parameters": '{"a": 1}'})


def test_a_text_may_be_absent_and_either_may_be_empty():
    assert read(CONTENT + END) == (GZIP, {})
    assert read(named("content", b"") + named("parameters", b"") + END) == (b"", {"parameters": ""})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "before its last boundary"),
        (b"no form", "invalid multipart form"),
        (END, "content: missing"),
        (PARAMETERS + END, "content: missing"),
        (named("Content", GZIP) + END, "content: missing"),
        (CONTENT, "before its last boundary"),
        ((CONTENT + END)[:-6], "before its last boundary"),
        (CONTENT + CONTENT + END, "content: the form has this part twice"),
        (CONTENT + PARAMETERS + PARAMETERS + END, "parameters: the form has this part twice"),
        (CONTENT + named("parameters", b"x" * (LIMIT + 1)) + END, "parameters: more than 1000 bytes, the limit"),
        (CONTENT + named("parameters", b'{"a": "\xff"}') + END, "parameters: not UTF-8 text"),
        (part("Content-Type: a/b", b"") + END, "gives no name"),
        (part("Content-Disposition: form-data", b"") + END, "gives no name"),
        (part('Content-Disposition: a; name="a"\r\nContent-Disposition: a; name="content"', b"") + END, "two Content-"),
        (part("no header", b"") + END, "invalid multipart form"),
        (named("x" * 100_000, b"") + END, "invalid multipart form"),
        (part("\r\n".join(f"h{n}: x" for n in range(1000)), b"") + END, "invalid multipart form"),
        (named("other", b"") * 40 + CONTENT + END, "more than 32 parts, the limit"),
    ],
)
def test_what_is_no_such_form_is_refused_with_its_reason(body: bytes, said: str):
    with pytest.raises(InvalidRequest, match=said):
        read(body)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", f"{TYPE}{'x' * 300}"]
)
def test_a_form_without_a_usable_boundary_is_refused(content_type: str):
    with pytest.raises(InvalidRequest, match=r"[bB]oundary"):
        read(CONTENT + END, content_type=content_type)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=x", "form-data"])
def test_another_type_of_body_is_refused(content_type: str):
    with pytest.raises(UnsupportedContentType, match="multipart/form-data"):
        read(CONTENT + END, content_type=content_type)


@given(st.binary(max_size=3000), st.lists(st.integers(0, 700), max_size=8))
def test_any_content_arrives_whole_however_it_is_cut(content: bytes, pieces: list[int]):
    if b"\r\n--" + BOUNDARY.encode() in b"\r\n" + content + b"\r\n":
        return
    body = PARAMETERS + named("content", content, more='; filename="x"') + END
    assert read(body, pieces=pieces) == (content, {"parameters": '{"a": 1}'})


PIECES = st.sampled_from(
    [
        *(CONTENT, PARAMETERS, END, named("other", b"x"), BOUNDARY.encode(), b"--", b"\r\n", b"\r", b"\n", b":", b";"),
        *(
            b"Content-Disposition: form-data; name=",
            b'"',
            b"content",
            b"parameters",
            b"filename=",
            b"\\",
            b"\xff",
            b"=",
        ),
    ]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=25), st.lists(st.integers(0, 60), max_size=6))
def test_any_bytes_are_read_or_refused(body: list[bytes], pieces: list[int]):
    with contextlib.suppress(InvalidRequest):
        read(b"".join(body), pieces=pieces)


@given(st.data())
def test_a_changed_form_is_read_or_refused(data: st.DataObject):
    body = bytearray(PARAMETERS + CONTENT + END)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(body) - 1))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(InvalidRequest):
        read(bytes(body))


@given(st.text(max_size=60).map(lambda text: f"multipart/form-data; {text}"))
def test_any_content_type_is_read_or_refused(content_type: str):
    with contextlib.suppress(InvalidRequest):
        read(CONTENT + END, content_type=content_type.encode().decode("latin-1"))
