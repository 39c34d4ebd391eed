"""Cancel of each action, queued and running: the promised end, as helm sees it, whatever dies on the way."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, PersistentVolumeClaim

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import ClusterSettings, Settings
from pilothouse.states import OperationState
from pilothouse.store import operations
from pilothouse.wiring import build_runtime
from pilothouse.worker.actions.registry import Actions
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.interrupted_releases import SHORT_LEASES, Place, frozen_children, kill_children, kill_worker
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

ENDED = (409, "CCE.01409002")
FATE = """\
    metadata: {annotations: {pilothouse.dev/simulate: {{ .Values.fate }}, pilothouse.dev/simulate-delay: 2s}}
    spec:
      restartPolicy"""
HOOK = hook_job_template("{{ .Values.hook }}").replace("    spec:\n      restartPolicy", FATE)

KEPT = config_map_template("kept").replace("\ndata:", "\n  annotations: {helm.sh/resource-policy: keep}\ndata:")
STATEFUL = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: "{{ .Release.Name }}-set"}
spec:
  serviceName: none
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec: {containers: [{name: main, image: "busybox:1"}]}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"""
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: THINGS.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: THINGS, kind: THINGS}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object}}
"""


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """Yield a server of this module's own, that does one operation at a time."""
    variables = SHORT_LEASES | {"PILOTHOUSE_WORKER__OPERATIONS": "1", "PILOTHOUSE_WORKER__WAITING": "0"}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=variables) as running:
        yield running


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    """Build a ConfigMap with ``text``, two more for ``new``, and a Job of that ``fate`` as a hook of ``hook``."""
    templates = {
        "config.yaml": config_map_template(),
        "extra.yaml": '{{- if eq .Values.text "new" }}\n' + config_map_template("extra") + "{{- end }}\n",
        "kept.yaml": '{{- if eq .Values.text "new" }}\n' + KEPT + "{{- end }}\n",
        "hook.yaml": f"{{{{- if .Values.hook }}}}\n{HOOK}{{{{- end }}}}\n",
    }
    archive = build_chart("undone", templates=templates, values={"text": "x", "hook": "", "fate": "ok"})
    answer = server.upload(archive)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def place(server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster) -> Iterator[Place]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield Place(OneRelease(server, namespace, "undone", helm_cli), api)


def values(text: str, hook: str = "", fate: str = "never-ready") -> dict[str, Any]:
    return {"text": text, "hook": hook, "fate": fate}


def made(place: Place, chart: str, **wanted: Any) -> None:
    """Make the release, as revision 1 with the text ``old``."""
    place.one.create(chart, **({"values": values("old")} | wanted))
    place.one.settled()


def upgrade(place: Place, chart: str, *, hook: str = "post-upgrade", text: str = "new") -> httpx2.Response:
    return place.one.update(chart_id=chart, values=values(text, hook), parameters={"include_hooks": True})


def cancel(server: RunningServer, accepted: httpx2.Response, body: object = None) -> httpx2.Response:
    assert accepted.is_success, accepted.text
    path = f"/api/v1/operations/{accepted.headers['x-operation-id']}/cancel"
    return server.send("POST", path, json_body=body)


def cancel_running(place: Place, accepted: httpx2.Response, body: object = None) -> None:
    """Cancel the operation while its hook runs."""
    wait_for(place.job)
    answer = cancel(place.one.server, accepted, body)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelling"), answer.text


def end_of(server: RunningServer, accepted: httpx2.Response) -> tuple[str, str]:
    """State and text of the operation once it has ended."""
    path = f"/api/v1/operations/{accepted.headers['x-operation-id']}"

    def ended() -> tuple[str, str] | None:
        row = server.send("GET", path).json()
        return None if row["state"] in {"queued", "running", "cancelling"} else (row["state"], row["text"])

    state, text = wait_for(ended) or ("", "")
    return state, text


def test_a_running_upgrade_is_taken_back(place: Place, chart: str):
    made(place, chart)
    accepted = upgrade(place, chart)
    cancel_running(place, accepted)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 3, "Rollback to 1")
    assert place.one.statuses() == ["superseded", "failed", "deployed"]
    assert place.one.values()["text"] == place.text() == "old"
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled; rolled back to revision 1, as revision 3")
    # what the undo leaves because it is kept is told by Helm's run, and again at the end
    assert [one for one in place.events() if one != "object_left"] == [
        "cancel_requested",
        "hooks_removed",
        "left_behind",
    ]
    assert place.find(ConfigMap, "undone-kept")
    assert not place.find(ConfigMap, "undone-extra")


def test_an_upgrade_that_was_begun_twice_goes_back_to_before_the_first_time(place: Place, chart: str):
    made(place, chart)
    accepted = upgrade(place, chart)
    first = place.interrupt(kill_children)
    wait_for(partial(place.job, other_than=first))
    assert cancel(place.one.server, accepted).json()["state"] == "cancelling"
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled; rolled back to revision 1, as revision 4")
    assert place.one.statuses() == ["superseded", "failed", "failed", "deployed"]
    assert place.text() == "old"


def test_while_it_is_cancelled_it_shows_a_rollback_and_asking_again_is_the_same(place: Place, chart: str):
    made(place, chart, values=values("old", "post-rollback", "slow"))
    accepted = upgrade(place, chart)
    cancel_running(place, accepted)
    shown = place.one.server.send("GET", place.one.path).json()
    assert shown["status"] == "PENDING_ROLLBACK"
    assert "Cancelling" in shown["status_description"]
    again = cancel(place.one.server, accepted)
    assert (again.status_code, again.json()["state"]) == (200, "cancelling")
    assert_error(place.one.delete(), 403, "CCE.01403001", "Update release is forbidden")
    assert end_of(place.one.server, accepted)[0] == "cancelled"
    assert_error(cancel(place.one.server, accepted), *ENDED, "has ended at 20")
    assert place.events().count("cancel_requested") == 1


def test_a_running_rollback_is_taken_back(place: Place, chart: str):
    made(place, chart, values=values("old", "post-rollback"))
    place.one.update(chart_id=chart, values=values("new"))
    place.one.settled()
    accepted = place.one.rollback(1, include_hooks=True)
    cancel_running(place, accepted)
    shown = place.one.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 4, "Rollback to 2")
    assert place.one.statuses() == ["superseded", "superseded", "failed", "deployed"]
    assert place.text() == "new"
    assert end_of(place.one.server, accepted)[0] == "cancelled"


def test_a_running_install_is_uninstalled(place: Place, chart: str, helm_cli: HelmCommand):
    accepted = place.one.create(chart, values=values("x", "post-install"))
    cancel_running(place, accepted)
    shown = place.one.server.send("GET", place.one.path)
    assert shown.status_code == 404 or shown.json()["status"] == "DELETING"  # by now it may be over
    place.one.gone()
    assert not place.has_config()
    assert helm_cli("list", "-n", place.one.namespace, "-q") == ""
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled and uninstalled")


@pytest.mark.parametrize("by", ["cancel", "delete"])
def test_an_install_that_replaces_and_has_written_nothing_leaves_what_it_was_to_replace(
    place: Place, chart: str, by: str
):
    """A DELETE is about the release, and takes that too."""
    place.one.create(chart, values=values("old", "post-install", "fail"))
    assert place.one.settled()["status"] == "FAILED"
    with frozen_children(place.one.server):
        accepted = place.one.create(chart, values=values("new"), parameters={"replace": True})
        wait_for(place.has_begun)
        answer = cancel(place.one.server, accepted) if by == "cancel" else place.one.delete()
        assert answer.status_code == 200, answer.text
    if by == "delete":
        place.one.gone()
        assert not place.has_config()
        return
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled before anything was written")
    assert (place.one.settled()["status"], place.one.settled()["version"]) == ("FAILED", 1)
    assert place.one.statuses() == ["failed"]
    assert place.text() == "old"


def test_a_queued_install_that_replaces_is_deleted_with_what_it_was_to_replace(
    place: Place, chart: str, helm_cli: HelmCommand
):
    place.one.create(chart, values=values("old", "post-install", "fail"))
    assert place.one.settled()["status"] == "FAILED"
    blocker = OneRelease(place.one.server, place.one.namespace, "blocker", helm_cli)
    busy = blocker.create(chart, values=values("x", "post-install"))
    assert place.one.create(chart, values=values("new"), parameters={"replace": True}).status_code == 201
    assert place.one.delete().json()["status"] == "DELETING"
    assert cancel(place.one.server, busy).status_code == 200
    place.one.gone()
    assert not place.has_config()


async def test_the_end_of_a_cancelled_install_claims_no_release_of_another_program(
    place: Place, chart: str, helm_cli: HelmCommand, tmp_path: Path
):
    """Also where no further attempt is made: what is there by then is helm's, and nothing is left to undo."""
    server = place.one.server
    accepted = place.one.create(chart, values=values("old"))
    place.one.settled()
    helm_cli("uninstall", "undone", "-n", place.one.namespace)
    (tmp_path / "chart.tgz").write_bytes(build_chart("theirs", templates={"config.yaml": config_map_template()}))
    helm_cli("install", "undone", str(tmp_path / "chart.tgz"), "-n", place.one.namespace)
    settings = Settings(data_dir=server.data_dir, cluster=ClusterSettings(allow_loopback=True))
    runtime = build_runtime(settings, database_url=server.database_url, engine_children=0)
    try:
        async with runtime.database.autocommit() as connection:
            row = await operations.find_operation(connection, accepted.headers["x-operation-id"])
        assert row is not None
        cancelled = replace(row, state=OperationState.CANCELLING, cancelling_at=datetime.now(UTC))
        shared = ReleaseDependencies(
            runtime.database, runtime.keys, runtime.clusters, runtime.engine, settings, Preflight(settings)
        )
        outcome = await Actions(shared).give_up(
            cancelled, fence=Fence(boottime() + 30), text="gave up after 3 attempts"
        )
    finally:
        await runtime.close()
    assert (outcome.state, outcome.wrote_revision, outcome.revision) == ("cancelled", False, None)
    assert "created by another program" in outcome.text
    assert place.one.statuses() == ["deployed"]


def test_what_an_undo_leaves_behind_is_told(place: Place):
    """A kept ConfigMap, the chart's own kind, and the claim of a StatefulSet."""
    plural = f"things{place.one.namespace[5:]}"
    crd = CRD.replace("THINGS", plural)
    templates = {"config.yaml": KEPT, "set.yaml": STATEFUL, "hook.yaml": HOOK}
    archive = build_chart(
        "leaving", templates=templates, values=values("x", "post-install"), files={"crds/things.yaml": crd}
    )
    answer = place.one.server.upload(archive)
    accepted = place.one.create(str(answer.json()["id"]))
    wait_for(partial(place.find, PersistentVolumeClaim, "data-undone-set-0"))
    cancel_running(place, accepted)
    assert end_of(place.one.server, accepted)[0] == "cancelled"
    events = place.one.server.send("GET", f"/api/v1/operations/{accepted.headers['x-operation-id']}/events").json()
    told = next(event for event in events if event["kind"] == "left_behind")
    assert [(one["kind"], one["name"]) for one in told["data"]["objects"]] == [
        ("ConfigMap", "undone-kept"),
        ("CustomResourceDefinition", f"{plural}.example.com"),
        ("PersistentVolumeClaim", "data-undone-set-0"),
    ]
    assert "data-undone-set-0 (volume claim)" in told["text"]
    assert place.find(ConfigMap, "undone-kept")
    place.api.delete(CustomResourceDefinition, f"{plural}.example.com")


def test_a_running_install_is_kept_as_a_failed_release(place: Place, chart: str):
    accepted = place.one.create(chart, values=values("x", "post-install"))
    cancel_running(place, accepted, {"keep": True})
    refused = assert_error(cancel(place.one.server, accepted), *ENDED)
    assert "with keep" in refused or "is kept" in refused  # by now it may be over
    shown = place.one.settled()
    assert (shown["status"], shown["version"]) == ("FAILED", 1)
    assert "Cancelled" in shown["status_description"]
    assert place.one.statuses() == ["failed"]
    assert place.has_config()
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled; what was installed is kept")
    assert place.one.update(chart_id=chart, values=values("y")).is_success
    assert place.one.settled()["status"] == "DEPLOYED"


def test_an_uninstall_that_deleted_nothing_yet_is_taken_back(place: Place, chart: str):
    made(place, chart, values=values("old", "pre-delete"), parameters={"include_hooks": True})
    accepted = place.one.delete()
    cancel_running(place, accepted)
    shown = place.one.server.send("GET", place.one.path).json()
    assert shown["status"] in {"DELETING", "DEPLOYED"}  # by now it may be over
    assert end_of(place.one.server, accepted) == ("cancelled", "cancelled; rolled back to revision 1, as revision 2")
    assert place.one.settled()["status"] == "DEPLOYED"
    assert place.one.statuses() == ["failed", "deployed"]
    assert place.has_config()


def test_an_uninstall_that_deleted_something_is_finished(place: Place, chart: str, helm_cli: HelmCommand):
    made(place, chart, values=values("old", "post-delete", "slow"), parameters={"include_hooks": True})
    accepted = place.one.delete()
    cancel_running(place, accepted)
    state, text = end_of(place.one.server, accepted)
    assert (state, "were deleted before the cancel" in text) == ("succeeded", True)
    place.one.gone()
    assert helm_cli("list", "-n", place.one.namespace, "-q") == ""


def test_an_upgrade_of_what_was_never_deployed_stays_failed(place: Place, chart: str):
    place.one.create(chart, values=values("x", "post-install", "fail"))
    assert place.one.settled()["status"] == "FAILED"
    job = place.job()
    accepted = upgrade(place, chart)
    wait_for(partial(place.job, other_than=job))
    assert cancel(place.one.server, accepted).json()["state"] == "cancelling"
    state, text = end_of(place.one.server, accepted)
    assert (state, "no revision of the release was ever deployed" in text) == ("cancelled", True)
    assert place.one.settled()["status"] == "FAILED"
    assert place.one.statuses() == ["failed", "failed"]


def test_an_undo_that_fails_says_both_and_leaves_no_lock(place: Place, chart: str):
    made(place, chart, values=values("old", "post-rollback", "fail"))
    accepted = upgrade(place, chart)
    cancel_running(place, accepted)
    state, text = end_of(place.one.server, accepted)
    assert state == "failed"
    assert text.startswith("cancelled, but the rollback to revision 1 failed: resource Job")
    assert place.one.settled()["status"] == "FAILED"
    assert not {"pending-rollback", "pending-upgrade"} & set(place.one.statuses())
    assert place.one.update(chart_id=chart, values=values("next")).is_success
    assert place.one.settled()["status"] == "DEPLOYED"


def test_an_undo_whose_time_is_up_fails_and_leaves_no_lock(place: Place, chart: str):
    """The deadline counts from the cancel, over all attempts."""
    made(place, chart, values=values("old", "post-rollback"))
    accepted = upgrade(place, chart)
    first = wait_for(place.job)
    assert cancel(place.one.server, accepted).json()["state"] == "cancelling"
    wait_for(partial(place.job, other_than=first))
    with psycopg.connect(place.one.server.database_url) as connection:
        connection.execute(
            "UPDATE operations SET cancelling_at = cancelling_at - interval '1 hour' WHERE id = %s",
            [accepted.headers["x-operation-id"]],
        )
    kill_worker(place.one.server)
    state, text = end_of(place.one.server, accepted)
    assert state == "failed"
    assert text.startswith("cancelled, but the rollback to revision 1 failed: timed out after 300 s")
    assert place.one.statuses() == ["deployed", "failed", "failed"]


@pytest.mark.parametrize("action", ["upgrade", "uninstall"])
def test_a_worker_that_is_killed_in_the_undo_is_followed_by_one_that_finishes_it(place: Place, chart: str, action: str):
    event = "post-rollback" if action == "upgrade" else "pre-delete,post-rollback"
    made(place, chart, values=values("old", event, "slow"), parameters={"include_hooks": True})
    accepted = upgrade(place, chart) if action == "upgrade" else place.one.delete()
    wait_for(place.job)
    first = place.job()
    assert cancel(place.one.server, accepted).json()["state"] == "cancelling"
    wait_for(partial(place.job, other_than=first))
    kill_worker(place.one.server)
    assert end_of(place.one.server, accepted)[0] == "cancelled"
    assert place.operation() == ("cancelled", 2, 1)
    statuses = place.one.statuses()
    assert statuses == ["superseded"] * (action == "upgrade") + ["failed", "failed", "deployed"]
    assert place.text() == "old"
    assert "action_resumed" in place.events()


def test_what_is_queued_never_begins(place: Place, chart: str, helm_cli: HelmCommand):
    server = place.one.server
    made(place, chart)
    blocker = OneRelease(server, place.one.namespace, "blocker", helm_cli)
    busy = blocker.create(chart, values=values("x", "post-install"))
    fresh = OneRelease(server, place.one.namespace, "fresh", helm_cli)
    for send in (
        partial(upgrade, place, chart),
        partial(place.one.rollback, 1),
        place.one.delete,
        partial(fresh.create, chart),
    ):
        accepted = send()
        answer = cancel(server, accepted)
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled"), answer.text
        assert_error(cancel(server, accepted), *ENDED, "cancelled before anything was done")
    assert (place.one.settled()["status"], place.one.settled()["version"]) == ("DEPLOYED", 1)
    assert fresh.show().status_code == 404
    assert place.one.statuses() == ["deployed"]
    assert cancel(server, busy).status_code == 200
    assert end_of(server, busy)[0] == "cancelled"


def test_a_cancel_is_on_record(place: Place, chart: str):
    made(place, chart)
    accepted = upgrade(place, chart)
    cancel(place.one.server, accepted)
    end_of(place.one.server, accepted)
    with psycopg.connect(place.one.server.database_url) as connection:
        rows = connection.execute(
            "SELECT action, target FROM audit WHERE operation_id = %s ORDER BY id", [accepted.headers["x-operation-id"]]
        ).fetchall()
    target = f"{place.one.server.cluster_id}/{place.one.namespace}/undone"
    assert rows == [("cce:release:update", target), ("cce:operation:cancel", target)]
