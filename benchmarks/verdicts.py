"""What the samples of a soak say: is memory flat under load, and is everything given back at rest.

Pure: from samples to rows of a table.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.samples import PARTS, Held, Sample

#: Memory may grow by so much from the beginning of the load to its end.
FLAT = 0.05
#: Numbers of rows differ more from one look to the next; a few more mean nothing.
FLAT_ROWS, FEW = 0.10, 5
#: The first and the last of so many equal stretches of the load are compared: ten minutes each of an hour.
STRETCHES = 4
#: The last looks of a rest: what is held for a moment, such as a connection of a watch, is not in all of them.
LOOKS = 6
#: Threads for work off the loop are made when there are not enough, up to four more than cores, and stay.
MORE_THREADS = 6
LOADED, FIRST_REST, LAST_REST = "load", "first rest", "last rest"
#: Nothing of these is left when nobody does anything. Plans and tokens are kept for a day after their end.
EMPTY = ("operations under way", "messages to send", "open transactions", "sessions", "files in the temporary folder")
#: No more of these than at the first rest.
GIVEN_BACK = ("connections of PostgreSQL", "files in the data folder")
#: Under load there are no more at the end than at the beginning: what is kept goes as fast as it comes.
KEPT = ("operations", "operation_events", "webhook_deliveries", "sessions", "chart_archives", "source_versions")
THINGS = ("processes", "files", "sockets", "threads")
POSTGRES = "PostgreSQL"


@dataclass(frozen=True)
class Row:
    """One judged quantity before and after; ``slope``: what it gains in an hour under load."""

    what: str
    before: float
    after: float
    most: float
    slope: float | None = None

    @property
    def is_met(self) -> bool:
        return self.after <= self.most

    def cells(self) -> list[str]:
        slope = "" if self.slope is None else f"{self.slope:+.1f}"
        figures = [f"{one:.4g}" for one in (self.before, self.after)]
        return [self.what, *figures, slope, f"≤ {self.most:.4g}", "yes" if self.is_met else "NO"]


def judge(samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each part and each thing that was looked at."""
    loaded = [one for one in samples if one.phase == LOADED]
    first, last = ([one for one in samples if one.phase == phase][-LOOKS:] for phase in (FIRST_REST, LAST_REST))
    assert len(loaded) >= STRETCHES, "too few looks during the load"
    assert first, "no look at the first rest"
    assert last, "no look at the last rest"
    return [*_memory(loaded), *_rows(loaded), *_given_back(first, last), *_empty(first, last)]


def _memory(loaded: Sequence[Sample]) -> Iterator[Row]:
    for part in parts_of(loaded):
        if part == POSTGRES:
            continue  # each session grows until it is replaced after 15 minutes, which is not at the same time for all
        seen = [(one.at, megabytes(part, one.held[part])) for one in loaded if part in one.held]
        yield _flat(f"{part}, MB of its own", seen, by=FLAT)


def _rows(loaded: Sequence[Sample]) -> Iterator[Row]:
    for name in KEPT:
        yield _flat(f"rows of {name}", [(one.at, one.counts[name]) for one in loaded], by=FLAT_ROWS, few=FEW)


def _flat(what: str, seen: Sequence[tuple[float, float]], *, by: float, few: float = 0.0) -> Row:
    """Compare the medians of the first and the last stretch; the slope is that of all of them."""
    length = max(1, len(seen) // STRETCHES)
    before, after = (statistics.median(size for _, size in some) for some in (seen[:length], seen[-length:]))
    slope = statistics.linear_regression(*zip(*seen, strict=True)).slope * 3600 if len(seen) > 1 else 0.0
    return Row(what, before, after, before * (1 + by) + few, slope)


def _given_back(first: Sequence[Sample], last: Sequence[Sample]) -> Iterator[Row]:
    """Compare the least at the end with the most at the first rest; memory with that and what is flat."""
    for part in ("supervisor", *PARTS, POSTGRES):
        before, after = ([megabytes(part, one.held[part]) for one in looks] for looks in (first, last))
        yield Row(f"{part}, MB of its own, at rest", max(before), min(after), max(before) * (1 + FLAT))
    for part in parts_of([*first, *last]):
        for thing in THINGS:
            if part == POSTGRES and thing == "files":
                continue  # its sessions keep tables open as they please, up to a limit
            before, after = ([getattr(one.held.get(part, Held()), thing) for one in looks] for looks in (first, last))
            most = max(before) + (MORE_THREADS if thing == "threads" and part in PARTS else 0)
            yield Row(f"{thing} of {part}, at rest", max(before), min(after), most)
    for name in GIVEN_BACK:
        most = max(one.counts[name] for one in first)
        yield Row(f"{name}, at rest", most, min(one.counts[name] for one in last), most)


def _empty(first: Sequence[Sample], last: Sequence[Sample]) -> Iterator[Row]:
    for name in EMPTY:
        before, after = (min(one.counts[name] for one in looks) for looks in (first, last))
        yield Row(f"{name}, at rest", before, after, 0)


def parts_of(samples: Sequence[Sample]) -> list[str]:
    """Return the parts that were seen in any of them."""
    return sorted({part for one in samples for part in one.held})


def megabytes(part: str, held: Held) -> float:
    """Return the part's memory of its own: pages of files and shared ones count for whoever has them by chance.

    Engine children come and go as they are needed, and count as one of them.
    """
    return held.private / max(1, held.processes) if part.startswith("engine children") else held.private
