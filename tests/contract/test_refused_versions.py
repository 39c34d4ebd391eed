"""Versions of a source that were refused, as its keys have not signed them: they are offered to nobody."""

import dataclasses
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from pilothouse.cli.commands.list import time_of
from tests.support.chart_sources import Reply, Repository, Request, added, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import PgpKey, pgp_key, signed
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, MOVED = (400, "CCE.01400001"), (409, "CCE.01409003")
SIGNER, OTHER = pgp_key("signer"), pgp_key("other")
BY_SIGNER = {"kind": "pgp", "keys": SIGNER.public}


@dataclass
class Offering:
    """A release of a chart, and the source that its newer versions are offered by."""

    release: OwnRelease
    repo: Repository
    kubernetes: RunningCluster
    name: str = field(default_factory=lambda: f"refused-{uuid.uuid4().hex[:8]}")
    versions: list[str] = field(default_factory=list)

    def offer(self, version: str, key: PgpKey) -> None:
        archive, provenance = signed(self.kubernetes.helm, config_map_chart("webapp", version), key)
        self.repo.files |= {f"{version}.tgz": archive, f"{version}.tgz.prov": provenance.encode()}
        self.versions = [*self.versions, version] if version not in self.versions else self.versions
        self.show(*self.versions)

    def show(self, *versions: str) -> None:
        entries = [{"apiVersion": "v2", "name": "webapp", "version": one, "urls": [f"{one}.tgz"]} for one in versions]
        self.repo.files["index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"webapp": entries}}).encode()

    def call(self, method: str, part: str, body: Any = None) -> Any:
        answer = self.release.server.send(method, f"/api/v1/sources/{self.name}{part}", json_body=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def offered(self, *, sync: bool = False) -> tuple[str, list[str]]:
        """Return the update of the release, and what is refused."""
        if sync:
            self.call("POST", "/sync")
        refused = [one["version"] for one in self.call("GET", "/charts/webapp") if "is not verified" in one["refused"]]
        return self.release.get()["update_available"], refused

    def reasons(self) -> dict[str, str]:
        return {one["version"]: one["refused"] for one in self.call("GET", "/charts/webapp")}

    def looks(self) -> list[str]:
        """Return what was asked for beside the index, and forget it."""
        asked = [path.lstrip("/") for path in self.repo.paths if path != "/index.yaml"]
        self.repo.requests.clear()
        return asked

    def refused(self, version: str) -> str:
        chart = {"source": self.name, "name": "webapp", "version": version}
        answer = self.release.send("PUT", "", {"chart": chart})
        assert_error(answer, *INVALID)
        return answer.text


@pytest.fixture
def offering(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
) -> Iterator[Offering]:
    """Yield a release of version 1.0.0, which the signer has signed."""
    with repository() as repo:
        made = Offering(OwnRelease(server, namespace, "web", helm_cli), repo, kubernetes)
        made.offer("1.0.0", SIGNER)
        body = {"name": made.name, "kind": "http", "url": repo.url, "ca": repo.ca, "sync_seconds": 0}
        with added(server, {**body, "verification": BY_SIGNER}):
            chart = {"source": made.name, "name": "webapp", "version": "^1"}
            made.release.ended(made.release.send("PUT", "", {"chart": chart}))
            yield made


def test_a_refused_version_is_no_update_until_it_is_signed_or_other_keys_count(offering: Offering):
    offering.offer("1.1.0", OTHER)
    assert offering.offered(sync=True) == ("", ["1.1.0"])
    told = offering.refused("^1")
    assert "chart webapp 1.1.0 is not verified" in told
    assert "it is the newest that fits '^1', and none is taken in its place" in told
    assert offering.offered() == ("", ["1.1.0"])
    assert "in its place" not in offering.refused("1.1.0")
    assert offering.offered(sync=True) == ("", ["1.1.0"])

    both = {"kind": "pgp", "keys": SIGNER.public + OTHER.public}
    offering.call("PATCH", "", {"verification": both})
    assert offering.offered() == ("1.1.0", [])
    offering.call("PATCH", "", {"verification": BY_SIGNER})
    assert offering.offered() == ("", ["1.1.0"])
    offering.offer("1.1.0", SIGNER)
    offering.call("GET", "/charts/webapp/1.1.0")
    assert offering.offered() == ("1.1.0", [])
    offering.offer("1.2.0", OTHER)  # whoever may push and not sign silences no update
    offering.call("POST", "/sync")
    offering.refused("1.2.0")
    assert offering.offered() == ("1.1.0", ["1.2.0"])


def test_what_signs_a_refused_version_is_looked_at_with_each_synchronisation(offering: Offering):
    offering.offer("1.1.0", OTHER)
    offering.call("POST", "/sync")
    offering.refused("1.1.0")
    assert offering.offered(sync=True) == ("", ["1.1.0"])
    offering.offer("1.1.0", OTHER)  # signed anew
    assert offering.offered(sync=True) == ("", ["1.1.0"])
    del offering.repo.files["1.1.0.tgz.prov"]
    assert offering.offered(sync=True) == ("", ["1.1.0"])
    assert "has no provenance file" in offering.reasons()["1.1.0"]
    assert "has no provenance file" in offering.refused("1.1.0")
    offering.offer("1.1.0", SIGNER)
    assert offering.offered(sync=True) == ("1.1.0", [])


def test_nothing_is_kept_of_a_refused_version_that_is_not_listed_any_more(offering: Offering):
    offering.offer("1.1.0", OTHER)
    offering.call("POST", "/sync")
    offering.refused("1.1.0")
    offering.show("1.0.0")
    assert offering.offered(sync=True) == ("", [])
    offering.offer("1.1.0", SIGNER)
    assert offering.offered(sync=True) == ("1.1.0", [])


def test_what_nobody_has_signed_hides_no_update_before_anybody_asks_for_it(offering: Offering):
    offering.offer("1.1.0", SIGNER)
    for version in ("1.2.0", "1.3.0"):
        offering.offer(version, SIGNER)
        del offering.repo.files[f"{version}.tgz.prov"]
    offering.offer("1.4.0", OTHER)
    offering.looks()
    assert offering.offered(sync=True) == ("1.1.0", ["1.4.0", "1.3.0", "1.2.0"])
    assert offering.looks() == [f"{version}.tgz.prov" for version in ("1.4.0", "1.3.0", "1.2.0", "1.1.0")]
    assert "has no provenance file (.prov) of it" in offering.reasons()["1.3.0"]
    assert OTHER.fingerprint in offering.reasons()["1.4.0"]
    assert offering.release.get()["update_refused"] == "1.4.0"
    offering.offer("1.3.0", SIGNER)
    assert offering.offered(sync=True) == ("1.3.0", ["1.4.0", "1.2.0"])


def test_a_store_that_answers_403_for_a_file_it_has_not_shows_an_unsigned_version(offering: Offering):
    offering.offer("1.1.0", SIGNER)
    offering.offer("1.2.0", SIGNER)
    del offering.repo.files["1.2.0.tgz.prov"]

    def as_object_stores(request: Request) -> Reply:
        found = request.path.lstrip("/") in offering.repo.files
        return offering.repo.from_files(request) if found else Reply(b"<Code>AccessDenied</Code>", 403)

    offering.repo.answers = as_object_stores
    assert offering.offered(sync=True) == ("1.1.0", ["1.2.0"])
    assert "has no provenance file (.prov) of it, or does not show it (403)" in offering.reasons()["1.2.0"]
    assert "or does not show it (403)" in offering.refused("1.2.0")
    offering.offer("1.2.0", SIGNER)
    assert offering.offered(sync=True) == ("1.2.0", [])


def test_what_could_not_be_looked_at_is_told_as_not_checked_and_hides_nothing(offering: Offering):
    server, place = offering.release.server, ("-n", offering.release.namespace, "--cluster")
    offering.offer("1.1.0", SIGNER)
    offering.offer("1.2.0", SIGNER)

    def answers(request: Request) -> Reply:
        if request.path == "/1.2.0.tgz.prov":
            return Reply(status=401)
        return offering.repo.from_files(request)

    offering.repo.answers = answers
    assert offering.offered(sync=True) == ("1.1.0", [])
    assert offering.release.get()["update_unchecked"] == "1.2.0"
    found = {one["version"]: one["signature"] for one in offering.call("GET", "/charts/webapp")}
    assert found == {"1.2.0": "unchecked", "1.1.0": "verified", "1.0.0": "verified"}
    assert "not checked yet" in server.command("search", "webapp", "--versions", "--source", offering.name).stdout
    shown = server.command("status", "web", *place, server.cluster_id).stdout
    assert f"UPDATE AVAILABLE: 1.1.0, of source {offering.name}\n" in shown
    assert f"UPDATE NOT CHECKED: 1.2.0, of source {offering.name}: whether it is signed is not known yet\n" in shown
    assert f"pilothouse source sync {offering.name}" in shown
    offering.repo.answers = None
    assert offering.offered(sync=True) == ("1.2.0", [])
    assert offering.release.get()["update_unchecked"] == ""


def test_only_the_newest_versions_of_charts_with_releases_are_looked_at(offering: Offering):
    for minor in range(1, 8):
        offering.offer(f"1.{minor}.0", SIGNER)
        del offering.repo.files[f"1.{minor}.0.tgz.prov"]
    entries = json.loads(offering.repo.files["index.yaml"])
    other = {"apiVersion": "v2", "name": "other", "version": "2.0.0", "urls": ["other.tgz"]}
    entries["entries"]["other"] = [other, {**other, "version": "1.0.0"}]
    offering.repo.files["index.yaml"] = json.dumps(entries).encode()
    offering.looks()
    assert offering.offered(sync=True) == ("", [f"1.{minor}.0" for minor in range(7, 2, -1)])
    assert offering.looks() == [f"1.{minor}.0.tgz.prov" for minor in range(7, 2, -1)]
    assert offering.release.get()["update_unchecked"] == "1.2.0"
    assert offering.offered(sync=True) == ("", [f"1.{minor}.0" for minor in range(7, 0, -1)])
    assert offering.release.get()["update_unchecked"] == ""


def test_an_install_of_an_older_version_is_told_its_signed_update_at_once(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
):
    with repository() as repo:
        offering = Offering(OwnRelease(server, namespace, "web", helm_cli), repo, kubernetes)
        for version, key in (("1.0.0", SIGNER), ("1.1.0", SIGNER), ("1.2.0", OTHER)):
            offering.offer(version, key)
        body = {"name": offering.name, "kind": "http", "url": repo.url, "ca": repo.ca, "sync_seconds": 0}
        with added(server, {**body, "verification": BY_SIGNER}):
            chart = {"source": offering.name, "name": "webapp", "version": "1.0.0"}
            offering.release.ended(offering.release.send("PUT", "", {"chart": chart}))
            assert offering.offered() == ("1.1.0", ["1.2.0"])


def test_what_is_refused_is_told_by_the_commands(offering: Offering):
    server, place = offering.release.server, ("-n", offering.release.namespace, "--cluster")
    offering.offer("1.1.0", OTHER)
    offering.call("POST", "/sync")
    offering.refused("1.1.0")
    listed = server.command("search", "webapp", "--versions", "--source", offering.name)
    assert "REFUSED: chart webapp 1.1.0 is not verified" in listed.stdout, listed
    assert listed.stdout.splitlines()[0].split("  ")[0:1] == ["NAME"]
    assert "SIGNED" in listed.stdout.splitlines()[0]
    signed_ones = {one["version"]: one["signature"] for one in offering.call("GET", "/charts/webapp")}
    assert signed_ones == {"1.1.0": "refused", "1.0.0": "verified"}
    unlisted = server.command("list", "--update-available", *place, server.cluster_id).stderr
    assert "1 release is not listed, whose updates are unknown or refused" in unlisted
    shown = server.command("status", "web", *place, server.cluster_id)
    assert f"UPDATE REFUSED: 1.1.0, of source {offering.name}, is not signed by a trusted key\n" in shown.stdout, shown
    assert offering.release.get()["update_refused"] == "1.1.0"
    offering.offer("1.2.0", SIGNER)
    assert offering.offered(sync=True) == ("1.2.0", ["1.1.0"])
    assert offering.release.get()["update_refused"] == "", "what is newer than it is offered"


def test_a_release_tells_that_its_source_fails_and_since_when(offering: Offering):
    server, place = offering.release.server, ("-n", offering.release.namespace, "--cluster")
    assert offering.release.get()["source_problem"] == ""
    offering.repo.answers = lambda _: Reply(status=503)
    path = f"/api/v1/sources/{offering.name}"
    assert server.send("POST", f"{path}/sync").status_code == 502
    source, shown = server.send("GET", path).json(), offering.release.get()
    assert shown["source_problem"] == source["problem"] != ""
    for moment in ("failed_at", "synced_at"):
        assert shown[f"source_{moment}"][:19] == source[moment][:19]
    told = server.command("status", "web", *place, server.cluster_id).stdout
    at = time_of(source["failed_at"])
    assert f"SOURCE FAILING: {offering.name} could not be synchronised at {at}: {source['problem']}\n" in told
    assert f"  updates are as of its last synchronisation, {time_of(source['synced_at'])}\n" in told
    listing = server.command("list", "--update-available", *place, server.cluster_id).stderr
    assert "1 release is not listed, whose updates are unknown or refused: pilothouse list --update-unknown" in listing
    assert f"source {offering.name} could not be synchronised at {at}, so updates may be missing: " in listing
    unknown = server.command("list", "--update-unknown", "-q", *place, server.cluster_id)
    assert unknown.stdout == "web\n", unknown
    offering.repo.answers = None
    offering.call("POST", "/sync")
    assert "SOURCE FAILING" not in server.command("status", "web", *place, server.cluster_id).stdout
    assert "not listed" not in server.command("list", "--update-available", *place, server.cluster_id).stderr
    assert server.command("list", "--update-unknown", "-q", *place, server.cluster_id).stdout == ""


def test_a_plan_tells_that_the_signature_of_its_chart_counts_no_more(offering: Offering):
    def applied(version: str, *, keys: PgpKey) -> httpx2.Response:
        """Return what an application of a plan is told after the source has got the keys."""
        chart = {"source": offering.name, "name": "webapp", "version": version}
        plan = offering.release.send("POST", "/plan", {"deploy": {"chart": chart}}).json()
        offering.call("PATCH", "", {"verification": {"kind": "pgp", "keys": keys.public}})
        path = f"/api/v1/plans/{plan['id']}/apply"
        return offering.release.server.send("POST", path, json_body={"digest": plan["digest"]})

    signed_by = f"chart webapp 1.0.0 was signed by {SIGNER.user} ({SIGNER.fingerprint})"
    assert_error(applied("1.0.0", keys=OTHER), *MOVED, f"{signed_by}, which is not trusted any more; plan again")
    offering.call("PATCH", "", {"verification": {"kind": "none"}})
    offering.offer("1.1.0", OTHER)
    offering.call("POST", "/sync")
    told = f"source '{offering.name}' has got keys since the plan was made, and it is not known that one of them has"
    assert_error(applied("1.1.0", keys=SIGNER), *MOVED, f"{told} signed chart webapp 1.1.0; plan again")


def test_what_the_project_would_refuse_is_no_update(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
):
    project = add_tenant(server)
    cluster = {"name": "verified", "kubeconfig": kubernetes.kubeconfig.read_text()}
    made = project.send("POST", "/api/v1/clusters", json_body=cluster)
    project = dataclasses.replace(project, cluster_id=made.json()["id"])

    def trust(**changes: Any) -> None:
        assert project.send("PUT", "/api/v1/verification", json_body=changes).status_code == 200

    def told() -> tuple[str, str, list[str]]:
        shown = release.get()
        listed = project.send("GET", "/api/v1/releases?update_available=true").json()
        return shown["update_available"], shown["update_refused"], [one["name"] for one in listed]

    offered = "1.1.0", "", ["web"]
    refused: tuple[str, str, list[str]] = "", "1.1.0", []
    with repository() as repo:
        release = OwnRelease(project, namespace, "web", helm_cli)
        offering = Offering(release, repo, kubernetes)
        offering.offer("1.0.0", SIGNER)
        body = {"name": offering.name, "kind": "http", "url": repo.url, "ca": repo.ca, "sync_seconds": 0}
        with added(project, body):
            chart = {"source": offering.name, "name": "webapp"}
            release.ended(release.send("PUT", "", {"chart": chart}))
            offering.offer("1.1.0", SIGNER)
            offering.call("POST", "/sync")
            assert told() == offered
            unverified = (
                "VERIFIED: no, nobody is known to have signed the chart; this project takes verified charts only\n"
            )
            shown = ("status", "web", "-n", namespace, "--cluster", project.cluster_id)
            assert "VERIFIED" not in project.command(*shown).stdout
            trust(verified_only=True)
            assert told() == refused
            assert unverified in project.command(*shown).stdout
            assert release.get()["verification_missing"]
            answer = release.send("PUT", "", {"chart": chart})
            assert_error(answer, 403, "CCE.01403001", "is not verified by a key that this project trusts")
            offering.call("POST", "/sync")
            assert told() == refused, "it was pulled, and nobody is known to have signed it"

            trust(keys=SIGNER.public)
            provenance = repo.files["1.1.0.tgz.prov"].decode()
            assert project.upload(repo.files["1.1.0.tgz"], provenance=provenance).status_code == 201
            offering.call("POST", "/sync")
            assert told() == offered, "the same archive was uploaded with its signature"
            trust(keys="")
            assert told() == refused

            offering.call("PATCH", "", {"verification": BY_SIGNER})
            assert told() == offered
            offering.call("PATCH", "", {"verification": {"kind": "none"}})
            assert told() == refused
            with added(project, {**body, "name": "other", "verification": BY_SIGNER}):
                assert told() == offered, "keys of a source count for charts of others"
            assert told() == refused
            trust(verified_only=False)
            assert told() == offered
