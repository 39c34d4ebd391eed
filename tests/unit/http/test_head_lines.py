"""Heads have a limited number of lines, with either line ending, whatever follows them."""

import h11
import pytest

from pilothouse.http.protocol import _Connection


def head(lines: int, end: bytes) -> bytes:
    """Return a head with so many header lines."""
    return end.join([b"GET / HTTP/1.1", b"Host: x", *[b"a: b"] * (lines - 1), b"", b""])


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("after", [b"", b"GET /next HTTP/1.1\r\n" * 1000])
@pytest.mark.parametrize(("lines", "taken"), [(2, True), (255, True), (256, True), (257, False), (5000, False)])
def test_the_limit_is_the_same_for_any_line_ending(lines: int, end: bytes, after: bytes, *, taken: bool):
    connection = _Connection(1024 * 1024)
    connection.receive_data(head(lines, end) + after)
    if taken:
        assert isinstance(request := connection.next_event(), h11.Request)
        assert len(list(request.headers)) == lines
    else:
        with pytest.raises(h11.RemoteProtocolError, match="more than 256 header lines"):
            connection.next_event()


def test_a_head_without_an_end_is_refused_at_the_limit():
    connection = _Connection(1024 * 1024)
    connection.receive_data(head(256, b"\r\n")[:-2])
    assert connection.next_event() is h11.NEED_DATA
    connection.receive_data(b"a: b\r\n")
    connection.receive_data(b"a: b\r\n")
    with pytest.raises(h11.RemoteProtocolError, match="more than 256 header lines"):
        connection.next_event()
