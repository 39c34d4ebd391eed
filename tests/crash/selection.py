"""Which cases are run: all there are by chance, or few that leave no point, no fault and no pair of kinds out."""

import random
from collections.abc import Iterator, Sequence

from tests.crash.cases import Blow, Case
from tests.crash.faults import FAULTS, Fault
from tests.crash.points import Point
from tests.crash.releases import ActionName

_READS = frozenset({"get", "list", "watch"})


def short(
    action: ActionName, points: Sequence[Point], recovery: Sequence[Point], *, seed: int, seen: set[tuple[str, ...]]
) -> list[Case]:
    """A case for each point that differs from the others, with a fault that its kind has not met yet.

    ``seen`` keeps, from action to action, which pairs of kind of point and fault there were already. After that, cases
    are added until the action has met every fault.
    """
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point
    cases = []
    used = set()
    for point in _distinct(points, seen):
        fault = _fault_for(point, rng, seen)
        used.add(fault.name)
        cases.append(Case(action, Blow(point, fault), seed=rng.randrange(1_000_000)))
    writes = [point for point in points if point.who == "child" and point.verb not in _READS]
    cases += [
        Case(action, Blow(rng.choice(writes), fault), seed=rng.randrange(1_000_000))
        for fault in FAULTS
        if fault.name not in used
    ]
    first = [point for point in writes if point.resource == "secrets" and point.when == "answer"]
    for point in _distinct(recovery, seen):
        blow = Blow(first[0], _named("kill worker and child"))
        second = Blow(point, _fault_for(point, rng, seen))
        cases.append(Case(action, blow, second, seed=rng.randrange(1_000_000)))
    last = [point for point in writes if point.resource == "secrets" and point.when == "request"]
    if last:
        blow = Blow(last[-1], _named("stop worker and child"), late=True)
        cases.append(Case(action, blow, seed=rng.randrange(1_000_000)))
    return cases


def walk(
    points: dict[ActionName, Sequence[Point]], recovery: dict[ActionName, Sequence[Point]], *, seed: int
) -> Iterator[Case]:
    """Cases by chance, without end."""
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point
    while True:
        action = rng.choice(list(points))
        fault = rng.choice(FAULTS)
        blow = Blow(rng.choice(points[action]), fault, late=fault.until == "taken over" and rng.random() < 0.3)
        second = None
        if recovery[action] and rng.random() < 0.3:
            second = Blow(rng.choice(recovery[action]), rng.choice(FAULTS))
        yield Case(action, blow, second, seed=rng.randrange(1_000_000))


def _distinct(points: Sequence[Point], seen: set[tuple[str, ...]]) -> list[Point]:
    """Every write and every commit, before and after; of the reads, one of a kind in all actions together."""
    kept = []
    for point in points:
        if point.verb in _READS:
            key = ("read", point.who, point.verb, point.resource)
            if key in seen or point.when == "answer":
                continue
            seen.add(key)
        kept.append(point)
    return kept


def _fault_for(point: Point, rng: random.Random, seen: set[tuple[str, ...]]) -> Fault:
    faults = list(FAULTS)
    rng.shuffle(faults)
    fault = next((one for one in faults if (point.kind, one.name) not in seen), faults[0])
    seen.add((point.kind, fault.name))
    return fault


def _named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)
