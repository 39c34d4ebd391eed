"""Releases for whose chart its source has something newer: in lists, of one release, and on the command line."""

import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.chart_sources import Repository, added, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.users import add_person
from tests.support.wire import assert_error

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1")
FRONT = Path(__file__).parents[2] / "src" / "pilothouse" / "engine" / "bin" / "pilothouse"
DENIED = (403, "CCE.01403001")


def index(*versions: str, deprecated: str = "") -> bytes:
    entries = [
        {"apiVersion": "v2", "name": "webapp", "version": version, "urls": [f"{version}.tgz"]}
        | ({"deprecated": True} if version == deprecated else {})
        for version in versions
    ]
    return orjson.dumps({"apiVersion": "v1", "entries": {"webapp": entries}})


class Sourced:
    """A release and the source of its chart, whose index a test changes."""

    def __init__(self, release: OwnRelease, serving: Repository, source: dict[str, Any]) -> None:
        self.release = release
        self.source = source
        self.name = str(source["name"])
        self._serving = serving

    def offer(self, *versions: str, deprecated: str = "") -> None:
        self._serving.files["index.yaml"] = index(*versions, deprecated=deprecated)
        answer = self.release.server.send("POST", f"/api/v1/sources/{self.name}/sync")
        assert answer.status_code == 200, answer.text

    def deploy(self, **chart: Any) -> int:
        operation = self.release.ended(self.release.send("PUT", "", {"chart": chart}))
        return int(operation["revision"])

    def listed(self, server: RunningServer | None = None, **query: str) -> list[tuple[str, str, bool]]:
        asked = "&".join(f"{name}={value}" for name, value in {"namespace": self.release.namespace, **query}.items())
        answer = (server or self.release.server).send("GET", f"/api/v1/releases?{asked}")
        assert answer.status_code == 200, answer.text
        return [_update(row) for row in answer.json()]

    def shown(self, server: RunningServer | None = None) -> tuple[str, str, bool]:
        answer = (server or self.release.server).send("GET", self.release.path)
        assert answer.status_code == 200, answer.text
        return _update(answer.json())


def _update(row: dict[str, Any]) -> tuple[str, str, bool]:
    return row["source"], row["update_available"], row["update_deprecated"]


@pytest.fixture
def sourced(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Iterator[Sourced]:
    """Yield a release of version 1.0.0 of a chart, whose source has newer ones."""
    with repository() as serving:
        serving.files = {f"{one}.tgz": config_map_chart("webapp", one, text=one) for one in (*VERSIONS, "3.0.0")}
        serving.files["index.yaml"] = index(*VERSIONS)
        name = f"source-{uuid.uuid4().hex[:10]}"
        body = {"name": name, "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
        with added(server, body):
            made = Sourced(OwnRelease(server, namespace, "web", helm_cli), serving, body)
            made.deploy(source=name, name="webapp", version="1.0.0")
            yield made


def test_the_newest_stable_version_is_told_until_the_release_has_it(sourced: Sourced):
    name = sourced.name
    assert sourced.listed() == sourced.listed(update_available="true") == [(name, "1.2.0", False)]
    assert sourced.listed(update_available="false") == []
    assert sourced.shown() == (name, "1.2.0", False)
    sourced.deploy(source=name, name="webapp", version="1.1.0")
    assert sourced.shown() == (name, "1.2.0", False)
    sourced.deploy(source=name, name="webapp")
    assert sourced.shown() == (name, "", False)
    assert sourced.listed() == sourced.listed(update_available="false") == [(name, "", False)]
    assert sourced.listed(update_available="true") == []

    sourced.offer(*VERSIONS, "3.0.0", deprecated="3.0.0")
    assert sourced.listed() == [sourced.shown()] == [(name, "3.0.0", True)]
    sourced.offer("1.0.0")
    assert sourced.shown() == (name, "", False), "what the source has taken back is no update, nor what is older"
    sourced.offer("1.0.0", "2.0.0-rc.1", "2.0.0-rc.2")
    assert sourced.shown() == (name, "", False), "a prerelease is none for a stable version"
    sourced.deploy(source=name, name="webapp", version="2.0.0-rc.1")
    assert sourced.shown() == (name, "", False)
    sourced.offer("2.0.0-rc.1", "3.0.0")
    assert sourced.shown() == (name, "3.0.0", False)


def test_a_rollback_and_other_values_keep_the_source_and_helm_with_another_chart_does_not(
    sourced: Sourced, helm_cli: HelmCommand, tmp_path: Path
):
    release = sourced.release
    sourced.deploy(source=sourced.name, name="webapp", version="1.2.0")
    assert sourced.deploy(revision=2) == 3
    assert sourced.shown() == (sourced.name, "", False)
    release.ended(release.send("POST", "/rollback", {"revision": 1}))
    assert [sourced.shown()] == sourced.listed() == [(sourced.name, "1.2.0", False)]

    def upgrade(name: str, version: str) -> None:
        (tmp_path / "chart.tgz").write_bytes(config_map_chart(name, version))
        helm_cli("upgrade", "web", str(tmp_path / "chart.tgz"), "-n", release.namespace)

    upgrade("webapp", "0.9.0")
    release.server.wait_until_shown(release.namespace, "web", revision=5)
    assert [sourced.shown()] == sourced.listed() == [("", "", False)]
    upgrade("webapp", "1.0.0")
    release.server.wait_until_shown(release.namespace, "web", revision=6)
    assert sourced.shown() == (sourced.name, "1.2.0", False)


def test_a_release_goes_on_to_tell_of_a_source_that_was_removed(sourced: Sourced, tmp_path: Path):
    server, name = sourced.release.server, sourced.name
    sourced.deploy(revision=1)
    before = server.send("GET", sourced.release.path).json()
    assert (before["source_url"], before["source_removed_at"]) == (sourced.source["url"], None)
    assert server.send("DELETE", f"/api/v1/sources/{name}").status_code == 204
    assert [sourced.shown()] == sourced.listed() == [(name, "", False)]
    assert sourced.listed(update_available="false") == sourced.listed(source=name) == []
    found = server.send("GET", sourced.release.path).json()
    removed_at = found["source_removed_at"]
    assert abs(datetime.fromisoformat(removed_at) - datetime.now(UTC)) < timedelta(minutes=5)
    (row,) = server.send("GET", f"/api/v1/releases?namespace={sourced.release.namespace}").json()
    assert (row["source_removed_at"], found["source_url"]) == (removed_at, sourced.source["url"])

    with added(server, sourced.source):
        assert [sourced.shown()] == sourced.listed() == [(name, "", False)], "one that is added again is another"
        assert server.send("GET", sourced.release.path).json()["source_removed_at"] == removed_at
        place = ("-n", sourced.release.namespace)
        server.wait_until_listed(seconds=90)
        lines = told_by_both(server, tmp_path, "list", *place).splitlines()
        assert lines[0].split()[-2:] == ["SOURCE", "UPDATE"]
        assert lines[1].split()[-3:] == [name, "(removed)", "unknown"]
        status = told_by_both(server, tmp_path, "status", "web", *place, "--cluster", server.cluster_id)
        assert f"\nSOURCE: {name} ({sourced.source['url']}), removed {removed_at[:19]}Z\n" in status
        assert "\nUPDATES: unknown: its source was removed\n" in status
        metadata = server.command("get", "metadata", "web", *place).stdout
        assert f"SOURCE: {name} ({sourced.source['url']}), removed {removed_at[:19]}Z" in metadata
        sourced.deploy(source=name, name="webapp", version="1.1.0")
        assert [sourced.shown()] == sourced.listed() == [(name, "1.2.0", False)]
        assert server.send("GET", sourced.release.path).json()["source_removed_at"] is None


def test_who_may_see_no_sources_does_not_learn_of_them(sourced: Sourced):
    server = sourced.release.server
    reader = add_person(server, "CCE ReadOnlyAccess")
    assert sourced.listed(reader.server) == [sourced.shown(reader.server)] == [(sourced.name, "1.2.0", False)]
    statement = {"Effect": "Deny", "Action": ["cce:source:*"], "Resource": ["*"]}
    document = {"Version": "5.0", "Statement": [statement]}
    made = server.send(
        "POST", "/api/v1/policies", json_body={"name": f"p-{uuid.uuid4().hex[:8]}", "document": document}
    )
    path = f"/api/v1/policies/{made.json()['id']}/attachments"
    assert server.send("POST", path, json_body={"user_id": reader.id}).status_code == 200
    assert sourced.listed(reader.server) == [sourced.shown(reader.server)] == [("", "", False)]
    for wanted in ("true", "false"):
        assert_error(reader.server.send("GET", f"/api/v1/releases?update_available={wanted}"), *DENIED)


def told_by_both(server: RunningServer, folder: Path, *words: str) -> str:
    """Return what both programs print; alone in a folder the small one can hand nothing over."""
    variables = {"PILOTHOUSE_URL": server.url, "CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
    alone = folder / "pilothouse"
    alone.write_bytes(FRONT.read_bytes())
    alone.chmod(0o755)
    own = subprocess.run(
        [alone, *words], env={"HOME": str(folder), **variables}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    python = server.command(*words)
    assert (own.stdout, own.stderr, own.returncode) == (python.stdout, python.stderr, 0)
    return python.stdout


def test_the_command_line_tells_it(sourced: Sourced, tmp_path: Path):
    server, place = sourced.release.server, ("-n", sourced.release.namespace)

    def told(*words: str) -> str:
        return told_by_both(server, tmp_path, *words)

    server.wait_until_listed(seconds=90)
    listed = told("list", *place)
    assert listed.splitlines()[0].split()[-2:] == ["SOURCE", "UPDATE"]
    assert listed.splitlines()[1].split()[-2:] == [sourced.name, "1.2.0"]
    assert "CLUSTER" not in listed
    everywhere = told("list", *place, "--all-clusters").splitlines()
    assert (everywhere[0].split()[1], len(everywhere)) == ("CLUSTER", 2)
    assert server.command("list", "--update-available", *place).stdout == listed
    status = told("status", "web", *place, "--cluster", server.cluster_id)
    assert f"UPDATE AVAILABLE: 1.2.0, of source {sourced.name}\n" in status
    sourced.offer(*VERSIONS, "3.0.0", deprecated="3.0.0")
    assert "3.0.0 (deprecated)" in told("list", *place)
    assert "3.0.0 (deprecated)" in told("status", "web", *place, "--cluster", server.cluster_id)
    sourced.offer("1.0.0")
    assert told("list", *place).splitlines()[0].split()[-1] == "SOURCE"
    none = server.command("list", "--update-available", *place)
    assert ("web" in none.stdout, none.returncode) == (False, 0)
    assert "update" in none.stderr
    assert "UPDATE AVAILABLE" not in told("status", "web", *place, "--cluster", server.cluster_id)
