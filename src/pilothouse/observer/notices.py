"""Log lines about one cluster, limited in number for clusters that always fail."""

import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_EACH_SECONDS = 600.0


class Notices:
    """Log each kind of event about one cluster at most every ten minutes, and how many were suppressed before."""

    def __init__(self, cluster_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster_id = cluster_id
        self._clock = clock
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, event: str, **facts: Any) -> None:
        """Log a warning, unless one of this kind was logged recently."""
        if self.is_due(event):
            left_out = self._left_out.pop(event, 0)
            more = {"more_since_the_last": left_out} if left_out else {}
            log.warning(event, cluster_id=self._cluster_id, **more, **facts)

    def is_due(self, event: str) -> bool:
        """Return True if this kind of event should be logged now; call it once for each event."""
        now = self._clock()
        if event in self._last and now - self._last[event] < _EACH_SECONDS:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._last[event] = now
        return True
