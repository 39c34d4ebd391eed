"""A full disk: whoever cannot write says that it is not ready, and why, and goes on when there is room."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.contract.test_operations_api import slow_chart
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, monitoring_ports, open_folder, run_server, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Return the port that each part is watched at."""
    return monitoring_ports()


@pytest.fixture(scope="module")
def small(ports: dict[str, int], kubeconfig: str) -> Iterator[RunningServer]:
    """Yield a server whose data folder is a disk of its own."""
    variables = {
        "PILOTHOUSE_MONITORING__PORT": str(ports["api"]),
        "PILOTHOUSE_WORKER__LEASE_SECONDS": "6",
        "PILOTHOUSE_WORKER__FENCE_SECONDS": "4",
    }
    with (
        open_folder() as made,
        small_disk(made / "data"),
        run_server(made, kubeconfig=kubeconfig, environment=variables) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def folder(small: RunningServer) -> Path:
    """Return the folder of that server."""
    return small.data_dir.parent


def ask(port: int, path: str) -> httpx2.Response:
    with httpx2.Client(timeout=12, trust_env=False) as http:
        return http.get(f"http://127.0.0.1:{port}{path}")


def says(port: int, pattern: str) -> bool:
    """Return True if the part's /readyz matches."""
    return re.search(pattern, ask(port, "/readyz").text) is not None


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024 * 1024))
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def test_on_a_full_disk_every_part_says_that_it_is_not_ready_and_why(folder: Path, ports: dict[str, int]):
    for port in ports.values():
        wait_for(partial(says, port, "^ok$"), seconds=60)
    fill(folder / "data" / "full")

    for name in ("api", "worker"):
        wait_for(partial(says, ports[name], "No space left on device"), seconds=40)
    wait_for(partial(says, ports["observer"], "PostgreSQL"), seconds=40)
    assert [ask(port, "/readyz").status_code for port in ports.values()] == [503, 503, 503]
    assert [ask(port, "/livez").status_code for port in ports.values()] == [200, 200, 200]
    metrics = ask(ports["api"], "/metrics").text
    assert "\npilothouse_ready 0.0\n" in metrics
    assert float(re.findall(r"\npilothouse_data_folder_free_bytes (\S+)", metrics)[0]) < 64 * 1024 * 1024
    assert re.search("not_ready.*No space left on device", (folder / "serve.log").read_text())

    (folder / "data" / "full").unlink()

    for port in ports.values():
        wait_for(partial(says, port, "^ok$"), seconds=90)
    assert "\npilothouse_ready 1.0\n" in ask(ports["api"], "/metrics").text
    assert "ready_again" in (folder / "serve.log").read_text()


def test_what_is_under_way_on_a_full_disk_ends_and_is_told_when_there_is_room(
    small: RunningServer, ports: dict[str, int], namespace: str, helm_cli: HelmCommand
):
    slow, quick = (small.upload(archive).json()["id"] for archive in (slow_chart("12s"), config_map_chart("quick")))
    accepted = small.create(chart_id=slow, name="slow", namespace=namespace, values={}, parameters={})
    assert accepted.status_code == 201, accepted.text
    path = f"/api/v1/operations/{accepted.headers['x-operation-id']}"
    wait_for(lambda: statuses(helm_cli, namespace) == {"slow": "pending-install"})

    fill(small.data_dir / "full")
    try:
        wait_for(partial(says, ports["observer"], "PostgreSQL"), seconds=40)
        exhaust_log(small)
        # what PostgreSQL has room for in its log is accepted, and counts; all else is refused
        beside = small.create(chart_id=quick, name="beside", namespace=namespace, values={}, parameters={})
        assert beside.status_code == 201 or beside.status_code >= 500, beside.text
        time.sleep(12)  # the hook is over, and nobody can write that down
        assert wait_for(lambda: small.send("GET", path).status_code >= 500, seconds=40)
    finally:
        (small.data_dir / "full").unlink()
    for port in ports.values():
        wait_for(partial(says, port, "^ok$"), seconds=90)

    ended = wait_for(lambda: ended_operation(small, path), seconds=90)
    assert ended["state"] == "succeeded", ended
    counted = {"slow", "beside"} if beside.status_code == 201 else {"slow"}
    wait_for(lambda: set(statuses(helm_cli, namespace).values()) == {"deployed"})
    assert set(statuses(helm_cli, namespace)) == counted
    # the attempt that could not go on counts as a revision of its own
    history = json.loads(helm_cli("history", "slow", "-n", namespace, "-o", "json"))
    assert (history[-1]["revision"], history[-1]["status"]) == (ended["revision"], "deployed")
    assert len(history) <= 2, history
    shown = small.send("GET", f"/cce/cam/v3/clusters/{small.cluster_id}/releases?namespace={namespace}").json()
    assert {one["name"]: one["status"] for one in shown} == dict.fromkeys(counted, "DEPLOYED")


def exhaust_log(server: RunningServer) -> None:
    """Write until PostgreSQL has no room in its log either, which ends it; it starts again and again."""
    with suppress(psycopg.OperationalError), psycopg.connect(server.database_url, autocommit=True) as connection:
        for _ in range(1000):
            connection.execute("SELECT pg_logical_emit_message(true, 'full', repeat('x', 1000000))")


def ended_operation(server: RunningServer, path: str) -> dict[str, Any]:
    """Return the operation if it has ended, else nothing."""
    found: dict[str, Any] = server.send("GET", path).json()
    return found if found.get("finished_at") else {}


def statuses(helm_cli: HelmCommand, namespace: str) -> dict[str, str]:
    """Return each release's status, as helm tells it."""
    return {one["name"]: one["status"] for one in json.loads(helm_cli("list", "-n", namespace, "-o", "json"))}
