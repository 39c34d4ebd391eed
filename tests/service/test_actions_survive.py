"""The worker, or its engine child, is killed in the middle of each action: the release ends right, as helm sees it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path

import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.interrupted_releases import SHORT_LEASES, Kill, Place, kill_children, kill_worker
from tests.support.plans import Planned
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
    """Yield a server of this module's own, whose leases are short."""
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
    """Return a chart of one ConfigMap, with ``extra`` of two, and a hook of three seconds."""
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
def test_a_plan_is_applied_again_with_what_was_planned(place: Place, kill: Kill):
    one, random = place.one, config_map_template(data='"{{ randAlphaNum 24 }}"')
    hook = hook_job_template("post-install").replace("    spec:\n      restartPolicy", SLOW)
    archive = build_chart("planned", "1.0.0", templates={"random.yaml": random, "hook.yaml": hook}, values={})
    chart = str(one.server.upload(archive, parameters='{"override": true}').json()["id"])
    path = f"/api/v1/clusters/{one.server.cluster_id}/namespaces/{one.namespace}/releases/{one.name}/plan"
    plan = one.server.send("POST", path, json_body={"deploy": {"chart": {"id": chart}}}).json()
    applied = one.server.send(
        "POST", f"/api/v1/plans/{plan['id']}/apply", json_body={"digest": plan["digest"]}, headers={"Prefer": "wait=0"}
    )
    assert applied.status_code == HTTPStatus.ACCEPTED, applied.text
    place.interrupt(kill)
    shown = one.settled()
    assert (shown["status"], shown["version"]) == ("DEPLOYED", 2)
    assert one.helm("get", "manifest", one.name, "-n", one.namespace).strip() == plan["manifest"].strip()
    assert place.events() == ["hooks_removed", "action_resumed"]


def test_a_plan_whose_base_moves_while_its_apply_waits_writes_nothing(place: Place, tmp_path: Path):
    one, archive = place.one, build_chart("waits", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    chart = str(one.server.upload(archive, parameters='{"override": true}').json()["id"])
    plans = Planned(one.server, one.namespace, one.helm, one.name)
    plans.applied(plans.plan(chart))
    plan = plans.plan(chart, {"set": "text=planned"})
    (tmp_path / "waits.tgz").write_bytes(archive)
    worker = part(one.server, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        accepted = plans.apply(plan, wait=0)
        assert accepted.status_code == HTTPStatus.ACCEPTED, accepted.text
        one.helm("upgrade", one.name, str(tmp_path / "waits.tgz"), "-n", one.namespace, "--set", "text=theirs")
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: place.operation()[0] == "failed")
    ended = one.server.send("GET", f"/api/v1/operations/{accepted.json()['id']}").json()
    assert ended["text"] in {
        "the plan was not applied: revision 2 was written since it was made; plan again",
        # it was taken less than a second after it was accepted, so that Helm is the one that looks
        "the plan cannot be applied: the next revision is 3 by now, not 2; plan again",
    }
    assert place.text() == "theirs"
    assert one.statuses() == ["superseded", "deployed"]


def test_an_upgrade_of_one_revision_whose_base_moves_while_it_waits_writes_nothing(place: Place, tmp_path: Path):
    one, archive = place.one, build_chart("waits", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    (tmp_path / "waits.tgz").write_bytes(archive)
    one.helm("install", one.name, str(tmp_path / "waits.tgz"), "-n", one.namespace)
    path = f"/api/v1/clusters/{one.server.cluster_id}/namespaces/{one.namespace}/releases/{one.name}"
    body = {"chart": {"revision": 1}, "values": [{"set": "text=ours"}], "base_revision": 1}
    worker = part(one.server, "worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        accepted = one.server.send("PUT", path, json_body=body)
        assert accepted.status_code == HTTPStatus.ACCEPTED, accepted.text
        one.helm("upgrade", one.name, str(tmp_path / "waits.tgz"), "-n", one.namespace, "--set", "text=theirs")
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: place.operation()[0] == "failed")
    ended = one.server.send("GET", f"/api/v1/operations/{accepted.json()['id']}").json()
    assert ended["text"] in {
        "the release was not changed: revision 2 was written since the request; look at it and send the request again",
        # as above, Helm is the one that looks
        "the release was not changed: its next revision is 3 by now, not 2; look at it and send the request again",
    }
    assert place.text() == "theirs"
    assert one.statuses() == ["superseded", "deployed"]


@killed
def test_an_uninstall_that_keeps_the_history_is_done_again(place: Place, kill: Kill):
    event = "pre-delete" if kill is kill_worker else "post-delete"
    place.one.create(upload(place.one.server, event), parameters={"include_hooks": True})
    place.one.settled()
    keeping = {"options": {"keep_history": True, "description": "no longer needed"}}
    server, one = place.one.server, place.one
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{one.namespace}/releases/{one.name}"
    answer = server.send("DELETE", path, json_body=keeping)
    assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
    place.interrupt(kill)
    wait_for(lambda: place.operation()[0] == "succeeded", seconds=60)
    assert [(found["status"], found["description"]) for found in one.history()] == [("uninstalled", "no longer needed")]
    assert not place.has_config()
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


FAILING = {"values": [{"set": "suffix=Not_Valid"}], "options": {"rollback_on_failure": True, "wait": "ready"}}


def put_failing(place: Place, event: str, *, first: bool) -> str:
    """Make a release, unless the failure is the first, and one that fails after its hook; the path of its operation."""
    hook = hook_job_template(event).replace("    spec:\n      restartPolicy", SLOW)
    templates = {"config.yaml": config_map_template("{{ .Values.suffix }}"), "hook.yaml": hook}
    archive = build_chart(f"undone-{event}", "1.0.0", templates=templates, values={"suffix": "config", "text": "x"})
    server, one = place.one.server, place.one
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{one.namespace}/releases/{one.name}"
    if not first:
        made = server.send("PUT", path, json_body={"chart": {"id": chart}}, headers={"Prefer": "wait=60"})
        assert made.json()["state"] == "succeeded", made.text
    answer = server.send("PUT", path, json_body={"chart": {"id": chart}, **FAILING})
    assert answer.status_code == HTTPStatus.ACCEPTED, answer.text
    return str(answer.headers["location"])


@killed
@pytest.mark.parametrize("event", ["pre-upgrade", "pre-rollback"])
def test_a_failed_upgrade_is_rolled_back_whatever_dies(place: Place, kill: Kill, event: str):
    """It dies before the upgrade fails, or while the failure is undone."""
    location = put_failing(place, event, first=False)
    wait_for(place.job)
    kill(place.one.server)
    wait_for(lambda: place.operation()[0] == "failed", seconds=60)
    text = place.one.server.send("GET", location).json()["text"]
    assert "; rolled back to revision 1, as revision " in text
    assert place.one.statuses()[-1] == "deployed"
    assert "pending" not in " ".join(place.one.statuses())
    assert place.text() == "x"


@killed
def test_what_a_failed_upgrade_has_created_is_deleted_whatever_dies(place: Place, kill: Kill):
    """It dies when the objects are there, which the next attempt finds, and the failing hook runs."""
    failing = SLOW.replace("simulate: slow", "simulate: fail")
    hook = hook_job_template("post-upgrade").replace("    spec:\n      restartPolicy", failing)
    extra = f"{{{{- if .Values.extra }}}}\n{config_map_template('extra')}{{{{- end }}}}\n"
    templates = {"config.yaml": config_map_template(), "extra.yaml": extra, "hook.yaml": hook}
    server, one = place.one.server, place.one
    archive = build_chart("cleaned", "1.0.0", templates=templates, values={"text": "x", "extra": False})
    chart = {"chart": {"id": server.upload(archive, parameters='{"override": true}').json()["id"]}}
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{one.namespace}/releases/{one.name}"
    made = server.send("PUT", path, json_body=chart, headers={"Prefer": "wait=60"})
    assert made.json()["state"] == "succeeded", made.text

    options = {"values": [{"set": "extra=true"}], "options": {"cleanup_on_fail": True}}
    assert server.send("PUT", path, json_body={**chart, **options}).status_code == HTTPStatus.ACCEPTED
    place.interrupt(kill)
    wait_for(lambda: place.operation()[0] == "failed", seconds=60)

    assert place.one.statuses() == ["deployed", "failed", "failed"]
    left = {found.metadata.name for found in place.api.list(ConfigMap, namespace=one.namespace) if found.metadata}
    assert f"{one.name}-config" in left
    assert f"{one.name}-extra" not in left
    assert "orphans_removed" in place.events()


@killed
@pytest.mark.parametrize("event", ["pre-install", "pre-delete"])
def test_a_failed_install_is_uninstalled_whatever_dies(place: Place, kill: Kill, event: str, helm_cli: HelmCommand):
    location = put_failing(place, event, first=True)
    wait_for(place.job)
    kill(place.one.server)
    wait_for(lambda: place.operation()[0] == "failed", seconds=60)
    assert place.one.server.send("GET", location).json()["text"].endswith("; uninstalled")
    assert helm_cli("list", "-n", place.one.namespace, "-q") == ""
    assert not place.has_config()


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
