"""A release whose revision needs more than 32 bits, as another program may write it, is worked on like any other."""

import base64
import gzip
import json
from collections.abc import Callable
from http import HTTPStatus

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tools.localcluster.cluster import RunningCluster

HIGH = 5_000_000_000


@pytest.fixture
def release(server: RunningServer, make_namespace: Callable[[], str], helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, make_namespace(), "web", helm_cli)


def raise_revision(api: Client, release: OneRelease, revision: int) -> None:
    """Turn the deployed revision 1 into that one."""
    old = api.get(Secret, "sh.helm.release.v1.web.v1", namespace=release.namespace)
    assert old.data is not None
    assert old.metadata is not None
    labels = {**(old.metadata.labels or {}), "version": str(revision)}
    stored = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(old.data["release"]))))
    stored["version"] = revision
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(stored).encode()))).decode()
    metadata = ObjectMeta(name=f"sh.helm.release.v1.web.v{revision}", namespace=release.namespace, labels=labels)
    new = Secret(metadata=metadata, data={"release": packed}, type=old.type)
    api.create(new)
    api.delete(Secret, "sh.helm.release.v1.web.v1", namespace=release.namespace)


def test_it_is_upgraded_rolled_back_and_deleted(release: OneRelease, kubernetes: RunningCluster):
    chart_id = str(release.server.upload(config_map_chart("high", "1.0.0")).json()["id"])
    assert release.create(chart_id).status_code == HTTPStatus.CREATED
    release.settled()
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        raise_revision(api, release, HIGH)

    assert release.update(chart_id=chart_id, values={"text": "new"}).status_code == HTTPStatus.OK
    upgraded = release.settled()
    assert (upgraded["status"], upgraded["version"]) == ("DEPLOYED", HIGH + 1)
    assert release.values()["text"] == "new"
    assert release.rollback(HIGH).status_code == HTTPStatus.OK
    assert release.settled()["version"] == HIGH + 2
    assert release.delete().is_success
    release.gone()
