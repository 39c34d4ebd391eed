"""What the checks of ``pilothouse doctor`` report."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.errors import PilothouseError
from pilothouse.redaction import redact


class State(StrEnum):
    """Result of a check. Only ``failed`` makes the doctor's exit status 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """Result of one check and what to do about it; ``advice`` is empty if nothing is to be done."""

    check: str
    state: State
    found: str
    advice: str = ""


async def done(finding: Finding) -> Finding:
    """Return the finding of a check that waits for nothing."""
    return finding


async def guarded(name: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
    """Return the finding of the check, or an error as one."""
    return (await guarded_list(name, lambda: _listed(check())))[0]


async def _listed(finding: Awaitable[Finding]) -> list[Finding]:
    return [await finding]


async def guarded_list(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Return the findings, or an error as one: its message says what to do."""
    try:
        return await check()
    except TimeoutError:
        return [Finding(name, State.FAILED, "no answer in time")]
    except (PilothouseError, OSError) as error:
        return [Finding(name, State.FAILED, redact(str(error)))]
