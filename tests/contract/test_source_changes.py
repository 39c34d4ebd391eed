"""Chart sources that are changed: other credentials, authorities, keys and intervals; and those that are removed."""

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.chart_sources import Reply, Repository, Request, added, repository
from tests.support.charts import config_map_chart
from tests.support.fake_api_servers import certificate
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.signing import pgp_key, revoked, signed
from tests.support.supervised import until
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID, FORBIDDEN, MISSING = (400, "CCE.01400001"), (403, "CCE.01403001"), (404, "CCE.01404001")
AWAY = (502, "CCE.01502001")
SIGNER, OTHER = pgp_key("signer"), pgp_key("other")
OLD, NEW = "old-password-of-a-source", "new-password-of-a-source"


def index(*versions: str) -> bytes:
    entries = [{"apiVersion": "v2", "name": "webapp", "version": one, "urls": [f"{one}.tgz"]} for one in versions]
    return json.dumps({"apiVersion": "v1", "entries": {"webapp": entries}}).encode()


def body(of: Repository, **changes: Any) -> dict[str, Any]:
    name = f"changed-{uuid.uuid4().hex[:8]}"
    return {"name": name, "kind": "http", "url": of.url, "ca": of.ca, "sync_seconds": 0, **changes}


@pytest.fixture
def repo() -> Iterator[Repository]:
    with repository() as serving:
        serving.files = {f"{one}.tgz": config_map_chart("webapp", one) for one in ("1.0.0", "1.1.0")}
        serving.files["index.yaml"] = index("1.0.0")
        yield serving


def only_with(password: str, serving: Repository) -> None:
    """Let the repository answer to that password only."""
    wanted = "Basic " + base64.b64encode(f"puller:{password}".encode()).decode()

    def answers(request: Request) -> Reply:
        if request.headers.get("authorization") != wanted:
            return Reply(status=401)
        return Reply(serving.files.get(request.path.lstrip("/"), b""))

    serving.answers = answers


def test_a_release_keeps_its_source_when_the_password_is_another(
    server: RunningServer, repo: Repository, namespace: str, helm_cli: HelmCommand, tmp_path: Path
):
    only_with(OLD, repo)
    given = body(repo, credentials={"username": "puller", "password": OLD})
    release = OwnRelease(server, namespace, "web", helm_cli)
    with added(server, given) as source:
        name = given["name"]
        release.ended(release.send("PUT", "", {"chart": {"source": name, "name": "webapp", "version": "1.0.0"}}))
        digest = hashlib.sha256(repo.files["1.0.0.tgz"]).hexdigest()
        place = ("-n", namespace, "--cluster", server.cluster_id)
        told = server.command("status", "web", *place).stdout
        assert f"SOURCE: {name}\nCHART DIGEST: sha256:{digest}\n" in told
        planned = server.command("plan", "web", f"{name}/webapp", "--set", "a=b", *place)
        assert f"chart sha256:{digest} of source {name}\n" in planned.stdout, planned
        only_with(NEW, repo)
        repo.files["index.yaml"] = index("1.0.0", "1.1.0")
        sync = server.send("POST", f"/api/v1/sources/{source}/sync")
        assert_error(
            sync,
            *AWAY,
            "answered 401: it refuses the credentials given for it; "
            f"'pilothouse source update {name} --username NAME' gives it others",
        )
        before = server.send("GET", f"/api/v1/sources/{source}").json()
        assert before["problem"]

        wrong = {"username": "puller", "password": "neither-of-both"}
        answer = server.send("PATCH", f"/api/v1/sources/{source}", json_body={"credentials": wrong})
        assert_error(answer, *INVALID, "answered 401: it refuses the credentials given for it")
        assert server.send("GET", f"/api/v1/sources/{source}").json() == before
        failed = server.send("GET", f"/api/v1/audit?target={name}&action=cce:source:update&outcome=failed").json()
        assert [row["detail"].partition(":")[0] for row in failed] == ["credentials of user puller"]

        arguments = ("source", "update", name, "--password-stdin", "-o", "json")
        done = server.command(*arguments, folder=tmp_path, given=f"{NEW}\n")
        assert (done.returncode, done.stderr) == (0, "")
        changed = json.loads(done.stdout)
        reused = ("upgrade", "web", "--reuse-chart", *place)
        planned = server.command("plan", *reused[1:])
        assert "upgrade of" in planned.stdout, planned
        done = server.command(*reused)
        assert done.returncode == 0, done
        server.wait_until_shown(namespace, "web", revision=2)
        told = server.command("status", "web", *place).stdout
        assert f"SOURCE: {name}\n" in told
        assert (changed["id"], changed["username"], changed["problem"]) == (source, "puller", "")
        shown = server.send("GET", release.path).json()
        assert (shown["source"], shown["update_available"]) == (name, "1.1.0")
        audited = server.send("GET", "/api/v1/audit?action=cce:source:update").json()[0]
        assert (audited["target"], audited["detail"]) == (source, "credentials of user puller")
        assert NEW not in str(audited)

        listed = server.send("GET", f"/api/v1/releases?source={name}").json()
        assert [(one["namespace"], one["name"]) for one in listed] == [(namespace, "web")]
        assert server.send("GET", "/api/v1/releases?source=another").json() == []
        told_before_it_is_removed(server, name, place=f"/{namespace}/web")
    assert server.send("GET", release.path).json()["source_removed_at"] is not None


def told_before_it_is_removed(server: RunningServer, name: str, *, place: str) -> None:
    listed = server.command("list", "--source", name, "-A", "--no-headers").stdout.split()
    assert (listed[0], listed.count(name)) == ("web", 1)
    assert "\nRELEASES: 1: " in server.command("source", "show", name).stdout
    before = server.command("source", "remove", name, "--dry-run").stdout
    assert before.startswith("1 release uses charts of this source: ")
    assert f"{place}\nIt keeps running. No updates are shown for it any more, until it is upgraded" in before
    assert before.endswith(f"\ndry run: source {name} was not removed\n")
    removed = server.command("source", "remove", name).stdout
    assert removed == before.replace(f"dry run: source {name} was not removed", f"source {name} was removed")


def test_what_was_refused_is_found_in_the_audit_by_the_name_of_the_source(server: RunningServer, repo: Repository):
    person, given = add_person(server, "CCE ReadOnlyAccess", project_id=server.project_id), body(repo)
    only_with(OLD, repo)
    assert_error(
        server.send("POST", "/api/v1/sources", json_body=given),
        *INVALID,
        "answered 401: it needs credentials, and has none; give a user name and a password",
    )

    def found(outcome: str) -> list[tuple[str, str]]:
        rows = server.send("GET", f"/api/v1/audit?target={given['name']}&outcome={outcome}").json()
        return [(row["action"], row["detail"]) for row in rows]

    (failed,) = found("failed")
    assert failed[0] == "cce:source:create"
    assert failed[1].startswith(f"{repo.url}: {repo.url}/index.yaml answered 401: it needs credentials")
    repo.answers = None
    with added(server, given):
        path = f"/api/v1/sources/{given['name']}"
        assert_error(person.server.send("DELETE", path), *FORBIDDEN)
        until(lambda: found("denied") == [("cce:source:delete", f"DELETE {path}")], seconds=10)


def test_authorities_and_intervals_are_changed_and_what_does_not_answer_changes_nothing(
    server: RunningServer, repo: Repository
):
    with added(server, body(repo)) as source:
        path = f"/api/v1/sources/{source}"
        before = server.send("GET", path).json()
        (authority,) = before["authorities"]
        assert ", sha256 " in authority
        shown = server.command("source", "show", source).stdout
        assert f"AUTHORITIES: those of the system and\n  {authority}\n" in shown
        asked = len(repo.requests)
        answer = server.send("PATCH", path, json_body={"sync_seconds": 3600})
        assert (answer.json(), len(repo.requests)) == (
            {name: value for name, value in before.items() if name != "authorities"} | {"sync_seconds": 3600},
            asked,
        )
        for changes, text in (
            ({"ca": ""}, "its certificate is not trusted"),
            ({"ca": "no certificate"}, "ca: it holds no certificate in PEM form"),
            ({"sync_seconds": 1}, "sync_seconds: at least"),
            ({}, "nothing to change"),
            ({"verification": {"kind": "pgp"}}, "keys: missing"),
            ({"verification": {"kind": "cosign", "keys": SIGNER.public}}, "as public keys for cosign"),
        ):
            refused = server.send("PATCH", path, json_body=changes)
            assert_error(refused, *INVALID, text)
        assert server.send("GET", path).json() == {**before, "sync_seconds": 3600}
        assert server.send("PATCH", path, json_body={"ca": repo.ca}).status_code == 200
        assert server.send("POST", f"{path}/sync").status_code == 200
    assert_error(server.send("PATCH", path, json_body={"sync_seconds": 0}), *MISSING)


def test_a_stored_password_is_not_sent_by_authorities_that_came_later(server: RunningServer, repo: Repository):
    only_with(OLD, repo)
    user = {"username": "puller", "password": OLD}
    with added(server, body(repo, credentials=user)) as source:
        path, asked = f"/api/v1/sources/{source}", len(repo.requests)
        both = repo.ca + certificate("another.test")[0].decode()
        refused = server.send("PATCH", path, json_body={"ca": both})
        assert_error(
            refused, *INVALID, "credentials: missing; the stored password was given for the authorities of then"
        )
        told = server.command("source", "update", source, "--ca-file", "/dev/stdin", given=both)
        assert told.returncode != 0
        assert "give user name and password again" in told.stderr, told
        assert len(repo.requests) == asked
        assert len(server.send("GET", path).json()["authorities"]) == 1
        for changes in ({"ca": both, "credentials": user}, {"ca": repo.ca}):  # fewer than before, the second time
            assert server.send("PATCH", path, json_body=changes).status_code == 200, changes
        repo.answers = None
        given = {"ca": both, "credentials": {"username": "", "password": ""}}
        assert server.send("PATCH", path, json_body=given).json()["username"] == ""
        assert server.send("PATCH", path, json_body={"ca": repo.ca}).status_code == 200
        assert server.send("PATCH", path, json_body={"ca": both}).status_code == 200


def test_a_password_that_came_meanwhile_is_not_sent_by_other_authorities_either(
    server: RunningServer, repo: Repository
):
    with (
        added(server, body(repo)) as source,
        psycopg.connect(server.database_url) as holder,
        ThreadPoolExecutor() as at,
    ):
        path, both = f"/api/v1/sources/{source}", repo.ca + certificate("another.test")[0].decode()
        (row,) = [one for one in server.send("GET", "/api/v1/sources").json() if source in (one["id"], one["name"])]
        holder.execute("UPDATE chart_sources SET credentials_sealed = 'sealed' WHERE id = %s", [row["id"]])
        changing = at.submit(server.send, "PATCH", path, json_body={"ca": both})
        with psycopg.connect(server.database_url, autocommit=True) as connection:
            until(lambda: connection.execute(WAITING).fetchone() != (0,))
        holder.commit()
        assert_error(changing.result(30), *INVALID, "credentials: missing; the stored password was given for")
        assert len(server.send("GET", path).json()["authorities"]) == 1


WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%chart_sources%'
"""


def test_the_audit_tells_that_verification_was_turned_off(server: RunningServer, repo: Repository):
    with added(server, body(repo)) as source:
        told = []
        for kind, keys in (("pgp", SIGNER), ("pgp", OTHER), ("none", None)):
            verification = {"kind": kind, "keys": keys.public if keys is not None else ""}
            changed = server.send("PATCH", f"/api/v1/sources/{source}", json_body={"verification": verification})
            assert changed.status_code == 200, changed.text
            told.append(server.send("GET", f"/api/v1/audit?target={source}").json()[0]["detail"])
    assert told == [
        f"verification pgp (it was none): trusts {SIGNER.fingerprint}",
        f"keys of pgp: trusts {OTHER.fingerprint} from now on; no longer {SIGNER.fingerprint}",
        "verification turned off (it was pgp)",
    ]


def test_keys_that_cannot_sign_are_told_when_they_are_given(server: RunningServer, repo: Repository, tmp_path: Path):
    (tmp_path / "revoked.asc").write_text(revoked(SIGNER))
    (tmp_path / "ca.pem").write_text(repo.ca)
    name, keys = body(repo)["name"], ("--verify", "pgp", "--keys", "revoked.asc")
    add = ("source", "add", name, repo.url, "--ca-file", "ca.pem", "--sync-seconds", "0")
    told = f"none of these keys can sign, so no chart of {name} will be taken: {SIGNER.fingerprint} revoked\n"
    try:
        for words in ((*add, *keys), ("source", "update", name, *keys)):
            done = server.command(*words, folder=tmp_path)
            assert (done.returncode, done.stderr) == (0, told)
        nothing = server.command("source", "update", name, "--ca", "ca.pem", folder=tmp_path)
        assert "--ca is the authority of the Pilothouse server" in nothing.stderr
    finally:
        server.command("source", "remove", name)


def test_with_other_keys_what_was_pulled_is_verified_again(
    server: RunningServer, repo: Repository, kubernetes: RunningCluster
):
    archive, provenance = signed(kubernetes.helm, config_map_chart("webapp", "1.0.0"), SIGNER)
    repo.files |= {"1.0.0.tgz": archive, "1.0.0.tgz.prov": provenance.encode()}
    with added(server, body(repo)) as source:
        path = f"/api/v1/sources/{source}"
        pulled = server.send("GET", f"{path}/charts/webapp/1.0.0").json()
        assert pulled["verification"] is None
        for keys, told in ((OTHER, 400), (SIGNER, 200)):
            verification = {"kind": "pgp", "keys": keys.public}
            changed = server.send("PATCH", path, json_body={"verification": verification})
            assert changed.json()["trusted"] == [keys.fingerprint], changed.text
            shown = server.send("GET", f"{path}/charts/webapp/1.0.0")
            assert shown.status_code == told, shown.text
        assert shown.json()["verification"]["fingerprint"] == SIGNER.fingerprint
        assert shown.json()["chart_id"] == pulled["chart_id"]
        server.send("PATCH", path, json_body={"verification": {"kind": "pgp", "keys": OTHER.public}})
        assert_error(server.send("GET", f"{path}/charts/webapp/1.0.0"), *INVALID)
        assert_error(server.send("GET", f"/v2/charts/{pulled['chart_id']}"), *MISSING)


def test_what_was_being_pulled_when_the_keys_changed_is_not_kept(server: RunningServer, repo: Repository):
    with added(server, body(repo)) as source:
        path = f"/api/v1/sources/{source}"

        def answers(request: Request) -> Reply:
            """Change the keys while the archive is on its way."""
            if request.path.endswith("1.0.0.tgz"):
                verification = {"kind": "pgp", "keys": SIGNER.public}
                assert server.send("PATCH", path, json_body={"verification": verification}).status_code == 200
            return Reply(repo.files.get(request.path.lstrip("/"), b""))

        repo.answers = answers
        assert_error(
            server.send("GET", f"{path}/charts/webapp/1.0.0"), 429, "APIGW.0308", "were just changed; ask again"
        )
        repo.answers = None
        assert_error(server.send("GET", f"{path}/charts/webapp/1.0.0"), *INVALID, "no provenance file")


def test_who_may_not_change_what_is_trusted_changes_no_keys(server: RunningServer, repo: Repository):
    person = add_person(server, "CCE FullAccess", project_id=server.project_id)
    statement = {"Effect": "Deny", "Action": ["cce:verification:update"], "Resource": ["*"]}
    document = {"name": f"no-keys-{uuid.uuid4().hex[:6]}", "document": {"Version": "5.0", "Statement": [statement]}}
    policy = server.send("POST", "/api/v1/policies", json_body=document).json()["id"]
    attached = server.send(
        "POST", f"/api/v1/policies/{policy}/attachments", json_body={"user_id": person.id, "project_id": None}
    )
    assert attached.status_code == 200
    with added(server, body(repo, verification={"kind": "pgp", "keys": SIGNER.public})) as source:
        path = f"/api/v1/sources/{source}"
        for verification in ({"kind": "none"}, {"kind": "pgp", "keys": OTHER.public}):
            answer = person.server.send("PATCH", path, json_body={"verification": verification})
            assert_error(answer, *FORBIDDEN)
            assert "cce:verification:update" in answer.text
        assert server.send("GET", path).json()["trusted"] == [SIGNER.fingerprint]
        assert person.server.send("PATCH", path, json_body={"sync_seconds": 600}).status_code == 200
