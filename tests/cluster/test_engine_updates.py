"""Upgrades, rollbacks and uninstalls by the engine on a real Kubernetes, judged by helm and by the objects."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Secret

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, RollbackRequest, UninstallRequest, UpgradeRequest
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
from tests.support.releases import HelmCommand

BROKEN = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {replicaz: 1}\n"


class Engine:
    """Calls about the release ``web`` in one namespace, and what helm says of it."""

    def __init__(self, pool: EnginePool, kubeconfig: str, namespace: str, helm: HelmCommand) -> None:
        self._pool = pool
        self._place: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace, "release_name": "web"}
        self._helm = helm
        self.namespace = namespace

    async def install(self, chart: bytes, **fields: Any) -> Any:
        return await self._pool.run(InstallRequest(**self._place, chart=chart, **fields), deadline_seconds=60)

    async def upgrade(self, chart: bytes, **fields: Any) -> Any:
        return await self._pool.run(UpgradeRequest(**self._place, chart=chart, **fields), deadline_seconds=60)

    async def rollback(self, to_revision: int, **fields: Any) -> None:
        request = RollbackRequest(**self._place, to_revision=to_revision, **fields)
        return await self._pool.run(request, deadline_seconds=60)

    async def uninstall(self, **fields: Any) -> str:
        return await self._pool.run(UninstallRequest(**self._place, **fields), deadline_seconds=60)

    def history(self) -> list[tuple[int, str, str]]:
        rows = json.loads(self._helm("history", "web", "-n", self.namespace, "-o", "json"))
        return [(row["revision"], row["status"], row["description"]) for row in rows]

    def values(self, *flags: str) -> Any:
        return json.loads(self._helm("get", "values", "web", *flags, "-n", self.namespace, "-o", "json"))


@pytest.fixture
async def engine(tmp_path: Path, kubeconfig: str, namespace: str, helm_cli: HelmCommand) -> AsyncIterator[Engine]:
    pool = EnginePool(EngineSettings(children=1), state_dir=tmp_path, route=unvetted)
    await pool.start()
    yield Engine(pool, kubeconfig, namespace, helm_cli)
    await pool.close()


@pytest.fixture
def find(kubeconfig: str, namespace: str) -> Iterator[Callable[[Any, str], Any]]:
    """Yield an object of the namespace by kind and name; None if there is none."""
    with Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)), trust_env=False) as api:

        def get(kind: Any, name: str) -> Any:
            try:
                return api.get(kind, name, namespace=namespace)
            except ApiError as error:
                if error.status.code != HTTPStatus.NOT_FOUND:
                    raise
                return None

        yield get


@pytest.mark.parametrize("expected", [2, 4], ids=["another writer was faster", "a revision went"])
async def test_a_rollback_makes_the_revision_that_was_committed_or_none(engine: Engine, expected: int):
    await engine.install(config_map_chart(text="a"))
    await engine.upgrade(config_map_chart(text="b"))
    before = engine.history()
    with pytest.raises(HelmError, match=f"another writer has made revision {expected}") as caught:
        await engine.rollback(1, revision=expected)
    assert caught.value.kind == "HelmRevisionTakenError"
    assert engine.history() == before
    await engine.rollback(1, revision=3)
    assert [number for number, *_ in engine.history()] == [1, 2, 3]


async def test_an_upgrade_makes_the_next_revision_and_removes_what_the_chart_no_longer_has(engine: Engine, find: Any):
    await engine.install(build_chart(templates={"a.yaml": config_map_template("old", data='"x"')}))
    outcome = await engine.upgrade(config_map_chart("demo", "0.2.0"), values={"text": "new"}, description="by us")
    assert (outcome.revision, outcome.status, outcome.chart_version) == (2, "deployed", "0.2.0")
    assert engine.history() == [(1, "superseded", "Install complete"), (2, "deployed", "by us")]
    assert find(ConfigMap, "web-old") is None
    assert find(ConfigMap, "web-config").data == {"text": "new"}


async def test_labels_of_an_upgrade_are_on_its_secret(engine: Engine, find: Any):
    await engine.install(config_map_chart(), labels={"operation": "one"})
    await engine.upgrade(config_map_chart(), labels={"operation": "two"})
    assert find(Secret, "sh.helm.release.v1.web.v2").metadata.labels["operation"] == "two"


@pytest.mark.parametrize(
    ("flags", "values", "own"),
    [
        ({}, {}, {"text": "mine"}),
        ({}, {"other": 1}, {"other": 1}),
        ({"reuse_values": True}, {"other": 1}, {"text": "mine", "other": 1}),
        ({"reset_values": True}, {}, None),
        ({"reset_values": True, "reuse_values": True}, {"other": 1}, {"other": 1}),
    ],
    ids=["kept", "replaced", "reused", "reset", "reset beats reuse"],
)
async def test_which_values_an_upgrade_keeps(engine: Engine, flags: Any, values: Any, own: Any):
    await engine.install(config_map_chart(), values={"text": "mine"})
    await engine.upgrade(config_map_chart(), values=values, **flags)
    assert engine.values() == own


async def test_a_reused_value_of_one_release_does_not_reach_the_next(engine: Engine):
    """The library keeps what it made of a chart in the chart's handle: each call needs one of its own."""
    await engine.install(config_map_chart(), values={"text": "secret", "password": "hunter2"})
    await engine.upgrade(config_map_chart(), reuse_values=True)
    await engine.uninstall()
    await engine.install(config_map_chart())
    assert engine.values("-a") == {"text": "hello"}


async def test_a_dry_run_of_an_upgrade_or_a_rollback_stores_nothing(engine: Engine, find: Any):
    await engine.install(config_map_chart())
    outcome = await engine.upgrade(config_map_chart(), values={"text": "dust"}, dry_run="server")
    assert (outcome.status, outcome.revision, outcome.description) == ("pending-upgrade", 2, "Dry run complete")
    assert "dust" in outcome.manifest
    await engine.rollback(1, dry_run="server")
    assert engine.history() == [(1, "deployed", "Install complete")]
    assert find(ConfigMap, "web-config").data == {"text": "hello"}


async def test_a_rollback_copies_an_earlier_revision(engine: Engine, find: Any):
    await engine.install(config_map_chart(), values={"text": "one"})
    await engine.upgrade(config_map_chart(), values={"text": "two"})
    await engine.rollback(1)
    assert engine.history()[-1] == (3, "deployed", "Rollback to 1")
    assert [status for _, status, _ in engine.history()] == ["superseded", "superseded", "deployed"]
    assert find(ConfigMap, "web-config").data == {"text": "one"}


async def test_a_rollback_to_a_revision_that_is_not_there_is_refused(engine: Engine):
    await engine.install(config_map_chart())
    with pytest.raises(HelmError):
        await engine.rollback(7)
    assert engine.history() == [(1, "deployed", "Install complete")]


async def test_upgrades_and_rollbacks_keep_ten_revisions(engine: Engine):
    await engine.install(config_map_chart())
    for number in range(10):
        await engine.upgrade(config_map_chart(), values={"text": str(number)})
    assert [revision for revision, _, _ in engine.history()] == list(range(2, 12))
    await engine.rollback(5)
    assert [revision for revision, _, _ in engine.history()] == list(range(3, 13))


async def test_an_uninstall_removes_objects_and_history_and_tells_what_it_kept(engine: Engine, find: Any):
    kept = config_map_template("kept", data='"x"').replace(
        "metadata:\n", "metadata:\n  annotations: {helm.sh/resource-policy: keep}\n"
    )
    await engine.install(build_chart(templates={"a.yaml": config_map_template(data='"x"'), "kept.yaml": kept}))
    await engine.upgrade(build_chart(templates={"a.yaml": config_map_template(data='"y"'), "kept.yaml": kept}))
    assert "web-kept" in await engine.uninstall()
    assert find(ConfigMap, "web-config") is None
    assert find(ConfigMap, "web-kept") is not None
    assert [find(Secret, f"sh.helm.release.v1.web.v{number}") for number in (1, 2)] == [None, None]


async def test_what_does_not_exist_cannot_be_upgraded_rolled_back_or_uninstalled(engine: Engine):
    for call in (engine.upgrade(config_map_chart()), engine.rollback(1), engine.uninstall()):
        with pytest.raises(HelmError, match=r"not found|has no deployed releases"):
            await call


@pytest.mark.parametrize("disable_hooks", [False, True])
async def test_hooks_run_unless_they_are_disabled(engine: Engine, find: Any, *, disable_hooks: bool):
    hooks = {f"{event}.yaml": hook_job_template(event, suffix=event) for event in
             ("post-upgrade", "post-rollback", "post-delete")}  # fmt: skip
    chart = build_chart(templates={"a.yaml": config_map_template(data='"x"'), **hooks})
    await engine.install(chart)
    await engine.upgrade(chart, disable_hooks=disable_hooks)
    await engine.rollback(1, disable_hooks=disable_hooks)
    await engine.uninstall(disable_hooks=disable_hooks)
    ran = [event for event in ("post-upgrade", "post-rollback", "post-delete") if find(Job, f"web-{event}")]
    assert ran == ([] if disable_hooks else ["post-upgrade", "post-rollback", "post-delete"])


async def test_an_upgrade_that_waits_returns_when_the_objects_are_ready(engine: Engine, find: Any):
    await engine.install(web_chart())
    await engine.upgrade(web_chart(), values={"replicaCount": 2}, wait="ready", timeout_seconds=30)
    assert find(Deployment, "web").status.readyReplicas == 2


async def test_a_refused_upgrade_leaves_a_failed_revision_that_the_next_one_mends(engine: Engine, find: Any):
    await engine.install(config_map_chart())
    broken = build_chart(templates={"a.yaml": config_map_template("extra", data='"x"'), "b.yaml": BROKEN})
    with pytest.raises(HelmError, match="replicaz"):
        await engine.upgrade(broken)
    assert [status for _, status, _ in engine.history()] == ["deployed", "failed"]
    await engine.upgrade(config_map_chart())
    assert [status for _, status, _ in engine.history()] == ["superseded", "failed", "deployed"]
    assert find(ConfigMap, "web-config") is not None


async def test_the_command_line_and_the_engine_take_turns_without_conflicts(
    engine: Engine, helm_cli: HelmCommand, find: Any, tmp_path: Path
):
    archive = tmp_path / "web.tgz"
    archive.write_bytes(web_chart())
    helm_cli("install", "web", str(archive), "-n", engine.namespace)
    await engine.upgrade(web_chart(), values={"replicaCount": 2})
    helm_cli("upgrade", "web", str(archive), "-n", engine.namespace, "--set", "replicaCount=3")
    await engine.rollback(2)
    helm_cli("rollback", "web", "3", "-n", engine.namespace)
    assert find(Deployment, "web").spec.replicas == 3
    await engine.uninstall()
    assert find(Deployment, "web") is None


async def test_a_release_that_was_applied_from_the_client_is_upgraded_on_the_server(
    engine: Engine, helm_cli: HelmCommand, find: Any, tmp_path: Path
):
    archive = tmp_path / "web.tgz"
    archive.write_bytes(web_chart())
    helm_cli("install", "web", str(archive), "-n", engine.namespace, "--server-side=false")
    await engine.upgrade(web_chart(), values={"replicaCount": 2, "message": "changed"})
    assert find(Deployment, "web").spec.replicas == 2
    assert find(ConfigMap, "web").data == {"MESSAGE": "changed"}
    writers = {(entry.manager, entry.operation) for entry in find(ConfigMap, "web").metadata.managedFields}
    assert writers == {("helm", "Apply")}
