"""Tokens of a real provider at the API: who comes with one, in which groups, and until when."""

import time
import uuid
from typing import Any

import httpx2
import psycopg
import pytest

from tests.oidc.conftest import PEOPLE, SignedOn
from tests.support.oidc_provider import new_key
from tests.support.servers import wait_for


def ask(
    signed_on: SignedOn,
    token: str,
    path: str = "/api/v1/users/me",
    method: str = "GET",
    body: dict[str, Any] | None = None,
    **headers: str,
) -> httpx2.Response:
    sent = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    with httpx2.Client(base_url=signed_on.server.url, trust_env=False, timeout=60) as http:
        return http.request(method, path, headers=sent, json=body)


def users(signed_on: SignedOn) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in signed_on.server.send("GET", "/api/v1/users").json()}


def audited(signed_on: SignedOn, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = signed_on.server.send("GET", f"/api/v1/audit?{query}").json()
    return found


def test_a_token_acts_with_the_roles_of_its_groups_on_both_apis(signed_on: SignedOn):
    token = signed_on.provider.token_of("alice")
    me = ask(signed_on, token)
    assert (me.status_code, me.json()["name"], me.json()["issuer"]) == (200, "alice", signed_on.provider.issuer)
    assert ask(signed_on, token, "/v2/charts").status_code == 200, "the only project"
    assert ask(signed_on, token, "/api/v1/users").status_code == 200
    with httpx2.Client(base_url=signed_on.server.url, trust_env=False) as http:
        assert http.get("/v2/charts", headers={"X-Auth-Token": token}).status_code == 200, "as other tokens are sent"
        assert http.get("/v2/charts", headers={"Authorization": f"bearer  {token}"}).status_code == 200
    made = audited(signed_on, "action=iam:users:createUser&user=alice")
    assert [(row["target_name"], row["detail"], row["outcome"]) for row in made] == [("alice", "by corp", "done")]


def test_a_role_in_a_project_counts_there_and_only_there(signed_on: SignedOn):
    token, server = signed_on.provider.token_of("bob"), signed_on.server
    other = server.send("POST", "/api/v1/projects", json_body={"name": "elsewhere"}).json()["id"]
    assert ask(signed_on, token, "/v2/charts").status_code == 200, "the only one in which it has a role"
    assert ask(signed_on, token, "/v2/charts", X_Project_Id=server.project_id).status_code == 200
    refused = ask(signed_on, token, "/v2/charts", X_Project_Id=other)
    assert (refused.status_code, "not an enabled project in which the user has a role" in refused.text) == (403, True)
    assert ask(signed_on, token, "/api/v1/users").status_code == 403
    assert ask(signed_on, token, "/v2/charts", method="DELETE").status_code in {403, 404}
    group = signed_on.group("pilothouse-readers", "readonly", other)
    several = ask(signed_on, token, "/v2/charts")
    assert (several.status_code, "name one in which the user has a role in X-Project-Id" in several.text) == (403, True)
    assert ask(signed_on, token, "/v2/charts", X_Project_Id=other).status_code == 200, "at once"
    taken = server.send("DELETE", f"/api/v1/groups/{group}/roles/readonly?project_id={other}")
    assert taken.status_code == 200
    assert ask(signed_on, token, "/v2/charts", X_Project_Id=other).status_code == 403, "at once"
    assert server.send("DELETE", f"/api/v1/projects/{other}").status_code == 204


def test_who_is_in_no_group_of_ours_becomes_nobody(signed_on: SignedOn):
    refused = ask(signed_on, signed_on.provider.token_of("carol"))
    assert refused.status_code == 403
    assert "Example Corp vouches for 'carol', but none of its groups has a role here (groups: staff)" in refused.text
    assert "carol" not in users(signed_on)
    wait_for(lambda: audited(signed_on, "action=iam:tokens:use&outcome=denied"))
    signed_on.group("staff-of-the-night", "readonly")
    assert ask(signed_on, signed_on.provider.token_of("carol")).status_code == 403


def test_what_was_taken_away_is_gone_at_once_for_keys_too(signed_on: SignedOn):
    server, token = signed_on.server, signed_on.provider.token_of("erin")
    assert ask(signed_on, token).status_code == 200
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        key = http.post("/api/v1/accesskeys", json={}, headers={"Authorization": f"Bearer {token}"})
    assert key.status_code == 201, key.text
    pair = {"access_key": key.json()["access_key"], "secret_key": key.json()["secret_key"]}
    assert server.send("GET", "/v2/charts", **pair).status_code == 200
    erin = users(signed_on)["erin"]["id"]
    assert server.send("PATCH", f"/api/v1/users/{erin}", json_body={"enabled": False}).status_code == 200
    refused = ask(signed_on, token)
    assert (refused.status_code, "user 'erin' is disabled here" in refused.text) == (401, True)
    assert server.send("GET", "/v2/charts", **pair).status_code == 401
    assert server.send("PATCH", f"/api/v1/users/{erin}", json_body={"enabled": True}).status_code == 200
    assert ask(signed_on, token).status_code == 200
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("UPDATE users SET groups_until = now() - interval '1 s' WHERE id = %s", [erin])
    assert server.send("GET", "/v2/charts", **pair).status_code == 403, "nobody said lately that it is in the group"
    assert ask(signed_on, token).status_code == 200, "which its token says"
    assert server.send("GET", "/v2/charts", **pair).status_code == 200
    wait_for(lambda: audited(signed_on, "user=erin&action=iam:tokens:use&outcome=failed"))


def test_the_newest_statement_of_the_provider_counts(signed_on: SignedOn):
    provider = signed_on.provider
    signed_on.group("pilothouse-movers", "te_admin")
    old = provider.token_of("dave")
    assert ask(signed_on, old, "/api/v1/users").status_code == 200
    time.sleep(1.1)  # statements are dated to the second
    provider.stop()
    provider.people = {**PEOPLE, "dave": ["pilothouse-readers"]}
    provider.start()
    new = provider.token_of("dave")
    assert ask(signed_on, new, "/api/v1/users").status_code == 403
    assert ask(signed_on, old, "/api/v1/users").status_code == 403, "an older token brings nothing back"
    assert ask(signed_on, old, "/v2/charts").status_code == 200


def deny(signed_on: SignedOn, group_id: str, *actions: str) -> str:
    """Attach a new policy to the group that denies it these actions; return its path."""
    statement = {"Effect": "Deny", "Action": list(actions), "Resource": ["*"]}
    body = {"name": f"deny-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": [statement]}}
    made = signed_on.server.send("POST", "/api/v1/policies", json_body=body)
    assert made.status_code == 201, made.text
    path = f"/api/v1/policies/{made.json()['id']}"
    attached = signed_on.server.send("POST", f"{path}/attachments", json_body={"group_id": group_id})
    assert attached.status_code == 200, attached.text
    return path


def test_a_token_that_does_not_state_groups_sheds_none_and_brings_none(signed_on: SignedOn):
    provider, server = signed_on.provider, signed_on.server
    deny(signed_on, signed_on.group("pilothouse-clerks", "readonly"), "iam:users:listUsers")
    without = "openid profile"
    stranger = ask(signed_on, provider.token_of("hugo", scope=without))
    assert (stranger.status_code, "has a role here (groups: none)" in stranger.text) == (403, True)
    assert ask(signed_on, provider.token_of("gina"), "/api/v1/users").status_code == 403
    gina = users(signed_on)["gina"]["id"]
    granted = server.send("POST", f"/api/v1/users/{gina}/roles", json_body={"role": "te_admin"})
    assert granted.status_code == 200, granted.text
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        stated = "SELECT groups, groups_stated_at, groups_until FROM users WHERE id = %s"
        before = connection.execute(stated, [gina]).fetchone()
        less = provider.token_of("gina", scope=without)
        assert ask(signed_on, less, "/api/v1/groups").status_code == 200
        assert ask(signed_on, less, "/api/v1/users").status_code == 403, "the group is denied it"
        assert connection.execute(stated, [gina]).fetchone() == before
    provider.stop()
    provider.people = {**provider.people, "gina": []}
    provider.start()
    assert ask(signed_on, provider.token_of("gina"), "/api/v1/users").status_code == 200, "an empty list states none"


def test_nobody_changes_a_policy_or_the_roles_of_a_group_of_theirs(signed_on: SignedOn):
    server = signed_on.server
    group_id = signed_on.group("pilothouse-clerks", "readonly")
    path = deny(signed_on, group_id, "cce:chart:delete")
    token = signed_on.provider.token_of("ivan")
    assert ask(signed_on, token).status_code == 200
    ivan = users(signed_on)["ivan"]["id"]
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("UPDATE users SET groups_until = now() - interval '1 s' WHERE id = %s", [ivan])
    granted = server.send("POST", f"/api/v1/users/{ivan}/roles", json_body={"role": "te_admin"})
    assert granted.status_code == 200, "its groups do not count now, and are its own still"
    less = signed_on.provider.token_of("ivan", scope="openid profile")
    document = {"Version": "5.0", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": ["*"]}]}
    for method, where, body in (
        ("PUT", path, {"document": document}),
        ("DELETE", path, None),
        ("DELETE", f"{path}/attachments?group_id={group_id}", None),
        ("POST", f"{path}/attachments", {"group_id": group_id, "project_id": server.project_id}),
        ("POST", f"/api/v1/groups/{group_id}/roles", {"role": "te_admin"}),
        ("DELETE", f"/api/v1/groups/{group_id}/roles/readonly", None),
        ("DELETE", f"/api/v1/groups/{group_id}", None),
    ):
        refused = ask(signed_on, less, where, method, body)
        assert (refused.status_code, "a group that you are in" in refused.text) == (400, True), (method, where)
    other = deny(signed_on, signed_on.group("pilothouse-movers", "te_admin"), "cce:chart:delete")
    assert ask(signed_on, less, other, "DELETE").status_code == 204, "of a group of others"
    assert server.send("DELETE", path).status_code == 204


def test_only_somebody_who_has_just_logged_in_there_makes_a_key(signed_on: SignedOn):
    late = ask(signed_on, signed_on.provider.token_of("frank", logged_in_ago=3600), "/api/v1/accesskeys", "POST", {})
    assert (late.status_code, "whose claim auth_time says that you logged in less than" in late.text) == (400, True)
    fresh = ask(signed_on, signed_on.provider.token_of("frank"), "/api/v1/accesskeys", "POST", {})
    assert fresh.status_code == 201, fresh.text


def test_a_name_that_somebody_here_has_is_not_taken_over(signed_on: SignedOn):
    me = ask(signed_on, signed_on.provider.token_of("admin")).json()
    assert me["name"] == "admin@corp"
    assert users(signed_on)["admin"]["issuer"] == ""
    refused = signed_on.server.send("PUT", f"/api/v1/users/{me['id']}/password", json_body={"password": "long enough"})
    assert (refused.status_code, "logs in at the identity provider" in refused.text) == (400, True)
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {}}}}}
    body["auth"]["identity"]["password"]["user"] = {  # type: ignore[index]
        "name": "admin@corp",
        "password": "",
        "domain": {"name": "pilothouse"},
    }
    with httpx2.Client(base_url=signed_on.server.url, trust_env=False) as http:
        assert http.post("/v3/auth/tokens", json=body).status_code in {400, 401}
        body["auth"]["identity"]["password"]["user"]["password"] = "!"  # type: ignore[index]
        assert http.post("/v3/auth/tokens", json=body).status_code == 401


@pytest.mark.parametrize("change", ["signature", "claims"])
def test_a_token_that_was_changed_is_refused(signed_on: SignedOn, change: str):
    header, claims, signature = signed_on.provider.token_of("alice").split(".")
    other = signed_on.provider.token_of("bob").split(".")
    changed = f"{header}.{claims}.{other[2]}" if change == "signature" else f"{header}.{other[1]}.{signature}"
    refused = ask(signed_on, changed)
    assert (refused.status_code, "its signature is wrong" in refused.text) == (401, True)
    assert refused.json()["error_code"] == "APIGW.0301"


def test_tokens_go_on_while_the_provider_is_down_and_a_new_key_is_found(signed_on: SignedOn):
    provider = signed_on.provider
    token = provider.token_of("frank")
    assert ask(signed_on, token).status_code == 200
    provider.stop()
    try:
        assert ask(signed_on, token).status_code == 200, "its keys are known"
    finally:
        provider.key = new_key()
        provider.start()
    anew = provider.token_of("frank")
    assert wait_for(lambda: ask(signed_on, anew).status_code == 200)
    refused = ask(signed_on, token)
    assert (refused.status_code, "a key that its issuer does not publish" in refused.text) == (401, True)
