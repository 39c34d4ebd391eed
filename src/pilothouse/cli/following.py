"""Following an operation to its end: a line per event, and a connection that breaks is resumed."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Final

import orjson
import typer

from pilothouse.cli.durations import seconds_of
from pilothouse.cli.exits import NoServer, NotLoggedIn
from pilothouse.cli.progress import ProgressLine
from pilothouse.cli.terminal import echo
from pilothouse.errors import PilothouseError
from pilothouse.states import LIVING_STATES

if TYPE_CHECKING:
    from pilothouse.cli.client import Client

_PATIENCE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 1.0


class Choice(StrEnum):
    """What Ctrl-C may mean while an operation is followed."""

    DETACH = "d"
    CANCEL = "c"
    GO_ON = "g"


class TimedOut(PilothouseError):
    """The time for which a person would wait is over."""


@contextmanager
def time_limit(timeout: str | None, what: str) -> Iterator[None]:
    """Raise TimedOut if what is done inside takes longer, whatever it waits for; without a time there is no limit."""
    if timeout is None:
        yield
        return
    seconds = seconds_of(timeout, option="--timeout")

    def end(_number: int, _frame: object) -> None:
        raise TimedOut(f"{what} has not ended after {timeout}; it goes on at the server")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def follow(client: "Client", operation_id: str, *, quiet: bool = False) -> dict[str, Any]:
    """Print the events of an operation as they happen, unless ``quiet``; return the operation when it has ended.

    Ctrl-C asks on a terminal whether to detach, to cancel or to go on; without one it detaches. Detached is typer's
    Exit with status 130: the operation goes on at the server.
    """
    with ProgressLine() as line:
        return _follow(client, operation_id, line, quiet=quiet)


def _follow(client: "Client", operation_id: str, line: ProgressLine, *, quiet: bool) -> dict[str, Any]:
    path, patience = f"/api/v1/operations/{operation_id}", _Patience(line)
    last_id, pause = 0, 0.0
    while True:
        try:
            time.sleep(pause)
            pause = _PAUSE_SECONDS
            for event in _events(client, f"{path}/events", after=last_id):
                last_id = event["id"]
                patience.renew()
                if quiet:
                    continue
                if line.lacks_deadline:
                    line.expect(client.call("GET", path))
                line.show(event)
            operation: dict[str, Any] = client.call("GET", path)
            if operation["state"] not in LIVING_STATES:
                return operation
            patience.renew()
        except KeyboardInterrupt:
            line.clear()
            _interrupted(client, operation_id)
        except (OSError, HTTPException, NoServer) as error:
            patience.spend(error)


class _Patience:
    """How long a server may be away: one that is restarted comes back, and the operation does not depend on it."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._lost_at = 0.0

    def renew(self) -> None:
        """Note that the server answers."""
        self._lost_at = 0.0

    def spend(self, error: Exception) -> None:
        """Return if it is worth asking again; else raise the error."""
        if isinstance(error, NotLoggedIn):
            raise error
        now = time.monotonic()
        if not self._lost_at:
            self._lost_at = now
            self._line.say("the connection broke; the operation goes on, reconnecting")
        if now - self._lost_at > _PATIENCE_SECONDS:
            raise error


def _events(client: "Client", path: str, *, after: int) -> Iterator[dict[str, Any]]:
    """Yield the events after that one, until the stream ends or breaks."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    for kind, data in _messages(client.stream(path, headers=headers)):
        if kind == "end":
            return
        if kind == "refused":
            raise PilothouseError(str(data["text"]))
        yield data


def _messages(response: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Yield kind and data of each server-sent event; comments only keep the connection."""
    kind, data = "", b""
    for line in response:
        text = line.rstrip(b"\r\n")
        if not text and data:
            yield kind, orjson.loads(data)
            kind, data = "", b""
        elif text.startswith(b"event: "):
            kind = text[7:].decode()
        elif text.startswith(b"data: "):
            data = text[6:]


def _interrupted(client: "Client", operation_id: str) -> None:
    """Do what the person chooses, or raise Exit to detach."""
    choice = _choose() if sys.stdin.isatty() and sys.stderr.isatty() else Choice.DETACH
    if choice is Choice.CANCEL:
        client.call("POST", f"/api/v1/operations/{operation_id}/cancel", body={"keep": False})
        echo("cancelling; what it did is being undone", err=True)
    elif choice is Choice.DETACH:
        echo(f"the operation goes on; to follow it again: pilothouse operation follow {operation_id}", err=True)
        raise typer.Exit(130)


def _choose() -> Choice:
    """Ask what Ctrl-C meant, until the answer is understood; a second one, or none, means to detach."""
    while True:
        try:
            typer.echo("\n[d]etach, [c]ancel the operation, or [g]o on following? [d] ", err=True, nl=False)
            answer = input().strip().lower()
        except (KeyboardInterrupt, EOFError):
            return Choice.DETACH
        if choice := choice_of(answer):
            return choice
        echo(f"{answer!r} is none of d, c and g", err=True)


def choice_of(answer: str) -> Choice | None:
    """Return what the answer chooses, a letter or its word; None if it is neither."""
    if not answer:
        return Choice.DETACH
    words = {"detach": Choice.DETACH, "cancel": Choice.CANCEL, "go on": Choice.GO_ON, "go": Choice.GO_ON}
    return next((choice for word, choice in words.items() if answer in {word, word[0]}), None)
