"""What a benchmark answers: named figures, each with its target, if it has one."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured quantity: over several rounds the best and the median round."""

    what: str
    rounds: tuple[float, ...]
    unit: str = "ms"
    target: float | None = None

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> str:
        return "" if self.target is None else "yes" if self.median <= self.target else "NO"

    def row(self) -> list[str]:
        target = "" if self.target is None else f"≤ {self._text(self.target)}"
        return [self.what, self._text(self.best), self._text(self.median), target, self.met]

    def _text(self, value: float) -> str:
        if self.unit == "ms":
            return f"{value:.{1 if abs(value) >= 1 else 3}f} ms"
        return f"{value:.{2 if abs(value) >= 0.1 else 4}f} {self.unit}".rstrip()


def percentile(seconds: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] * 1000
