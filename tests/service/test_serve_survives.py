"""``pilothouse serve`` under real signals: what dies is started again, and what was accepted is carried out."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings
from tests.support.charts import build_chart
from tests.support.servers import RunningServer, children, free_port, open_folder, part, run_server, wait_for

SLOW_HOOK = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-hook
  annotations:
    helm.sh/hook: pre-install
spec:
  template:
    metadata:
      annotations:
        pilothouse.dev/simulate: slow
        pilothouse.dev/simulate-delay: 4s
    spec:
      restartPolicy: Never
      containers:
        - name: hook
          image: busybox
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


@pytest.fixture
def own_server(folder: Path, kubeconfig: str):
    with run_server(folder, kubeconfig=kubeconfig) as running:
        yield running


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return below + [one for child in below for one in descendants(child)]


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended stays visible until its parent asks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_ours(pid: int) -> bool:
    """Whether it is one of Pilothouse's own programs, and not PostgreSQL's."""
    return b"-m\0pilothouse" in Path(f"/proc/{pid}/cmdline").read_bytes()


def running_operations(server: RunningServer) -> int:
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM operations WHERE state = 'running'").fetchone()
    assert row is not None
    return int(row[0])


def upload(server: RunningServer, **templates: str) -> str:
    files = {f"{name}.yaml": text for name, text in templates.items()}
    answer = server.upload(build_chart("survivor", "1.0.0", templates=files), parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_killed_api_is_back_by_itself(own_server: RunningServer):
    before = part(own_server, "api")
    os.kill(before, signal.SIGKILL)
    after = wait_for(lambda: own_server.send("GET", "/v2/charts").is_success and part(own_server, "api"))
    assert after != before


@pytest.fixture
def impatient_server(folder: Path):
    with run_server(folder, kubeconfig=None, environment={"PILOTHOUSE_SUPERVISOR__SILENT_SECONDS": "5"}) as running:
        yield running


def is_replaced(server: RunningServer, name: str, pid: int) -> bool:
    return part(server, name) != pid


def test_what_hangs_is_back_by_itself(impatient_server: RunningServer):
    names = ("api", "worker", "observer")
    log = impatient_server.data_dir.parent / "serve.log"
    wait_for(lambda: all(f"{name}_started" in log.read_text() for name in ("worker", "observer")), seconds=60)
    time.sleep(3)  # each has answered
    before = {name: part(impatient_server, name) for name in names}
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    for name, pid in before.items():
        wait_for(partial(is_replaced, impatient_server, name, pid), seconds=60)
    wait_for(lambda: impatient_server.send("GET", "/v2/charts").is_success)
    assert not any(alive(pid) for pid in before.values())


def test_an_install_survives_the_kill_of_its_worker(own_server: RunningServer, namespace: str, helm_cli):
    chart_id = upload(own_server, hook=SLOW_HOOK, map=MAP)
    assert own_server.create(chart_id=chart_id, name="steady", namespace=namespace).status_code == 201
    wait_for(lambda: running_operations(own_server))
    time.sleep(1.0)
    os.kill(part(own_server, "worker"), signal.SIGKILL)
    release = own_server.wait_until_final(namespace, "steady", seconds=90)
    assert release["status"] == "DEPLOYED", release
    assert helm_cli("status", "steady", "-n", namespace).count("STATUS: deployed") == 1


def test_what_was_accepted_without_a_worker_is_done_when_one_is_back(own_server: RunningServer, namespace: str):
    chart_id = upload(own_server, map=MAP)
    worker = part(own_server, "worker")
    os.kill(worker, signal.SIGSTOP)
    names = [f"queued-{number}" for number in range(5)]
    for name in names:
        assert own_server.create(chart_id=chart_id, name=name, namespace=namespace).status_code == 201
    os.kill(worker, signal.SIGKILL)
    assert {own_server.wait_until_final(namespace, name)["status"] for name in names} == {"DEPLOYED"}


def test_data_survive_the_kill_of_everything(folder: Path, kubeconfig: str, namespace: str):
    with run_server(folder, kubeconfig=kubeconfig) as first:
        chart_id = upload(first, map=MAP)
        assert first.create(chart_id=chart_id, name="kept", namespace=namespace).status_code == 201
        first.wait_until_final(namespace, "kept")
        below = [pid for pid in descendants(first.pid) if is_ours(pid)]
        os.kill(first.pid, signal.SIGKILL)  # its PostgreSQL lives on, and is adopted
        wait_for(lambda: not any(alive(pid) for pid in below))
    with run_server(folder, kubeconfig=kubeconfig) as second:
        assert second.access_key == first.access_key
        assert second.show(namespace, "kept").json()["status"] == "DEPLOYED"
        assert second.send("GET", f"/v2/charts/{chart_id}").status_code == 200


def test_a_stopped_server_leaves_no_process(folder: Path):
    with run_server(folder, kubeconfig=None) as running:
        below = descendants(running.pid)
        assert len(below) >= 4
    assert [pid for pid in below if alive(pid)] == []


def test_a_server_stopped_while_it_starts_leaves_no_database_behind(folder: Path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
        "PILOTHOUSE_DATA_DIR": str(folder / "data"),
        "PILOTHOUSE_PORT": str(free_port()),
        "PILOTHOUSE_TLS__PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pilothouse", "serve", "--first-credentials", str(folder / "first.json")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    postgres = EmbeddedPostgres(PostgresSettings(), data_dir=folder / "data")
    wait_for(postgres.running_url)
    process.terminate()
    process.wait(timeout=30)
    assert postgres.running_url() is None
