"""Many operations while the database is far away, gone for a moment, or a worker sleeps: none is lost, none is doubled.

Two workers, an API and an observer reach their database through a proxy. The judges are helm, the objects, and the
trigger that writes down every state that an operation was in.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.crash import invariants
from tests.crash.deployment import CLUSTER, DATABASE, Deployment, deploy
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand
from tests.support.servers import wait_for
from tools.localcluster.cluster import RunningCluster
from tools.localcluster.faults.rules import Rule

#: Two cores, and others on them.
PATIENCE = 240.0
#: Those of the settings: to open a connection to a database that far away takes longer than the suite's short fence.
_LEASE = {"LEASE_SECONDS": "6", "LEASE_MARGIN_SECONDS": "1", "FENCE_SECONDS": "4", "RENEW_SECONDS": "1"}


@pytest.fixture(scope="module")
def deployment(kubernetes: RunningCluster) -> Iterator[Deployment]:
    environment = {f"PILOTHOUSE_WORKER__{name}": value for name, value in _LEASE.items()}
    with deploy(kubernetes, environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as direct:
        yield direct


class Installs:
    """Installs of a chart with one ConfigMap, in a namespace of their own."""

    def __init__(self, deployment: Deployment, namespace: str) -> None:
        self._deployment = deployment
        self.namespace = namespace
        answer = deployment.server.upload(config_map_chart("many", "1.0.0"), parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        self._chart = str(answer.json()["id"])
        self.names: list[str] = []

    def accept(self, count: int) -> None:
        """So many are accepted."""
        for number in range(count):
            name = f"many-{number}"
            answer = self._deployment.server.create(chart_id=self._chart, namespace=self.namespace, name=name)
            assert answer.status_code == 201, answer.text
            self.names.append(name)

    def operations(self, *states: str) -> list[str]:
        """Return the ids of those in one of the states."""
        rows = self._deployment.ask(
            "SELECT id FROM operations WHERE namespace = %s AND state = ANY (%s)", self.namespace, list(states)
        )
        return [row[0] for row in rows]

    def judge(self, api: Client, helm: HelmCommand) -> list[str]:
        """Return what is wrong, once all are final."""
        wait_for(lambda: not self.operations("queued", "running", "cancelling"), seconds=PATIENCE)
        wrong = self._failures()
        succeeded = self.operations("succeeded")
        if len(succeeded) != len(self.names):
            wrong.append(f"{len(self.names)} were accepted, {len(succeeded)} succeeded")
        for one in succeeded:
            wrong += invariants.one_attempt_at_a_time(self._deployment.history(one))
        told = json.loads(helm("list", "-n", self.namespace, "--max", "0", "-o", "json"))
        wrong += _differ("helm lists", [f"{one['name']} {one['status']}" for one in told], self._all("{} deployed"))
        maps = [one.metadata.name for one in api.list(ConfigMap, namespace=self.namespace) if one.metadata]
        wrong += _differ("ConfigMaps", [name for name in maps if name != "kube-root-ca.crt"], self._all("{}-config"))
        secrets = api.list(Secret, namespace=self.namespace, labels={"owner": "helm", "status": "deployed"})
        names = [(one.metadata.labels or {})["name"] for one in secrets if one.metadata]
        return wrong + _differ("deployed revisions", names, self.names)

    def _failures(self) -> list[str]:
        rows = self._deployment.ask(
            "SELECT release_name || ': ' || status_description FROM operations"
            " WHERE namespace = %s AND state = 'failed'",
            self.namespace,
        )
        return [row[0] for row in rows]

    def _all(self, form: str) -> list[str]:
        return [form.format(name) for name in self.names]


def _differ(what: str, found: Sequence[str | None], wanted: Sequence[str]) -> list[str]:
    return [] if sorted(map(str, found)) == sorted(wanted) else [f"{what}: {sorted(map(str, found))}"]


@pytest.fixture
def installs(deployment: Deployment, make_namespace: Callable[[], str]) -> Iterator[Installs]:
    yield Installs(deployment, make_namespace())
    deployment.mend()


def test_a_database_that_dies_in_the_middle_of_fifty_operations(
    deployment: Deployment, installs: Installs, api: Client, helm_cli: HelmCommand
):
    installs.accept(50)
    wait_for(lambda: installs.operations("succeeded"), seconds=PATIENCE)  # not several: all may have ended by then
    assert deployment.postgres.pid is not None
    unfinished = installs.operations("queued", "running")
    os.kill(deployment.postgres.pid, signal.SIGKILL)
    deployment.postgres.start()
    assert unfinished
    assert installs.judge(api, helm_cli) == []


def test_workers_whose_database_is_far_away_and_cut_off_now_and_then(
    deployment: Deployment, installs: Installs, api: Client, helm_cli: HelmCommand
):
    installs.accept(6)
    deployment.proxy.flow(DATABASE, latency=0.2)
    for done in (1, 3):
        wait_for(lambda done=done: len(installs.operations("succeeded")) >= done, seconds=PATIENCE)  # type: ignore[misc]
        deployment.proxy.flow(DATABASE, "cut", latency=0.2)
        time.sleep(0.5)
        deployment.proxy.flow(DATABASE, latency=0.2)
    assert installs.judge(api, helm_cli) == []


def test_a_worker_that_slept_while_its_work_was_taken_over(
    deployment: Deployment, installs: Installs, api: Client, helm_cli: HelmCommand
):
    rule = Rule(action="freeze", listener=CLUSTER, verb="patch", resource="configmaps", namespace=installs.namespace)
    deployment.proxy.arm(rule)
    installs.accept(6)
    (held,) = deployment.proxy.wait_held(PATIENCE)
    asleep = [held.exchange.parent, held.exchange.pid]
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: not installs.operations("queued", "running"), seconds=PATIENCE)
    for pid in asleep:
        with suppress(ProcessLookupError):  # a worker that wakes up kills its child at once
            os.kill(pid, signal.SIGCONT)
    deployment.proxy.release(held)
    assert installs.judge(api, helm_cli) == []
