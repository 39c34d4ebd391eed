"""Many connections at a time, from several addresses of the loopback network."""

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

_WINDOW = 4096


@contextlib.contextmanager
def crowd(
    url: str, count: int, *, send: bytes = b"", first_address: int = 2, of_an_address: int = 40
) -> Iterator[list[socket.socket]]:
    """Open connections from 127.0.0.2 on, 40 from each address, of which each has sent this and reads nothing."""
    address = urlsplit(url)
    with contextlib.ExitStack() as stack:
        held = []
        for number in range(count):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
            one.settimeout(20)
            one.bind((f"127.0.0.{first_address + number // of_an_address}", 0))
            one.connect((address.hostname or "", address.port or 0))
            with contextlib.suppress(ConnectionError):  # it may have had to give way already
                one.sendall(send)
            held.append(one)
        yield held
