"""Versions of a source whose archive somebody replaced: a synchronisation finds it, and what was made of it stays."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart_sources import Repository, added, registry, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

FIRST, SECOND = (config_map_chart("webapp", "1.0.0", text=text) for text in ("first", "second"))


def digest_of(archive: bytes) -> str:
    return hashlib.sha256(archive).hexdigest()


def synchronised(server: RunningServer, source: str) -> dict[str, Any]:
    """Return what is told of the version after a synchronisation."""
    answer = server.send("POST", f"/api/v1/sources/{source}/sync")
    assert answer.status_code == 200, answer.text
    (version,) = server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
    return dict(version)


def moved(version: dict[str, Any]) -> tuple[bool, str, str]:
    return version["moved_at"] is not None, version["moved_from"], version["moved_to"]


NEVER = (False, "", "")
MOVED = (True, digest_of(FIRST), digest_of(SECOND))


def test_a_tag_that_leads_elsewhere_is_told_and_the_project_goes_on_with_what_it_has(
    *, server: RunningServer, kubernetes: RunningCluster, namespace: str, helm_cli: HelmCommand, tmp_path: Path
):
    release = OwnRelease(server, namespace, "web", helm_cli)
    with registry("debian", tmp_path) as running:
        running.push(kubernetes.helm, FIRST)
        name = f"moved-{uuid.uuid4().hex[:8]}"
        with added(server, running.as_source(name, sync_seconds=0)) as source:
            release.ended(release.send("PUT", "", {"chart": {"source": name, "name": "webapp"}}))
            assert moved(synchronised(server, source)) == NEVER
            running.push(kubernetes.helm, SECOND)
            found = synchronised(server, source)
            assert moved(found) == MOVED
            assert moved(synchronised(server, source)) == MOVED
            assert synchronised(server, source)["moved_at"] == found["moved_at"]
            listed = server.command("search", "webapp", "--versions", "--source", name).stdout
            assert f"MOVED since {found['moved_at'][:19]}Z: another archive is there" in listed
            release.ended(release.send("PUT", "", {"chart": {"source": name, "name": "webapp", "version": "1.0.0"}}))
            assert "first" in release.manifest()
            assert release.get()["chart_digest"] == digest_of(FIRST)
            running.push(kubernetes.helm, FIRST)
            assert moved(synchronised(server, source)) == NEVER


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        offer(serving, FIRST)
        yield serving


def offer(serving: Repository, archive: bytes) -> None:
    entry = {"apiVersion": "v2", "name": "webapp", "version": "1.0.0", "urls": ["w.tgz"], "digest": digest_of(archive)}
    index = json.dumps({"apiVersion": "v1", "entries": {"webapp": [entry]}}).encode()
    serving.files = {"w.tgz": archive, "index.yaml": index}


def body(of: Repository) -> dict[str, Any]:
    name = f"moved-{uuid.uuid4().hex[:8]}"
    return {"name": name, "kind": "http", "url": of.url, "ca": of.ca, "sync_seconds": 0}


def test_another_digest_in_an_index_is_told_also_after_it_was_pulled(server: RunningServer, repo: Repository):
    with added(server, body(repo)) as source:
        offer(repo, SECOND)
        assert moved(synchronised(server, source)) == NEVER, "nobody has seen the one before"
        offer(repo, FIRST)
        synchronised(server, source)
        path = f"/api/v1/sources/{source}/charts/webapp/1.0.0"
        assert "first" in server.send("GET", path).json()["values"]
        offer(repo, SECOND)
        found = synchronised(server, source)
        assert moved(found) == MOVED
        shown = server.send("GET", path).json()
        assert "second" in shown["values"]
        assert (moved(shown), shown["moved_at"]) == (MOVED, found["moved_at"])
        repo.files["index.yaml"] += b"\n"
        assert synchronised(server, source)["moved_at"] == found["moved_at"]


def test_a_synchronisation_that_fails_is_told_with_its_time_and_in_the_audit(server: RunningServer, repo: Repository):
    with added(server, body(repo)) as source:
        path = f"/api/v1/sources/{source}"
        assert server.send("GET", path).json()["failed_at"] is None
        repo.files = {}
        failed = server.send("POST", f"{path}/sync")
        assert failed.status_code >= 400
        shown = server.send("GET", path).json()
        assert shown["problem"]
        assert shown["failed_at"] >= shown["synced_at"]
        told = server.command("source", "show", source).stdout
        assert f"PROBLEM: {shown['problem']} (at {shown['failed_at'][:19]}Z)" in told
        (row,) = server.send("GET", f"/api/v1/audit?action=cce:source:sync&target={source}").json()
        assert (row["outcome"], row["detail"]) == ("failed", shown["problem"])
        offer(repo, FIRST)
        assert server.send("POST", f"{path}/sync").json()["failed_at"] is None


def test_a_source_that_is_not_there_has_no_row_in_the_audit(server: RunningServer):
    missing = str(uuid.uuid4())
    assert_error(server.send("POST", f"/api/v1/sources/{missing}/sync"), 404, "CCE.01404001")
    assert server.send("GET", f"/api/v1/audit?action=cce:source:sync&target={missing}").json() == []
