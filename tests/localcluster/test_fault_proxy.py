"""The fault proxy between real programs: a client of the API server, and one of a PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings
from tests.support.servers import open_folder
from tools.localcluster.cluster import RunningCluster
from tools.localcluster.errors import LocalClusterError
from tools.localcluster.faults.kubernetes import Target, read_target
from tools.localcluster.faults.postgres import statement_name
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Rule


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as running:
        yield running


@pytest.fixture
def proxied(proxy: FaultProxy, kubeconfig: str) -> str:
    return proxy.kubernetes(kubeconfig)


@pytest.fixture
def api(proxied: str) -> Iterator[Client]:
    with Client(config=KubeConfig.from_dict(json.loads(proxied)), trust_env=False, timeout=httpx2.Timeout(20)) as one:
        yield one


@pytest.fixture
def direct(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as one:
        yield one


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with open_folder() as folder:
        server = EmbeddedPostgres(PostgresSettings(), data_dir=folder / "data")
        url = server.start()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE notes (name text PRIMARY KEY, body text)")
        yield url
        server.stop()


def config_map(name: str, namespace: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data={"is": "here"})


def names(api: Client, namespace: str) -> set[str]:
    found = {one.metadata.name for one in api.list(ConfigMap, namespace=namespace) if one.metadata}
    return {name for name in found if name and not name.startswith("kube-")}


class Attempt(threading.Thread):
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except Exception as error:  # noqa: BLE001 - what it is, the test asks
            self.error = error

    def ended(self) -> bool:
        self.join(20)
        return not self.is_alive()


def test_requests_and_their_answers_pass_unchanged_and_are_noted(
    proxy: FaultProxy, kubernetes: RunningCluster, proxied: str, tmp_path: Path, namespace: str
):
    file = tmp_path / "kubeconfig"
    file.write_text(proxied)
    done = subprocess.run(
        [kubernetes.helm, "list", "-n", namespace, "--kubeconfig", file], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("NAME")
    (listed,) = [one for one in proxy.exchanges() if one.resource == "secrets"]
    assert (listed.verb, listed.namespace, listed.status) == ("list", namespace, 200)
    assert listed.agent.startswith("Helm/4")
    assert listed.pid


def test_the_audit_log_has_the_same_id_as_the_proxy(
    proxy: FaultProxy, api: Client, kubernetes: RunningCluster, namespace: str
):
    log = kubernetes.kubeconfig.parent / "logs" / "audit.log"
    if not log.exists():
        pytest.skip("this cluster's audit log is not on this machine")
    api.create(config_map("noted", namespace))
    (made,) = [one for one in proxy.exchanges() if one.verb == "create"]
    until = time.monotonic() + 10
    while made.audit_id not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_watch_streams_through(api: Client, namespace: str):
    api.create(config_map("first", namespace))
    for event, found in api.watch(ConfigMap, namespace=namespace):
        assert found.metadata
        if found.metadata.name == "first":
            assert event == "ADDED"
            break


def test_the_nth_request_of_a_kind_is_cut_before_the_server_sees_it(
    proxy: FaultProxy, api: Client, direct: Client, namespace: str
):
    proxy.arm(Rule(action="cut", verb="create", resource="configmaps", nth=2))
    api.create(config_map("one", namespace))
    with pytest.raises(httpx2.TransportError):
        api.create(config_map("two", namespace))
    api.create(config_map("three", namespace))
    assert names(direct, namespace) == {"one", "three"}


def test_an_answer_can_be_cut_after_the_server_has_acted(
    proxy: FaultProxy, api: Client, direct: Client, namespace: str
):
    proxy.arm(Rule(action="cut", verb="create", when="answer"))
    with pytest.raises(httpx2.TransportError):
        api.create(config_map("made", namespace))
    assert names(direct, namespace) == {"made"}


def test_a_frozen_request_waits_until_it_is_released(proxy: FaultProxy, api: Client, direct: Client, namespace: str):
    proxy.arm(Rule(action="freeze", verb="create", name="*", resource="configmaps"))
    attempt = Attempt(lambda: api.create(config_map("late", namespace)))
    (held,) = proxy.wait_held(20)
    assert (held.when, held.exchange.resource) == ("request", "configmaps")
    assert names(direct, namespace) == set()
    assert proxy.release(held)
    assert attempt.ended()
    assert attempt.error is None
    assert names(direct, namespace) == {"late"}
    assert not proxy.release(held)


def test_a_frozen_request_can_be_cut(proxy: FaultProxy, api: Client, direct: Client, namespace: str):
    proxy.arm(Rule(action="freeze", verb="create"))
    attempt = Attempt(lambda: api.create(config_map("never", namespace)))
    (held,) = proxy.wait_held(20)
    proxy.release(held, "cut")
    assert attempt.ended()
    assert isinstance(attempt.error, httpx2.TransportError)
    assert names(direct, namespace) == set()


def test_a_whole_line_can_stand_still_and_be_cut(proxy: FaultProxy, api: Client, namespace: str):
    proxy.flow("kubernetes", "freeze")
    attempt = Attempt(lambda: names(api, namespace))
    attempt.join(0.5)
    assert attempt.is_alive()
    proxy.flow("kubernetes", "pass")
    assert attempt.ended()
    assert attempt.error is None
    proxy.flow("kubernetes", "cut")
    with pytest.raises(httpx2.TransportError):
        names(api, namespace)
    proxy.flow("kubernetes")
    assert names(api, namespace) == set()


def test_a_statement_is_held_before_it_and_a_commit_after_it(proxy: FaultProxy, postgres: str):
    url = proxy.postgres(postgres)
    with psycopg.connect(postgres, autocommit=True) as witness:

        def bodies() -> list[tuple[Any, ...]]:
            return witness.execute("SELECT body FROM notes").fetchall()

        def write() -> None:
            with psycopg.connect(url) as connection:
                connection.execute("INSERT INTO notes VALUES ('a', 'written')")

        proxy.arm(Rule(action="freeze", listener="postgres", resource="INSERT notes"))
        proxy.arm(Rule(action="freeze", listener="postgres", verb="COMMIT", when="answer"))
        attempt = Attempt(write)
        (held,) = proxy.wait_held(20)
        assert bodies() == []
        proxy.release(held)
        (held,) = wait_for_commit(proxy)
        assert held.exchange.resource == "COMMIT INSERT notes"
        assert bodies() == [("written",)]
        proxy.release(held, "cut")
        assert attempt.ended()
        assert isinstance(attempt.error, psycopg.OperationalError)
        assert bodies() == [("written",)]


def wait_for_commit(proxy: FaultProxy) -> list[Any]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        held = proxy.wait_held(1)
        if held and held[0].exchange.verb == "COMMIT":
            return held
    raise AssertionError("no COMMIT was held")


def test_statements_that_the_driver_has_prepared_are_known_too(proxy: FaultProxy, postgres: str):
    url = proxy.postgres(postgres)
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        for number in range(5):
            connection.execute("UPDATE notes SET body = %s WHERE name = 'b'", [str(number)])
    seen = [one.resource for one in proxy.exchanges() if one.listener == "postgres"]
    assert seen == ["UPDATE notes(body)"] * 5


def test_a_slow_line_to_the_database_delays_both_ways(proxy: FaultProxy, postgres: str):
    url = proxy.postgres(postgres)
    with psycopg.connect(url, autocommit=True) as connection:
        proxy.flow("postgres", latency=0.2)
        began = time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - began >= 0.4
        proxy.flow("postgres", "cut")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_ctrl_c_leaves_the_proxy_to_whoever_uses_it_still():
    user = """
import time
from tools.localcluster.faults.proxy import fault_proxy
with fault_proxy() as proxy:
    try:
        print("ready", flush=True)
        input()
    except KeyboardInterrupt:
        time.sleep(1)
        print(proxy.newest())
"""
    command = [sys.executable, "-c", user]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "0\n"


def test_a_wrong_command_says_what_is_wrong(proxy: FaultProxy):
    with pytest.raises(LocalClusterError, match="nobody"):
        proxy.flow("nobody", "cut")


@pytest.mark.parametrize(
    ("method", "target", "wanted"),
    [
        ("GET", "/api/v1/namespaces/a/secrets?labelSelector=x", Target("list", "secrets", "", "a")),
        ("GET", "/api/v1/namespaces/a/secrets/b", Target("get", "secrets", "b", "a")),
        ("GET", "/apis/batch/v1/namespaces/a/jobs?watch=true", Target("watch", "jobs", "", "a")),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/w", Target("patch", "deployments", "w", "a")),
        ("PUT", "/apis/apps/v1/namespaces/a/deployments/w/scale", Target("update", "deployments/scale", "w", "a")),
        ("DELETE", "/api/v1/namespaces/a/pods", Target("deletecollection", "pods", "", "a")),
        ("GET", "/api/v1/namespaces/a", Target("get", "namespaces", "a", "")),
        ("POST", "/api/v1/namespaces", Target("create", "namespaces", "", "")),
        ("GET", "/version", Target("get", "/version", "", "")),
    ],
)
def test_requests_have_the_names_that_kubernetes_gives_them(method: str, target: str, wanted: Target):
    assert read_target(method, target) == wanted


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("SELECT * FROM a FOR UPDATE SKIP LOCKED", ""),
        ("UPDATE a SET x = 1, y = coalesce(z = 2, true) WHERE q = 3", "UPDATE a(x,y)"),
        ("WITH n AS (INSERT INTO a (x) SELECT 1 RETURNING x), d AS (DELETE FROM b WHERE x) SELECT 1",
         "INSERT a, DELETE b"),
        ("INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET x = 2", "INSERT a"),
    ],
)  # fmt: skip
def test_statements_are_named_by_what_they_change(statement: str, wanted: str):
    assert statement_name(statement) == wanted
