"""Which cases are run: all there are by chance, or few that leave no point, no fault and no pair of kinds out."""

import random
import re
from collections.abc import Iterator, Sequence

from tests.crash.cases import LATE, THEN, Blow, Case
from tests.crash.faults import BY_NAME, FAULTS, LOSE, Fault
from tests.crash.points import Point
from tests.crash.releases import ACTIONS, ActionName

_READS = frozenset({"get", "list", "watch"})
_RECOVERY = "recovery"
#: Of the faults by chance so many kill, and the others may do so too.
_KILLS = 0.5
_LINE = re.compile(rf"(?:.*: )??(?P<action>{'|'.join(ACTIONS)}): (?P<blows>.*) \[seed (?P<seed>[0-9]+)\]")


def short(
    action: ActionName, points: Sequence[Point], recovery: Sequence[Point], *, seed: int, seen: set[tuple[str, ...]]
) -> list[Case]:
    """A case for each point that differs from those before, with a fault that its kind has not met yet.

    ``seen`` keeps, from action to action, the points and which pairs of kind of point and fault there were already.
    After that, cases are added until the action has met every fault, and one whose last write arrives late.
    """
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point

    def case(point: Point, fault: Fault) -> Case:
        return Case(action, Blow(point, fault), seed=rng.randrange(1_000_000))

    cases = [case(point, _fault_for(point, rng, seen)) for point in _new(points, seen, where=action)]
    writes = [point for point in points if point.who == "child" and point.verb not in _READS]
    met = {one.blow.fault for one in cases}
    cases += [case(rng.choice(writes), fault) for fault in FAULTS if fault not in met]
    if recovery:
        first = Blow(next(point for point in writes if point.when == "answer"), LOSE)
        cases += [
            Case(action, first, Blow(point, _fault_for(point, rng, seen)), seed=rng.randrange(1_000_000))
            for point in _new(recovery, seen, where=_RECOVERY)
        ]
    last = [point for point in writes if point.resource == "secrets" and point.when == "request"]
    if last:
        blow = Blow(last[-1], BY_NAME["stop worker and child"], late=True)
        cases.append(Case(action, blow, seed=rng.randrange(1_000_000)))
    return cases


def walk(
    points: dict[ActionName, Sequence[Point]], recovery: dict[ActionName, Sequence[Point]], *, seed: int
) -> Iterator[Case]:
    """Cases by chance, without end."""
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point
    kills = [fault for fault in FAULTS if fault.kills]
    while True:
        action = rng.choice(list(points))
        fault = rng.choice(kills if rng.random() < _KILLS else FAULTS)
        blow = Blow(rng.choice(points[action]), fault, late=fault.until == "taken over" and rng.random() < 0.3)
        second = None
        if recovery[action] and rng.random() < 0.3:
            blow = Blow(_lost_at(points[action], rng), LOSE)
            second = Blow(rng.choice(recovery[action]), rng.choice(FAULTS))
        yield Case(action, blow, second, seed=rng.randrange(1_000_000))


def read_case(line: str, points: Sequence[Point]) -> Case:
    """The case that a line tells of; raises ValueError when there is no such point or fault."""
    found = _match(line)
    first, _, second = found["blows"].partition(THEN)
    blow = _read_blow(first, points)
    return Case(action_of(line), blow, _read_blow(second, points) if second else None, seed=int(found["seed"]))


def action_of(line: str) -> ActionName:
    """The action of the case that a line tells of; raises ValueError when it tells of none."""
    action: ActionName = _match(line)["action"]  # type: ignore[assignment]  # the pattern names them
    return action


def _match(line: str) -> re.Match[str]:
    found = _LINE.fullmatch(line.partition(" -> ")[0].strip())
    if found is None:
        raise ValueError(f"no case: {line}")
    return found


def _read_blow(text: str, points: Sequence[Point]) -> Blow:
    late = text.endswith(LATE)
    text = text.removesuffix(LATE)
    for point in points:
        for fault in BY_NAME.values():
            if text == f"{fault} {point}":
                return Blow(point, fault, late=late)
    raise ValueError(f"no point of this action, or no fault: {text}")


def _lost_at(points: Sequence[Point], rng: random.Random) -> Point:
    """Where a worker can be lost so that there is something to recover from."""
    return rng.choice([point for point in points if point.who == "child" and point.verb not in _READS])


def _new(points: Sequence[Point], seen: set[tuple[str, ...]], *, where: str) -> list[Point]:
    """What no action before had: an engine child's writes are each action's own, the rest is common to all.

    Of the reads one of a kind counts; all questions about what the API server serves are one kind.
    """
    kept = []
    for point in points:
        key = (where if point.who == "child" or where == _RECOVERY else "", str(point))
        if point.verb in _READS:
            if point.when == "answer":
                continue
            key = (f"{point.who} reads", "discovery" if point.resource.startswith("/") else point.resource)
        if key not in seen:
            seen.add(key)
            kept.append(point)
    return kept


def _fault_for(point: Point, rng: random.Random, seen: set[tuple[str, ...]]) -> Fault:
    faults = list(FAULTS)
    rng.shuffle(faults)
    fault = next((one for one in faults if (point.kind, one.name) not in seen), faults[0])
    seen.add((point.kind, fault.name))
    return fault
