"""What hooks and tests of an operation log, put together from its events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pilothouse.store.operation_events import EventRow

#: Of one log on a page, which gets all of them anew with each message; all are in the operation's events.
_MOST_LINES: Final = 120
_MOST_LOGS: Final = 6
_MOST_CHARACTERS: Final = 16 * 1024
#: Events that hold about as much.
MOST_EVENTS: Final = 60


@dataclass
class HookLog:
    """The last lines of one log, of one attempt; ``is_short``: there are earlier ones."""

    attempt: int
    hook: str
    pod: str
    container: str
    run: int
    lines: list[str] = field(default_factory=list, repr=False)
    is_short: bool = False
    last: int = 0


def logs_of(events: Iterable[EventRow]) -> list[HookLog]:
    """Return the logs of these events, the one that was written to last at the end."""
    found: dict[tuple[Any, ...], HookLog] = {}
    for event in events:
        data = event.data or {}
        key = (event.attempt, *(data.get(name) for name in ("hook", "pod", "container", "run")))
        log = found.pop(key, None) or _opened(event, data)
        found[key] = log
        first, lines = int(data.get("first") or 1), list(data.get("lines") or [])
        log.is_short = log.is_short or first > log.last + 1
        log.lines += lines[max(0, log.last + 1 - first) :]
        log.last = max(log.last, first + len(lines) - 1)
    logs = list(found.values())[-_MOST_LOGS:]
    for log in logs:
        _shorten(log)
    return logs


def add_newest(events: Sequence[EventRow], more: Iterable[EventRow]) -> list[EventRow]:
    """Return the newest of the events."""
    return [*events, *more][-MOST_EVENTS:]


def _opened(event: EventRow, data: dict[str, Any]) -> HookLog:
    texts = (str(data.get(name) or "") for name in ("hook", "pod", "container"))
    hook, pod, container = texts
    return HookLog(event.attempt, hook.replace("/", " ", 1), pod, container, int(data.get("run") or 0))


def _shorten(log: HookLog) -> None:
    kept, room = [], _MOST_CHARACTERS
    for line in reversed(log.lines[-_MOST_LINES:]):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    log.is_short = log.is_short or len(kept) < len(log.lines)
    log.lines = kept[::-1]
