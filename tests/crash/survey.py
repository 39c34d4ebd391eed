"""An undisturbed run of an action, and one with a single death: where the points of both are found."""

import time
from collections.abc import Sequence

from tests.crash.cases import Environment
from tests.crash.deployment import FINAL
from tests.crash.faults import LOSE
from tests.crash.points import READS, Point, find_points, where_to_lose
from tests.crash.releases import ActionName, Release
from tests.support.servers import wait_for


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
    injection = next(one for one in where_to_lose(points) if one.when == "answer")
    release = environment.release(action)
    release.prepare()
    deployment.proxy.arm(injection.rule(deployment))
    answer = release.send()
    assert answer.is_success, answer.text
    held = deployment.proxy.wait_held(30)
    assert held, f"{injection} is not reached again"
    operation = deployment.operations(release.name)[-1][0]
    worker = deployment.holder(operation)
    assert worker is not None
    mark = environment.deployment.proxy.newest()
    survivors = {one.pid for one in deployment.workers if one is not worker}
    LOSE.strike(deployment, worker)
    deployment.proxy.release(held[0], "cut")
    _wait_until_final(environment, release)
    time.sleep(0.5)
    exchanges = [
        one for one in deployment.proxy.exchanges(after=mark) if one.pid in survivors or one.parent in survivors
    ]
    deployment.mend()
    found = find_points(deployment, exchanges)
    return [one for one in found if one.who != "api" and one.verb not in READS]


def _wait_until_final(environment: Environment, release: Release) -> None:
    wait_for(lambda: environment.deployment.operations(release.name)[-1][1] in FINAL, seconds=180)
