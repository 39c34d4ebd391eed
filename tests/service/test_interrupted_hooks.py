"""Hooks belong to the attempt that ran them: what is cancelled or killed leaves none of them at work."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Pod

from pilothouse.store.database import Database
from pilothouse.store.operation_events import add_event_of_attempt
from tests.support.charts import build_chart, config_map_template
from tests.support.interrupted_releases import SHORT_LEASES, Place, kill_children, kill_worker
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tools.localcluster.cluster import RunningCluster

_METADATA = """\
metadata:
  name: "{{ .Release.Name }}-NAME"
  annotations:
    helm.sh/hook: "{{ .Values.hook }}"
    helm.sh/hook-weight: "WEIGHT"
    helm.sh/hook-delete-policy: "hook-succeeded,hook-failed"
"""
#: Helm removes these two only when all hooks have ended, and makes none of them anew.
JOB = (
    "apiVersion: batch/v1\nkind: Job\n"
    + _METADATA.replace("NAME", "hook").replace("WEIGHT", "0")
    + """\
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations: {pilothouse.dev/simulate: "{{ .Values.fate }}", pilothouse.dev/simulate-delay: 60s}
    spec: {restartPolicy: Never, containers: [{name: main, image: "busybox:1", args: ["{{ .Values.text }}"]}]}
"""
)
EARLIER = (
    "apiVersion: v1\nkind: ConfigMap\n"
    + _METADATA.replace("NAME", "earlier").replace("WEIGHT", "-5")
    + "data: {text: x}\n"
)
KEPT = EARLIER.replace("-earlier", "-kept").replace(
    "annotations:\n", "annotations:\n    helm.sh/resource-policy: keep\n"
)
EARLIER_CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.{{ .Release.Namespace }}.example.com
  annotations: {helm.sh/hook: "{{ .Values.hook }}", helm.sh/hook-weight: "-9"}
spec:
  group: "{{ .Release.Namespace }}.example.com"
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
"""


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=SHORT_LEASES) as running:
        yield running


def upload(server: RunningServer, name: str, **templates: str) -> str:
    archive = build_chart(
        name,
        templates={"config.yaml": config_map_template(), **{f"{one}.yaml": text for one, text in templates.items()}},
        values={"text": "x", "hook": "pre-install,pre-upgrade", "fate": "ok"},
    )
    answer = server.upload(archive)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return upload(server, "hooked", job=JOB, earlier=EARLIER)


@pytest.fixture
def place(server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster) -> Iterator[Place]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield Place(OneRelease(server, namespace, "hooked", helm_cli), api)


def hooks_left(place: Place) -> list[str]:
    """Return what is left of the two hooks, pods of the Job included."""
    pods = [one.metadata for one in place.api.list(Pod, namespace=place.one.namespace)]
    left = [f"Pod/{one.name}" for one in pods if one is not None]
    left += ["Job"] if place.find(Job, "hooked-hook") is not None else []
    return left + (["ConfigMap"] if place.find(ConfigMap, "hooked-earlier") is not None else [])


def cancel(place: Place, accepted: httpx2.Response) -> None:
    assert accepted.is_success, accepted.text
    path = f"/api/v1/operations/{accepted.headers['x-operation-id']}/cancel"
    assert place.one.server.send("POST", path).status_code == 200


def ended(place: Place, accepted: httpx2.Response) -> str:
    path = f"/api/v1/operations/{accepted.headers['x-operation-id']}"
    living = {"queued", "running", "cancelling"}
    return wait_for(lambda: (state := place.one.server.send("GET", path).json()["state"]) not in living and state) or ""


def told(place: Place, accepted: httpx2.Response, kind: str) -> list[dict[str, Any]]:
    events = place.one.server.send("GET", f"/api/v1/operations/{accepted.headers['x-operation-id']}/events").json()
    return [one for one in events if one["kind"] == kind]


def slow(text: str) -> dict[str, Any]:
    return {"values": {"text": text, "fate": "slow"}}


def endless(text: str) -> dict[str, Any]:
    """Return the same of a hook whose pod runs, and has a log."""
    return {"values": {"text": text, "fate": "never-ready"}}


def test_hooks_of_an_install_that_is_deleted_go_with_it_and_the_next_one_works(place: Place, chart: str):
    accepted = place.one.create(chart, **slow("first"))
    wait_for(place.job)
    assert place.one.delete().is_success
    place.one.gone()
    assert ended(place, accepted) == "cancelled"
    assert hooks_left(place) == []
    (removed,) = told(place, accepted, "hooks_removed")
    assert removed["text"] == (
        "removed, because the attempt that ran these hooks was interrupted: Job/hooked-hook, ConfigMap/hooked-earlier"
    )
    assert place.one.create(chart, values={"text": "second"}).is_success
    assert place.one.settled()["status"] == "DEPLOYED", place.one.settled()
    assert place.one.statuses() == ["deployed"]


def test_hooks_of_an_upgrade_that_is_cancelled_are_gone_and_the_next_one_works(place: Place, chart: str):
    place.one.create(chart, values={"text": "first"})
    place.one.settled()
    wanted: dict[str, Any] = {"chart_id": chart, "parameters": {"include_hooks": True}}
    accepted = place.one.update(**wanted, **slow("second"))
    wait_for(place.job)
    cancel(place, accepted)
    assert ended(place, accepted) == "cancelled"
    assert hooks_left(place) == []
    assert place.one.update(**wanted, values={"text": "third"}).is_success
    assert place.one.settled()["status"] == "DEPLOYED", place.one.settled()
    assert (place.text(), place.one.statuses()[-1]) == ("third", "deployed")


def test_hooks_of_an_uninstall_that_is_taken_back_are_gone(place: Place, server: RunningServer):
    chart = upload(server, "pre-delete", job=JOB, earlier=EARLIER)
    place.one.create(
        chart, values={"text": "x", "hook": "pre-delete", "fate": "slow"}, parameters={"include_hooks": True}
    )
    place.one.settled()
    accepted = place.one.delete()
    wait_for(place.job)
    cancel(place, accepted)
    assert ended(place, accepted) == "cancelled"
    assert hooks_left(place) == []
    assert place.one.settled()["status"] == "DEPLOYED"


def test_hooks_of_an_attempt_that_was_killed_are_gone_before_the_next_runs_its_own(place: Place, chart: str):
    accepted = place.one.create(chart, **slow("first"))
    first = place.interrupt(kill_children)
    assert wait_for(lambda: place.job(other_than=first))
    assert len(told(place, accepted, "hooks_removed")) == 1
    assert place.one.delete().is_success
    place.one.gone()
    assert hooks_left(place) == []


def test_lines_of_a_killed_attempt_and_of_the_next_are_told_apart(place: Place, chart: str):
    accepted = place.one.create(chart, **endless("first"))
    wait_for(place.job)
    assert [one["attempt"] for one in wait_for(lambda: told(place, accepted, "hook_log"))] == [1]
    first = place.interrupt(kill_worker)
    assert wait_for(lambda: place.job(other_than=first))
    wait_for(lambda: len(told(place, accepted, "hook_log")) > 1)
    logs = told(place, accepted, "hook_log")
    assert [(one["attempt"], one["data"]["first"]) for one in logs] == [(1, 1), (2, 1)]
    assert logs[0]["data"]["pod"] != logs[1]["data"]["pod"]
    (resumed,) = told(place, accepted, "action_resumed")
    assert logs[0]["id"] < resumed["id"] < logs[1]["id"]
    assert place.one.delete().is_success
    place.one.gone()


def test_a_stale_attempt_tells_no_lines(place: Place, server: RunningServer, chart: str):
    accepted = place.one.create(chart, **endless("first"))
    wait_for(place.job)
    (row,) = wait_for(lambda: told(place, accepted, "hook_log"))
    operation_id = accepted.headers["x-operation-id"]

    async def write(attempt: int) -> bool:
        engine = Database(server.database_url)
        try:
            async with engine.autocommit() as connection:
                return await add_event_of_attempt(
                    connection, operation_id, attempt=attempt, kind="hook_log", text="stale", data=row["data"]
                )
        finally:
            await engine.close()

    assert asyncio.run(write(1))
    assert not asyncio.run(write(0))
    assert place.one.delete().is_success
    place.one.gone()
    assert not asyncio.run(write(1))
    assert len(told(place, accepted, "hook_log")) == 2


def test_what_must_not_be_removed_with_the_hooks_is_named(place: Place, server: RunningServer):
    chart = upload(server, "careful", job=JOB, kept=KEPT, crd=EARLIER_CRD, earlier=EARLIER)
    marks = {"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": place.one.namespace}
    others = ConfigMap(metadata=ObjectMeta(name="hooked-earlier", annotations=marks), data={"mine": "yes"})
    place.api.create(others, namespace=place.one.namespace)
    accepted = place.one.create(chart, **slow("first"))
    wait_for(place.job)
    assert place.one.delete().is_success
    place.one.gone()
    crd = f"widgets.{place.one.namespace}.example.com"
    (left,) = [one for one in told(place, accepted, "left_behind") if "hook" in one["text"]]
    assert {(one["kind"], one["name"]) for one in left["data"]["objects"]} == {
        ("ConfigMap", "hooked-kept"), ("ConfigMap", "hooked-earlier"), ("CustomResourceDefinition", crd)
    }  # fmt: skip
    assert place.find(ConfigMap, "hooked-kept")
    assert place.find(ConfigMap, "hooked-earlier")
    place.api.delete(CustomResourceDefinition, crd)
