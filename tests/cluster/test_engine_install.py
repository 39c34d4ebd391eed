"""Installs by the engine on a real Kubernetes, judged by the independent ``helm`` command and by the objects."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Namespace, Secret

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, ProgressEvent
from pilothouse.errors import HelmError
from pilothouse.settings import EngineSettings
from tests.support.charts import (
    build_chart,
    config_map_chart,
    config_map_template,
    hook_job_template,
    web_chart,
)
from tests.support.engines import unvetted

HelmCli = Callable[..., str]
Install = Callable[..., Any]

_BROKEN_DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec: {replicaz: 1}
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    pool = EnginePool(EngineSettings(children=1), state_dir=tmp_path, route=unvetted)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def install(pool: EnginePool, kubeconfig: str, namespace: str) -> Install:
    async def run(name: str, chart: bytes, *, on_progress: Any = None, **changes: Any) -> Any:
        fields: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace, **changes}
        request = InstallRequest(release_name=name, chart=chart, **fields)
        return await pool.run(request, deadline_seconds=60, on_progress=on_progress)

    return run


@pytest.fixture
def client(kubeconfig: str) -> Iterator[Client]:
    with Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig))) as opened:
        yield opened


def _exists(client: Client, kind: Any, name: str, namespace: str) -> bool:
    try:
        client.get(kind, name, namespace=namespace)
    except ApiError as error:
        if error.status.code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def _history(helm_cli: HelmCli, name: str, namespace: str) -> list[tuple[int, str]]:
    revisions = json.loads(helm_cli("history", name, "-n", namespace, "-o", "json"))
    return [(each["revision"], each["status"]) for each in revisions]


async def test_an_install_deploys_and_helm_agrees(install: Install, helm_cli: HelmCli, namespace: str):
    values = {"message": "你好", "replicaCount": 2, "extra": {"n": None}}
    outcome = await install("demo", web_chart(), values=values, description="by us", labels={"operation": "o-1"})
    assert (outcome.status, outcome.revision, outcome.namespace) == ("deployed", 1, namespace)
    (listed,) = json.loads(helm_cli("list", "-n", namespace, "-o", "json"))
    assert (listed["name"], listed["chart"], listed["status"]) == ("demo", "web-1.0.0", "deployed")
    assert helm_cli("get", "manifest", "demo", "-n", namespace).strip() == outcome.manifest.strip()
    assert json.loads(helm_cli("get", "values", "demo", "-n", namespace, "-o", "json")) == values
    assert json.loads(helm_cli("get", "values", "-a", "demo", "-n", namespace, "-o", "json")) == outcome.values
    assert outcome.notes.strip() in helm_cli("get", "notes", "demo", "-n", namespace)
    (revision,) = json.loads(helm_cli("history", "demo", "-n", namespace, "-o", "json"))
    assert revision["description"] == outcome.description == "by us"


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ({"alias": "other"}, {"other": {"x": 9}}),
        ({"condition": "inner.on"}, {"inner": {"on": False}}),
        ({"import-values": [{"child": "z", "parent": "zz"}]}, {"inner": {"z": {"k": 5}}, "top": None}),
    ],
)
async def test_merged_values_of_subcharts_are_those_that_helm_prints(
    install: Install, helm_cli: HelmCli, namespace: str, declared: dict[str, Any], values: dict[str, Any]
):
    inner = build_chart("inner", values={"x": 1, "z": {"k": 4}, "global": {"g": 1}})
    dependency = {"name": "inner", "version": "0.1.0", "repository": "", **declared}
    chart = build_chart(
        values={"inner": {"on": True}, "top": 1},
        subcharts={"inner-0.1.0.tgz": inner},
        metadata={"dependencies": [dependency]},
    )
    outcome = await install("merged", chart, values=values)
    assert json.loads(helm_cli("get", "values", "-a", "merged", "-n", namespace, "-o", "json")) == outcome.values


async def test_labels_and_type_of_the_release_secret(install: Install, client: Client, namespace: str):
    await install("labelled", config_map_chart(), labels={"operation": "o-1"})
    secret = client.get(Secret, "sh.helm.release.v1.labelled.v1", namespace=namespace)
    assert secret.type == "helm.sh/release.v1"
    assert secret.metadata is not None
    assert secret.metadata.labels is not None
    assert secret.metadata.labels.items() >= {"owner": "helm", "name": "labelled", "operation": "o-1"}.items()


async def test_the_field_manager_is_helm_and_the_cli_upgrades_without_conflict(
    install: Install, helm_cli: HelmCli, client: Client, namespace: str, tmp_path: Path
):
    await install("shared", web_chart())
    deployment = client.get(Deployment, "shared-web", namespace=namespace)
    assert deployment.metadata is not None
    writers = {(entry.manager, entry.operation) for entry in deployment.metadata.managedFields or ()}
    assert ("helm", "Apply") in writers
    assert {manager for manager, _ in writers} <= {"helm", "kube-controller-manager"}
    archive = tmp_path / "web.tgz"
    archive.write_bytes(web_chart())
    helm_cli("upgrade", "shared", str(archive), "-n", namespace, "--set", "replicaCount=3")
    assert _history(helm_cli, "shared", namespace) == [(1, "superseded"), (2, "deployed")]


@pytest.mark.parametrize("dry_run", ["server", "client"])
async def test_a_dry_run_makes_nothing(
    install: Install, helm_cli: HelmCli, client: Client, namespace: str, dry_run: str
):
    outcome = await install("dry", config_map_chart(), dry_run=dry_run)
    assert outcome.status == "pending-install"
    assert outcome.description == "Dry run complete"
    assert "name: dry-config" in outcome.manifest
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []
    assert not _exists(client, ConfigMap, "dry-config", namespace)
    assert [secret for secret in client.list(Secret, namespace=namespace) if secret.type == "helm.sh/release.v1"] == []


async def test_a_server_dry_run_knows_the_cluster(install: Install, client: Client, namespace: str):
    lookup = '{{ (lookup "v1" "Namespace" "" .Release.Namespace).metadata.uid | quote }}'
    chart = build_chart(templates={"a.yaml": config_map_template(data=lookup)})
    outcome = await install("looks", chart, dry_run="server")
    uid = yaml.safe_load(outcome.manifest)["data"]["text"]
    assert uid
    assert not _exists(client, ConfigMap, "looks-config", namespace)


async def test_hooks_run_and_without_hooks_they_do_not(install: Install, client: Client, namespace: str):
    chart = build_chart(templates={"hook.yaml": hook_job_template(), "a.yaml": config_map_template(data='"x"')})
    await install("hooked", chart)
    job = client.get(Job, "hooked-hook", namespace=namespace)
    assert job.status is not None
    assert job.status.succeeded == 1
    await install("bare", chart, disable_hooks=True)
    assert _exists(client, ConfigMap, "bare-config", namespace)
    assert not _exists(client, Job, "bare-hook", namespace)


async def test_waiting_returns_when_the_objects_are_ready(install: Install, client: Client, namespace: str):
    await install("ready", web_chart(), wait="ready", timeout_seconds=30)
    deployment = client.get(Deployment, "ready-web", namespace=namespace)
    assert deployment.status is not None
    assert deployment.status.readyReplicas == 1


async def test_a_manifest_that_the_server_refuses_leaves_a_failed_release(
    install: Install, helm_cli: HelmCli, client: Client, namespace: str
):
    chart = build_chart(templates={"a.yaml": config_map_template(data='"x"'), "b.yaml": _BROKEN_DEPLOYMENT})
    with pytest.raises(HelmError, match="replicaz: field not declared in schema") as refused:
        await install("broken", chart)
    assert refused.value.kind == "HelmReleaseError"
    assert _history(helm_cli, "broken", namespace) == [(1, "failed")]
    assert _exists(client, ConfigMap, "broken-config", namespace), "objects before the refused one stay"


async def test_replace_takes_the_place_of_a_failed_release_and_leaves_its_objects(
    install: Install, helm_cli: HelmCli, client: Client, namespace: str
):
    failing = build_chart(templates={"a.yaml": config_map_template("old", data='"x"'), "b.yaml": _BROKEN_DEPLOYMENT})
    with pytest.raises(HelmError):
        await install("again", failing)
    outcome = await install("again", config_map_chart(), replace=True)
    assert (outcome.revision, outcome.status) == (2, "deployed")
    assert _history(helm_cli, "again", namespace) == [(1, "failed"), (2, "deployed")]
    assert _exists(client, ConfigMap, "again-old", namespace), "Helm orphans it; the caller has to remove it"


async def test_a_missing_namespace_is_created_when_asked(install: Install, client: Client, namespace: str):
    other = f"{namespace}-new"
    try:
        outcome = await install("first", config_map_chart(), namespace=other, create_namespace=True)
        assert outcome.status == "deployed"
        assert _exists(client, ConfigMap, "first-config", other)
    finally:
        client.delete(Namespace, other)


async def test_progress_counts_the_objects(install: Install):
    events: list[ProgressEvent] = []
    chart = build_chart(templates={"hook.yaml": hook_job_template(), "a.yaml": config_map_template(data='"x"')})
    await install("told", chart, wait="ready", on_progress=events.append)
    applied = [(event.object_kind, event.done, event.total) for event in events if event.phase == "apply"]
    assert applied == [("", 0, 1), ("ConfigMap", 1, 1)]
    assert ("Job", 1, 1) in [(event.object_kind, event.done, event.total) for event in events if event.phase == "hook"]
    assert {event.phase for event in events} >= {"apply", "wait", "storage"}


async def test_a_kind_defined_by_one_call_is_known_to_the_next(install: Install, helm_cli: HelmCli, namespace: str):
    group = f"{namespace}.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"bars.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "bars", "kind": "Bar"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }
    wants = f'{{{{ if not (.Capabilities.APIVersions.Has "{group}/v1/Bar") }}}}{{{{ fail "stale" }}}}{{{{ end }}}}\n'
    needs = build_chart(templates={"bar.yaml": f"{wants}apiVersion: {group}/v1\nkind: Bar\nmetadata: {{name: z}}\n"})
    with pytest.raises(HelmError, match="stale"):
        await install("before", needs)
    await install("defines", build_chart(templates={"crd.yaml": json.dumps(definition)}))
    await _until_served(install, needs)
    assert (await install("after", needs)).status == "deployed"
    helm_cli("uninstall", "after", "defines", "-n", namespace)


async def _until_served(install: Install, chart: bytes) -> None:
    """Wait until the API server serves a new kind: that is a moment after it accepted the definition."""
    for _ in range(50):
        try:
            await install("asks", chart, dry_run="server")
        except HelmError:
            await asyncio.sleep(0.1)
        else:
            return


async def test_the_clients_schema_check_would_change_nothing_but_the_time(
    install: Install, helm_cli: HelmCli, client: Client, namespace: str, tmp_path: Path
):
    """The engine skips the client's OpenAPI check; the CLI makes it: same refusal, same objects left behind."""
    chart = build_chart(templates={"a.yaml": config_map_template(data='"x"'), "b.yaml": _BROKEN_DEPLOYMENT})
    with pytest.raises(HelmError) as ours:
        await install("same", chart)
    ours_left = _exists(client, ConfigMap, "same-config", namespace)
    helm_cli("uninstall", "same", "-n", namespace)
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(chart)
    with pytest.raises(subprocess.CalledProcessError) as theirs:
        helm_cli("install", "same", str(archive), "-n", namespace)
    assert str(ours.value) in theirs.value.stderr
    assert _exists(client, ConfigMap, "same-config", namespace) == ours_left
