"""How long one call of the engine was in each phase, for the metrics."""

import time
from collections import defaultdict
from typing import Final

from pilothouse.engine import phases
from pilothouse.metrics import PHASE_SECONDS

_MEASURED: Final = phases.WAITING | phases.WORKING | {"storage"}


class PhaseSeconds:
    """Adds up the phases of one call; each lasts until the next one begins, the last until the end."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._phase, self._began = "", 0.0

    def begin(self, phase: str) -> None:
        """Note that the call is in that phase now."""
        if phase != self._phase and phase in _MEASURED:
            self._add()
            self._phase, self._began = phase, time.monotonic()

    def observe(self) -> None:
        """Report what was added up."""
        self._add()
        for phase, seconds in self._spent.items():
            PHASE_SECONDS.labels(phase).observe(seconds)

    def _add(self) -> None:
        if self._phase:
            self._spent[self._phase] += time.monotonic() - self._began
