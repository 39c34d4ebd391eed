"""Which cases are run: all there are by chance, or few that leave no point, no fault and no pair of kinds out."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.crash.cases import BESIDE, LATE, THEN, Case, Injection
from tests.crash.faults import BY_NAME, FAULTS, LOSE, Fault
from tests.crash.points import READS, Point, where_to_lose
from tests.crash.releases import ALL_ACTIONS, CANCELS, ActionName

_RECOVERY = "recovery"
#: In the short set each so many-th case has a release that waits beside it: that costs seconds.
_BESIDE_EVERY = 6
_BESIDE_PART = 0.3
#: What each action does about these is its own.
_OF_EACH_ACTION = tuple(
    BY_NAME[name]
    for name in (
        "kill worker",
        "kill child",
        "kill worker and child",
        "kill postgres",
        "stop worker",
        "stop worker and child",
        "cut cluster",
    )
)
_LINE = re.compile(rf"(?:.*: )??(?P<action>{'|'.join(ALL_ACTIONS)}): (?P<blows>.*) \[seed (?P<seed>[0-9]+)\]")


@dataclass
class Met:
    """What the cases of earlier actions have met already."""

    points: set[tuple[str, ...]] = field(default_factory=set)
    #: A kind of point and a fault.
    pairs: set[tuple[str, str]] = field(default_factory=set)
    sides: Counter[tuple[str, str]] = field(default_factory=Counter)
    cases: int = 0


def short(action: ActionName, points: Sequence[Point], recovery: Sequence[Point], *, seed: int, met: Met) -> list[Case]:
    """Return a case for each point that differs from those before, with a fault that its kind has not met yet.

    After that, cases are added until each of the four actions has met every fault that ends or stops who carries it
    out, and one whose last write arrives late. Of a child's write, and of what happens in recovery, one side is a point
    here, before or after, in turn from one such write to the next: before a write and after the one in front of it are
    almost the same.
    """
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point

    def case(first: Injection, second: Injection | None = None) -> Case:
        met.cases += 1
        return Case(action, first, second, rng.randrange(1_000_000), beside=met.cases % _BESIDE_EVERY == 0)

    cases = [case(Injection(point, _fault_for(point, rng, met))) for point in _new(points, met, where=action)]
    writes = [point for point in points if point.is_childs_write]
    struck = {one.injection.fault for one in cases}
    if action not in CANCELS:
        cases += [case(Injection(rng.choice(writes), fault)) for fault in _OF_EACH_ACTION if fault not in struck]
    lost = Injection(next(point for point in writes if point.when == "answer"), LOSE)
    cases += [
        case(lost, Injection(point, _fault_for(point, rng, met))) for point in _new(recovery, met, where=_RECOVERY)
    ]
    last = [point for point in writes if point.resource == "secrets" and point.when == "request"]
    if last:
        cases.append(case(Injection(last[-1], BY_NAME["stop worker and child"], late=True)))
    return cases


def walk(
    points: dict[ActionName, Sequence[Point]],
    recovery: dict[ActionName, Sequence[Point]],
    *,
    seed: int,
    killing: float = 0.5,
) -> Iterator[Case]:
    """Cases by chance, without end; ``killing`` is the share of faults that surely kill, and the others may do so."""
    rng = random.Random(seed)  # noqa: S311 - a seed that can be given again is the point
    kills = [fault for fault in FAULTS if fault.kills]
    while True:
        action = rng.choice(list(points))
        fault = rng.choice(kills if rng.random() < killing else FAULTS)
        injection = Injection(
            rng.choice(points[action]), fault, late=fault.until == "taken over" and rng.random() < 0.3
        )
        second = None
        if recovery[action] and rng.random() < 0.3:
            injection = Injection(rng.choice(where_to_lose(points[action])), LOSE)
            second = Injection(rng.choice(recovery[action]), rng.choice(FAULTS))
        yield Case(action, injection, second, rng.randrange(1_000_000), beside=rng.random() < _BESIDE_PART)


def read_case(line: str, points: Sequence[Point]) -> Case:
    """Return the case that a line tells of; raises ValueError when there is no such point or fault."""
    found = _match(line)
    first, _, second = found["blows"].removesuffix(BESIDE).partition(THEN)
    injection = _read_injection(first, points)
    return Case(
        action_of(line),
        injection,
        _read_injection(second, points) if second else None,
        int(found["seed"]),
        beside=found["blows"].endswith(BESIDE),
    )


def action_of(line: str) -> ActionName:
    """Return the action of the case that a line tells of; raises ValueError when it tells of none."""
    action: ActionName = _match(line)["action"]  # type: ignore[assignment]  # the pattern names them
    return action


def _match(line: str) -> re.Match[str]:
    found = _LINE.fullmatch(line.partition(" -> ")[0].strip())
    if found is None:
        raise ValueError(f"no case: {line}")
    return found


def _read_injection(text: str, points: Sequence[Point]) -> Injection:
    late = text.endswith(LATE)
    text = text.removesuffix(LATE)
    for point in points:
        for fault in BY_NAME.values():
            if text == f"{fault} {point}":
                return Injection(point, fault, late=late)
    raise ValueError(f"no point of this action, or no fault: {text}")


def _new(points: Sequence[Point], met: Met, *, where: str) -> list[Point]:
    """Return what no action before had: an engine child's writes are each action's own, the rest is common to all.

    Of the reads one of a kind counts, before it; all questions about what the API server serves are one kind.
    """
    places: dict[tuple[str, ...], dict[str, Point]] = {}
    for point in points:
        own = where if point.who == "child" or where == _RECOVERY else ""
        nth = str(point.nth) if where != _RECOVERY else ""
        key: tuple[str, ...] = (own, point.who, point.verb, point.resource, nth)
        if point.verb in READS:
            key = (f"{point.who} reads", "discovery" if point.resource.startswith("/") else point.resource)
        if key not in met.points:
            places.setdefault(key, {}).setdefault(point.when, point)
    met.points |= places.keys()
    return [point for sides in places.values() for point in _sides(sides, met, where=where)]


def _sides(sides: dict[str, Point], met: Met, *, where: str) -> list[Point]:
    point = next(iter(sides.values()))
    if point.verb in READS:
        return [point]
    if not point.is_childs_write and where != _RECOVERY:
        return list(sides.values())
    kind = (point.verb, point.resource)
    met.sides[kind] += 1
    return [sides.get("answer" if met.sides[kind] % 2 else "request", point)]


def _fault_for(point: Point, rng: random.Random, met: Met) -> Fault:
    faults = list(FAULTS)
    rng.shuffle(faults)
    fault = next((one for one in faults if (point.kind, one.name) not in met.pairs), faults[0])
    met.pairs.add((point.kind, fault.name))
    return fault
