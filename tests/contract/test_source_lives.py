"""The life of a release from each kind of source through the native API, and what two projects share of a source."""

from pathlib import Path

import psycopg
import pytest

from tests.support.chart_sources import added
from tests.support.charts import config_map_chart
from tests.support.offered_charts import KINDS, Offered, offered
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "web", helm_cli)


@pytest.mark.parametrize("kind", KINDS)
def test_the_life_of_a_release_from_each_kind_of_source(
    *, release: OwnRelease, kind: str, helm_cli: HelmCommand, kubernetes: RunningCluster, tmp_path: Path
):
    wait_for(lambda: release.server.index()["listed"])  # before, who is asked is the cluster, which knows no source
    with offered(kind, tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source:
        source.offer(config_map_chart("webapp", "1.0.0", text="first"))
        with added(release.server, source.body) as added_source:
            live(release, source, f"/api/v1/sources/{added_source}/sync")


def live(release: OwnRelease, source: Offered, sync: str) -> None:
    """Install by name, update by a planned range, go back, and uninstall."""
    named = {"source": source.name, "name": "webapp"}

    def available() -> str:
        told: str = release.get()["update_available"]
        return told

    answer = release.send("PUT", "", {"chart": {**named, "version": "1.0.0"}})
    release.ended(answer)
    assert "first" in release.manifest()
    assert (release.get()["source"], available()) == (source.name, "")
    source.offer(config_map_chart("webapp", "1.1.0", text="second"))
    assert release.server.send("POST", sync).is_success
    assert available() == "1.1.0"
    plan = release.send("POST", "/plan", {"deploy": {"chart": {**named, "version": "^1"}}}).json()
    path, digest = f"/api/v1/plans/{plan['id']}/apply", {"digest": plan["digest"]}
    release.ended(release.server.send("POST", path, json_body=digest, headers={"Prefer": "wait=60"}))
    assert "second" in release.manifest()
    assert available() == ""
    release.ended(release.send("POST", "/rollback", {"revision": 1}))
    assert "first" in release.manifest()
    assert available() == "1.1.0"
    release.ended(release.send("DELETE"))
    assert "web" not in release.helm("list", "-q", "-n", release.namespace).split()


def test_two_projects_share_a_chart_by_its_digest_and_each_has_its_own_source(
    *, release: OwnRelease, helm_cli: HelmCommand, kubernetes: RunningCluster, tmp_path: Path
):
    """The second source has the first one's name, and other charts of the same name and version."""
    server, other = release.server, add_tenant(release.server)
    version = "/charts/webapp/1.0.0"
    (tmp_path / "b").mkdir()
    with (
        offered("http", tmp_path, helm=kubernetes.helm, helm_cli=helm_cli) as source,
        offered("http", tmp_path / "b", helm=kubernetes.helm, helm_cli=helm_cli) as foreign,
    ):
        source.offer(config_map_chart("webapp", "1.0.0", text="first"))
        foreign.offer(config_map_chart("webapp", "1.0.0", text="of another"))
        with (
            added(server, source.body) as ours,
            added(other, {**source.body, "name": "same"}) as same,
            added(other, {**foreign.body, "name": source.name}) as theirs,
        ):
            mine = server.send("GET", f"/api/v1/sources/{ours}{version}").json()
            shared = other.send("GET", f"/api/v1/sources/{same}{version}").json()
            namesake = other.send("GET", f"/api/v1/sources/{theirs}{version}").json()
            assert mine["digest"] == shared["digest"] != namesake["digest"]
            assert len({mine["chart_id"], shared["chart_id"], namesake["chart_id"]}) == 3
            for project, chart in ((server, shared), (other, mine)):
                assert_error(project.send("GET", f"/v2/charts/{chart['chart_id']}/archive"), 404, "CCE.01404001")
            with psycopg.connect(server.database_url) as rows:
                stored = rows.execute("SELECT count(*) FROM chart_archives WHERE digest = %s", [mine["digest"]])
                assert stored.fetchone() == (1,)
        archive = other.send("GET", f"/v2/charts/{shared['chart_id']}/archive")
        assert_error(archive, 404, "CCE.01404001")  # no release needs it, and its source is gone
