"""The clock of all processes jumps by days while they work: the database's clock decides, or the time since boot.

What only a process itself can judge is the age of something that came from outside: a signature's date.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from tests.contract.test_operations_api import slow_chart
from tests.support import tokens
from tests.support.charts import config_map_chart
from tests.support.clocks import ShiftedClock
from tests.support.fleets import Fleet, fleet
from tests.support.servers import free_port, wait_for

_DAYS = 2 * 24 * 3600  # more than a token, a session, a deadline and a webhook's message live
#: Short, so that a lease has to be renewed after the jump.
_LEASES = {
    "PILOTHOUSE_WORKER__LEASE_SECONDS": "6",
    "PILOTHOUSE_WORKER__FENCE_SECONDS": "4",
    "PILOTHOUSE_OBSERVER__LEASE_SECONDS": "6",
    "PILOTHOUSE_WEBHOOKS__ALLOW_LOOPBACK": "true",
    "PILOTHOUSE_WEBHOOKS__PLAIN_HTTP": "true",
}


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> ShiftedClock:
    made = ShiftedClock(tmp_path_factory.mktemp("clock"))
    made.set(_DAYS)
    asked = [sys.executable, "-c", "import time, datetime; print(time.time(), datetime.datetime.now().timestamp())"]
    told = subprocess.run(asked, env=made.environment, check=True, capture_output=True, text=True).stdout
    ahead = [float(one) - datetime.now(UTC).timestamp() for one in told.split()]
    assert ahead == pytest.approx([_DAYS, _DAYS], abs=60), "the clock is not shifted"
    made.set(0)
    return made


@pytest.fixture(scope="module")
def running(clock: ShiftedClock, kubeconfig: str) -> Iterator[Fleet]:
    with fleet(apis=1, workers=1, observers=1, environment=_LEASES | clock.environment) as made:
        made.register(kubeconfig)
        yield made


def rows(running: Fleet, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with running.connect() as connection:
        return connection.execute(query, values).fetchall()


@pytest.mark.parametrize("shift", [_DAYS, -_DAYS], ids=["ahead", "back"])
def test_what_is_under_way_and_whoever_is_logged_in_goes_on(
    running: Fleet, clock: ShiftedClock, namespace: str, shift: int
):
    (api,) = running.apis
    quick = api.upload(config_map_chart("quick"), parameters='{"override": true}').json()["id"]
    slow = api.upload(slow_chart("12s"), parameters='{"override": true}').json()["id"]
    nobody = {"name": f"nobody-{namespace}", "url": f"http://127.0.0.1:{free_port()}/hook"}
    assert api.send("POST", "/api/v1/webhooks", json_body=nobody).status_code == 201
    token = tokens.token_of(api)
    path = f"/cce/cam/v3/clusters/{api.cluster_id}/releases"

    def install(name: str, chart: str) -> str:
        body = {"chart_id": chart, "name": name, "namespace": namespace, "values": {}, "parameters": {}}
        answer = tokens.send(api, "POST", path, token=token, json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["x-operation-id"])

    def ended(operation: str) -> bool:
        return bool(rows(running, "SELECT 1 FROM operations WHERE id = %s AND finished_at IS NOT NULL", operation))

    try:
        before = install("before", slow)
        waits = "SELECT 1 FROM operations WHERE id = %s AND state = 'running' AND lease_until IS NOT NULL"
        wait_for(lambda: bool(rows(running, waits, before)))
        clock.set(shift)
        after = install("after", quick)
        for operation in (before, after):
            wait_for(partial(ended, operation), seconds=60)

        told = "SELECT state, attempt, crashes, failure FROM operations WHERE id IN (%s, %s)"
        assert rows(running, told, before, after) == [("succeeded", 1, 0, "")] * 2
        # the webhook's message is tried again, and neither given up nor left
        tried = """
            SELECT d.state FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
            WHERE w.name = %s AND d.attempts > 0"""
        wait_for(lambda: bool(rows(running, tried, nobody["name"])))
        assert {state for (state,) in rows(running, tried, nobody["name"])} == {"pending"}
        for process in running.processes.values():
            assert process.readiness() == (200, "ok\n"), process.name
        # what is judged by this clock alone, and says so
        refused = api.send("GET", "/api/v1/projects")
        assert (refused.status_code, refused.json()["error_code"]) == (401, "APIGW.0301")
        assert "X-Sdk-Date" in refused.text or "date" in refused.text.lower()
    finally:
        clock.set(0)
    assert api.send("GET", "/api/v1/projects").status_code == 200
