"""Exit statuses of the commands; docs/command-line.md lists them."""

from enum import IntEnum
from typing import Final

from pilothouse.errors import PilothouseError


class ExitStatus(IntEnum):
    """Exit statuses besides 0. A wrong argument is typer's own 2."""

    FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    INTERRUPTED = 130


MEANINGS: Final = {
    0: "done",
    ExitStatus.FAILED: (
        "the server refused it, it failed, a plan cannot be applied or the cluster refuses it, or what it is about "
        "does not exist"
    ),
    ExitStatus.USAGE: "wrong arguments; with --detailed-exitcode, there are changes",
    ExitStatus.NO_SERVER: (
        "no server answers, its certificate is not trusted, or the credentials are missing, wrong or expired"
    ),
    ExitStatus.INTERRUPTED: "interrupted by Ctrl-C",
}


class NoServer(PilothouseError):
    """There is no server to ask, or it does not accept the credentials: nothing was done."""


class NotLoggedIn(NoServer):
    """Missing, expired or unknown credentials; the message says what to type."""


class UsageError(PilothouseError):
    """Arguments that contradict each other, or name what is not there."""


def exit_status(error: PilothouseError) -> ExitStatus:
    """Return the status that a command ends with because of this error."""
    if isinstance(error, NoServer):
        return ExitStatus.NO_SERVER
    return ExitStatus.USAGE if isinstance(error, UsageError) else ExitStatus.FAILED
