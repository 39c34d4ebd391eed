"""Every route asked by callers of every kind, and with ids of others: both matrices are made from the route table.

A new route is in them by itself: ``test_route_table`` fails until its action is declared. The cells are judged in one
test per row, and nobody who is refused changes anything.
"""

import json
from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

import pytest

from tests.support.charts import config_map_chart
from tests.support.matrix import (
    ABROAD,
    ACCOUNT_IDS,
    BESIDE,
    OWN,
    PROJECT_IDS,
    Caller,
    Wire,
    World,
    broken_bodies,
    request,
    words_of,
)
from tests.support.matrix_world import state_of, world
from tests.support.route_table import PUBLIC, SEES_PROJECT, Served, application, declared
from tests.support.servers import RunningServer

ARCHIVE = config_map_chart("matrix-again", "2.0.0")
BROKEN = b"no archive"
#: What another project's quotas answer, existing or not.
QUOTAS = "GET /v2/charts/{project_id}/quotas"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return application(tmp_path_factory.mktemp("routes"))


@pytest.fixture(scope="module")
def everybody(attacked: RunningServer, kubeconfig: str, make_namespace: Any) -> Iterator[World]:
    with world(attacked, kubeconfig, make_namespace()) as made:
        yield made


@pytest.fixture(scope="module")
def wire(attacked: RunningServer) -> Iterator[Wire]:
    opened = Wire(attacked)
    yield opened
    opened.close()


def foreign_to(caller: Caller, route: str) -> set[str]:
    """Return the ids in the route that are not the caller's, if it asks for the ones of OWN."""
    words = words_of(route.partition(" ")[2], declared(route))
    if caller.home == ABROAD:
        return words & (PROJECT_IDS | ACCOUNT_IDS)
    return words & PROJECT_IDS if caller.home == BESIDE else set()


def expected(caller: Caller, route: str) -> set[int]:
    """Return the statuses that are right when the caller asks for what is in OWN; empty: whatever serves it."""
    action = declared(route).action
    if action == PUBLIC:
        return set()
    if not caller.alive:
        return {401}
    if route.replace("/autopilot", "") == QUOTAS and caller.home != OWN:
        return {403}
    if action == SEES_PROJECT:
        return set() if caller.sees_own and caller.home != ABROAD else {404}
    if foreign_to(caller, route) and action.startswith("iam:credentials"):
        return {404}  # a key of nobody in this account is unknown before anybody is asked for a right
    allowed = caller.may(action, words_of(route.partition(" ")[2], declared(route)))
    return {403} if not allowed else {404} if foreign_to(caller, route) else set()


def assert_unchanged(world: World, wire: Wire, before: dict[str, str]) -> None:
    """Nobody has changed anything since ``before``."""
    for home, admin in world.admins.items():
        after = state_of(admin, wire, namespace=world.ids[OWN]["namespace"])
        lines = unified_diff(before[home].splitlines(), after.splitlines(), lineterm="")
        assert not (changed := "\n".join(lines)), f"{home}:\n{changed}"


def is_right(status: int, right: set[int], *, whole: bool) -> bool:
    """Return whether a status is one of the right ones; ``whole``: nothing hinders the request but a refusal."""
    if right:
        return status in right
    return status < 400 if whole else status < 500 and status not in {401, 403}


def ask(world: World, wire: Wire, caller: Caller, route: str) -> str:
    """Return what is wrong with the cell, or nothing.

    Who is to be served with a change asks for what does not exist: the others' cells need what there is.
    """
    method, _, path = route.partition(" ")
    right = expected(caller, route)
    whole = bool(right) or method in {"GET", "HEAD"}
    ids = world.ids[OWN] if whole else world.unknown()
    target, headers, body = request(path, declared(route), ids, ARCHIVE if whole else BROKEN)
    status, text = wire.send(caller, method, target, headers=headers, body=body)
    if not is_right(status, right, whole=whole and declared(route).action != PUBLIC):
        return (
            f"{caller.name}: {route} ({declared(route).action}) gave {status}, right is {right or 'served'}: "
            f"{text[:300]}"
        )
    if right != {403} or (caller.of_namespace and "{namespace}" not in path):
        return ""  # the second: only a whole body, or a row, tells the namespace that its policy is about
    for broken in broken_bodies(declared(route), ids):
        again = wire.send(caller, method, target, headers=headers, body=broken)
        if refusal(again) != refusal((status, text)):
            return f"{caller.name}: {route} with the body {broken!r} gave {again}, and {status} with a whole one"
    return ""


def refusal(answer: tuple[int, str]) -> tuple[int, str]:
    """Return status and message of an answer, which is an error."""
    status, text = answer
    body = json.loads(text)
    return status, str(body.get("errorMessage") or body["error"]["message"])


def wrong_cells(world: World, wire: Wire, served: Served) -> list[str]:
    """Return what is wrong, over all callers and routes."""
    return [fault for caller in world.callers for route in served.routes if (fault := ask(world, wire, caller, route))]


def test_every_caller_gets_from_every_route_what_its_roles_say(everybody: World, wire: Wire, served: Served):
    before = {
        home: state_of(admin, wire, namespace=everybody.ids[OWN]["namespace"])
        for home, admin in everybody.admins.items()
    }
    wrong = wrong_cells(everybody, wire, served)
    print(f"{len(everybody.callers) * len(served.routes)} cells, {len(wrong)} wrong")  # noqa: T201 - a figure of the run
    assert not wrong, "\n".join(wrong)
    assert_unchanged(everybody, wire, before)


def foreign_ids(route: str) -> Iterator[tuple[str, str]]:
    """Yield each id that a request to the route names, with the homes whose ids are foreign to OWN."""
    for word in sorted(words_of(route.partition(" ")[2], declared(route))):
        if word in PROJECT_IDS:
            yield word, BESIDE
        if word in PROJECT_IDS | ACCOUNT_IDS:
            yield word, ABROAD


def filters(served: Served, route: str) -> Iterator[str]:
    """Yield the ids that a list can be asked for, beside those that are named anyway."""
    method, _, _path = route.partition(" ")
    for parameter in served.described(route).get("parameters", []):
        name = parameter.get("name", "")
        if (
            method == "GET"
            and parameter.get("in") == "query"
            and name.endswith("_id")
            and name not in declared(route).query
        ):
            yield name


def answer_to(world: World, wire: Wire, route: str, ids: dict[str, str], *, query: str = "") -> tuple[int, str]:
    """Return the answer to the administrator of OWN, with the ids that it names left out of the text."""
    method, _, path = route.partition(" ")
    target, headers, body = request(path, declared(route), ids, ARCHIVE)
    status, text = wire.send(world.admins[OWN], method, target + query, headers=headers, body=body)
    for name, value in ids.items():
        text = text.replace(value, name) if name in PROJECT_IDS | ACCOUNT_IDS else text
    return status, text


def test_an_id_of_others_is_answered_as_one_that_nothing_has(everybody: World, wire: Wire, served: Served):
    before = {
        home: state_of(admin, wire, namespace=everybody.ids[OWN]["namespace"])
        for home, admin in everybody.admins.items()
    }
    wrong, pairs = [], 0
    for route in served.routes:
        right = 403 if route.replace("/autopilot", "") == QUOTAS else 404
        for word, home in foreign_ids(route):
            pairs += 1
            own = everybody.ids[OWN]
            foreign = answer_to(everybody, wire, route, own | {word: everybody.ids[home][word]})
            unknown = answer_to(everybody, wire, route, own | {word: everybody.unknown()[word]})
            if foreign != unknown or foreign[0] != right:
                wrong.append(f"{route}, {word} of {home}: {foreign}, and for one that nothing has {unknown}")
    print(f"{pairs} pairs, {len(wrong)} wrong")  # noqa: T201 - a figure of the run
    assert not wrong, "\n".join(wrong)
    assert_unchanged(everybody, wire, before)


def test_a_list_of_what_has_an_id_of_others_is_the_list_of_what_has_an_unknown_one(
    everybody: World, wire: Wire, served: Served
):
    asked = [(route, name) for route in served.routes for name in filters(served, route)]
    assert {name for _, name in asked} >= {"cluster_id", "chart_id"}
    own = everybody.ids[OWN]
    for route, name in asked:
        for home in (BESIDE, ABROAD):
            known = {**everybody.ids[home], "parent_id": everybody.ids[home]["domain_id"]}[name]
            if known in own.values():
                continue  # one's own account, from the project beside
            mark = "&" if declared(route).query else "?"
            answers = [answer_to(everybody, wire, route, own, query=f"{mark}{name}={one}") for one in (known, "f" * 32)]
            texts = [text.replace(one, "ID") for (_, text), one in zip(answers, (known, "f" * 32), strict=True)]
            assert answers[0][0] == answers[1][0] < 500, (route, name, answers)
            assert texts[0] == texts[1], (route, name, home)
