"""Who did what, from where, and how it went, as administrators of an account read it."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.tenants import add_tenant
from tests.support.tokens import PATH, ask, login, send
from tests.support.users import PASSWORD, add_person
from tests.support.wire import assert_error

FORBIDDEN = (403, "CCE.01403001")


@pytest.fixture(scope="module")
def watched(kubeconfig: str) -> Iterator[RunningServer]:
    """Yield a server that writes what it gathers at once."""
    settings = {
        "PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.1",
        "PILOTHOUSE_TRUSTED_PROXIES": "127.0.0.1",
        "PILOTHOUSE_IDENTITY__SLOW_SIGNATURES_AFTER": "5",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=settings) as running:
        yield running


def rows(server: RunningServer, query: str = "") -> list[dict[str, Any]]:
    answer = server.send("GET", f"/api/v1/audit{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def find(server: RunningServer, query: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Return the rows, once there are so many."""
    return wait_for(lambda: (found := rows(server, query)) and len(found) >= count and found, seconds=10) or []


def test_a_deed_names_everybody_and_everything(watched: RunningServer):
    person = add_person(watched, "readonly")
    headers = {"X-Forwarded-For": "198.51.100.4"}
    path = f"/api/v1/users/{person.id}"
    for enabled in (False, True):
        assert watched.send("PATCH", path, json_body={"enabled": enabled}, headers=headers).is_success

    found = rows(watched, f"?target={person.id}&action=iam:users:updateUser")

    assert [row["detail"] for row in found] == ["enable", "disable"]
    row = found[0]
    assert row == {
        **row,
        "user": "admin",
        "project_id": watched.project_id,
        "project": "cn-north-4",
        "address": "198.51.100.4",
        "target": person.id,
        "target_name": person.name,
        "outcome": "done",
        "times": 1,
        "operation_id": "",
    }
    granted = rows(watched, f"?target={person.name}&action=iam:permissions:*")[0]
    assert granted["detail"] == "readonly in the whole account"


def test_a_write_of_a_release_is_there_with_its_operation(watched: RunningServer, namespace: str):
    chart = watched.upload(config_map_chart("audited", "1.0.0")).json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "audited", "version": "1.0.0", "values": {}}
    accepted = watched.create(**body)
    assert accepted.status_code == 201, accepted.text

    [row] = rows(watched, "?action=cce:release:create&target=audited&outcome=done")

    assert (row["user"], row["project"], row["target_name"]) == ("admin", "cn-north-4", "audited")
    assert row["address"] == "127.0.0.1"
    assert row["operation_id"] == accepted.headers["x-operation-id"]
    assert rows(watched, f"?target={chart}")[0]["target_name"] == "audited-1.0.0"
    shown = watched.show(namespace, "audited")
    assert shown.status_code == 200
    watched.send("GET", f"/v2/charts/{chart}/archive")
    read = find(watched, "?action=pilothouse:values:read&target=audited")[0]
    assert (read["detail"], read["target"]) == ("show", f"{watched.cluster_id}/{namespace}/audited")
    assert find(watched, f"?action=cce:chart:download&target={chart}")[0]["user"] == "admin"


def test_reads_of_each_part_of_a_release_are_there_for_who_is_shown_values(watched: RunningServer, namespace: str):
    chart = watched.upload(config_map_chart("parts", "1.0.0")).json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "parts", "version": "1.0.0", "values": {}}
    assert watched.create(**body).status_code == 201
    watched.wait_until_final(namespace, "parts")
    path = f"/api/v1/clusters/{watched.cluster_id}/namespaces/{namespace}/releases/parts"
    reader = add_person(watched, "CCE ReadOnlyAccess").server
    parts = ("values", "manifest", "notes", "hooks", "diff?from=1&to=1")
    for server in (reader, watched):
        for part in parts:
            answer = server.send("GET", f"{path}/{part}")
            assert answer.status_code == 200, answer.text

    query = f"?action=pilothouse:values:read&target={watched.cluster_id}/{namespace}/parts"

    def of_parts() -> list[dict[str, Any]]:
        return [row for row in rows(watched, query) if row["detail"] != "show"]

    wait_for(lambda: len(of_parts()) >= len(parts), seconds=10)
    found = of_parts()

    assert sorted(row["detail"] for row in found) == ["diff", "hooks", "manifest", "notes", "values"]
    assert {row["user"] for row in found} == {"admin"}


def test_options_that_may_destroy_are_named_with_the_write(watched: RunningServer, namespace: str):
    """Also one that the operation then has no use for: what counts is what was asked for."""
    chart = watched.upload(config_map_chart("risky", "1.0.0")).json()["id"]
    releases = f"/cce/cam/v3/clusters/{watched.cluster_id}"
    create = {"chart_id": chart, "namespace": namespace, "name": "risky", "version": "1.0.0", "values": {}}
    crds, gone = {"X-Pilothouse-CRDs": "replace"}, {"X-Pilothouse-Remove-Namespace": "true"}
    update = {"chart_id": chart, "action": "upgrade", "values": {}, "parameters": {"replace": True}}
    back = {"chart_id": "", "action": "rollback", "values": {}, "parameters": {}}
    path = f"{releases}/namespace/{namespace}/releases/risky"
    for method, where, body, headers in (
        ("POST", f"{releases}/releases", {**create, "parameters": {"replace": True}}, crds),
        ("PUT", path, update, crds | gone),
        ("PUT", path, update, {}),
        ("PUT", path, back, gone),
    ):
        answer = watched.send(method, where, json_body=body, headers=headers)
        assert answer.is_success, answer.text
        watched.wait_until_final(namespace, "risky")

    assert [row["detail"] for row in reversed(rows(watched, "?action=cce:release:*&target=risky&outcome=done"))] == [
        "install: replace, crds replace",
        "upgrade: crds replace, remove_namespace",
        "upgrade",
        "rollback to revision 2: remove_namespace",
    ]
    told = {row["id"] for row in rows(watched, "?action=cce:release:*&target=risky&outcome=done")}
    for query, there in (
        (f"?namespace={namespace}", True),
        (f"?namespace={namespace}&cluster={watched.cluster_id}", True),
        (f"?namespace={namespace}&cluster=nowhere", False),
        ("?namespace=kube-system", False),
    ):
        assert (told <= {row["id"] for row in rows(watched, f"{query}&limit=500")}) is there, query
    listed = watched.command("audit", "list", "-n", namespace, "--action", "cce:release:update").stdout
    assert [line.split()[5] for line in listed.splitlines()] == ["namespace", *[namespace] * 3], listed
    assert len(watched.command("audit", "list", "-n", "kube-system").stdout.splitlines()) == 1


def test_dry_runs_are_there_whether_they_succeed_or_not(watched: RunningServer, namespace: str):
    chart = watched.upload(config_map_chart("tried", "1.0.0")).json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "tried", "version": "1.0.0"}
    tried = watched.create(**body, values={}, parameters={"dry_run": True})
    assert tried.status_code == 201, tried.text
    missing = {**body, "namespace": "not-there-at-all"}
    assert watched.create(**missing, values={}, parameters={"dry_run": True}).status_code >= 400

    found = find(watched, "?action=cce:release:create&target=tried", count=2)

    assert sorted(row["detail"] for row in found) == ["dry run", "dry run, which failed"]
    assert {row["operation_id"] for row in found} == {""}


def test_failed_log_ins_and_signatures_are_there_and_never_what_was_typed(watched: RunningServer):
    person = add_person(watched, "readonly")
    for _ in range(3):
        assert ask(watched, login("a wrong secret", name=person.name)).status_code == 401
        assert person.server.send("GET", "/v2/charts", secret_key="w" * 40).status_code == 401
    assert ask(watched, login("x", name="my.secret.password")).status_code == 401

    passwords = find(watched, f"?user={person.name}&action=iam:tokens:create")
    signatures = find(watched, f"?target={person.server.access_key}&outcome=failed")

    assert (passwords[0]["outcome"], passwords[0]["detail"]) == ("failed", "wrong password")
    assert (signatures[0]["user"], signatures[0]["detail"]) == (person.name, "wrong signature")
    refused = "?outcome=failed&action=iam:tokens:create"
    wait_for(lambda: "unknown user" in [row["detail"] for row in rows(watched, refused)], seconds=10)
    assert "my.secret.password" not in json.dumps(rows(watched, "?limit=500"))


def test_what_a_role_does_not_allow_is_there(watched: RunningServer):
    person = add_person(watched, "readonly")
    assert person.server.upload(config_map_chart("refused", "1.0.0")).status_code == 403
    assert (
        person.server.send("POST", "/v3/projects", json_body={"project": {"name": "cn-north-4_x"}}).status_code == 403
    )

    found = find(watched, f"?user={person.id}&outcome=denied", count=2)

    assert {(row["action"], row["detail"]) for row in found} == {
        ("cce:chart:upload", "POST /v2/charts"),
        ("iam:projects:createProject", "POST /v3/projects"),
    }
    release = f"/api/v1/clusters/{watched.cluster_id}/namespaces/shop/releases/kept"
    assert person.server.send("DELETE", release).status_code == 403
    [denied] = find(watched, f"?user={person.id}&outcome=denied&namespace=shop&cluster={watched.cluster_id}")
    assert (denied["action"], denied["target_name"]) == ("cce:release:delete", "kept")


def test_a_refused_cancel_names_the_release_of_the_operation(watched: RunningServer, namespace: str):
    person = add_person(watched, "readonly")
    chart = watched.upload(config_map_chart("cancelled", "1.0.0")).json()["id"]
    made = watched.create(chart_id=chart, namespace=namespace, name="cancelled", version="1.0.0", values={})
    operation = made.headers["x-operation-id"]
    assert person.server.send("POST", f"/api/v1/operations/{operation}/cancel").status_code == 403

    [denied] = find(watched, f"?user={person.id}&outcome=denied&namespace={namespace}&cluster={watched.cluster_id}")

    assert denied["target"] == f"{watched.cluster_id}/{namespace}/cancelled"
    watched.wait_until_final(namespace, "cancelled")


def test_a_cluster_is_found_by_any_of_its_names_and_when_it_is_gone(watched: RunningServer, kubeconfig: str):
    person = add_person(watched, "readonly")
    made = watched.send("POST", "/api/v1/clusters", json_body={"name": "removed", "kubeconfig": kubeconfig})
    assert made.status_code == 201, made.text
    cluster_id = made.json()["id"]
    for named, release in (("removed", "by-name"), (cluster_id, "by-id")):
        path = f"/api/v1/clusters/{named}/namespaces/shop/releases/{release}"
        assert person.server.send("DELETE", path).status_code == 403
    find(watched, f"?user={person.id}&outcome=denied", count=2)
    assert watched.send("DELETE", f"/api/v1/clusters/{cluster_id}").is_success

    for named in ("removed", cluster_id):
        found = rows(watched, f"?user={person.id}&outcome=denied&namespace=shop&cluster={named}")
        assert {row["target"] for row in found} == {f"{cluster_id}/shop/by-name", f"{cluster_id}/shop/by-id"}, named
    assert rows(watched, f"?user={person.id}&outcome=denied&namespace=shop&cluster=another") == []


def test_pages_follow_each_other_and_times_narrow(watched: RunningServer):
    person = add_person(watched)
    for _ in range(5):
        watched.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": True})
    everything = [row["id"] for row in rows(watched, f"?target={person.id}&limit=500")]
    seen: list[int] = []
    marker = ""
    while True:
        answer = watched.send("GET", f"/api/v1/audit?target={person.id}&limit=2{marker}")
        seen += [row["id"] for row in answer.json()]
        if "x-pilothouse-marker" not in answer.headers:
            break
        marker = f"&marker={answer.headers['x-pilothouse-marker']}"
    assert seen == everything == sorted(everything, reverse=True)
    assert_error(watched.send("GET", f"/api/v1/audit?marker={everything[0]}"), 400, "CCE.01400001", "marker")
    assert len(seen) >= 6
    middle = rows(watched, f"?target={person.id}")[2]["at"].replace("+", "%2B")
    assert len(rows(watched, f"?target={person.id}&since={middle}")) + len(
        rows(watched, f"?target={person.id}&until={middle}")
    ) == len(everything)


@pytest.mark.parametrize(
    "query", ["since=yesterday", "until=2026-01-01T00:00:00", "outcome=good", "limit=501", "marker=x"]
)
def test_a_wrong_parameter_is_refused_by_name(watched: RunningServer, query: str):
    assert_error(watched.send("GET", f"/api/v1/audit?{query}"), 400, "CCE.01400001", query.split("=", maxsplit=1)[0])


@pytest.mark.parametrize(
    ("role", "whole_account"),
    [("te_admin", False), ("readonly", True), ("CCE Administrator", True), ("CCE FullAccess", True)],
)
def test_only_administrators_of_the_account_read_it(watched: RunningServer, role: str, *, whole_account: bool):
    person = add_person(watched, role, project_id=None if whole_account else watched.project_id)
    assert_error(person.server.send("GET", "/api/v1/audit"), *FORBIDDEN, "pilothouse:audit:read")


def test_another_account_sees_its_own_rows_alone(watched: RunningServer):
    other = add_tenant(watched)
    other.send("POST", "/api/v1/users", json_body={"name": "theirs"})

    found = rows(other, "?limit=500")

    assert {row["action"] for row in found} == {"iam:users:createUser"}
    assert "theirs" not in json.dumps(rows(watched, "?limit=500"))


def test_the_command_lists_and_filters(watched: RunningServer):
    person = add_person(watched, "readonly")
    done = watched.command("audit", "list", "--target", person.name, "--action", "iam:users:*", "--output", "json")
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert (row["action"], row["target"]) == ("iam:users:createUser", person.id)
    table = watched.command("audit", "list", "--target", person.name)
    assert "iam:credentials:createCredential" in table.stdout


def test_the_command_goes_on_where_it_says(watched: RunningServer):
    person = add_person(watched, "readonly")
    ask_for = ("audit", "list", "--target", person.name, "--output", "json", "--limit", "1")
    seen: list[int] = []
    marker: tuple[str, ...] = ()
    while True:
        done = watched.command(*ask_for, *marker)
        assert done.returncode == 0, done.stderr
        seen += [row["id"] for row in json.loads(done.stdout)]
        if not done.stderr:
            break
        marker = ("--marker", done.stderr.split("--marker ")[1].strip())
    assert seen == [row["id"] for row in rows(watched, f"?target={person.name}")]
    assert len(seen) > 1


def test_a_token_that_has_ended_and_a_project_that_is_not_ones_own(watched: RunningServer):
    person = add_person(watched, "readonly")
    token = person.token()
    assert watched.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": True}).is_success
    assert send(watched, "GET", "/v2/charts", token=token).status_code == 401
    nowhere = "f" * 32
    assert person.server.send("GET", "/v2/charts", headers={"X-Project-Id": nowhere}).status_code == 403
    assert ask(watched, login(PASSWORD, name=person.name)).status_code == 201
    found = find(watched, f"?user={person.id}&action=iam:tokens:use")
    assert (found[0]["outcome"], found[0]["detail"]) == ("failed", "ended")
    assert find(watched, f"?user={person.id}&action=iam:projects:use")[0]["target"] == nowhere


def test_proofs_that_fail_before_or_after_the_credentials_are_there_too(watched: RunningServer):
    person = add_person(watched, "readonly", project_id=watched.project_id)
    foreign = watched.send("POST", "/api/v1/projects", json_body={"name": "audited"}).json()["id"]
    token = person.token()
    assert ask(watched, exchange("pht-" + "A" * 43)).status_code == 401
    for scope in ({"id": foreign}, {"name": "no-such-project"}):
        assert ask(watched, login(PASSWORD, name=person.name, scope={"project": scope})).status_code == 404
    long_ago = datetime.now(UTC) - timedelta(days=1)
    assert person.server.send("GET", "/v2/charts", now=long_ago).status_code == 401
    malformed = f"SDK-HMAC-SHA256 Access={person.server.access_key}, Signature=none"
    assert send(watched, "GET", "/v2/charts", headers={"Authorization": malformed}).status_code == 401
    other = {"X-Project-Id": foreign}
    assert send(watched, "GET", "/v2/charts", token=token, headers=other).status_code == 403
    assert watched.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": True}).is_success
    assert ask(watched, exchange(token)).status_code == 401

    found = wait_for(lambda: len(seen := rows(watched, f"?user={person.id}&limit=500")) >= 7 and seen, seconds=10) or []
    assert ("iam:tokens:create", "failed", "unknown token") in of_nobody(watched)
    assert {(row["action"], row["outcome"], row["target"], row["detail"]) for row in found} >= {
        ("iam:tokens:create", "denied", foreign, "the scope is not a project or domain of this user"),
        ("iam:tokens:create", "denied", "no-such-project", "the scope is not a project or domain of this user"),
        (
            "iam:credentials:use",
            "failed",
            person.server.access_key,
            "date out of range, or signed headers that are not there",
        ),
        ("iam:credentials:use", "failed", person.server.access_key, "malformed Authorization"),
        ("iam:projects:use", "denied", foreign, "not the project of the token"),
        ("iam:tokens:create", "failed", person.id, "token ended"),
    }


def test_who_is_slowed_or_finds_no_place_is_there(watched: RunningServer):
    person = add_person(watched, "readonly")
    elsewhere = {"X-Forwarded-For": "198.51.100.77"}

    def guess() -> int:
        return person.server.send("GET", "/v2/charts", secret_key="w" * 40, headers=elsewhere).status_code

    assert [guess() for _ in range(9)][-1] == 429
    [slowed] = find(watched, f"?target={person.server.access_key}&outcome=failed&address=198.51.100.77", count=2)[:1]
    assert (slowed["user"], slowed["detail"]) == (person.name, "slowed: too many wrong signatures")

    with ThreadPoolExecutor(30) as pool:
        body = login("wrong", name=person.name)
        answers = list(pool.map(lambda _: send(watched, "POST", PATH, json=body, headers=elsewhere), range(30)))
    assert 429 in {one.status_code for one in answers}
    found = find(watched, "?action=iam:tokens:create&outcome=failed&address=198.51.100.77", count=2)
    assert "too many log-ins at once" in [row["detail"] for row in found]


def exchange(token: str) -> dict[str, Any]:
    """Return a request for a token in exchange for that one."""
    return {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}}


def of_nobody(server: RunningServer) -> set[tuple[str, str, str]]:
    """Return action, outcome and detail of what names no account, and is in the table alone."""
    with psycopg.connect(server.database_url) as connection:
        return set(connection.execute("SELECT action, outcome, detail FROM audit WHERE domain_id = ''").fetchall())


def test_what_was_gathered_is_written_when_the_server_ends(kubeconfig: str):
    del kubeconfig
    slow = {"PILOTHOUSE_AUDIT__GATHER_SECONDS": "3600"}
    with open_folder() as folder:
        with run_server(folder, kubeconfig=None, environment=slow) as running:
            assert ask(running, login("wrong")).status_code == 401
            time.sleep(0.3)
            assert rows(running, "?outcome=failed") == []
        with run_server(folder, kubeconfig=None, environment=slow) as running:
            assert [row["detail"] for row in rows(running, "?outcome=failed")] == ["wrong password"]
