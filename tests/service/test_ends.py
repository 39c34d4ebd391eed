"""Every end of an operation, whoever writes it, is logged once, by one function."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, part, wait_for


@pytest.fixture
def releases(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> list[OneRelease]:
    return [OneRelease(server, namespace, name, helm_cli) for name in ("deleted", "cancelled", "installed")]


def ends(log: Path, operation_id: str) -> list[str]:
    """Return the states that are logged as ends of the operation."""
    lines = [line for line in log.read_text().splitlines() if "operation_ended" in line and operation_id in line]
    return [found[1] for line in lines if (found := re.search(r"\bstate\W+(\w+)", re.sub(r"\x1b\[[0-9]*m", "", line)))]


def test_an_end_is_logged_once_whoever_wrote_it(server: RunningServer, releases: list[OneRelease]):
    log = server.data_dir.parent / "serve.log"
    chart = str(server.upload(config_map_chart("ends"), parameters='{"override": true}').json()["id"])
    worker = part(server, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        deleted, cancelled, installed = (one.create(chart).headers["x-operation-id"] for one in releases)
        assert releases[0].delete().status_code == 200
        assert server.send("POST", f"/api/v1/operations/{cancelled}/cancel").status_code == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    assert releases[2].settled()["status"] == "DEPLOYED"
    wait_for(lambda: ends(log, installed))
    assert [ends(log, one) for one in (deleted, cancelled, installed)] == [["cancelled"], ["cancelled"], ["succeeded"]]
