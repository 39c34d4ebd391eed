"""A client that a generator makes of docs/openapi.json drives the native API, with no line written by hand."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer
from tests.support.tokens import token_of
from tests.support.workloads import hook_template

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
NAME = "generated_pilothouse"
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Generate the client, and yield what imports its modules."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yaml").write_text("post_hooks: []\n")
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--meta", "none",
         "--output-path", str(folder / NAME), "--config", str(folder / "config.yaml"), "--fail-on-warning"],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{NAME}.{name}")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture
def chart(server: RunningServer) -> str:
    templates = {"map.yaml": config_map_template(), "test.yaml": hook_template("test", fate="''", kind="Pod")}
    archive = build_chart("generated", templates=templates, values={"text": "x"})
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_generated_client_installs_plans_applies_tests_rolls_back_lists_and_deletes(
    server: RunningServer, namespace: str, chart: str, load: Load
):
    models, place = load("models"), {"cluster": server.cluster_id, "namespace": namespace, "name": "web"}
    client = load("client").AuthenticatedClient(
        base_url=server.url, token=token_of(server), auth_header_name="X-Auth-Token", prefix="", timeout=90
    )

    def call(module: str, **given: Any) -> Any:
        return load(f"api.{module}").sync(client=client, **given)

    def ended(operation: Any) -> Any:
        assert isinstance(operation, models.OperationView), operation
        assert operation.state == "succeeded", operation
        return operation

    def body(text: str, **options: Any) -> Any:
        return models.DeployReleaseBody(
            chart=models.ReleaseChart(id=chart),
            values=[models.Layer(set_=f"text={text}")],
            options=models.DeployOptions(**options),
        )

    with client:
        installed = ended(call("releases.deploy_release", **place, body=body("one"), prefer="wait=60"))
        assert (installed.action, installed.revision) == ("install", 1)

        wanted = models.PlanBody(deploy=body("two", checks=["test"]))
        plan = call("releases.plan_release", **place, body=wanted)
        [changed] = [one for one in plan.objects if one.change == "changed"]
        assert [(one.path, one.old, one.new) for one in changed.fields] == [("/data/text", "one", "two")]
        apply = models.ApplyPlan(digest=plan.digest)
        applied = ended(call("releases.apply_plan", plan_id=plan.id, body=apply, prefer="wait=60"))
        assert applied.text.endswith("1 of 1 tests passed")
        [event] = [one for one in call("operations.list_events", operation_id=applied.id) if one.kind == "tests_run"]
        assert event.data["tests"][0]["phase"] == "Succeeded"

        assert ended(call("releases.run_release_tests", **place, body=models.RunTestsBody(), prefer="wait=60"))
        back = models.RollbackReleaseBody(revision=1)
        assert ended(call("releases.rollback_release", **place, body=back, prefer="wait=60")).revision == 3
        assert call("releases.show_release_values", **place).values.additional_properties == {"text": "one"}
        [listed] = call("releases.list_releases", namespace=namespace)
        assert (listed.name, listed.status, listed.revision) == ("web", "deployed", 3)

        refused = call("releases.rollback_release", **place, body=models.RollbackReleaseBody(revision=9))
        assert isinstance(refused, models.Error)
        ended(call("releases.delete_release", **place, body=models.DeleteReleaseBody(), prefer="wait=60"))
        assert call("releases.list_releases", namespace=namespace) == []
