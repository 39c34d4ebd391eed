"""Inputs of public reports against Helm, each on a real Kubernetes: what was lost, deleted or half done is not."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.resources.core_v1 import ConfigMap, Secret

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, ProgressEvent, RollbackRequest, UninstallRequest, UpgradeRequest
from pilothouse.errors import HelmError
from pilothouse.settings import EngineSettings
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.engines import unvetted
from tests.support.releases import HelmCommand

_CRDS = create_global_resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
_NAMELESS = "# a comment\n{{- if true -}}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: zz}\n{{- end }}\n"
_GENERATED = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: gen-}\n"


def definition(group: str) -> str:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [version],
    }
    metadata = {"name": f"widgets.{group}"}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
            "spec": spec,
        }
    )


def widget(group: str) -> str:
    return f"apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\n"


class Engine:
    """Calls about releases in one namespace, with what was left behind by them, and the objects that are there."""

    def __init__(self, pool: EnginePool, kubeconfig: str, namespace: str, api: Client) -> None:
        self._pool = pool
        self._place: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace}
        self._api = api
        self.namespace = namespace
        self.left: list[str] = []

    async def _run(self, request: Any) -> Any:
        def notice(event: ProgressEvent) -> None:
            if event.phase == "left":
                self.left.append(event.message)

        return await self._pool.run(request, deadline_seconds=60, on_progress=notice)

    async def install(self, chart: bytes, name: str = "a", **fields: Any) -> Any:
        return await self._run(InstallRequest(**self._place, release_name=name, chart=chart, **fields))

    async def upgrade(self, chart: bytes, name: str = "a", **fields: Any) -> Any:
        return await self._run(UpgradeRequest(**self._place, release_name=name, chart=chart, **fields))

    async def rollback(self, to_revision: int, name: str = "a") -> None:
        await self._run(RollbackRequest(**self._place, release_name=name, to_revision=to_revision))

    async def uninstall(self, name: str = "a") -> None:
        await self._run(UninstallRequest(**self._place, release_name=name))

    def find(self, kind: Any, name: str) -> Any:
        try:
            return self._api.get(kind, name, namespace=self.namespace)
        except ApiError as error:
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise
            return None

    async def define_no_more(self, group: str) -> None:
        """Remove the CRD, and wait until its group is served no more."""
        self._api.delete(_CRDS, f"widgets.{group}")
        async with asyncio.timeout(20):
            while self._api._client._client.get(f"/apis/{group}").status_code != HTTPStatus.NOT_FOUND:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def delete(self, kind: Any, name: str) -> None:
        self._api.delete(kind, name, namespace=self.namespace)


@pytest.fixture
async def engine(tmp_path: Path, kubeconfig: str, namespace: str) -> AsyncIterator[Engine]:
    pool = EnginePool(EngineSettings(children=1), state_dir=tmp_path, route=unvetted)
    await pool.start()
    with Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)), trust_env=False) as api:
        yield Engine(pool, kubeconfig, namespace, api)
    await pool.close()


@pytest.fixture
def group(namespace: str, kubeconfig: str) -> Iterator[str]:
    """Yield an API group of this test's own."""
    name = f"{namespace}.example.com"
    yield name
    with Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)), trust_env=False) as api:
        for crd in list(api.list(_CRDS)):
            assert crd.metadata is not None
            assert crd.metadata.name is not None
            if crd.metadata.name.endswith(name):
                api.delete(_CRDS, crd.metadata.name)


@pytest.mark.parametrize("asks", [False, True], ids=["unasked", "capabilities"])
async def test_objects_of_kinds_in_crds_are_never_lost(engine: Engine, group: str, *, asks: bool):
    """helm/helm#32671: eight new kinds and an object of each; every one of them is there, every time."""
    groups = [f"g{number}.{group}" for number in range(8)]
    wants = '{{{{ if .Capabilities.APIVersions.Has "{0}/v1" }}}}\n{1}{{{{ end }}}}' if asks else "{1}"
    chart = build_chart(
        templates={f"{one}.yaml": wants.format(one, widget(one)) for one in groups},
        files={f"crds/{one}.yaml": definition(one) for one in groups},
    )
    await engine.install(chart)
    for one in groups:
        assert engine.find(create_namespaced_resource(one, "v1", "Widget", "widgets"), "w") is not None, one


async def test_a_chart_that_looks_up_a_kind_of_its_own_installs(engine: Engine, group: str):
    """rancher/fleet#5630."""
    lookup = f'{{{{ lookup "{group}/v1" "Widget" .Release.Namespace "none" | len | quote }}}}'
    chart = build_chart(
        templates={"a.yaml": config_map_template(data=lookup), "w.yaml": widget(group)},
        files={"crds/w.yaml": definition(group)},
    )
    await engine.install(chart)
    assert engine.find(ConfigMap, "a-config").data == {"text": "0"}


@pytest.mark.parametrize(
    ("policy", "there", "after"),
    [("skip", False, None), ("create", False, "new"), ("create", True, "old"), ("replace", True, "new")],
)
async def test_what_lies_in_crds_is_applied_as_the_policy_says(
    engine: Engine, group: str, policy: str, after: str | None, *, there: bool
):
    def chart(text: str) -> bytes:
        labelled = json.loads(definition(group))
        labelled["metadata"]["labels"] = {"text": text}
        return build_chart(
            templates={"a.yaml": config_map_template(data='"x"')}, files={"crds/w.yaml": json.dumps(labelled)}
        )

    if there:
        await engine.install(chart("old"), "first")
    await engine.install(chart("new"), "second", crds=policy)
    found = engine.find(_CRDS, f"widgets.{group}")
    assert (found.metadata.labels["text"] if found else None) == after


async def test_a_name_that_is_in_use_costs_no_crd(engine: Engine, group: str):
    await engine.install(config_map_chart())
    with pytest.raises(HelmError, match="cannot reuse a name"):
        await engine.install(build_chart(files={"crds/w.yaml": definition(group)}))
    assert engine.find(_CRDS, f"widgets.{group}") is None


async def test_another_revision_than_is_wanted_costs_no_crd(engine: Engine, group: str):
    await engine.install(config_map_chart())
    with pytest.raises(HelmError, match="its next revision is 2 by now, not 3"):
        await engine.upgrade(build_chart(files={"crds/w.yaml": definition(group)}), crds="create", only_revision=3)
    assert engine.find(_CRDS, f"widgets.{group}") is None


@pytest.mark.parametrize("action", ["uninstall", "upgrade", "rollback"])
async def test_what_another_release_owns_by_now_stays(engine: Engine, action: str):
    """helm/helm#31333: the object was deleted by hand, and the other release made it since."""
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {of: {{ .Release.Name }}}\n"
    alone = {"own.yaml": config_map_template(data='"x"')}
    without, with_it = build_chart(templates=alone), build_chart(templates={**alone, "s.yaml": text})
    if action == "rollback":
        await engine.install(without)
        await engine.upgrade(with_it)
    else:
        await engine.install(with_it)
    engine.delete(ConfigMap, "shared")
    await engine.install(build_chart(templates={"s.yaml": text}), "b")
    match action:
        case "uninstall":
            await engine.uninstall()
        case "upgrade":
            await engine.upgrade(without)
        case _:
            await engine.rollback(1)
    assert engine.find(ConfigMap, "shared").data == {"of": "b"}
    assert engine.left == [
        f'ConfigMap shared: left alone, because it belongs to release "b" in namespace "{engine.namespace}"'
    ]


async def test_objects_of_others_stay_among_so_many_that_they_are_looked_up_by_a_list(engine: Engine):
    name = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared-{0}}}\ndata: {{of: '{{{{ .Release.Name }}}}'}}\n"
    many = build_chart(templates={f"{number}.yaml": name.format(number) for number in range(12)})
    one = build_chart(templates={"7.yaml": name.format(7)})
    await engine.install(one, "b")
    with pytest.raises(HelmError, match=r'shared-7" in namespace .* exists and cannot be imported'):
        await engine.install(many)
    assert engine.find(ConfigMap, "shared-0") is None
    await engine.uninstall("b")
    await engine.install(many, replace=True)
    engine.delete(ConfigMap, "shared-3")
    await engine.upgrade(many)
    assert engine.find(ConfigMap, "shared-3").data == {"of": "a"}
    engine.delete(ConfigMap, "shared-3")
    await engine.rollback(2)
    assert engine.find(ConfigMap, "shared-3").data == {"of": "a"}
    engine.delete(ConfigMap, "shared-7")
    await engine.install(one, "b")
    await engine.uninstall()
    assert engine.find(ConfigMap, "shared-7").data == {"of": "b"}
    assert [engine.find(ConfigMap, f"shared-{number}") for number in range(12) if number != 7] == [None] * 11
    assert len(engine.left) == 1


async def test_what_an_upgrade_drops_and_keeps_is_told(engine: Engine):
    """helm/helm#13462."""
    kept = config_map_template("kept", data='"x"').replace(
        "metadata:\n", "metadata:\n  annotations: {helm.sh/resource-policy: keep}\n"
    )
    own = config_map_template(data='"x"')
    await engine.install(build_chart(templates={"a.yaml": own, "kept.yaml": kept}))
    await engine.upgrade(build_chart(templates={"a.yaml": own}))
    assert engine.find(ConfigMap, "a-kept") is not None
    assert engine.left == ["ConfigMap a-kept: kept, as its annotation helm.sh/resource-policy says"]


@pytest.mark.parametrize(
    ("template", "said"),
    [(_NAMELESS, "document 1: ConfigMap zz has no apiVersion"), (_GENERATED, "has generateName and no name")],
    ids=["no apiVersion", "generateName"],
)
@pytest.mark.parametrize("dry_run", ["none", "server"])
@pytest.mark.parametrize("action", ["install", "upgrade"])
async def test_an_object_that_cannot_be_found_again_is_refused_before_the_first_write(  # noqa: PLR0917
    engine: Engine, helm_cli: HelmCommand, action: str, dry_run: str, template: str, said: str
):
    """helm/helm#11959, helm/helm#3348."""
    broken = build_chart(templates={"a.yaml": config_map_template("new", data='"x"'), "odd.yaml": template})
    if action == "upgrade":
        await engine.install(config_map_chart())
    before = helm_cli("list", "-n", engine.namespace, "-o", "json")
    with pytest.raises(HelmError, match=said) as refused:
        await (engine.install if action == "install" else engine.upgrade)(broken, dry_run=dry_run)
    assert "demo/templates/odd.yaml" in str(refused.value)
    assert helm_cli("list", "-n", engine.namespace, "-o", "json") == before
    assert engine.find(ConfigMap, "a-new") is None


async def test_a_kind_that_is_gone_keeps_nothing_from_going_on(engine: Engine, group: str):
    """The CRD was removed by hand, under a release that has an object of it."""
    own = config_map_template(data='"x"')
    chart = build_chart(templates={"a.yaml": own, "w.yaml": widget(group)}, files={"crds/w.yaml": definition(group)})
    plain = build_chart(templates={"a.yaml": own})
    await engine.install(chart)
    await engine.define_no_more(group)
    await engine.upgrade(plain)
    assert f"Widget w: the cluster serves no {group}/v1 any more" in engine.left
    await engine.uninstall()
    await engine.install(chart, "b")
    await engine.define_no_more(group)
    await engine.uninstall("b")
    assert engine.find(ConfigMap, "b-config") is None


async def test_an_integer_beyond_what_a_float_holds_is_not_changed(engine: Engine):
    chart = build_chart(templates={"a.yaml": config_map_template(data="{{ .Values.text | quote }}")})
    await engine.install(chart, values={"text": 9007199254740993})
    assert engine.find(ConfigMap, "a-config").data == {"text": "9007199254740993"}
    packed = engine.find(Secret, "sh.helm.release.v1.a.v1").data["release"]
    stored = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(packed))))
    assert stored["config"] == {"text": 9007199254740993}
