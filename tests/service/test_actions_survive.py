"""The worker, or its engine child, is killed in the middle of each action: the release ends right, as helm sees it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus

import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.interrupted_releases import SHORT_LEASES, Kill, Place, kill_children, kill_worker
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


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """A server of this module's own, whose leases are short."""
    variables = SHORT_LEASES | {"PILOTHOUSE_WORKER__DRAIN_SECONDS": "1"}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=variables) as running:
        with psycopg.connect(running.database_url) as connection:
            connection.execute(HOLD_REPAIRS)
        yield running


@pytest.fixture
def place(server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster) -> Iterator[Place]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield Place(OneRelease(server, namespace, "steady", helm_cli), api)


def upload(server: RunningServer, event: str) -> str:
    """A chart of one ConfigMap, with ``extra`` of two, and a hook of three seconds."""
    hook = hook_job_template(event).replace("    spec:\n      restartPolicy", SLOW)
    extra = f"{{{{- if .Values.extra }}}}\n{config_map_template('extra')}{{{{- end }}}}\n"
    archive = build_chart(
        f"survivor-{event}",
        "1.0.0",
        templates={"config.yaml": config_map_template(), "extra.yaml": extra, "hook.yaml": hook},
        values={"text": "x", "extra": False},
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
    assert place.events() == ["hooks_removed", "action_resumed"]


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
    place.one.update(chart_id=chart, values={"text": "new", "extra": True})
    place.one.settled()
    place.one.rollback(1, include_hooks=True)
    place.interrupt(kill)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 4, "Rollback to 1")
    assert place.one.statuses() == ["superseded", "superseded", "failed", "deployed"]
    assert place.one.values()["text"] == "old"
    assert place.operation() == ("succeeded", 2, 1)
    kept = place.api.list(ConfigMap, namespace=place.one.namespace)
    assert f"{place.one.name}-extra" not in {one.metadata.name for one in kept if one.metadata}


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
