"""How long operations may still run: by the database's clock, and this machine's time since boot.

The clock of a worker's machine may be set while it works, or be wrong: by it, operations would end at once, or never.
"""

from datetime import datetime, timedelta

from pilothouse.engine.deadline import boottime
from pilothouse.states import OperationState
from pilothouse.store.operations import OperationRow


class TimeLeft:
    """The time left of operations that this process has taken; each of them tells the database's clock anew."""

    def __init__(self, *, undo_seconds: float) -> None:
        """``undo_seconds``: what the undo of a cancelled operation may take."""
        self._undo_seconds = undo_seconds
        self._known: tuple[datetime, float] | None = None

    def note_taken(self, row: OperationRow) -> None:
        """Learn the database's clock from an operation that was taken right now."""
        if row.taken_at is not None:
            self._known = row.taken_at, boottime()

    def limit(self, row: OperationRow) -> tuple[float, datetime]:
        """Return the operation's total seconds, over all attempts and its time in the queue, and since when."""
        if row.state == OperationState.CANCELLING:  # the undo has a deadline of its own
            return self._undo_seconds, row.cancelling_at or row.created_at
        return float(row.deadline_seconds), row.created_at

    def of(self, row: OperationRow) -> float:
        """Return the seconds that are left; negative when they are over."""
        if self._known is None:
            raise RuntimeError("no operation was taken")
        seconds, since = self.limit(row)
        then, at = self._known
        return seconds - (then + timedelta(seconds=boottime() - at) - since).total_seconds()
