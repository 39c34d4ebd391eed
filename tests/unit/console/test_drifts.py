"""Looks at the drift of several releases: what there is no time for is told, and can be looked at after."""

import asyncio

from starlette.requests import Request

from pilothouse.console.drifts import Look, look_in_turn
from pilothouse.services.releases.details import ReleaseRef

PLACE = ReleaseRef("east", "shop", "web")


async def test_what_waits_for_its_turn_until_the_time_is_over_is_told_as_late():
    turns, until = asyncio.Semaphore(1), asyncio.get_running_loop().time() + 0.05
    await turns.acquire()
    found = await asyncio.wait_for(look_in_turn(Request({"type": "http"}), PLACE, turns, until), timeout=5)
    assert found == Look(PLACE, problem="the time for all of them together, 30 s, was over", late=True)
    assert found.state == "unlooked"


def test_a_look_that_could_not_compare_everything_does_not_say_that_there_is_no_drift():
    counts = {"added": 0, "changed": 0, "removed": 0, "unknown": 0, "unchanged": 3}
    assert Look(PLACE, 2, counts).state == "none"
    assert Look(PLACE, 2, counts | {"unknown": 1}).state == "partly"
    assert Look(PLACE, 2, counts, ("objects beside the manifest: no answer",)).state == "partly"
    assert Look(PLACE, 2, counts | {"unknown": 1, "added": 1}).state == "drifted"


def test_what_a_failed_revision_never_created_is_no_drift_unless_something_else_differs():
    counts = {"added": 0, "changed": 0, "removed": 2, "unknown": 0, "unchanged": 0}
    assert Look(PLACE, 1, counts).state == "drifted"
    assert Look(PLACE, 1, counts, missing=2).state == "uncreated"
    assert Look(PLACE, 1, counts | {"changed": 1}, missing=2).state == "drifted"
