"""The choice of cases leaves nothing out, and a printed line is enough to play its case again."""

import itertools
from collections.abc import Sequence

from tests.crash.cases import Case
from tests.crash.deployment import CLUSTER, DATABASE
from tests.crash.points import Point, Who
from tests.crash.releases import ACTIONS, CANCELS, ActionName
from tests.crash.selection import Met, read_case, short, walk

UPDATE = "UPDATE operations(attempt,state)"


def both(who: Who, listener: str, verb: str, resource: str, nth: int = 1) -> list[Point]:
    return [Point(who, listener, verb, resource, nth, "request"), Point(who, listener, verb, resource, nth, "answer")]


POINTS = [
    *both("api", DATABASE, "COMMIT", "COMMIT INSERT operations, INSERT audit"),
    *both("worker", DATABASE, "UPDATE", UPDATE),
    *both("child", CLUSTER, "get", "/version"),
    *both("child", CLUSTER, "create", "secrets"),
    *both("child", CLUSTER, "update", "secrets"),
    *both("child", CLUSTER, "update", "secrets", 2),
]


def chosen(seed: int) -> dict[ActionName, list[Case]]:
    met = Met()
    return {action: short(action, POINTS, POINTS[2:4], seed=seed, met=met) for action in ACTIONS}


def test_every_point_is_struck_and_each_action_meets_what_ends_its_worker_or_child():
    cases = chosen(1)
    everything = list(itertools.chain.from_iterable(cases.values()))
    struck = {str(one.injection.point) for one in everything}
    assert {str(point) for point in POINTS if point.who != "child"} <= struck
    assert {"before child's get /version", "before child's update secrets", "after child's update secrets"} <= struck
    for action in set(ACTIONS) - CANCELS:
        assert {one.injection.fault.name for one in cases[action]} >= {
            "kill worker",
            "kill child",
            "stop worker and child",
        }
    assert any(one.second is not None for one in everything)
    assert all(any(one.injection.late for one in of_action) for of_action in cases.values())


def test_the_same_seed_chooses_the_same_cases():
    assert chosen(7) == chosen(7)
    assert chosen(7) != chosen(8)


def test_a_printed_line_is_the_case_again():
    points: dict[ActionName, Sequence[Point]] = dict.fromkeys(ACTIONS, POINTS)
    cases = [*itertools.chain(*chosen(3).values()), *itertools.islice(walk(points, points, seed=3), 200)]
    assert any(one.beside for one in cases)
    assert not all(one.beside for one in cases)
    for case in cases:
        assert read_case(str(case), POINTS) == case
        assert read_case(f"VIOLATED: {case} -> failed, attempts 2, 9.1 s", POINTS) == case
