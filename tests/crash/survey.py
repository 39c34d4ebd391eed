"""An undisturbed run of an action, and one with a single death: where the points of both are found."""

import time
from collections.abc import Sequence

from tests.crash.cases import Environment
from tests.crash.deployment import FINAL
from tests.crash.faults import LOSE
from tests.crash.points import READS, Point, find_points, where_to_lose
from tests.crash.releases import ActionName, Release
from tests.support.servers import wait_for
from tools.localcluster.faults.rules import Held

_REACH_SECONDS = 30
#: In how many runs a worker is to be lost, before no point of the action is there any more.
_TRIES = 5


def survey(environment: Environment, action: ActionName) -> list[Point]:
    """Return the points of the action; the ground learns how long it takes undisturbed."""
    release = environment.release(action)
    release.prepare()
    mark = environment.deployment.proxy.newest()
    began = time.monotonic()
    answer = release.send()
    assert answer.is_success, answer.text
    _wait_until_final(environment, release)
    environment.undisturbed = max(environment.undisturbed, time.monotonic() - began)
    time.sleep(0.5)  # the COMMIT's answer is noted after the row is seen
    return find_points(environment.deployment, environment.deployment.proxy.exchanges(after=mark))


def survey_recovery(environment: Environment, action: ActionName, points: Sequence[Point]) -> list[Point]:
    """Return the points in what a worker does after another has died in the middle of the action."""
    deployment = environment.deployment
    candidates = [one for one in where_to_lose(points) if one.when == "answer"]
    tried = (_reach(environment, action, point) for point in candidates[:_TRIES])
    reached = next((one for one in tried if one is not None), None)
    assert reached is not None, f"none of {[str(one) for one in candidates[:_TRIES]]} is reached again"
    release, held = reached
    operation = deployment.operations(release.name)[-1][0]
    worker = deployment.holder(operation)
    assert worker is not None
    mark = environment.deployment.proxy.newest()
    survivors = {one.pid for one in deployment.workers if one is not worker}
    LOSE.strike(deployment, worker)
    deployment.proxy.release(held, "cut")
    _wait_until_final(environment, release)
    time.sleep(0.5)
    exchanges = [
        one for one in deployment.proxy.exchanges(after=mark) if one.pid in survivors or one.parent in survivors
    ]
    deployment.mend()
    found = find_points(deployment, exchanges)
    return [one for one in found if one.who != "api" and one.verb not in READS]


def _reach(environment: Environment, action: ActionName, point: Point) -> tuple[Release, Held] | None:
    """Return a release whose action is held at the point; None if it ended without: workers race in each run anew."""
    proxy = environment.deployment.proxy
    release = environment.release(action)
    release.prepare()
    proxy.arm(point.rule(environment.deployment))
    answer = release.send()
    assert answer.is_success, answer.text
    held = proxy.wait_held(_REACH_SECONDS)
    if held:
        return release, held[0]
    proxy.clear()
    _wait_until_final(environment, release)
    return None


def _wait_until_final(environment: Environment, release: Release) -> None:
    wait_for(lambda: environment.deployment.operations(release.name)[-1][1] in FINAL, seconds=180)
