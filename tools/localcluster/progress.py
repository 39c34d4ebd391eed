"""Tells the person what is going on: a spinner on a terminal, a line now and then in a log.

A cold build takes minutes, and silence for minutes looks like a hang; CI kills what looks like a hang.
"""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

LOG_INTERVAL = 20.0
"""Seconds between two lines of a long step when the output is not a terminal."""
SPINNER_INTERVAL = 0.1
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass
class Step:
    """One thing that takes a while; `detail` may be changed from any thread while it runs."""

    title: str
    detail: str = ""
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def text(self) -> str:
        """Return the title, the time since the start and the detail, on one line."""
        parts = [f"{self.title} ({duration(self.elapsed())})", self.detail]
        return ": ".join(part for part in parts if part)


class Progress:
    """Shows notes and steps on a stream; with no stream it stays silent."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()

    def note(self, text: str) -> None:
        """Show one finished line."""
        if self._stream is not None:
            clear = "\r\x1b[2K" if self._terminal else ""
            print(f"{clear}{text}", file=self._stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show `title` as under way until the block ends; a step shorter than the interval leaves no line in a log."""
        step = Step(title)
        if self._stream is None:
            yield step
            return
        over = threading.Event()
        show = self._spin if self._terminal else self._log
        shower = threading.Thread(target=show, args=(step, over), name="progress", daemon=True)
        shower.start()
        try:
            yield step
        finally:
            over.set()
            shower.join()

    def _spin(self, step: Step, over: threading.Event) -> None:
        assert self._stream is not None  # noqa: S101 -- step() starts this only with a stream
        turn = 0
        while not over.wait(SPINNER_INTERVAL):
            turn += 1
            width = shutil.get_terminal_size().columns - 4
            line = f"\r\x1b[2K{SPINNER[turn % len(SPINNER)]} {step.text()[:width]}"
            print(line, end="", file=self._stream, flush=True)
        print("\r\x1b[2K", end="", file=self._stream, flush=True)

    def _log(self, step: Step, over: threading.Event) -> None:
        while not over.wait(LOG_INTERVAL):
            self.note(f"  {step.text()}")


def on_stderr() -> Progress:
    """Progress on standard error, so that standard output carries results only."""
    return Progress(sys.stderr)


def duration(seconds: float) -> str:
    """Seconds as a person says them: `0.4 s`, `12 s`, `3 min 05 s`."""
    ten, minute = 10, 60
    if seconds < ten:
        return f"{seconds:.1f} s"
    if seconds < minute:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // minute} min {int(seconds) % minute:02d} s"
