"""Versions of a source that were refused, as its keys have not signed them: they are offered to nobody."""

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.support.chart_sources import Repository, added, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import PgpKey, pgp_key, signed
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
SIGNER, OTHER = pgp_key("signer"), pgp_key("other")


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        yield serving


def test_a_refused_version_is_no_update_until_it_is_signed_or_other_keys_count(
    server: RunningServer, repo: Repository, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
):
    versions: list[str] = []

    def offer(version: str, key: PgpKey) -> None:
        archive, provenance = signed(kubernetes.helm, config_map_chart("webapp", version), key)
        repo.files |= {f"{version}.tgz": archive, f"{version}.tgz.prov": provenance.encode()}
        versions[:] = [*versions, version] if version not in versions else versions
        entries = [{"apiVersion": "v2", "name": "webapp", "version": one, "urls": [f"{one}.tgz"]} for one in versions]
        repo.files["index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"webapp": entries}}).encode()

    offer("1.0.0", SIGNER)
    name = f"refused-{uuid.uuid4().hex[:8]}"
    body = {"name": name, "kind": "http", "url": repo.url, "ca": repo.ca, "sync_seconds": 0}
    verification = {"kind": "pgp", "keys": SIGNER.public}
    release = OwnRelease(server, namespace, "web", helm_cli)

    def deploy(version: str) -> str:
        answer = release.send("PUT", "", {"chart": {"source": name, "name": "webapp", "version": version}})
        assert_error(answer, *INVALID)
        return answer.text

    def offered() -> tuple[str, list[str]]:
        found = server.send("GET", f"/api/v1/sources/{name}/charts/webapp").json()
        refused = [one["version"] for one in found if "is not verified" in one["refused"]]
        return server.send("GET", release.path).json()["update_available"], refused

    with added(server, {**body, "verification": verification}):
        release.ended(release.send("PUT", "", {"chart": {"source": name, "name": "webapp", "version": "^1"}}))
        offer("1.1.0", OTHER)
        server.send("POST", f"/api/v1/sources/{name}/sync")
        assert offered() == ("1.1.0", [])
        told = deploy("^1")
        assert "chart webapp 1.1.0 is not verified" in told
        assert "it is the newest that fits '^1', and none is taken in its place" in told
        assert offered() == ("", ["1.1.0"])
        assert "in its place" not in deploy("1.1.0")
        offer("1.1.0", OTHER)
        server.send("POST", f"/api/v1/sources/{name}/sync")
        assert offered() == ("", ["1.1.0"])

        both = {"kind": "pgp", "keys": SIGNER.public + OTHER.public}
        for keys, update in ((both, "1.1.0"), (verification, "1.1.0")):
            answer = server.send("PATCH", f"/api/v1/sources/{name}", json_body={"verification": keys})
            assert answer.status_code == 200, answer.text
            assert offered() == (update, [])

        deploy("1.1.0")
        assert offered() == ("", ["1.1.0"])
        offer("1.1.0", SIGNER)
        assert server.send("GET", f"/api/v1/sources/{name}/charts/webapp/1.1.0").status_code == 200
        assert offered() == ("1.1.0", [])
        offer("1.2.0", OTHER)  # whoever may push and not sign silences no update
        server.send("POST", f"/api/v1/sources/{name}/sync")
        deploy("1.2.0")
        assert offered() == ("1.1.0", ["1.2.0"])
