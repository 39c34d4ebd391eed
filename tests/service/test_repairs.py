"""The second look at a release: what a writer that woke up late did to its objects does not last.

The late writer is this test: it writes as Helm does, under the same name.
"""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Service

from tests.support.charts import build_chart, config_map_template, web_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import look_again, write_late
from tests.support.servers import RunningServer
from tools.localcluster.cluster import RunningCluster


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "seen-twice", helm_cli)


@pytest.fixture
def helm(kubernetes: RunningCluster) -> Iterator[Client]:
    """Yield the API server, to which this test is Helm."""
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False, field_manager="helm") as client:
        yield client


def upload(release: OneRelease, archive: bytes) -> str:
    answer = release.server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def config_chart(*suffixes: str) -> bytes:
    """Return a ConfigMap for each suffix."""
    templates = {f"{suffix}.yaml": config_map_template(suffix) for suffix in suffixes}
    return build_chart("twice", f"{len(suffixes)}.0.0", templates=templates, values={"text": "hello"})


def find(helm: Client, release: OneRelease, suffix: str) -> ConfigMap | None:
    try:
        return helm.get(ConfigMap, f"{release.name}-{suffix}", namespace=release.namespace)
    except ApiError as error:
        if error.status.code != 404:
            raise
        return None


def test_objects_are_again_as_the_deployed_revision_has_them(release: OneRelease, helm: Client):
    release.create(upload(release, config_chart("a", "b", "c")))
    assert release.settled()["status"] == "DEPLOYED"
    write_late(helm, release, "a", "late")
    helm.delete(ConfigMap, f"{release.name}-b", namespace=release.namespace)
    untouched = find(helm, release, "c")
    (event,) = look_again(release)
    assert sorted(event.removeprefix("objects_repaired re-applied from the deployed revision: ").split(", ")) == [
        f"ConfigMap/{release.name}-a",
        f"ConfigMap/{release.name}-b",
    ]
    for suffix in ("a", "b"):
        found = find(helm, release, suffix)
        assert found is not None
        assert found.data == {"text": "hello"}
    assert find(helm, release, "c") == untouched
    assert release.statuses() == ["deployed"]


def test_a_release_that_nobody_disturbed_is_not_written_to(release: OneRelease, helm: Client):
    release.create(upload(release, web_chart("twice-web")))
    assert release.settled()["status"] == "DEPLOYED"

    def versions() -> list[Any]:
        kinds = (Deployment, Service, ConfigMap)
        found = [one for kind in kinds for one in helm.list(kind, namespace=release.namespace)]
        # a controller may still write a status
        return [(one.metadata.name, one.metadata.uid, one.metadata.generation) for one in found]  # type: ignore[attr-defined]

    before = versions()
    assert look_again(release) == []
    assert versions() == before


def test_what_others_changed_since_stays(release: OneRelease, helm: Client, kubernetes: RunningCluster):
    release.create(upload(release, config_chart("a")))
    assert release.settled()["status"] == "DEPLOYED"
    with Client(
        config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False, field_manager="somebody"
    ) as somebody:
        somebody.patch(ConfigMap, f"{release.name}-a", {"data": {"text": "theirs"}}, namespace=release.namespace)
    (event,) = look_again(release)
    assert event.startswith("objects_not_repaired ")
    found = find(helm, release, "a")
    assert found is not None
    assert found.data == {"text": "theirs"}


def test_what_only_an_uninstalled_revision_had_goes_again(release: OneRelease, helm: Client):
    release.create(upload(release, config_chart("a")))
    assert release.settled()["status"] == "DEPLOYED"
    release.delete()
    release.gone()
    write_late(helm, release, "a", "late")
    objects = [["v1", "ConfigMap", release.namespace, f"{release.name}-a"]]
    assert look_again(release, objects=objects) == [
        f"orphans_removed removed, no longer part of the release: ConfigMap/{release.name}-a"
    ]
    assert find(helm, release, "a") is None


def test_what_would_take_others_along_stays(release: OneRelease, helm: Client):
    """A CRD or a Namespace is never cleaned up: with it would go what others keep in it."""
    release.create(upload(release, config_chart("a")))
    assert release.settled()["status"] == "DEPLOYED"
    release.delete()
    release.gone()
    name = f"late-{release.namespace}"
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    marks = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
    helm.create(Namespace(metadata=ObjectMeta(name=name, labels=labels, annotations=marks)))
    try:
        [event] = look_again(release, objects=[["v1", "Namespace", "", name]])
        assert event == f"orphans_left left behind: Namespace/{name} (all that is in it would be deleted with it)"
        left = helm.get(Namespace, name)
        assert left.metadata is not None
        assert left.metadata.deletionTimestamp is None
    finally:
        helm.delete(Namespace, name)


def test_a_failed_release_is_left_as_helm_left_it(release: OneRelease, helm: Client):
    chart = upload(release, config_chart("a"))
    release.create(chart)
    assert release.settled()["status"] == "DEPLOYED"
    helm.patch(ConfigMap, f"{release.name}-a", {"immutable": True}, namespace=release.namespace)
    release.update(chart_id=chart, values={"text": "new"})
    assert release.settled()["status"] == "FAILED"
    helm.delete(ConfigMap, f"{release.name}-a", namespace=release.namespace)
    assert look_again(release) == []
    assert find(helm, release, "a") is None


def test_a_write_waits_for_the_repair(release: OneRelease):
    chart = upload(release, config_chart("a"))
    release.create(chart)
    assert release.settled()["status"] == "DEPLOYED"
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO repairs (operation_id, cluster_id, namespace, release_name, lease_until)"
            " SELECT id, cluster_id, namespace, release_name, clock_timestamp() + interval '2 seconds'"
            " FROM operations WHERE namespace = %s RETURNING lease_until",
            [release.namespace],
        ).fetchone()
        assert row is not None
        assert release.update(chart_id=chart, values={"text": "new"}).status_code == 200
        assert release.settled()["version"] == 2
        ended = connection.execute(
            "SELECT min(finished_at) FROM operations WHERE namespace = %s AND action = 'upgrade'", [release.namespace]
        ).fetchone()
    assert ended is not None
    assert ended[0] > row[0]
