"""Tokens of a real Keystone at the API: who comes with one, for which project, with which roles, and until when."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psycopg
import pytest
from huaweicloudsdkcce.v3 import CceClient, ListReleasesRequest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from keystoneauth1.identity.v3 import ApplicationCredential, Password
from keystoneauth1.session import Session

from tests.keystone.conftest import ANSWER_SECONDS, CACHE_SECONDS, Accepting
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.keystone import PASSWORD
from tests.support.servers import close_sdk, wait_for


def users(accepting: Accepting) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in accepting.server.send("GET", "/api/v1/users").json()}


def audited(accepting: Accepting, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = accepting.server.send("GET", f"/api/v1/audit?{query}").json()
    return found


def stalling_chart(name: str) -> bytes:
    """Its hook never ends."""
    hook = hook_job_template().replace(
        "    spec:\n      restart",
        "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restart",
    )
    templates = {"hook.yaml": hook, "config.yaml": config_map_template()}
    return build_chart(name, templates=templates, values={"text": "x"})


def refused(answer: httpx2.Response, status: int, words: str) -> None:
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_an_openstack_client_lists_releases_with_its_token(accepting: Accepting):
    path = f"{accepting.server.url}/cce/cam/v3/clusters/{accepting.server.cluster_id}/releases"
    auth = Password(
        accepting.keystone.url,
        username="alice",
        password=PASSWORD,
        user_domain_name="Default",
        project_name="shop",
        project_domain_name="Default",
    )
    session = Session(auth=auth)
    try:
        answer = session.get(path, headers={"Accept": "application/json"})
        assert (answer.status_code, isinstance(answer.json(), list)) == (200, True)
        token = session.get_token() or ""
        me = accepting.ask(token, "/api/v1/users/me").json()
        assert (me["name"], me["issuer"]) == ("alice", accepting.keystone.url.removesuffix("/v3"))
        accepting.keystone.revoke(token)
        assert wait_for(lambda: accepting.ask(token).status_code == 401)
        assert session.get(path).status_code == 200, "the client gets another by itself"
    finally:
        session.session.close()
    made = audited(accepting, "action=iam:users:createUser&user=alice")
    assert [(row["target_name"], row["detail"], row["outcome"]) for row in made] == [("alice", "by keystone", "done")]


def test_the_vendors_client_takes_it_too(accepting: Accepting):
    token = accepting.keystone.log_in("bob", project="shop")
    client = (
        CceClient.new_builder()
        .with_credentials(BasicCredentials("none", "none", accepting.server.project_id))
        .with_endpoint(accepting.server.url)
        .build()
    )
    try:
        asked = client.list_releases_invoker(ListReleasesRequest(cluster_id=accepting.server.cluster_id))
        assert asked.add_header("X-Auth-Token", token).invoke().status_code == 200
    finally:
        close_sdk(client)


def test_the_roles_of_a_token_count_in_its_project_only(accepting: Accepting):
    keystone, server = accepting.keystone, accepting.server
    here, there = keystone.log_in("alice", project="shop"), keystone.log_in("alice", project="other")
    assert accepting.ask(here, X_Project_Id=server.project_id).status_code == 200
    assert accepting.ask(here, X_Project_Id=keystone.ids["shop"]).status_code == 200, "as Keystone calls it"
    refused(accepting.ask(there), 403, "name one in which the user has a role in X-Project-Id")
    refused(accepting.ask(there, X_Project_Id=server.project_id), 403, "not an enabled project in which the user has")
    assert accepting.ask(here).status_code == 200, "another token of the same user takes nothing away"
    names = [row["name"] for row in accepting.ask(here, "/api/v1/projects").json()]
    assert names == ["cn-north-4"]
    assert accepting.ask(there, "/api/v1/projects").json() == []
    assert accepting.ask(here, "/v3/auth/projects").json()["projects"][0]["id"] == server.project_id


def test_a_role_is_worth_what_its_group_has(accepting: Accepting):
    reader = accepting.keystone.log_in("bob", project="shop")
    assert accepting.ask(reader).status_code == 200
    path = f"/cce/cam/v3/clusters/{accepting.server.cluster_id}/releases"
    refused(accepting.ask(reader, path, "POST"), 403, "lacks the permission cce:release:create")
    refused(accepting.ask(reader, "/api/v1/users"), 403, "iam:users:listUsers")
    admin = accepting.keystone.log_in("frank", project="shop")
    assert accepting.ask(admin, "/api/v1/users").status_code == 200
    own = next(row for row in accepting.ask(admin, "/api/v1/groups").json() if row["name"] == "Default/shop:admin")
    refused(
        accepting.ask(admin, f"/api/v1/groups/{own['id']}", "DELETE"),
        400,
        "a group that another token of yours may be in",
    )
    other = next(row for row in accepting.ask(admin, "/api/v1/groups").json() if row["name"] == "Default/shop:member")
    refused(
        accepting.ask(admin, f"/api/v1/groups/{other['id']}", "DELETE"), 400, "that another token of yours may be in"
    )


def test_whose_roles_nobody_granted_anything_becomes_nobody(accepting: Accepting):
    answer = accepting.ask(accepting.keystone.log_in("carol", project="other"))
    refused(answer, 403, "keystone vouches for 'carol', but none of its groups has a role here (roles: ")
    assert "Default/other:member" in answer.text
    assert "carol" not in users(accepting)
    group = accepting.group("Default/other:member", "CCE FullAccess", accepting.server.project_id)
    token = accepting.keystone.log_in("carol", project="other")
    assert accepting.ask(token).status_code == 200, "at once"
    assert accepting.server.send("DELETE", f"/api/v1/groups/{group}").status_code == 204
    refused(accepting.ask(token), 403, "name one in which the user has a role in X-Project-Id")


@pytest.mark.parametrize("scope", [{}, {"domain": {"name": "Default"}}, {"system": {"all": True}}])
def test_a_token_that_is_not_for_a_project_is_refused(accepting: Accepting, scope: dict[str, Any]):
    keystone = accepting.keystone
    if "domain" in scope:
        admin = keystone.administer("GET", "/users?name=admin")["users"][0]["id"]
        role = keystone.administer("GET", "/roles?name=reader")["roles"][0]["id"]
        keystone.administer("PUT", f"/domains/default/users/{admin}/roles/{role}")
    token = keystone.log_in("admin" if scope else "alice", **scope)
    refused(accepting.ask(token), 403, "not for a project")


def test_what_keystone_does_not_accept_is_refused(accepting: Accepting):
    token = accepting.keystone.log_in("alice", project="shop")
    before = accepting.keystone.asked()
    refused(accepting.ask(token[:-8] + "AAAAAAAA"), 401, "Keystone does not accept it")
    assert accepting.keystone.asked() == before + 1
    for other in ("gAAAAABshort", "x" * 200, "pht-" + "A" * 43, "phs-" + "A" * 43, "a.b.c", token + "!", ""):
        assert accepting.ask(other).status_code == 401, other
    refused(accepting.ask("gAAAAAB" + "A" * 5000), 401, "longer than 4096")
    assert accepting.keystone.asked() == before + 1, "what no Keystone issues is not sent there"
    with psycopg.connect(accepting.server.database_url, autocommit=True) as connection:
        failed = "SELECT 1 FROM audit WHERE action = 'iam:tokens:use' AND detail LIKE 'Keystone does not accept it%'"
        assert wait_for(lambda: connection.execute(failed).fetchall())


def test_a_token_is_asked_about_once_in_the_caches_time(accepting: Accepting):
    token = accepting.keystone.log_in("bob", project="shop")
    time.sleep(CACHE_SECONDS)
    before = accepting.keystone.asked()
    begun = time.monotonic()
    for _ in range(20):
        assert accepting.ask(token).status_code == 200
    asked = accepting.keystone.asked() - before
    assert 1 <= asked <= 1 + (time.monotonic() - begun) / CACHE_SECONDS
    time.sleep(CACHE_SECONDS)
    assert accepting.ask(token).status_code == 200
    assert accepting.keystone.asked() == before + asked + 1


@pytest.mark.parametrize("how", ["revoked", "disabled", "role"])
def test_what_keystone_takes_away_counts_within_the_caches_time(accepting: Accepting, how: str):
    keystone = accepting.keystone
    name = {"revoked": "bob", "disabled": "dave", "role": "erin"}[how]
    token = keystone.log_in(name, project="shop")
    assert accepting.ask(token).status_code == 200
    if how == "revoked":
        keystone.revoke(token)
    elif how == "disabled":
        keystone.administer("PATCH", f"/users/{keystone.ids[name]}", {"user": {"enabled": False}})
    else:
        role = keystone.administer("GET", "/roles?name=member")["roles"][0]["id"]
        keystone.administer("DELETE", f"/projects/{keystone.ids['shop']}/users/{keystone.ids[name]}/roles/{role}")
    done = time.monotonic()
    begun = done
    while accepting.ask(token).status_code == 200:
        assert begun - done < CACHE_SECONDS
        time.sleep(0.1)
        begun = time.monotonic()
    refused(accepting.ask(token), 401, "Keystone does not accept it")


@pytest.mark.parametrize("how", ["revoked", "fewer roles"])
def test_a_request_that_waits_ends_when_keystone_takes_away_what_it_needs(
    accepting: Accepting, namespace: str, how: str
):
    keystone, server = accepting.keystone, accepting.server
    token = keystone.log_in("alice" if how == "revoked" else "gina", project="shop")
    chart = server.upload(stalling_chart(f"stalling-{how.partition(' ')[0]}")).json()["id"]
    body = {"chart_id": chart, "namespace": namespace, "name": "never"}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    made = server.send("POST", path, json_body=body, headers={"X-Pilothouse-Timeout": "30"})
    assert made.status_code == 201, made.text
    shown = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/never"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(accepting.ask, token, shown, Prefer="wait=25")
        time.sleep(1)
        assert not waiting.done()
        if how == "revoked":
            keystone.revoke(token)
        else:
            role = keystone.administer("GET", "/roles?name=member")["roles"][0]["id"]
            keystone.administer("DELETE", f"/projects/{keystone.ids['shop']}/users/{keystone.ids['gina']}/roles/{role}")
        begun = time.monotonic()
        if how == "revoked":
            refused(waiting.result(), 401, "Keystone does not accept it")
        else:
            answer = waiting.result()
            assert answer.status_code in {403, 404}, answer.text
        assert time.monotonic() - begun < 20
    assert server.send("DELETE", shown).status_code == 200


def test_a_user_that_is_disabled_here_is_out_at_once(accepting: Accepting):
    token = accepting.keystone.log_in("alice", project="shop")
    assert accepting.ask(token).status_code == 200
    alice = users(accepting)["alice"]["id"]
    path = f"/api/v1/users/{alice}"
    assert accepting.server.send("PATCH", path, json_body={"enabled": False}).status_code == 200
    refused(accepting.ask(token), 401, "user 'alice' is disabled here")
    assert accepting.server.send("PATCH", path, json_body={"enabled": True}).status_code == 200
    assert accepting.ask(token).status_code == 200


def test_its_token_makes_no_access_key(accepting: Accepting):
    token = accepting.keystone.log_in("frank", project="shop")
    refused(accepting.ask(token, "/api/v1/accesskeys", "POST"), 403, "has no role in project")
    admin = users(accepting)["admin"]["id"]
    with httpx2.Client(
        base_url=accepting.server.url, headers={"X-Auth-Token": token}, trust_env=False, timeout=60
    ) as http:
        for_another = http.post("/api/v1/accesskeys", json={"user_id": admin})
    refused(for_another, 400, "makes no access key, which would outlive it")


def test_an_application_credential_has_its_roles_and_no_others(accepting: Accepting):
    keystone = accepting.keystone
    frank, token = keystone.ids["frank"], keystone.log_in("frank", project="shop")
    assert accepting.ask(token).status_code == 200
    own = f"/api/v1/users/{users(accepting)['frank']['id']}/roles"
    assert accepting.server.send("POST", own, json_body={"role": "te_admin"}).status_code == 200
    body = {"application_credential": {"name": "ci", "secret": "of ci", "roles": [{"name": "reader"}]}}
    rules = [{"method": "GET", "path": "/v2/charts", "service": "identity"}]
    with httpx2.Client(base_url=keystone.url + "/", headers={"x-auth-token": token}, trust_env=False) as http:
        made = http.post(f"users/{frank}/application_credentials", json=body)
        assert made.status_code == 201, made.text
        body["application_credential"] |= {"name": "narrow", "access_rules": rules}
        narrow = http.post(f"users/{frank}/application_credentials", json=body)
        assert narrow.status_code == 201, narrow.text
    session = Session()
    try:
        given = made.json()["application_credential"]["id"]
        auth = ApplicationCredential(
            keystone.url, application_credential_id=given, application_credential_secret="of ci"
        )
        of_ci = auth.get_token(session) or ""
        assert accepting.ask(of_ci).status_code == 200
        refused(accepting.ask(of_ci, "/api/v1/users"), 403, "iam:users:listUsers")
        given = narrow.json()["application_credential"]["id"]
        auth = ApplicationCredential(
            keystone.url, application_credential_id=given, application_credential_secret="of ci"
        )
        refused(accepting.ask(auth.get_token(session) or ""), 401, "does not accept it")
    finally:
        session.session.close()


def test_a_token_of_a_trust_is_refused(accepting: Accepting):
    keystone = accepting.keystone
    trust = {
        "trustor_user_id": keystone.ids["alice"],
        "trustee_user_id": keystone.ids["bob"],
        "project_id": keystone.ids["shop"],
        "impersonation": True,
        "roles": [{"name": "member"}],
    }
    alice = keystone.log_in("alice", project="shop")
    made = httpx2.post(
        f"{keystone.url}/OS-TRUST/trusts", json={"trust": trust}, headers={"x-auth-token": alice}, trust_env=False
    )
    assert made.status_code == 201, made.text
    scope: dict[str, Any] = {"OS-TRUST:trust": {"id": made.json()["trust"]["id"]}}
    token = keystone.log_in("bob", **scope)
    refused(accepting.ask(token), 401, "it is of a trust")


def test_while_keystone_hangs_or_is_down_others_go_on(accepting: Accepting):
    keystone, server = accepting.keystone, accepting.server
    known, fresh = (keystone.log_in("alice", project="shop") for _ in range(2))
    assert accepting.ask(known).status_code == 200
    with keystone.halted():
        begun = time.monotonic()
        answer = accepting.ask(fresh)
        refused(answer, 503, "the identity provider keystone cannot be used now")
        assert "did not answer" not in answer.text
        assert (answer.json()["error_code"], "retry-after" in answer.headers) == ("CCE.01503001", True)
        assert time.monotonic() - begun < ANSWER_SECONDS + 5
        assert server.send("GET", "/v2/charts").status_code == 200, "keys of our own"
    assert wait_for(lambda: accepting.ask(fresh).status_code == 200)
    assert accepting.ask(known).status_code == 200
    keystone.stop()
    try:
        assert accepting.ask(known).status_code == 200, "it was asked about just now"
        assert wait_for(lambda: accepting.ask(known).status_code == 503), "and is no longer believed"
        refused(accepting.ask(fresh), 503, "the identity provider keystone cannot be used now")
        assert server.send("GET", "/v2/charts").status_code == 200
    finally:
        keystone.start()
    assert wait_for(lambda: accepting.ask(known).status_code == 200)


def test_a_token_that_has_expired_is_refused(accepting: Accepting):
    keystone = accepting.keystone
    keystone.stop()
    keystone.token_seconds = 6
    keystone.start()
    try:
        token = keystone.log_in("alice", project="shop")
        assert accepting.ask(token).status_code == 200
        time.sleep(7)
        refused(accepting.ask(token), 401, "it has expired")
    finally:
        keystone.stop()
        keystone.token_seconds = 3600
        keystone.start()


def test_a_service_user_that_may_not_validate_is_named(accepting: Accepting):
    keystone = accepting.keystone
    token = keystone.log_in("alice", project="shop")
    service = keystone.administer("GET", "/roles?name=service")["roles"][0]["id"]
    where = f"/projects/{keystone.ids['service']}/users/{keystone.ids['pilothouse']}/roles/{service}"
    keystone.administer("DELETE", where)
    try:
        answer = accepting.ask(token)
        refused(answer, 503, "the identity provider keystone cannot be used now")
        assert "our service user" not in answer.text
    finally:
        keystone.administer("PUT", where)
    assert wait_for(lambda: accepting.ask(token).status_code == 200)
