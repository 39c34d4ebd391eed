"""Progress on standard error: one line that changes on a terminal, else a line per change."""

import contextlib
import os
import sys
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from pilothouse.cli.terminal import clock_of, echo, in_a_cell, on_one_line

_TICK_SECONDS: Final = 1.0
_USUAL_COLUMNS: Final = 80
_CLEAR: Final = "\r\x1b[K"
#: Kinds of events that the next one replaces.
_PASSING: Final = "_progress"
_LOG: Final = "hook_log"


class ProgressLine:
    """Show events while entered; what passes stands on the last line of a terminal, with the time that is left."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._text = ""
        self._log_of: tuple[object, ...] = ()
        self._log_lines: dict[tuple[object, ...], int] = {}
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._live:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock, and leave the line empty."""
        self._stop.set()
        if self._live:
            self._thread.join()
        self.clear()

    @property
    def lacks_deadline(self) -> bool:
        """True if the time that is left is to be shown, and not known yet."""
        return self._live and self._deadline is None

    def expect(self, operation: dict[str, Any]) -> None:
        """Take the time that is left from the operation's start and timeout."""
        if operation["started_at"]:
            left = datetime.fromisoformat(operation["started_at"]) - datetime.now(UTC)
            self._deadline = time.monotonic() + left.total_seconds() + operation["timeout_seconds"]

    def show(self, event: dict[str, Any]) -> None:
        """Show an event of the operation."""
        kind, text = str(event["kind"]), in_a_cell(event["text"])
        if kind == _LOG and event["data"]:
            self._show_log(event)
        elif self._live and kind.endswith(_PASSING):
            with self._lock:
                self._text = text
                self._draw()
        else:
            self.say(f"{clock_of(event['at'])}  {text}")

    def _show_log(self, event: dict[str, Any]) -> None:
        """Print the lines of a log below its name, which is said again where something else was said between them."""
        data = event["data"]
        log_of = (event["attempt"], *(data[key] for key in ("hook", "pod", "container", "run")))
        known = max(0, self._log_lines.get(log_of, 0) + 1 - data["first"])  # a worker may have written a part twice
        self._log_lines[log_of] = data["first"] + len(data["lines"]) - 1
        with self._lock:
            self._erase()
            if log_of != self._log_of:
                of_attempt = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
                name = f"hook {data['hook'].replace('/', ' ', 1)}, pod {data['pod']}, container {data['container']}"
                echo(f"{clock_of(event['at'])}  log of {name}{of_attempt}:", err=True)
                self._log_of = log_of
            for line in data["lines"][known:]:
                echo(f"    {on_one_line(line.expandtabs())}", err=True)
            self._draw()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._text, self._log_of = "", ()
            self._erase()
            echo(line, err=True)

    def clear(self) -> None:
        """Empty the last line."""
        with self._lock:
            self._text = ""
            self._erase()

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if not self._text:
            return
        from rich.cells import cell_len, set_cell_size

        left = "" if self._deadline is None else f"  {_span(self._deadline - time.monotonic())} left"
        room = max(_columns() - 1 - len(left), 8)
        text = self._text
        if cell_len(text) > room:
            text = f"{set_cell_size(text, room - 1)}…"
        sys.stderr.write(f"{_CLEAR}{text}{left}")
        sys.stderr.flush()

    def _erase(self) -> None:
        if self._live:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def _columns() -> int:
    """Return the width of the terminal of standard error: standard output may be a file."""
    with contextlib.suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    return _USUAL_COLUMNS


def _span(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
