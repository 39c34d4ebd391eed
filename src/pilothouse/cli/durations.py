"""Durations as Helm writes them: ``5m``, ``1h30m``, ``90s``."""

import math
import re
from typing import Annotated, Final

import typer

from pilothouse.cli.exits import UsageError

TimeLimit = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="For how long at most: 90s, 5m, 1h30m; then status 1.")
]

TIMEOUT_HELP: Final = "For how long at most: 90s, 5m, 1h30m; default: the server's, 5m unless its operator changed it."
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|h|m|s)")


def seconds_of(text: str, *, option: str) -> int:
    """Return a duration in whole seconds, at least one."""
    if not text or _PART.sub("", text):
        hint = f"did you mean {text}s?" if text.isdigit() else "write 90s, 5m or 1h30m"
        raise UsageError(f"{option}: {text!r} is not a duration; {hint}")
    return max(math.ceil(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))), 1)
