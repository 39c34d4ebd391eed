"""Two projects of an account and another account, each with a cluster, a chart and a release; callers of every kind."""

import dataclasses
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.support.chart_sources import Repository, repository
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.matrix import ABROAD, BESIDE, OWN, Caller, Ids, Wire, World, form_of
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.tokens import ask, login
from tests.support.users import PASSWORD, Person, add_person

_ADMIN = frozenset({"te_admin"})
_INDEX = b"""\
apiVersion: v1
entries:
  matrix:
  - {apiVersion: v2, name: matrix, version: 0.1.0, urls: [matrix.tgz]}
"""
DENIED = ("cce:release:", "cce:chart:delete", "pilothouse:logs:")
_POD = """\
apiVersion: v1
kind: Pod
metadata: {name: "{{ .Release.Name }}-pod"}
spec: {containers: [{name: main, image: "example.invalid/matrix:1"}]}
"""
_CHART = build_chart("matrix", templates={"config.yaml": config_map_template(), "pod.yaml": _POD}, values={"text": "x"})


@contextmanager
def world(server: RunningServer, kubeconfig: str, namespace: str) -> Iterator[World]:
    """Make everything that the matrices ask for."""
    with repository() as serving:
        serving.files = {"index.yaml": _INDEX, "matrix.tgz": config_map_chart("matrix")}
        yield _world(server, kubeconfig, namespace, serving)


@contextmanager
def one_project(server: RunningServer, kubeconfig: str, namespace: str, *callers: Caller) -> Iterator[World]:
    """Make what there is in one project only, for these callers."""
    with repository() as serving:
        serving.files = {"index.yaml": _INDEX, "matrix.tgz": config_map_chart("matrix")}
        ids = _furnish(server, kubeconfig, namespace, serving, project_id=server.project_id)
        holder = add_person(server, "CCE ReadOnlyAccess", project_id=server.project_id)
        domain = _domain(server)
        ids |= {"user_id": holder.id, "access_key": holder.server.access_key, "token": holder.token()}
        ids |= {"domain_id": domain, "group_id": add_group(server, domain), "policy_id": add_policy(server, domain)}
        yield World(server, {OWN: ids}, {OWN: _admin(server, OWN, server.project_id)}, list(callers))


def _world(server: RunningServer, kubeconfig: str, namespace: str, serving: Repository) -> World:
    beside = server.send("POST", "/api/v1/projects", json_body={"name": "beside"}).json()["id"]
    abroad = add_tenant(server)
    ids = {
        OWN: _furnish(server, kubeconfig, namespace, serving, project_id=server.project_id),
        BESIDE: _furnish(server, kubeconfig, namespace, serving, project_id=beside),
        ABROAD: _furnish(abroad, kubeconfig, namespace, serving, project_id=abroad.project_id),
    }
    holder = add_person(server, "CCE ReadOnlyAccess", project_id=server.project_id)
    own_user = {"user_id": holder.id, "access_key": holder.server.access_key, "token": holder.token()}
    for home in (OWN, BESIDE):
        ids[home] |= own_user
    ids[ABROAD] |= _user_abroad(abroad)
    for home, one in ((OWN, server), (BESIDE, server), (ABROAD, abroad)):
        ids[home]["domain_id"] = _domain(one)
    groups = {account: add_group(server, account) for account in {one["domain_id"] for one in ids.values()}}
    policies = {account: add_policy(server, account) for account in groups}
    for one_home in ids.values():
        one_home["group_id"] = groups[one_home["domain_id"]]
        one_home["policy_id"] = policies[one_home["domain_id"]]
    admins = {
        OWN: _admin(server, OWN, server.project_id),
        BESIDE: _admin(server, BESIDE, beside),
        ABROAD: _admin(abroad, ABROAD, abroad.project_id),
    }
    callers = [
        *_callers(server, beside, namespace),
        dataclasses.replace(admins[ABROAD], name="te_admin of another account"),
    ]
    return World(server, ids, admins, callers)


def _furnish(server: RunningServer, kubeconfig: str, namespace: str, serving: Repository, *, project_id: str) -> Ids:
    """Make a cluster, a chart, a source and a deployed release in a project, and return the ids that lead to them."""
    headers = {"X-Project-Id": project_id}
    made = server.send(
        "POST", "/api/v1/clusters", json_body={"name": "matrix", "kubeconfig": kubeconfig}, headers=headers
    )
    assert made.status_code == 201, made.text
    cluster = made.json()["id"]
    chart = _upload(server, headers)
    source = {"name": "matrix-source", "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
    added = server.send("POST", "/api/v1/sources", json_body=source, headers=headers)
    assert added.status_code == 201, added.text
    name = f"matrix-{uuid.uuid4().hex[:8]}"
    body = {"chart_id": chart, "name": name, "namespace": namespace, "values": {}}
    releases = f"/cce/cam/v3/clusters/{cluster}/releases"
    accepted = server.send("POST", releases, json_body=body, headers=headers)
    assert accepted.status_code == 201, accepted.text
    operation = accepted.headers["x-operation-id"]

    def ended() -> bool:
        shown = server.send("GET", f"/api/v1/operations/{operation}", headers=headers).json()
        return bool(shown["state"] == "succeeded")

    wait_for(ended, seconds=90)
    path = f"/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}"
    wait_for(lambda: server.send("GET", f"{path}/logs?pod={name}-pod", headers=headers).status_code == 200)
    planned = server.send("POST", f"{path}/plan", json_body={"deploy": {"chart": {"id": chart}}}, headers=headers)
    assert planned.status_code == 201, planned.text
    hook = {"name": f"hook-{uuid.uuid4().hex[:8]}", "url": "https://192.0.2.1/"}
    webhook = server.send("POST", "/api/v1/webhooks", json_body=hook, headers=headers)
    assert webhook.status_code == 201, webhook.text
    return {
        "webhook_id": webhook.json()["id"],
        "cluster_id": cluster,
        "cluster": cluster,
        "plan_id": planned.json()["id"],
        "chart_id": chart,
        "operation_id": operation,
        "project_id": project_id,
        "namespace": namespace,
        "name": name,
        "role": "CCE ReadOnlyAccess",
        "region": "cn-north-4",
        "fresh": "matrix",
        "kubeconfig": kubeconfig,
        "source": added.json()["id"],
        "repository": serving.url,
        "authority": serving.ca,
        "chart_name": "matrix",
        "version": "0.1.0",
    }


def _upload(server: RunningServer, headers: dict[str, str]) -> str:
    content_type, body = form_of(_CHART)
    answer = server.send("POST", "/v2/charts", body=body, headers=headers | {"Content-Type": content_type})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _user_abroad(server: RunningServer) -> Ids:
    """Return a user of the other account, with a key and a token, who is not its administrator."""
    name = f"abroad-{uuid.uuid4().hex[:8]}"
    made = server.send("POST", "/api/v1/users", json_body={"name": name, "password": PASSWORD})
    assert made.status_code == 201, made.text
    user = made.json()["id"]
    granted = server.send("POST", f"/api/v1/users/{user}/roles", json_body={"role": "CCE ReadOnlyAccess"})
    assert granted.status_code == 200, granted.text
    key = server.send("POST", "/api/v1/accesskeys", json_body={"user_id": user, "password": server.password})
    assert key.status_code == 201, key.text
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute(
            "SELECT domains.name FROM users JOIN domains ON domains.id = users.domain_id WHERE users.id = %s", [user]
        ).fetchone()
    assert row is not None
    answer = ask(server, login(PASSWORD, name=name, domain=row[0], scope={"project": {"id": server.project_id}}))
    assert answer.status_code == 201, answer.text
    return {"user_id": user, "access_key": key.json()["access_key"], "token": answer.headers["x-subject-token"]}


def add_group(server: RunningServer, domain_id: str) -> str:
    """Return a group of an identity provider, made in the database: the server of the matrix has none."""
    group_id = uuid.uuid4().hex
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO groups (id, domain_id, issuer, name) VALUES (%s, %s, 'https://sso.example.com', 'matrix')",
            [group_id, domain_id],
        )
    return group_id


def add_policy(server: RunningServer, domain_id: str) -> str:
    """Return a policy of the account, which nobody has."""
    policy_id, document = uuid.uuid4().hex, {"Version": "5.0", "Statement": [{"Effect": "Deny", "Action": "cce:*"}]}
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO policies (id, domain_id, name, document) VALUES (%s, %s, 'matrix', %s)",
            [policy_id, domain_id, json.dumps(document)],
        )
    return policy_id


def _domain(server: RunningServer) -> str:
    return str(server.send("GET", "/v3/auth/domains").json()["domains"][0]["id"])


def _admin(server: RunningServer, home: str, project_id: str) -> Caller:
    key = (server.access_key, server.secret_key)
    return Caller(f"te_admin of {home}", home, roles=_ADMIN, account_roles=_ADMIN, key=key, project_id=project_id)


def _callers(server: RunningServer, beside: str, namespace: str) -> Iterator[Caller]:
    """Everybody who asks for what is in the project OWN, but for the administrator abroad."""
    yield Caller("a stranger", "", alive=False)
    yield from _living(server, beside, namespace)
    yield from _dead(server)


def _living(server: RunningServer, beside: str, namespace: str) -> Iterator[Caller]:
    here = server.project_id
    nobody = add_person(server, "readonly", project_id=here)
    _withdraw(server, nobody, "readonly", here)
    yield Caller("no role", OWN, key=_key(nobody), sees_own=False)
    for role in ("readonly", "CCE ReadOnlyAccess", "CCE FullAccess", "CCE Administrator", "te_admin"):
        held = frozenset({role})
        person = add_person(server, role, project_id=here)
        yield Caller(f"{role} in the project", OWN, roles=held, key=_key(person))
        person = add_person(server, role)
        yield Caller(f"{role} in the account", OWN, roles=held, account_roles=held, key=_key(person))
        yield Caller(f"{role} in the account, by token", OWN, roles=held, account_roles=held, token=person.token())
    person = add_person(server, "te_admin", project_id=here)
    _withdraw(server, person, "te_admin", here)
    _grant(server, person, "te_admin", beside)
    yield Caller(
        "te_admin in another project", BESIDE, roles=_ADMIN, key=_key(person), project_id=beside, sees_own=False
    )
    yield Caller("te_admin in another project, here", OWN, key=_key(person), project_id=here, sees_own=False)
    person = add_person(server, "te_admin")
    yield Caller("te_admin, a token of no project", "", token=_token(server, person, None))
    person = add_person(server, "te_admin")
    _attach(server, person, "Deny", "cce:release:*", "cce:chart:delete", "pilothouse:logs:read")
    yield Caller("te_admin, denied releases", OWN, roles=_ADMIN, account_roles=_ADMIN, key=_key(person), denied=DENIED)
    yield from _with_policies(server, namespace)
    person = add_person(server, "te_admin")
    scope = {"domain": {"name": "pilothouse"}}
    yield Caller("te_admin, a token of the account", "", account_roles=_ADMIN, token=_token(server, person, scope))


def _dead(server: RunningServer) -> Iterator[Caller]:
    """Credentials of administrators that stand for nobody any more."""

    def ended(name: str, **credentials: Any) -> Caller:
        return Caller(name, OWN, roles=_ADMIN, account_roles=_ADMIN, alive=False, **credentials)

    person = add_person(server, "te_admin")
    token = person.token()
    server.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": False})
    yield ended("a disabled user's key", key=_key(person))
    yield ended("a disabled user's token", token=token)
    person = add_person(server, "te_admin")
    revoked, expired = person.token(), person.token()
    gone = server.send("DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": revoked})
    assert gone.status_code == 204, gone.text
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("UPDATE tokens SET expires_at = now() - interval '1 s' WHERE user_id = %s", [person.id])
    yield ended("a revoked token", token=revoked)
    yield ended("an expired token", token=expired)
    yield ended("a token that was never issued", token="x" * 64)
    yield ended("a wrong secret key", key=(person.server.access_key, "s" * 40))
    person = add_person(server, "te_admin")
    assert server.send("DELETE", f"/api/v1/accesskeys/{person.server.access_key}").status_code == 204
    yield ended("a deleted key", key=_key(person))
    person = add_person(server, "te_admin")
    disabled = server.send("PATCH", f"/api/v1/accesskeys/{person.server.access_key}", json_body={"enabled": False})
    assert disabled.status_code == 200, disabled.text
    yield ended("a disabled key", key=_key(person))


def _key(person: Person) -> tuple[str, str]:
    return person.server.access_key, person.server.secret_key


def _token(server: RunningServer, person: Person, scope: dict[str, Any] | None) -> str:
    answer = ask(server, login(PASSWORD, name=person.name, scope=scope))
    assert answer.status_code == 201, answer.text
    return str(answer.headers["x-subject-token"])


def _grant(server: RunningServer, person: Person, role: str, project_id: str) -> None:
    body = {"role": role, "project_id": project_id}
    answer = server.send("POST", f"/api/v1/users/{person.id}/roles", json_body=body)
    assert answer.status_code == 200, answer.text


def _with_policies(server: RunningServer, namespace: str) -> Iterator[Caller]:
    """Yield callers whose policies allow and deny, everywhere or in one namespace."""
    reads, here = frozenset({"readonly"}), server.project_id
    person = add_person(server, "readonly", project_id=here)
    _attach(server, person, "Allow", "cce:release:*", "cce:chart:*")
    yield Caller(
        "readonly, allowed releases", OWN, roles=reads, key=_key(person), allowed=("cce:release:", "cce:chart:")
    )
    releases = ("cce:release:",)
    for role, effect, where, rules in (
        ("readonly", "Allow", namespace, {"allowed_here": releases}),
        ("readonly", "Allow", "elsewhere", {}),
        ("te_admin", "Deny", namespace, {"denied_here": (*releases, "pilothouse:logs:"), "denied_unplaced": releases}),
        ("te_admin", "Deny", "elsewhere", {"denied_unplaced": releases}),
    ):
        person = add_person(server, role, project_id=here)
        _attach(server, person, effect, "cce:release:*", namespace=where)
        name = f"{role}, {effect} of releases in {where}"
        yield Caller(name, OWN, roles=frozenset({role}), key=_key(person), of_namespace=True, **rules)


def _attach(server: RunningServer, person: Person, effect: str, *actions: str, namespace: str = "") -> None:
    """Attach a policy to the person that counts in the whole account; ``namespace``: only there."""
    statement: dict[str, Any] = {"Effect": effect, "Action": list(actions), "Resource": ["*"]}
    if namespace:
        statement["Condition"] = {"StringEquals": {"pilothouse:Namespace": [namespace]}}
    document = {"Version": "5.0", "Statement": [statement]}
    body = {"name": f"of-matrix-{uuid.uuid4().hex[:8]}", "document": document}
    made = server.send("POST", "/api/v1/policies", json_body=body)
    assert made.status_code == 201, made.text
    path = f"/api/v1/policies/{made.json()['id']}/attachments"
    attached = server.send("POST", path, json_body={"user_id": person.id})
    assert attached.status_code == 200, attached.text


def _withdraw(server: RunningServer, person: Person, role: str, project_id: str) -> None:
    path = f"/api/v1/users/{person.id}/roles/{role}?project_id={project_id}"
    answer = server.send("DELETE", path)
    assert answer.status_code == 200, answer.text


def state_of(admin: Caller, wire: Wire, *, namespace: str) -> str:
    """Return what an administrator sees of its project and account, to tell whether anything changed.

    Of releases only those in ``namespace``: the cluster is shared with other tests. When a key was used is no change.
    """
    found: dict[str, Any] = {}

    def look(path: str) -> Any:
        status, text = wire.send(admin, "GET", path, headers={}, body=b"")
        assert status == 200, text
        # Asking is a use of the key.
        found[path] = json.loads(
            text, object_hook=lambda pairs: {k: v for k, v in pairs.items() if k != "last_used_at"}
        )
        return found[path]

    for path in ("/api/v1/projects", "/v2/charts", "/api/v1/operations", "/api/v1/groups", "/api/v1/policies"):
        look(path)
    for user in look("/api/v1/users"):
        look(f"/api/v1/users/{user['id']}")
        look(f"/api/v1/accesskeys?user_id={user['id']}")
    for cluster in look("/api/v1/clusters"):
        path = f"/cce/cam/v3/clusters/{cluster['id']}/releases?namespace={namespace}"
        found[path] = [(one["namespace"], one["name"], one["version"]) for one in look(path)]
    return json.dumps(found, indent=1, sort_keys=True)
