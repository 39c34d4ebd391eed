"""Delete Release: what it answers in every state, and that nothing is left, as helm sees it."""

import json
import time
from collections.abc import Callable

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

STALL = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"
MISSING = (404, "CCE.01404001")


def chart_with(event: str, *, stall: bool = False, version: str = "1.0.0") -> bytes:
    """One ConfigMap, and one hook, which never ends if it stalls."""
    hook = hook_job_template(event)
    if stall:
        hook = hook.replace("    spec:\n      restartPolicy", STALL)
    templates = {"config.yaml": config_map_template(), "hook.yaml": hook}
    return build_chart(f"deleted-{event}", version, templates=templates, values={"text": "x"})


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def plain(server: RunningServer) -> str:
    return upload(server, chart_with("post-delete"))


@pytest.fixture(scope="module")
def stalling(server: RunningServer) -> str:
    return upload(server, chart_with("post-install", stall=True))


@pytest.fixture
def objects(kubernetes: RunningCluster, namespace: str) -> Callable[[], list[str]]:
    """ConfigMaps and release Secrets in the namespace."""

    def find() -> list[str]:
        with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
            found = [one.metadata for one in api.list(ConfigMap, namespace=namespace)]
            found += [one.metadata for one in api.list(Secret, namespace=namespace)]
            found += [one.metadata for one in api.list(Job, namespace=namespace)]
        names = [one.name for one in found if one]
        return sorted(name for name in names if name and name != "kube-root-ca.crt")

    return find


def test_a_deleted_release_is_deleting_then_gone_with_all_its_objects(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, plain: str, objects: Callable[[], list[str]]
):
    one = OneRelease(server, namespace, "web", helm_cli)
    one.create(plain)
    one.settled()
    answer = one.delete()
    assert answer.status_code == 200, answer.text
    assert len(answer.json()) == 16
    assert (answer.json()["status"], answer.json()["version"]) == ("DELETING", 1)
    again = one.delete()
    if again.status_code == 200:  # it may be gone by now
        assert again.json()["status"] == "DELETING"
    one.gone()
    assert objects() == []
    assert_error(one.delete(), *MISSING)
    assert one.create(plain).status_code == 201
    assert one.settled()["version"] == 1


@pytest.mark.parametrize("include_hooks", [False, True])
def test_hooks_of_a_delete_run_when_the_release_was_made_with_them(
    server: RunningServer,
    namespace: str,
    helm_cli: HelmCommand,
    plain: str,
    objects: Callable[[], list[str]],
    *,
    include_hooks: bool,
):
    one = OneRelease(server, namespace, "hooked", helm_cli)
    one.create(plain, parameters={"include_hooks": include_hooks})
    one.settled()
    one.delete()
    one.gone()
    assert objects() == (["hooked-hook"] if include_hooks else [])


def test_deleting_a_running_install_stops_it_and_leaves_nothing(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, stalling: str, objects: Callable[[], list[str]]
):
    one = OneRelease(server, namespace, "stuck", helm_cli)
    one.create(stalling)
    until = time.monotonic() + 30
    while "stuck-hook" not in objects():
        assert time.monotonic() < until
        time.sleep(0.1)
    answer = one.delete()
    assert (answer.status_code, answer.json()["status"]) == (200, "DELETING")
    assert one.delete().json()["status"] == "DELETING"
    one.gone()
    # the hook's Job is no part of the manifest, as with helm
    assert [name for name in objects() if name != "stuck-hook"] == []
    assert json.loads(helm_cli("list", "--pending", "-n", namespace, "-o", "json")) == []


def test_deleting_a_queued_install_means_that_it_never_begins(
    kubeconfig: str, make_namespace: Callable[[], str], helm_cli: HelmCommand
):
    namespace = make_namespace()
    settings = {"PILOTHOUSE_WORKER__OPERATIONS": "1", "PILOTHOUSE_WORKER__WAITING": "0"}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=settings) as server:
        stalling = upload(server, chart_with("post-install", stall=True))
        first = OneRelease(server, namespace, "first", helm_cli)
        second = OneRelease(server, namespace, "second", helm_cli)
        first.create(stalling)
        second.create(stalling)
        answer = second.delete()
        assert (answer.status_code, answer.json()["status"]) == (200, "DELETING")
        assert_error(second.show(), *MISSING)
        first.delete()
        first.gone()
        assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


def test_a_failed_install_without_a_revision_is_shown_until_it_is_deleted(
    server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    archive = build_chart("unrenderable", templates={"x.yaml": '{{ fail "no" }}'})
    chart = str(server.upload(archive, parameters='{"override": true, "skip_lint": true}').json()["id"])
    one = OneRelease(server, namespace, "limbo", helm_cli)
    one.create(chart)
    shown = one.settled()
    assert (shown["status"], shown["version"]) == ("FAILED", 1)
    listed = server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases?namespace={namespace}").json()
    assert [row["name"] for row in listed] == ["limbo"]
    assert one.delete().status_code == 200
    assert_error(one.show(), *MISSING)
    assert_error(one.delete(), *MISSING)


def test_a_release_made_by_helm_is_deleted_too(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, tmp_path, objects: Callable[[], list[str]]
):
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(chart_with("post-delete"))
    helm_cli("install", "hers", str(archive), "-n", namespace)
    one = OneRelease(server, namespace, "hers", helm_cli)
    assert one.delete().json()["status"] == "DELETING"
    one.gone()
    assert objects() == []
