"""Charts that are verified: signed by the real helm, pushed and served, installed and shown; or refused, and why."""

import dataclasses
import hashlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pilothouse.services.identity.standing import FRESH_SECONDS
from tests.support.chart_sources import Reply, Repository, Request, added, registry, repository
from tests.support.charts import config_map_chart
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import PgpKey, cosign, cosign_key, key_with_subkey, pgp_key, revoked, signed
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, FORBIDDEN = (400, "CCE.01400001"), (403, "CCE.01403001")
SIGNER = pgp_key("signer")


@pytest.fixture(scope="module")
def helm(kubernetes: RunningCluster) -> Path:
    return kubernetes.helm


@pytest.fixture(scope="module")
def chart(helm: Path) -> tuple[bytes, str]:
    """Return a chart that helm has signed, and its provenance."""
    return signed(helm, config_map_chart("webapp", "1.0.0"), SIGNER)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "verified", helm_cli)


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        yield serving


def verifying(url: str, key: PgpKey = SIGNER, **changes: Any) -> dict[str, Any]:
    return {
        "name": f"verified-{uuid.uuid4().hex[:8]}",
        "kind": "http",
        "url": url,
        "sync_seconds": 0,
        "verification": {"kind": "pgp", "keys": key.public},
        **changes,
    }


def serve(repo: Repository, archive: bytes, provenance: str | None) -> None:
    entry = {"apiVersion": "v2", "name": "webapp", "version": "1.0.0", "urls": ["a.tgz?sig=1"]}
    repo.files["index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"webapp": [entry]}}).encode()
    repo.files["a.tgz"] = archive
    repo.files.pop("a.tgz.prov", None)
    if provenance is not None:
        repo.files["a.tgz.prov"] = provenance.encode()


def test_a_chart_of_a_repository_is_verified_and_its_signer_shown_with_every_release(
    server: RunningServer, repo: Repository, release: OwnRelease, chart: tuple[bytes, str]
):
    archive, provenance = chart
    serve(repo, archive, provenance)
    body = verifying(repo.url, ca=repo.ca)
    with added(server, body) as source:
        shown = server.send("GET", f"/api/v1/sources/{source}").json()
        assert (shown["verification"], shown["trusted"]) == ("pgp", [SIGNER.fingerprint])
        version = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0").json()
        assert version["provenance"] == provenance
        verified = version["verification"]
        assert verified.pop("signed_at") <= verified.pop("verified_at")
        digest = hashlib.sha256(archive).hexdigest()
        assert verified == {
            "kind": "pgp",
            "signed_by": SIGNER.user,
            "fingerprint": SIGNER.fingerprint,
            "signing_key": SIGNER.fingerprint,
            "signed_digest": digest,
            "source": body["name"],
            "of_revision": False,
            "key_trusted": True,
            "trusted": True,
        }
        release.ended(release.send("PUT", "", {"chart": {"source": source, "name": "webapp"}}))
        assert release.get()["verification"] == version["verification"] | release.get()["verification"]
        assert release.get()["verification"]["trusted"]
        status = server.command("status", release.name, "-n", release.namespace)
        assert f"VERIFIED: pgp, signed by {SIGNER.user} ({SIGNER.fingerprint})\n" in status.stdout

        unsigned = server.upload(config_map_chart("webapp", "2.0.0")).json()["id"]
        release.deployed(unsigned)
        assert release.get()["verification"] is None
        assert release.get("?revision=1")["verification"]["signed_by"] == SIGNER.user
        release.ended(release.send("POST", "/rollback", {"revision": 1}))
        assert release.get()["verification"]["signed_digest"] == digest
        kept = release.ended(release.send("PUT", "", {"chart": {"revision": 1}}))
        assert kept["chart_digest"] != digest
        taken_over = release.get()["verification"]
        assert (taken_over["signed_digest"], taken_over["of_revision"], taken_over["trusted"]) == (digest, True, False)
        status = server.command("status", release.name, "-n", release.namespace)
        assert (
            "VERIFIED: not itself: packed from a revision of this release, whose chart was verified: pgp, signed by "
            f"{SIGNER.user} ({SIGNER.fingerprint})\n" in status.stdout
        )
        changed = {"kind": "pgp", "keys": pgp_key("other").public}
        assert server.send("PATCH", f"/api/v1/sources/{source}", json_body={"verification": changed}).status_code == 200
        status = server.command("status", release.name, "-n", release.namespace)
        assert f"({SIGNER.fingerprint}), which is not trusted any more\n" in status.stdout
        release.ended(release.send("POST", "/rollback", {"revision": 1}))
    left = release.get()["verification"]
    assert (left["source"], left["trusted"]) == (body["name"], False), "a source that is gone is not trusted"
    status = server.command("status", release.name, "-n", release.namespace)
    assert ", which is not trusted any more\n" in status.stdout


def test_a_chart_of_a_registry_is_verified_by_the_provenance_that_helm_pushed(
    server: RunningServer, release: OwnRelease, helm: Path, chart: tuple[bytes, str], tmp_path: Path
):
    with registry("distribution", tmp_path) as serving:
        serving.push(helm, chart[0], provenance=chart[1])
        serving.push(helm, config_map_chart("webapp", "1.1.0"))
        given = serving.as_source(
            f"verified-{uuid.uuid4().hex[:8]}", verification={"kind": "pgp", "keys": SIGNER.public}
        )
        with added(server, given) as source:
            release.ended(release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": "1.0.0"}}))
            assert release.get()["verification"]["fingerprint"] == SIGNER.fingerprint
            answer = release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": "1.1.0"}})
            assert_error(answer, *INVALID)
            assert "webapp 1.1.0 is not verified, and was not stored: source" in answer.text
            assert "has no provenance file (.prov) of it" in answer.text


def test_a_chart_that_does_not_verify_is_refused_says_why_and_is_not_stored(
    server: RunningServer, repo: Repository, helm: Path, chart: tuple[bytes, str]
):
    archive, provenance = chart
    other, expired = pgp_key("other"), pgp_key("expired", expired=True)
    late_archive, late = signed(helm, config_map_chart("webapp", "1.0.0", text="late"), expired)
    for key, (served, with_it), text in [
        (other, (archive, provenance), "its provenance is signed with the key"),
        (other, (archive, provenance), f"{SIGNER.fingerprint}, which is not trusted here"),
        (SIGNER, (archive, None), "has no provenance file (.prov) of it"),
        (SIGNER, (archive, "files: {}\n"), "nobody has signed its provenance"),
        (SIGNER, (config_map_chart("webapp", "1.0.0", text="x"), provenance), "sha256 sum does not match for webapp-1"),
        (expired, (late_archive, late), f"{expired.fingerprint[-16:]}, which has expired"),
        (SIGNER, (archive, provenance.replace("version: 1.0.0", "version: 1.0.1")), "its provenance does not count"),
        (SIGNER, (archive, "x" * 300_000), "answers with more than 262144 bytes"),
    ]:
        serve(repo, served, with_it)
        with added(server, verifying(repo.url, key, ca=repo.ca)) as source:
            answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
            assert_error(answer, *INVALID)
            assert text in answer.text, answer.text
            assert not server.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()[0]["pulled"]


def test_keys_that_are_none(server: RunningServer, repo: Repository):
    for verification, text in [
        ({"kind": "pgp"}, "keys: missing; pgp takes the public keys by which its charts are signed"),
        ({"kind": "pgp", "keys": "x"}, "keys: they cannot be read as public keys for pgp: they hold no armored PGP"),
        ({"kind": "pgp", "keys": SIGNER.private}, "send public keys only"),
        ({"kind": "none", "keys": SIGNER.public}, "verification: keys are for the kinds"),
        ({"kind": "gpg", "keys": SIGNER.public}, "verification.kind: must be"),
    ]:
        body = verifying(repo.url, ca=repo.ca, verification=verification)
        answer = server.send("POST", "/api/v1/sources", json_body=body)
        assert_error(answer, *INVALID)
        assert text in answer.text, answer.text
        assert "PRIVATE KEY BLOCK-----" not in answer.text


@pytest.fixture
def project(server: RunningServer, kubernetes: RunningCluster) -> RunningServer:
    """Return the server as a project of its own sees it, with the cluster."""
    tenant = add_tenant(server)
    body = {"name": "verified", "kubeconfig": kubernetes.kubeconfig.read_text()}
    made = tenant.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    return dataclasses.replace(tenant, cluster_id=made.json()["id"])


def trust(project: RunningServer, *, verified_only: bool, keys: str | None = None) -> dict[str, Any]:
    body = {"verified_only": verified_only, "keys": keys}
    answer = project.send("PUT", "/api/v1/verification", json_body=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert project.send("GET", "/api/v1/verification").json() == found
    return found


def test_a_project_that_takes_verified_charts_only(
    project: RunningServer, namespace: str, helm_cli: HelmCommand, chart: tuple[bytes, str]
):
    release = OwnRelease(project, namespace, "trusted", helm_cli)
    nothing: dict[str, Any] = {"keys": "", "trusted": [], "unusable": [], "sources": []}
    assert trust(project, verified_only=False) == {"verified_only": False, **nothing}
    before = project.upload(config_map_chart("webapp", "0.9.0")).json()["id"]
    release.deployed(before)
    planned = release.send("POST", "/plan", {"deploy": {"chart": {"id": before}}}).json()
    assert trust(project, verified_only=True, keys=SIGNER.public)["trusted"] == [SIGNER.fingerprint]

    refused = "chart webapp 0.9.0 is not verified by a key that this project trusts"
    releases = f"/cce/cam/v3/clusters/{project.cluster_id}/releases"
    vendor = {"chart_id": before, "name": "other", "namespace": namespace, "values": {}}
    change = {"chart_id": before, "action": "upgrade", "values": {}}
    rendered = {"chart": {"id": before}, "name": "other", "namespace": namespace}
    for answer in (
        release.put(before),
        OwnRelease(project, namespace, "other", helm_cli).put(before),
        project.send("POST", releases, json_body=vendor),
        project.send("POST", releases, json_body={**vendor, "parameters": {"dry_run": True}}),
        project.send(
            "PUT", f"/cce/cam/v3/clusters/{project.cluster_id}/namespace/{namespace}/releases/trusted", json_body=change
        ),
        release.send("POST", "/plan", {"deploy": {"chart": {"id": before}}}),
        project.send("POST", f"/api/v1/plans/{planned['id']}/apply", json_body={"digest": planned["digest"]}),
        project.send("POST", "/api/v1/render", json_body={**rendered, "cluster": project.cluster_id}),
    ):
        assert_error(answer, *FORBIDDEN)
        assert refused in answer.text, answer.text

    answer = project.send("POST", "/api/v1/render", json_body=rendered)
    assert answer.status_code == 200, "without a cluster a chart can be looked at"

    archive, provenance = chart
    good = project.upload(archive, provenance=provenance)
    assert good.status_code == 201, good.text

    def signers() -> dict[str, str]:
        rows = project.send("GET", "/api/v1/charts?name=webapp").json()
        return {row["version"]: row["signed_by"] for row in rows}

    assert signers() == {"0.9.0": "", "1.0.0": SIGNER.user}
    release.deployed(good.json()["id"])
    shown = release.get()["verification"]
    assert (shown["signed_by"], shown["source"], shown["trusted"]) == (SIGNER.user, "", True)
    release.ended(release.send("POST", "/rollback", {"revision": 1}))
    assert release.get()["verification"] is None
    kept = release.ended(release.send("PUT", "", {"chart": {"revision": 1}, "values": [{"object": {"text": "new"}}]}))
    assert kept["chart"] == "webapp-0.9.0", "no chart comes with a change of values"

    assert trust(project, verified_only=True, keys=pgp_key("other").public)["trusted"]
    assert signers() == {"0.9.0": "", "1.0.0": ""}
    assert_error(release.put(good.json()["id"]), *FORBIDDEN, "which is not trusted any more: take one that another key")
    assert release.get("?revision=2")["verification"]["trusted"] is False
    assert trust(project, verified_only=False)["trusted"] == [pgp_key("other").fingerprint]
    release.deployed(before)


def test_what_a_revoked_key_or_subkey_signed_counts_no_more(
    project: RunningServer, namespace: str, helm_cli: HelmCommand, chart: tuple[bytes, str]
):
    release, team = OwnRelease(project, namespace, "revoked", helm_cli), key_with_subkey("team")
    archive, provenance = chart

    def uploaded(keys: str, provenance: str) -> str:
        trust(project, verified_only=True, keys=keys)
        made = project.upload(archive, provenance=provenance, parameters='{"override": true}')
        assert made.status_code == 201, made.text
        chart_id: str = made.json()["id"]
        assert planned(chart_id).status_code == 201
        return chart_id

    def planned(chart_id: str) -> httpx2.Response:
        return release.send("POST", "/plan", {"deploy": {"chart": {"id": chart_id}}})

    by_key = uploaded(SIGNER.public, provenance)
    found = trust(project, verified_only=True, keys=revoked(SIGNER))
    assert (found["trusted"], found["unusable"]) == ([], [f"{SIGNER.fingerprint} revoked"])
    assert_error(release.put(by_key), *FORBIDDEN)
    again = project.upload(archive, provenance=provenance, parameters='{"override": true}')
    assert_error(again, *INVALID)
    assert "which was revoked" in again.text

    by_subkey = uploaded(team.public, team.sign(provenance))
    trust(project, verified_only=True, keys=team.without)
    assert_error(release.put(by_subkey), *FORBIDDEN)
    found = trust(project, verified_only=True, keys=team.revoked)
    assert (found["trusted"], found["unusable"]) == ([team.fingerprint], [f"{team.signing_key} revoked"])
    assert_error(release.put(by_subkey), *FORBIDDEN)
    trust(project, verified_only=True, keys=team.public)
    release.deployed(by_subkey)
    shown = release.get()["verification"]
    assert (shown["fingerprint"], shown["signing_key"]) == (team.fingerprint, team.signing_key)


def test_a_chart_of_a_registry_is_verified_by_cosign_s_signature_of_its_manifest(
    project: RunningServer, namespace: str, helm_cli: HelmCommand, helm: Path, tmp_path: Path
):
    release, key, other = OwnRelease(project, namespace, "cosigned", helm_cli), cosign_key(), cosign_key()
    trust(project, verified_only=True)
    with registry("distribution", tmp_path) as serving:
        for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
            serving.push(helm, config_map_chart("webapp", version))
        digest = cosign(serving, "team/webapp", "1.0.0", key)
        cosign(serving, "team/webapp", "3.0.0", other)
        cosign(serving, "team/webapp", "4.0.0", key, claims=digest)
        given = serving.as_source("cosigned", verification={"kind": "cosign", "keys": key.public})
        with added(project, given) as source:

            def put(version: str) -> httpx2.Response:
                return release.send("PUT", "", {"chart": {"source": source, "name": "webapp", "version": version}})

            release.ended(put("1.0.0"))
            shown = release.get()["verification"]
            assert (shown["kind"], shown["fingerprint"]) == ("cosign", key.fingerprint)
            assert (shown["signed_by"], shown["signed_at"], shown["signed_digest"]) == ("", None, digest)
            status = project.command("status", release.name, "-n", namespace)
            assert f"VERIFIED: cosign, signed by the key ({key.fingerprint})\n" in status.stdout
            for version, text in {
                "2.0.0": "source 'cosigned' has no signature by cosign of it (manifest sha256:",
                "3.0.0": "it is signed, but with no key that is trusted here",
                "4.0.0": f"its signature is of another manifest, {digest}, and not of sha256:",
            }.items():
                answer = put(version)
                assert_error(answer, *INVALID)
                assert f"chart webapp {version} is not verified, and was not stored: {text}" in answer.text, answer.text
            listed = project.send("GET", f"/api/v1/sources/{source}/charts/webapp").json()
            assert [one["version"] for one in listed if one["pulled"]] == ["1.0.0"]
            serving.push(helm, config_map_chart("webapp", "2.0.0", text="moved"))
            cosign(serving, "team/webapp", "2.0.0", key)
            assert release.ended(put("2.0.0"))["chart"] == "webapp-2.0.0"


def test_cosign_is_for_what_lies_in_registries(server: RunningServer, repo: Repository, chart: tuple[bytes, str]):
    serve(repo, *chart)
    key = cosign_key()
    body = verifying(repo.url, ca=repo.ca, verification={"kind": "cosign", "keys": key.public})
    refused = server.send("POST", "/api/v1/sources", json_body=body)
    assert_error(refused, *INVALID)
    assert "verification: cosign signs charts in registries, and none of this repository lies in one" in refused.text
    index = repo.files["index.yaml"]
    repo.files["index.yaml"] = index.replace(b'"a.tgz?sig=1"', b'"oci://localhost/team/webapp"')
    with added(server, body) as source:
        repo.files["index.yaml"] = index
        assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200
        answer = server.send("GET", f"/api/v1/sources/{source}/charts/webapp/1.0.0")
        assert_error(answer, *INVALID)
        assert "has no signature by cosign of it (signatures are in registries only)" in answer.text
    body = verifying(repo.url, ca=repo.ca, verification={"kind": "cosign", "keys": SIGNER.public})
    answer = server.send("POST", "/api/v1/sources", json_body=body)
    assert_error(answer, *INVALID)
    assert "keys: they cannot be read as public keys for cosign" in answer.text


def test_an_upload_is_judged_by_its_provenance(project: RunningServer, helm: Path, chart: tuple[bytes, str]):
    archive, provenance = chart
    assert project.upload(archive, provenance="nothing that could be judged").status_code == 201
    trust(project, verified_only=False, keys=SIGNER.public)
    other_archive, other = signed(helm, config_map_chart("webapp", "2.0.0"), pgp_key("other"))
    cases: list[tuple[bytes, str, str | None]] = [
        (other_archive, other, "which is not trusted here"),
        (other_archive, provenance, "does not contain a SHA for a file named"),
        (config_map_chart("webapp", "1.0.0", text="x"), provenance, "sha256 sum does not match"),
        (other_archive, "", None),
    ]
    for given, with_it, text in cases:
        answer = project.upload(given, provenance=with_it, parameters='{"override": true}')
        if text is None:
            assert answer.status_code == 201, answer.text
            continue
        assert_error(answer, *INVALID)
        assert "is not verified, and was not stored" in answer.text
        assert text in answer.text, answer.text
    trust(project, verified_only=True)
    unsigned = config_map_chart("webapp", "3.0.0")
    for missing in (None, ""):
        answer = project.upload(unsigned, provenance=missing)
        assert_error(answer, *INVALID)
    answer = project.upload(unsigned)
    assert "this project takes verified charts only, and it came without a provenance file (.prov)" in answer.text
    first = project.upload(archive, provenance=provenance, parameters='{"override": true}')
    assert first.status_code == 201, first.text
    again = project.upload(archive, parameters='{"override": true}')
    assert again.status_code == 201, "its digest is that of a verified archive"
    trust(project, verified_only=True, keys="")
    answer = project.upload(archive, provenance=provenance, parameters='{"override": true}')
    assert_error(answer, *INVALID)
    assert "trusts no key for uploads" in answer.text


def test_a_provenance_is_added_to_an_archive_that_was_stored_without_one(
    project: RunningServer, namespace: str, tmp_path: Path, chart: tuple[bytes, str]
):
    archive, provenance = chart
    (tmp_path / "webapp-1.0.0.tgz").write_bytes(archive)
    file, prov = "./webapp-1.0.0.tgz", tmp_path / "webapp-1.0.0.tgz.prov"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return project.command(*words, folder=tmp_path)

    def stored() -> list[tuple[str, str]]:
        return [(row["id"], row["signed_by"]) for row in project.send("GET", "/api/v1/charts?name=webapp").json()]

    before = project.upload(archive).json()
    prov.write_text(provenance)
    plan = ("plan", "late", file, "-n", namespace)
    unread = (
        "lies beside it and was not looked at, as the project trusts no key for uploads: 'pilothouse trust set --keys"
    )
    done = run(*plan)
    assert (done.returncode, done.stderr.count(unread)) == (0, 1), "without keys nothing is sent, which is told"
    answer = project.upload(archive, provenance=provenance)
    assert_error(answer, 409, "CCE.01409001")
    assert "the provenance (.prov) beside it was not looked at" in answer.text
    assert "'pilothouse trust set --keys FILE', then upload it again" in answer.text
    assert "override" in project.upload(archive).text
    new = project.upload(config_map_chart("unread", "1.0.0"), provenance=provenance)
    assert (new.status_code, new.headers["x-pilothouse-provenance-unread"]) == (201, "true")
    (tmp_path / "mine-1.0.0.tgz").write_bytes(config_map_chart("mine", "1.0.0"))
    (tmp_path / "mine-1.0.0.tgz.prov").write_text(provenance)
    for command in (("plan", "mine", "./mine-1.0.0.tgz", "-n", namespace), ("chart", "upload", file, "--override")):
        done = run(*command)
        assert (done.returncode, done.stderr.count(unread)) == (0, 1), done
    before = project.send("GET", f"/v2/charts/{before['id']}").json()
    trust(project, verified_only=True, keys=SIGNER.public)
    prov.write_text(provenance.replace("sha256:", "sha256:0"))
    for words in (plan, ("chart", "upload", file)):
        refused = run(*words)
        assert (refused.returncode, "is not verified, and was not stored" in refused.stderr) == (1, True), refused
    prov.unlink()
    refused = run(*plan)
    assert (refused.returncode, "is not verified by a key that this project trusts" in refused.stderr) == (1, True)
    assert stored() == [(before["id"], "")]

    prov.write_text(provenance)
    told = f"the project had this archive already: its provenance was added, signed by the key {SIGNER.fingerprint}\n"
    done = run(*plan)
    assert (done.returncode, done.stderr.count(told)) == (0, 1), done
    assert stored() == [(before["id"], SIGNER.user)]
    again = run(*plan)
    assert (again.returncode, told in again.stderr) == (0, False), "it is sent once"
    shown = project.send("GET", f"/v2/charts/{before['id']}").json()
    assert shown["update_at"] == before["update_at"], "the chart is as it was"
    uploaded = run("chart", "upload", file, "-o", "json")
    there = (
        f"the project had this archive already, and its provenance by the key {SIGNER.fingerprint}: nothing was changed"
    )
    assert (json.loads(uploaded.stdout)["id"], uploaded.stderr) == (before["id"], f"{there}\n")
    rows = project.send("GET", f"/api/v1/audit?action=cce:chart:upload&target={before['id']}").json()
    added_one = f"provenance of the stored archive added, signed by {SIGNER.fingerprint}"
    known = "provenance of the stored archive signed by the same key before"
    assert [row["detail"] for row in rows] == [known, added_one, "", ""]


def test_keys_of_sources_are_added_by_who_may_change_what_is_trusted(project: RunningServer, repo: Repository):
    trust(project, verified_only=True)
    repo.files["index.yaml"] = b"apiVersion: v1\nentries: {}\n"
    person = add_person(project, "CCE FullAccess", project_id=project.project_id)
    statement = {"Effect": "Deny", "Action": ["cce:verification:update"], "Resource": ["*"]}
    made = project.send(
        "POST",
        "/api/v1/policies",
        json_body={"name": "no-keys", "document": {"Version": "5.0", "Statement": [statement]}},
    )
    path = f"/api/v1/policies/{made.json()['id']}/attachments"
    assert project.send("POST", path, json_body={"user_id": person.id, "project_id": None}).status_code == 200
    body = verifying(repo.url, ca=repo.ca)
    answer = person.server.send("POST", "/api/v1/sources", json_body=body)
    assert_error(answer, *FORBIDDEN)
    assert "cce:verification:update" in answer.text
    assert person.server.send("PUT", "/api/v1/verification", json_body={"verified_only": False}).status_code == 403
    with added(person.server, {**body, "verification": {"kind": "none"}}):
        pass
    trust(project, verified_only=False)
    assert_error(person.server.send("POST", "/api/v1/sources", json_body=body), *FORBIDDEN)
    with added(project, body):
        of_source = {"name": body["name"], "verification": "pgp", "trusted": [SIGNER.fingerprint], "unusable": []}
        assert trust(project, verified_only=True)["sources"] == [of_source]
        told = f"VERIFIED CHARTS ONLY: yes\nUPLOADS: no key\nSOURCE {body['name']}: {SIGNER.fingerprint}\n"
        assert project.command("trust", "show").stdout == told


def test_who_loses_the_right_to_trust_while_a_source_answers_adds_no_keys(project: RunningServer, repo: Repository):
    person = add_person(project, "CCE FullAccess", project_id=project.project_id)
    statement = {"Effect": "Deny", "Action": ["cce:verification:update"], "Resource": ["*"]}
    document = {"Version": "5.0", "Statement": [statement]}
    policy = project.send("POST", "/api/v1/policies", json_body={"name": "late", "document": document}).json()["id"]
    attached: list[int] = []

    def answers(_: Request) -> Reply:
        path = f"/api/v1/policies/{policy}/attachments"
        attached.append(project.send("POST", path, json_body={"user_id": person.id, "project_id": None}).status_code)
        time.sleep(2 * FRESH_SECONDS)  # what is known of the caller is younger, and counts, until then
        return Reply(b"apiVersion: v1\nentries: {}\n")

    repo.answers = answers
    answer = person.server.send("POST", "/api/v1/sources", json_body=verifying(repo.url, ca=repo.ca))
    assert attached == [200]
    assert_error(answer, *FORBIDDEN)
    assert "cce:verification:update" in answer.text
    assert project.send("GET", "/api/v1/sources").json() == []


def test_the_commands(project: RunningServer, tmp_path: Path, chart: tuple[bytes, str]):
    def run(*arguments: str) -> str:
        done = project.command(*arguments, folder=tmp_path)
        assert done.returncode == 0, (arguments, done)
        return done.stdout

    archive, provenance = chart
    (tmp_path / "keys.asc").write_text(SIGNER.public)
    (tmp_path / "chart.tgz").write_bytes(archive)
    found = json.loads(run("trust", "set", "--verified-only", "--keys", "keys.asc", "-o", "json"))
    assert (found["verified_only"], found["trusted"]) == (True, [SIGNER.fingerprint])
    refused = project.command("chart", "upload", "chart.tgz", folder=tmp_path)
    assert (refused.returncode, "without a provenance file (.prov)" in refused.stderr) == (1, True)
    (tmp_path / "chart.tgz.prov").write_text(provenance)
    assert json.loads(run("chart", "upload", "chart.tgz", "-o", "json"))["name"] == "webapp"
    assert json.loads(run("trust", "show", "-o", "json")) == found
    assert json.loads(run("trust", "set", "--any-chart", "-o", "json")) == {**found, "verified_only": False}
    with repository() as serving:
        serve(serving, archive, provenance)
        (tmp_path / "ca.pem").write_text(serving.ca)
        added_one = run(
            *("source", "add", "signed", serving.url, "--ca-file", "ca.pem", "--sync-seconds", "0"),
            *("--verify", "pgp", "--keys", "keys.asc", "-o", "json"),
        )
        assert json.loads(added_one)["verification"] == "pgp"
        assert run("pull", "signed/webapp") == "webapp-1.0.0.tgz\n"
        run("source", "remove", "signed")
