"""Probes and metrics of each part, as Kubernetes and Prometheus read them, on a real server."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.chart_sources import added
from tests.support.charts import config_map_chart
from tests.support.offered_charts import offered
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, monitoring_ports, open_folder, part, run_server, wait_for
from tools.localcluster.cluster import RunningCluster


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Return the port that each part is watched at."""
    return monitoring_ports()


@pytest.fixture(scope="module")
def systemd() -> Iterator[socket.socket]:
    """Yield what a service of Type=notify speaks to."""
    with open_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(folder / "notify"))
        (folder / "notify").chmod(0o777)
        channel.settimeout(30)
        yield channel


@pytest.fixture(scope="module", autouse=True)
def watched(kubeconfig: str, ports: dict[str, int], systemd: socket.socket) -> Iterator[RunningServer]:
    """Yield a server that can be probed."""
    variables = {"PILOTHOUSE_MONITORING__PORT": str(ports["api"]), "NOTIFY_SOCKET": systemd.getsockname()}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=variables) as server:
        yield server


def ask(port: int, path: str, **headers: str) -> httpx2.Response:
    with httpx2.Client(timeout=12, trust_env=False) as http:
        return http.get(f"http://127.0.0.1:{port}{path}", headers=headers)


def samples(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of each sample by its labels' values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(ask(port, "/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture
def release(watched: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(watched, namespace, "counted", helm_cli)


@pytest.mark.parametrize("name", ["api", "observer", "worker"])
def test_every_part_says_that_it_lives_and_is_ready(ports: dict[str, int], name: str):
    assert wait_for(lambda: ask(ports[name], "/readyz").text == "ok\n")
    assert (ask(ports[name], "/livez").status_code, ask(ports[name], "/livez").text) == (200, "ok\n")
    assert ask(ports[name], "/elsewhere").status_code == 404
    assert any(name in labels for labels in samples(ports[name])["pilothouse_build_info"])


def test_systemd_is_told_when_the_service_is_ready(systemd: socket.socket):
    assert systemd.recv(100) == b"READY=1"


def test_an_operation_is_counted_where_it_is_accepted_and_where_it_ends(
    watched: RunningServer, ports: dict[str, int], release: OneRelease
):
    chart = str(watched.upload(config_map_chart("counted"), parameters='{"override": true}').json()["id"])
    release.create(chart)
    assert release.settled()["status"] == "DEPLOYED"
    wait_for(lambda: samples(ports["worker"]).get("pilothouse_operations_ended_total"))

    worker, api = samples(ports["worker"]), samples(ports["api"])

    assert api["pilothouse_operations_accepted_total"] == {("install",): 1}
    assert worker["pilothouse_operations_ended_total"] == {("install", "succeeded"): 1}
    assert worker["pilothouse_operation_duration_seconds_count"] == {("install",): 1}
    assert worker["pilothouse_attempts_total"] == {("ended",): 1}
    assert worker["pilothouse_engine_call_duration_seconds_count"][("install", "done")] == 1
    assert api["pilothouse_operations"] == {("queued",): 0, ("running",): 0, ("cancelling",): 0}
    deployed = (watched.cluster_id, "deployed")
    assert wait_for(lambda: samples(ports["api"]).get("pilothouse_releases", {}).get(deployed, 0) >= 1)


def test_a_release_whose_source_has_a_newer_version_is_counted(
    *, watched: RunningServer, ports: dict[str, int], release: OneRelease, helm_cli: HelmCommand,
    kubernetes: RunningCluster, tmp_path: Path,
):  # fmt: skip
    def updatable() -> float:
        counted = samples(ports["api"])["pilothouse_releases_with_update"]
        return counted[watched.cluster_id,]

    with offered("http", tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source:
        source.offer(config_map_chart("webapp", "1.0.0"))
        with added(watched, source.body) as named:
            ours = OwnRelease(watched, release.namespace, "of-a-source", helm_cli)
            ours.ended(ours.send("PUT", "", {"chart": {"source": source.name, "name": "webapp"}}))
            assert updatable() == 0
            source.offer(config_map_chart("webapp", "1.1.0"))
            assert watched.send("POST", f"/api/v1/sources/{named}/sync").is_success
            wait_for(lambda: updatable() == 1)


def test_requests_are_counted_by_the_template_of_their_route(watched: RunningServer, ports: dict[str, int]):
    watched.show("nowhere", "nothing")
    httpx2.get(f"{watched.url}/never/{'x' * 40}", trust_env=False)

    requests = samples(ports["api"])["http_server_requests_total"]

    routes = {route for _, _, route in requests}
    assert ("GET", "404", "/cce/cam/v3/clusters/{cluster_id}/namespace/{namespace}/releases/{name}") in requests
    assert ("GET", "401", "") in requests
    assert samples(ports["api"])["pilothouse_authentications_total"][("none", "refused")] >= 1
    assert samples(ports["api"])["pilothouse_authentications_total"][("signature", "accepted")] >= 1
    assert not any(watched.cluster_id in route or "xxx" in route or "nowhere" in route for route in routes)


def test_a_method_that_a_stranger_invents_is_no_series_of_its_own(watched: RunningServer, ports: dict[str, int]):
    for path in ("/console/login", "/api/v1/health", "/nowhere"):
        for method in ("INVENTED", "A" * 5000):
            httpx2.request(method, watched.url + path, trust_env=False)

    methods = {method for method, _, _ in samples(ports["api"])["http_server_requests_total"]}

    assert "_OTHER" in methods
    assert methods <= {"_OTHER", "GET", "POST", "PUT", "DELETE"}


def test_connections_that_send_slowly_do_not_keep_probes_out(ports: dict[str, int]):
    with ExitStack() as held:
        slow = [held.enter_context(socket.create_connection(("127.0.0.1", ports["api"]), 5)) for _ in range(60)]
        for connection in slow:
            with suppress(OSError):
                connection.sendall(b"G")
        assert ask(ports["api"], "/livez").text == "ok\n"
        for connection in slow:
            with suppress(ConnectionError):
                assert connection.recv(1) == b""


def test_metrics_of_a_process_come_in_the_form_that_is_asked_for(ports: dict[str, int]):
    open_metrics = ask(ports["api"], "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.text.endswith("# EOF\n")
    assert ask(ports["api"], "/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def test_a_process_that_is_stopped_does_not_live(watched: RunningServer, ports: dict[str, int]):
    """The listener is a thread of the same process: a client's own time limit is what tells of SIGSTOP."""
    worker = part(watched, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(httpx2.TimeoutException), httpx2.Client(timeout=1, trust_env=False) as http:
            http.get(f"http://127.0.0.1:{ports['worker']}/livez")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert wait_for(lambda: ask(ports["worker"], "/livez").text == "ok\n")


def test_a_database_with_another_schema_makes_every_part_unready_but_not_dead(
    watched: RunningServer, ports: dict[str, int]
):
    with psycopg.connect(watched.database_url, autocommit=True) as connection:
        ours = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert ours is not None
        oldest = connection.execute("SELECT oldest_program FROM schema_compatibility").fetchone()
        assert oldest is not None
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            compatible = {ask(port, "/readyz").status_code for port in ports.values()}
            connection.execute("UPDATE schema_compatibility SET oldest_program = '9999'")
            answers = {name: ask(port, "/readyz") for name, port in ports.items()}
            alive = {ask(port, "/livez").status_code for port in ports.values()}
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", ours)
            connection.execute("UPDATE schema_compatibility SET oldest_program = %s", oldest)
    assert compatible == {200}
    assert {answer.status_code for answer in answers.values()} == {503}
    assert {answer.text for answer in answers.values()} == {
        f"the database has schema 9999 and this program needs {ours[0]}\n"
    }
    assert alive == {200}


def test_a_database_that_is_away_is_said_and_counters_are_still_read(
    ports: dict[str, int], stopped_database: Callable[[], None]
):
    stopped_database()
    answer = ask(ports["api"], "/readyz")
    assert (answer.status_code, "PostgreSQL" in answer.text or "no answer" in answer.text) == (503, True)
    found = samples(ports["api"])
    assert found["pilothouse_database_up"] == {(): 0}
    assert "pilothouse_operations" not in found
    assert found["http_server_requests_total"]


@pytest.fixture
def stopped_database(watched: RunningServer) -> Iterator[Callable[[], None]]:
    """Stop the database's processes, as a machine that hangs would; they go on at the end."""
    pid_file = next(Path(watched.data_dir).rglob("postmaster.pid"))
    postmaster = int(pid_file.read_text().splitlines()[0])
    stopped: list[int] = []

    def stop() -> None:
        processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        for pid in (postmaster, *(one for one in processes if _parent(one) == postmaster)):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: watched.send("GET", "/api/v1/clusters").status_code == 200)


def _parent(pid: int) -> int:
    try:
        return int(re.findall(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
    except OSError:
        return 0
