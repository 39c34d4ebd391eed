"""A terminal with a person at it: what a program prints there, and what the person types."""

import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Terminal:
    """Both ends of a terminal; ``device`` is what a program gets as a standard stream."""

    person: int
    device: int
    seen: bytes = field(default=b"", repr=False)

    def read_until(self, text: bytes) -> bytes:
        """Return all that was printed, as soon as it has the text."""
        while text not in self.seen:
            self._read()
        return self.seen

    def read_to_end(self) -> bytes:
        """Return all that is printed until the last program at the terminal has ended."""
        self.hand_over()
        with contextlib.suppress(OSError):  # EIO: nobody has the device open
            while self._read():
                pass
        return self.seen

    def type(self, keys: str) -> None:
        """Type the keys."""
        os.write(self.person, keys.encode())

    def hand_over(self) -> None:
        """Close the device here: the end is seen only if nobody but the program has it open."""
        if self.device >= 0:
            os.close(self.device)
            self.device = -1

    def _read(self) -> bytes:
        data = os.read(self.person, 65536)
        self.seen += data
        return data


@contextlib.contextmanager
def open_terminal(*, columns: int | None = None) -> Iterator[Terminal]:
    """Yield a terminal, 24 lines high and of the given width if there is one."""
    person, device = pty.openpty()
    terminal = Terminal(person, device)
    if columns is not None:
        fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield terminal
    finally:
        terminal.hand_over()
        os.close(person)
