"""The worker, or its engine child, is killed in the middle of each action: the release ends right, as helm sees it."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import psycopg
import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, children, open_folder, part, run_server, wait_for
from tools.localcluster.cluster import RunningCluster

SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 3s}}
    spec:
      restartPolicy"""

#: A repair is due when the test says so, so that no test depends on how fast it is itself.
HOLD_REPAIRS = """
CREATE FUNCTION hold_repair() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.due_at > clock_timestamp() THEN NEW.due_at := clock_timestamp() + interval '1 hour'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_repair BEFORE INSERT OR UPDATE OF due_at ON repairs FOR EACH ROW EXECUTE FUNCTION hold_repair();
"""

Kill = Callable[[RunningServer], None]
Found = TypeVar("Found", Job, ConfigMap)


@dataclass(frozen=True)
class Place:
    """One release in a namespace of its own, and what is in that namespace."""

    one: OneRelease
    api: Client

    def has_config(self) -> bool:
        return self._find(ConfigMap, f"{self.one.name}-config") is not None

    def operation(self) -> tuple[str, int, int]:
        """State, attempts and crashes of the last operation."""
        with psycopg.connect(self.one.server.database_url) as connection:
            row = connection.execute(
                "SELECT state, attempt, crashes FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1",
                [self.one.namespace],
            ).fetchone()
        assert row is not None
        return row

    def is_at(self, wanted: tuple[str, int, int]) -> bool:
        return self.operation() == wanted

    def has_crashed(self, times: int) -> bool:
        return self.operation()[2] == times

    def events(self) -> list[str]:
        """The kinds of all events but progress, of which a busy machine has more."""
        with psycopg.connect(self.one.server.database_url) as connection:
            rows = connection.execute(
                "SELECT e.kind FROM operation_events e JOIN operations o ON o.id = e.operation_id"
                " WHERE o.namespace = %s ORDER BY e.id",
                [self.one.namespace],
            ).fetchall()
        return [row[0] for row in rows if not row[0].endswith("_progress")]

    def write_late(self, text: str) -> None:
        """What a writer that was only frozen does when it wakes up: it applies the ConfigMap as Helm."""
        name, release = f"{self.one.name}-config", self.one
        marks = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
        metadata = ObjectMeta(name=name, labels={"app.kubernetes.io/managed-by": "Helm"}, annotations=marks)
        self.api.patch(
            ConfigMap,
            name,
            ConfigMap(metadata=metadata, data={"text": text}),
            namespace=release.namespace,
            patch_type=PatchType.APPLY,
            field_manager="helm",
        )

    def repair(self) -> None:
        """The second look that is planned is due, and done when this returns."""
        due = "UPDATE repairs SET due_at = clock_timestamp() WHERE namespace = %s"
        left = "SELECT 1 FROM repairs WHERE namespace = %s"
        with psycopg.connect(self.one.server.database_url, autocommit=True) as connection:
            assert connection.execute(due, [self.one.namespace]).rowcount == 1
            wait_for(lambda: connection.execute(left, [self.one.namespace]).fetchone() is None)

    def interrupt(self, kill: Kill, *, after: str = "") -> str:
        """Kills while the hook of the running operation runs; gives its Job's uid, not ``after``."""
        uid = wait_for(lambda: self.operation()[0] == "running" and self.job(other_than=after))
        kill(self.one.server)
        return str(uid)

    def job(self, *, other_than: str = "") -> str:
        """The uid of the hook's Job; empty if there is none."""
        found = self._find(Job, f"{self.one.name}-hook")
        uid = found.metadata.uid if found is not None and found.metadata is not None else None
        return uid if uid and uid != other_than else ""

    def _find(self, kind: type[Found], name: str) -> Found | None:
        try:
            return self.api.get(kind, name, namespace=self.one.namespace)
        except ApiError as error:
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise
            return None


def kill_worker(server: RunningServer) -> None:
    os.kill(part(server, "worker"), signal.SIGKILL)


def kill_children(server: RunningServer) -> None:
    for pid in children(part(server, "worker")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """A server of this module's own, whose leases are short."""
    lease = {"LEASE_SECONDS": "3", "FENCE_SECONDS": "2", "RENEW_SECONDS": "0.5", "LEASE_MARGIN_SECONDS": "0.5"}
    variables = {f"PILOTHOUSE_WORKER__{name}": value for name, value in (lease | {"DRAIN_SECONDS": "1"}).items()}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=variables) as running:
        with psycopg.connect(running.database_url) as connection:
            connection.execute(HOLD_REPAIRS)
        yield running


@pytest.fixture
def place(server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster) -> Iterator[Place]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield Place(OneRelease(server, namespace, "steady", helm_cli), api)


def upload(server: RunningServer, event: str) -> str:
    """A chart of one ConfigMap, and a hook of three seconds."""
    hook = hook_job_template(event).replace("    spec:\n      restartPolicy", SLOW)
    archive = build_chart(
        f"survivor-{event}",
        "1.0.0",
        templates={"config.yaml": config_map_template(), "hook.yaml": hook},
        values={"text": "x"},
    )
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == HTTPStatus.CREATED, answer.text
    return str(answer.json()["id"])


killed = pytest.mark.parametrize("kill", [kill_worker, kill_children], ids=["worker", "child"])


@killed
def test_an_install_is_done_again_in_place_of_its_first_attempt(place: Place, kill: Kill):
    place.one.create(upload(place.one.server, "post-install"))
    place.interrupt(kill)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 2, "Install complete")
    assert place.one.statuses() == ["failed", "deployed"]
    assert place.operation() == ("succeeded", 2, 1)
    assert place.events() == ["action_resumed"]


@killed
def test_an_upgrade_is_done_again(place: Place, kill: Kill):
    chart = upload(place.one.server, "post-upgrade")
    place.one.create(chart)
    place.one.settled()
    place.one.update(chart_id=chart, values={"text": "new"}, parameters={"include_hooks": True})
    place.interrupt(kill)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 3, "Upgrade complete")
    assert place.one.statuses() == ["superseded", "failed", "deployed"]
    assert place.one.values()["text"] == "new"
    assert place.operation() == ("succeeded", 2, 1)
    place.write_late("old")
    place.repair()
    config = place.api.get(ConfigMap, f"{place.one.name}-config", namespace=place.one.namespace)
    assert config.data == {"text": "new"}


@killed
def test_a_rollback_is_done_again(place: Place, kill: Kill):
    chart = upload(place.one.server, "pre-rollback")
    place.one.create(chart, values={"text": "old"})
    place.one.settled()
    place.one.update(chart_id=chart, values={"text": "new"})
    place.one.settled()
    place.one.rollback(1, include_hooks=True)
    place.interrupt(kill)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 4, "Rollback to 1")
    assert place.one.statuses() == ["superseded", "superseded", "failed", "deployed"]
    assert place.one.values()["text"] == "old"
    assert place.operation() == ("succeeded", 2, 1)


@killed
@pytest.mark.parametrize("event", ["pre-delete", "post-delete"])
def test_an_uninstall_is_done_again(place: Place, kill: Kill, event: str, helm_cli: HelmCommand):
    place.one.create(upload(place.one.server, event), parameters={"include_hooks": True})
    place.one.settled()
    assert place.one.delete().status_code == HTTPStatus.OK
    place.interrupt(kill)
    place.one.gone()
    assert not place.has_config()
    assert helm_cli("list", "-n", place.one.namespace, "-q") == ""
    assert place.operation() == ("succeeded", 2, 1)


def test_a_cancel_goes_on_after_its_worker_was_killed(place: Place, helm_cli: HelmCommand):
    place.one.create(upload(place.one.server, "post-install"))
    wait_for(place.job)
    assert place.one.delete().json()["status"] == "DELETING"
    kill_worker(place.one.server)
    place.one.gone()
    assert not place.has_config()
    assert helm_cli("list", "-n", place.one.namespace, "-q") == ""
    assert place.operation()[0] == "cancelled"
    place.write_late("old")
    place.repair()
    assert not place.has_config()


def test_three_crashes_are_enough_and_the_release_is_usable_after(place: Place):
    chart = upload(place.one.server, "pre-upgrade")
    place.one.create(chart)
    place.one.settled()
    place.one.update(chart_id=chart, parameters={"include_hooks": True})
    job = ""
    for crash in range(3):
        wait_for(partial(place.is_at, ("running", crash + 1, crash)))
        job = place.interrupt(kill_children, after=job)
        wait_for(partial(place.has_crashed, crash + 1))
    shown = place.one.settled()
    assert shown["status"] == "FAILED"
    assert "gave up after 3 attempts" in shown["status_description"]
    assert place.operation() == ("failed", 4, 3)
    assert set(place.one.statuses()) == {"deployed", "failed"}
    assert place.one.update(chart_id=chart).status_code == HTTPStatus.OK
    assert place.one.settled()["status"] == "DEPLOYED"


def test_a_worker_that_stops_hands_its_work_back_without_a_crash(place: Place):
    chart = upload(place.one.server, "pre-upgrade")
    place.one.create(chart)
    place.one.settled()
    place.one.update(chart_id=chart, parameters={"include_hooks": True})

    place.interrupt(lambda server: os.kill(part(server, "worker"), signal.SIGTERM))
    assert place.one.settled()["status"] == "DEPLOYED"
    assert place.operation() == ("succeeded", 2, 0)


def test_a_frozen_worker_that_wakes_up_takes_its_crash_back(place: Place):
    chart = upload(place.one.server, "pre-upgrade")
    place.one.create(chart)
    place.one.settled()
    place.one.update(chart_id=chart, parameters={"include_hooks": True})
    frozen: list[int] = []

    def freeze(server: RunningServer) -> None:
        worker = part(server, "worker")
        frozen.extend([worker, *children(worker)])
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)

    place.interrupt(freeze)
    wait_for(lambda: _lapsed(place))
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert place.one.settled()["status"] == "DEPLOYED"
    wait_for(lambda: place.operation() == ("succeeded", 2, 0))
    assert place.one.statuses()[-1] == "deployed"
    assert place.one.statuses().count("deployed") == 1


def _lapsed(place: Place) -> bool:
    with psycopg.connect(place.one.server.database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM operations WHERE namespace = %s AND state = 'running'"
            " AND lease_until < clock_timestamp() - interval '1 second'",
            [place.one.namespace],
        ).fetchone()
    return row is not None and row[0] == 1
