"""Releases whose stored manifest has kinds that a newer Kubernetes no longer serves."""

import base64
import gzip
import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Secret

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
BUDGET = "---\napiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: old}\n"
GENERATED = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: gen-}\n"
NAMELESS = "---\nkind: ConfigMap\nmetadata: {name: zz}\n"

#: Changes the manifest that Helm stored of a revision.
Rewrite = Callable[[int, Callable[[str], str]], None]


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "web", helm_cli)


@pytest.fixture
def rewrite(kubernetes: RunningCluster, release: OneRelease) -> Iterator[Rewrite]:
    api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)

    def run(revision: int, change: Callable[[str], str]) -> None:
        name = f"sh.helm.release.v1.{release.name}.v{revision}"
        secret = api.get(Secret, name, namespace=release.namespace)
        assert secret.data is not None
        payload = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret.data["release"]))))
        payload["manifest"] = change(payload["manifest"])
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(payload).encode())))
        api.patch(Secret, name, {"data": {"release": packed.decode()}}, namespace=release.namespace)

    yield run
    api.close()


@pytest.fixture
def chart_id(release: OneRelease) -> str:
    """Return a chart of which the release has two revisions."""
    uploaded = release.server.upload(config_map_chart(f"stranded-{uuid.uuid4().hex[:8]}"))
    assert uploaded.status_code == 201, uploaded.text
    found: str = uploaded.json()["id"]
    assert release.create(found).status_code == 201
    assert release.settled()["status"] == "DEPLOYED"
    assert release.update(chart_id=found).status_code == 200
    assert release.settled()["version"] == 2
    return found


@pytest.mark.usefixtures("chart_id")
def test_a_rollback_to_kinds_that_are_no_longer_served_is_refused_at_once(release: OneRelease, rewrite: Rewrite):
    rewrite(1, lambda manifest: manifest + BUDGET)
    said = assert_error(release.rollback(1), *INVALID, "revision 1", "policy/v1beta1 PodDisruptionBudget 'old'")
    assert "does not serve" in said
    assert release.statuses() == ["superseded", "deployed"]
    rewrite(1, lambda manifest: manifest.replace(BUDGET, ""))
    assert release.rollback(1).status_code == 200
    assert release.settled()["version"] == 3


@pytest.mark.parametrize("action", ["update", "rollback"])
def test_a_release_that_stands_with_such_kinds_goes_on(
    release: OneRelease, rewrite: Rewrite, chart_id: str, action: str
):
    """What no cluster serves any more is not there; helm is stopped by it until somebody edits the Secret."""
    rewrite(2, lambda manifest: manifest + BUDGET)
    answer = release.rollback(1) if action == "rollback" else release.update(chart_id=chart_id)
    assert answer.status_code == 200, answer.text
    assert release.settled()["status"] == "DEPLOYED"
    assert release.statuses()[-1] == "deployed"


@pytest.mark.usefixtures("chart_id")
@pytest.mark.parametrize("document", [BUDGET, GENERATED, NAMELESS], ids=["unserved", "generateName", "no apiVersion"])
def test_a_release_that_stands_with_what_cannot_be_there_is_deleted_at_once(
    release: OneRelease, rewrite: Rewrite, document: str
):
    """helm/helm#3348, helm/helm#11959: such a record is of an older Helm, or of a release that failed."""
    rewrite(2, lambda manifest: manifest + document)
    assert release.delete().status_code == 200
    release.gone()
