"""Policies over HTTP: stored, attached, and counted by every route at once; what may not be seen is not listed."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, wait_for
from tests.support.users import Person, add_person

MISSING, INVALID, DENIED = 404, 400, 403


def statement(effect: str, *actions: str, **condition: dict[str, Any]) -> dict[str, Any]:
    return {"Effect": effect, "Action": list(actions), "Resource": ["*"], "Condition": condition}


def store(server: RunningServer, *statements: dict[str, Any]) -> str:
    body = {"name": f"p-{uuid.uuid4().hex[:8]}", "document": {"Version": "5.0", "Statement": list(statements)}}
    made = server.send("POST", "/api/v1/policies", json_body=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def attach(server: RunningServer, person: Person, *statements: dict[str, Any], project_id: str | None = None) -> str:
    policy_id = store(server, *statements)
    body = {"user_id": person.id, "project_id": project_id}
    attached = server.send("POST", f"/api/v1/policies/{policy_id}/attachments", json_body=body)
    assert attached.status_code == 200, attached.text
    return policy_id


@dataclass(frozen=True)
class Shop:
    """A release named ``web`` in each of two namespaces, and the operations that made them."""

    server: RunningServer
    chart_id: str
    mine: str
    others: str
    operations: dict[str, str]

    def path(self, namespace: str) -> str:
        return f"/cce/cam/v3/clusters/{self.server.cluster_id}/namespace/{namespace}/releases/web"

    def own_path(self, namespace: str, cluster: str = "test") -> str:
        return f"/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/web"


@pytest.fixture(scope="module")
def shop(server: RunningServer, make_namespace: Callable[[], str]) -> Shop:
    chart = server.upload(config_map_chart(f"shop-{uuid.uuid4().hex[:8]}")).json()["id"]
    namespaces = (make_namespace(), make_namespace())
    operations = {}
    for namespace in namespaces:
        made = server.create(chart_id=chart, name="web", namespace=namespace, values={})
        assert made.status_code == 201, made.text
        operations[namespace] = made.headers["x-operation-id"]
    for namespace in namespaces:
        server.wait_until_shown(namespace, "web")
    return Shop(server, chart, *namespaces, operations)


def test_a_deny_beats_the_role_at_once_and_ends_at_once(server: RunningServer):
    person = add_person(server, "te_admin")
    assert person.server.send("GET", "/v2/charts").status_code == 200
    policy_id = attach(server, person, statement("Deny", "cce:chart:*"))
    refused = person.server.send("GET", "/v2/charts")
    assert (refused.status_code, "it has 1 policies, which may deny it" in refused.text) == (DENIED, True)
    assert person.server.send("GET", "/api/v1/clusters").status_code == 200
    changed = {"document": {"Version": "5.0", "Statement": [statement("Deny", "cce:cluster:list")]}}
    assert server.send("PUT", f"/api/v1/policies/{policy_id}", json_body=changed).status_code == 200
    assert person.server.send("GET", "/v2/charts").status_code == 200
    assert person.server.send("GET", "/api/v1/clusters").status_code == DENIED
    path = f"/api/v1/policies/{policy_id}/attachments?user_id={person.id}"
    assert server.send("DELETE", path).status_code == 200
    assert person.server.send("GET", "/api/v1/clusters").status_code == 200
    assert server.send("DELETE", path).status_code == MISSING


def test_an_allow_for_a_namespace_opens_that_and_lists_only_that(shop: Shop, server: RunningServer):
    person = add_person(server, "readonly", project_id=server.project_id)
    withdrawn = server.send("DELETE", f"/api/v1/users/{person.id}/roles/readonly?project_id={server.project_id}")
    assert withdrawn.status_code == 200
    in_mine = {"pilothouse:Namespace": [shop.mine], "cce:ClusterId": [server.cluster_id]}
    attach(
        server,
        person,
        statement("Allow", "cce:release:*", "cce:operation:*", "pilothouse:values:read", StringEquals=in_mine),
        statement("Allow", "cce:chart:*"),
        project_id=server.project_id,
    )
    send = person.server.send
    assert send("GET", shop.path(shop.mine)).status_code == 200
    assert send("GET", shop.own_path(shop.mine)).status_code == 200, "a cluster's name counts as its id"
    for path in (shop.path(shop.others), shop.own_path(shop.others), shop.own_path(shop.others) + "/values"):
        assert send("GET", path).status_code == DENIED, path
    listed = send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases")
    assert {one["namespace"] for one in listed.json()} == {shop.mine}
    over_all = send("GET", "/api/v1/releases")
    assert {one["namespace"] for one in over_all.json()} == {shop.mine}, over_all.text
    operations = send("GET", "/api/v1/operations").json()
    assert {one["id"] for one in operations} == {shop.operations[shop.mine]}
    for namespace, right in ((shop.mine, 200), (shop.others, DENIED)):
        for part in ("", "/evidence"):
            asked = send("GET", f"/api/v1/operations/{shop.operations[namespace]}{part}")
            assert asked.status_code == right, (namespace, part)
        cancel = send("POST", f"/api/v1/operations/{shop.operations[namespace]}/cancel", json_body={})
        assert cancel.status_code == (409 if right == 200 else DENIED), cancel.text
        body = {"chart_id": shop.chart_id, "action": "upgrade", "values": {"text": "anew"}}
        updated = send("PUT", shop.path(namespace), json_body=body)
        assert updated.status_code == right, updated.text
    body = {"chart_id": shop.chart_id, "name": "more", "namespace": shop.others, "values": {}}
    refused = send("POST", f"/cce/cam/v3/clusters/{server.cluster_id}/releases", json_body=body)
    assert refused.status_code == DENIED
    assert send("GET", "/api/v1/clusters").status_code == DENIED, "no policy allows to see clusters"
    server.wait_until_shown(shop.mine, "web", revision=2)


def test_a_deny_for_a_namespace_closes_that_and_leaves_the_rest(shop: Shop, server: RunningServer):
    person = add_person(server, "te_admin")
    attach(server, person, statement("Deny", "cce:release:*", StringLike={"pilothouse:Namespace": shop.others}))
    send = person.server.send
    assert send("GET", shop.path(shop.mine)).status_code == 200
    assert send("GET", shop.path(shop.others)).status_code == DENIED
    assert send("DELETE", shop.path(shop.others)).status_code == DENIED
    assert send("DELETE", shop.own_path(shop.others)).status_code == DENIED
    rollback = send("POST", shop.own_path(shop.others) + "/rollback", json_body={})
    assert rollback.status_code == DENIED
    listed = send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases").json()
    assert shop.others not in {one["namespace"] for one in listed}
    for path in (shop.path(shop.others), shop.own_path(shop.others), shop.own_path(shop.others, server.cluster_id)):
        _, before, after = re.split("(.*/clusters/)", path)
        for encoded in (
            after.replace("/", "%2F"),
            after.replace("/", "%2f", 1),
            after[::-1].replace("/", "F2%", 2)[::-1],
        ):
            for method in ("GET", "DELETE"):
                status = send(method, before + encoded).status_code
                assert status in {DENIED, MISSING}, (method, encoded, status)
    unlock = {"namespace": shop.others, "name": "web", "reason": "a test"}
    refused = send("POST", f"/api/v1/clusters/{server.cluster_id}/unlock", json_body=unlock)
    assert refused.status_code == DENIED


def test_what_is_not_understood_is_refused_by_name_and_not_stored(server: RunningServer):
    before = server.send("GET", "/api/v1/policies").json()
    for wrong, why in (
        (statement("Deny", "cce:node:create"), "'cce:node:create' matches no action of this server"),
        (statement("Deny", "cce:*", IpAddress={"g:SourceIp": "10.0.0.0/8"}), "'IpAddress' is not one of"),
        (statement("Deny", "cce:*", StringEquals={"g:MFAPresent": "true"}), "'g:MFAPresent' is not one of"),
        ({**statement("Deny", "cce:*"), "NotResource": ["*"]}, "'NotResource' is not understood"),
    ):
        body = {"name": "wrong", "document": {"Version": "5.0", "Statement": [wrong]}}
        refused = server.send("POST", "/api/v1/policies", json_body=body)
        assert (refused.status_code, why in refused.text) == (INVALID, True), refused.text
    assert server.send("GET", "/api/v1/policies").json() == before
    roles = {one["name"]: one["document"] for one in before if one["built_in"]}
    assert roles["te_admin"]["Statement"] == [{"Effect": "Allow", "Action": ["*:*:*"], "Resource": ["*"]}]


def test_nobody_changes_a_policy_of_their_own(server: RunningServer):
    person = add_person(server, "te_admin")
    policy_id = attach(server, person, statement("Deny", "cce:chart:delete"))
    path, own = f"/api/v1/policies/{policy_id}", person.server
    body = {"document": {"Version": "5.0", "Statement": [statement("Allow", "cce:*")]}}
    for answer in (
        own.send("PUT", path, json_body=body),
        own.send("DELETE", path),
        own.send("DELETE", f"{path}/attachments?user_id={person.id}"),
        own.send("POST", f"{path}/attachments", json_body={"user_id": person.id, "project_id": server.project_id}),
    ):
        assert (answer.status_code, "of yourself" in answer.text) == (INVALID, True), answer.text
    assert server.send("DELETE", path).status_code == 204
    wait_for(lambda: own.send("GET", "/v2/charts").status_code == 200)


def test_a_policy_of_one_project_says_nothing_of_the_account(server: RunningServer):
    person = add_person(server, "te_admin")
    attach(server, person, statement("Deny", "*"), project_id=server.project_id)
    assert person.server.send("GET", "/v2/charts").status_code == DENIED
    assert person.server.send("GET", "/api/v1/users").status_code == 200
    attach(server, person, statement("Deny", "iam:users:*"))
    assert person.server.send("GET", "/api/v1/users").status_code == DENIED
