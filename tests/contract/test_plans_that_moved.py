"""What happens between a plan and its apply: the apply says what moved, and writes nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.support.charts import build_chart, config_map_template
from tests.support.plans import MOVED, Planned, uploaded
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

ARCHIVE = build_chart("moves", "1.0.0", templates={"map.yaml": config_map_template()}, values={"text": "one"})


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return uploaded(server, ARCHIVE)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Planned:
    return Planned(server, namespace, helm_cli)


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as client:
        yield client


@pytest.fixture
def second_cluster(server: RunningServer, namespace: str, kubeconfig: str) -> Iterator[str]:
    """Register the cluster under a second name."""
    answer = server.send("POST", "/api/v1/clusters", json_body={"name": namespace, "kubeconfig": kubeconfig})
    assert answer.status_code == 201, answer.text
    yield str(answer.json()["id"])
    server.send("DELETE", f"/api/v1/clusters/{answer.json()['id']}")


def refused(answer: httpx2.Response, text: str) -> None:
    assert_error(answer, *MOVED)
    assert text in answer.json()["error_msg"]


def test_a_cluster_that_is_gone(release: Planned, chart: str, second_cluster: str, api: Client):
    there = replace(release, server=replace(release.server, cluster_id=second_cluster))
    plan = there.plan(chart)
    assert release.server.send("DELETE", f"/api/v1/clusters/{second_cluster}").is_success

    refused(there.apply(plan), f"cluster {release.namespace!r} was removed since the plan was made")

    found = api.list(ConfigMap, namespace=release.namespace)
    assert "web-config" not in {one.metadata.name for one in found if one.metadata}
    shown = release.server.send("GET", f"/api/v1/plans/{plan['id']}")
    assert (shown.status_code, shown.json()["text"]) == (200, "+1 ~0 -0 =0")


def test_a_release_that_is_gone(release: Planned, chart: str):
    release.applied(release.plan(chart))
    plan = release.plan(chart, {"set": "text=two"})
    release.helm("uninstall", "web", "-n", release.namespace)

    refused(release.apply(plan), "the release moved since the plan was made: release 'web' is gone; plan again")


def test_a_release_that_was_made_meanwhile(release: Planned, chart: str, tmp_path: Path):
    plan = release.plan(chart)
    (tmp_path / "moves.tgz").write_bytes(ARCHIVE)
    release.helm("install", "web", str(tmp_path / "moves.tgz"), "-n", release.namespace)

    refused(release.apply(plan), "revision 1 was written, and the plan is over none; plan again")


def test_a_release_that_was_made_anew(release: Planned, chart: str, tmp_path: Path):
    release.applied(release.plan(chart))
    plan = release.plan(chart, {"set": "text=two"})
    (tmp_path / "moves.tgz").write_bytes(ARCHIVE)
    release.helm("uninstall", "web", "-n", release.namespace)
    release.helm("install", "web", str(tmp_path / "moves.tgz"), "-n", release.namespace)

    refused(release.apply(plan), "revision 1 was made anew; plan again")


def test_a_record_of_the_base_that_was_changed(release: Planned, chart: str, api: Client):
    release.applied(release.plan(chart))
    plan = release.plan(chart, {"set": "text=two"})
    labelled = {"metadata": {"labels": {"team": "shop"}}}
    api.patch(Secret, "sh.helm.release.v1.web.v1", labelled, namespace=release.namespace)

    refused(release.apply(plan), "revision 1 was changed; plan again")


def test_an_uninstall_is_bound_to_the_revision_that_was_planned(release: Planned, chart: str):
    release.applied(release.plan(chart))
    plan = release.made(release.ask({"delete": {}}))
    release.applied(release.plan(chart, {"set": "text=two"}))

    refused(release.apply(plan), "revision 2 was written, and the plan is over 1; plan again")

    assert [one["status"] for one in release.history()] == ["superseded", "deployed"]


def test_of_many_applies_at_once_one_is_accepted(release: Planned, chart: str):
    plan = release.plan(chart)

    def apply(_: int) -> httpx2.Response:
        return release.apply(plan)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(apply, range(8)))

    (accepted,) = [one for one in answers if one.is_success]
    assert accepted.json()["state"] == "succeeded"
    for one in answers:
        if one is not accepted:
            # while the first runs, it is what is in the way; one that looked before it began sees what it wrote
            assert one.status_code in {403, 409}, one.text
            text = one.json()["error_msg"]
            told = (accepted.json()["id"], "revision 1 was ", "was modified by another request; retry")
            assert any(words in text for words in told), text
    assert [one["revision"] for one in release.history()] == [1]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep_history": True, "cascade": "orphan", "description": "no longer needed", "wait": "ready"}, True),
        ({"no_hooks": True, "timeout_seconds": 60}, False),
    ],
)
def test_an_uninstall_is_planned_with_all_its_options(
    release: Planned, chart: str, options: dict[str, Any], *, kept: bool
):
    release.applied(release.plan(chart))

    release.applied(release.made(release.ask({"delete": {"options": options}})))

    if kept:
        assert [(one["status"], one["description"]) for one in release.history()] == [
            ("uninstalled", "no longer needed")
        ]
    else:
        assert release.helm("list", "-n", release.namespace, "-q").strip() == ""


def test_a_history_that_cannot_be_kept_is_refused(release: Planned, chart: str, api: Client):
    release.applied(release.plan(chart))
    api.patch(Secret, "sh.helm.release.v1.web.v1", {"immutable": True}, namespace=release.namespace)

    answer = release.ask({"delete": {"options": {"keep_history": True}}})

    assert_error(answer, 400, "CCE.01400001")
    assert "keep_history: revision 1 was unlocked and is immutable" in answer.json()["error_msg"]
    release.applied(release.made(release.ask({"delete": {}})))


def test_what_an_uninstall_destroys_is_warned_of(release: Planned):
    claim = (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n"
        "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n"
    )
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: '{{ .Release.Namespace }}-more'}\n"
    kept = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept, annotations: {helm.sh/resource-policy: keep}}\n"
    kinds = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: widgets.moved.example.com}\n"
        "spec:\n  group: moved.example.com\n  scope: Namespaced\n"
        "  names: {kind: Widget, plural: widgets, singular: widget}\n"
        "  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]\n"
    )
    templates = {"claim.yaml": claim, "space.yaml": space, "kept.yaml": kept, "kinds.yaml": kinds}
    chart = uploaded(release.server, build_chart("destroys", "1.0.0", templates=templates, values={}))
    release.applied(release.plan(chart))

    plan = release.made(release.ask({"delete": {}}))

    assert sorted(plan["warnings"]) == [
        "ConfigMap 'kept' stays in the cluster: helm.sh/resource-policy is keep",
        (
            "CustomResourceDefinition 'widgets.moved.example.com' is deleted, and every object of its kind in the"
            " cluster"
        ),
        f"Namespace '{release.namespace}-more' is deleted, and everything in it",
        "PersistentVolumeClaim 'data' is deleted, and with it what it holds unless its volume is kept",
    ]
    release.applied(plan)
