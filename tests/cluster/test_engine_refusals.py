"""Each text of Helm's that the engine gives a kind of its own, provoked on a real Kubernetes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import Client, KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest
from pilothouse.errors import HelmError
from pilothouse.settings import EngineSettings
from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.engines import unvetted

Refusal = Callable[..., Any]

_NEVER_READY = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata:
      labels: {app: x}
      annotations: {pilothouse.dev/simulate: never-ready}
    spec: {containers: [{name: main, image: "busybox:1"}]}
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    pool = EnginePool(EngineSettings(children=1), state_dir=tmp_path, route=unvetted)
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def refusal(pool: EnginePool, kubeconfig: str, namespace: str) -> Refusal:
    async def run(chart: bytes, *, name: str = "r", **changes: Any) -> HelmError:
        fields: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace, **changes}
        with pytest.raises(HelmError) as refused:
            await pool.run(InstallRequest(release_name=name, chart=chart, **fields), deadline_seconds=60)
        return refused.value

    return run


def _one_template(text: str) -> bytes:
    return build_chart(templates={"a.yaml": text})


@pytest.mark.parametrize(
    ("chart", "changes", "kind"),
    [
        pytest.param(_one_template('{{ fail "no" }}'), {}, "HelmRenderError", id="fail"),
        pytest.param(_one_template("{{ .Values.a.b.c }}"), {}, "HelmRenderError", id="nil"),
        pytest.param(_one_template("{{ nope }}"), {}, "HelmRenderError", id="unknown function"),
        pytest.param(_one_template("a: b: c"), {}, "HelmRenderError", id="no yaml"),
        pytest.param(
            _one_template('{{ fail "another operation (install/upgrade/rollback) is in progress" }}'),
            *({}, "HelmRenderError"),
            id="a chart that speaks with Helm's words",
        ),
        pytest.param(
            _one_template("apiVersion: no.such/v1\nkind: Thing\nmetadata: {name: x}\n"),
            *({}, "HelmManifestError"),
            id="unknown kind",
        ),
        pytest.param(build_chart(schema='{"required": ["a"]}'), {}, "HelmSchemaError", id="schema"),
        pytest.param(build_chart(schema='{"required": ["a"]}'), {"dry_run": "server"}, "HelmSchemaError", id="dry run"),
        pytest.param(config_map_chart(), {"name": "R_8"}, "HelmInvalidNameError", id="bad name"),
        pytest.param(config_map_chart(), {"namespace": "no-such"}, "HelmNamespaceMissingError", id="namespace"),
        pytest.param(
            _one_template(_NEVER_READY), {"wait": "ready", "timeout_seconds": 1}, "HelmTimeoutError", id="never ready"
        ),
        pytest.param(
            _one_template(
                hook_job_template().replace(
                    "  template:\n", "  template:\n    metadata: {annotations: {pilothouse.dev/simulate: slow}}\n"
                )
            ),
            *({"timeout_seconds": 1}, "HelmTimeoutError"),
            id="slow hook",
        ),
        pytest.param(
            build_chart(metadata={"kubeVersion": ">=9.0"}),
            {},
            "HelmReleaseError",
            id="a text without a kind of its own",
        ),
    ],
)
async def test_a_refusal_has_its_kind(refusal: Refusal, chart: bytes, changes: dict[str, Any], kind: str):
    assert (await refusal(chart, **changes)).kind == kind


async def test_a_name_in_use(pool: EnginePool, refusal: Refusal, kubeconfig: str, namespace: str):
    first = InstallRequest(kubeconfig=kubeconfig, namespace=namespace, release_name="r", chart=config_map_chart())
    await pool.run(first, deadline_seconds=60)
    error = await refusal(config_map_chart())
    assert error.kind == "HelmNameInUseError"
    assert "cannot reuse a name that is still in use" in str(error)


async def test_an_object_of_another_release(pool: EnginePool, refusal: Refusal, kubeconfig: str, namespace: str):
    first = InstallRequest(kubeconfig=kubeconfig, namespace=namespace, release_name="r", chart=config_map_chart())
    await pool.run(first, deadline_seconds=60)
    taken = _one_template("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: r-config}\n")
    assert (await refusal(taken, name="other")).kind == "HelmOwnershipError"


async def test_a_field_that_another_manager_owns(refusal: Refusal, kubeconfig: str, namespace: str):
    theirs = ConfigMap(
        metadata=ObjectMeta(
            name="r-config",
            labels={"app.kubernetes.io/managed-by": "Helm"},
            annotations={"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": namespace},
        ),
        data={"text": "theirs"},
    )
    with Client(config=KubeConfig.from_dict(yaml.safe_load(kubeconfig)), field_manager="hpa") as client:
        client.patch(ConfigMap, "r-config", theirs, namespace=namespace, patch_type=PatchType.APPLY)
    error = await refusal(build_chart(templates={"a.yaml": config_map_template(data='"ours"')}))
    assert error.kind == "HelmConflictError"
    assert 'conflict with "hpa": .data.text' in str(error)


async def test_an_object_that_etcd_does_not_take_is_not_tried_again_as_if_the_cluster_were_away(refusal: Refusal):
    large = _NEVER_READY.replace("image:", 'env: [{name: LARGE, value: {{ repeat 1700000 "a" }}}], image:')
    refused = await refusal(_one_template(large))
    assert refused.kind == "HelmTooLargeError", refused


async def test_an_account_without_rights(refusal: Refusal, kubeconfig: str):
    parsed = yaml.safe_load(kubeconfig)
    for user in parsed["users"]:
        user["user"]["as"] = "nobody-in-particular"
    error = await refusal(config_map_chart(), kubeconfig=yaml.safe_dump(parsed))
    assert error.kind == "HelmForbiddenError"


async def test_an_account_that_is_none(refusal: Refusal, kubeconfig: str):
    parsed = yaml.safe_load(kubeconfig)
    for user in parsed["users"]:
        user["user"] = {"token": "not-a-token"}
    error = await refusal(config_map_chart(), kubeconfig=yaml.safe_dump(parsed))
    assert error.kind == "HelmUnauthorizedError"
