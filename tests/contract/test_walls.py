"""Walls on a real cluster, whose registered account may do nothing but impersonate: Kubernetes itself judges."""

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.core_v1 import ConfigMap, Pod, Secret
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding, RoleBinding

from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.walls import RBAC, Tenant, WalledCluster, allow, bind, make_tenant, walled_cluster
from tests.support.wire import assert_error
from tests.support.workloads import deployment_template, hook_template
from tools.localcluster.cluster import RunningCluster

INVALID, FORBIDDEN, AWAY = (400, "CCE.01400001"), (403, "CCE.01403001"), (500, "CCE.01500001")
#: A chart with all that is asked of a cluster: workloads, hooks, tests, lookups.
TEMPLATES = {
    "web.yaml": deployment_template(),
    "before.yaml": hook_template("pre-install", fate="''", name="before"),
    "test.yaml": hook_template("test", fate="''", kind="Pod", name="test"),
    "seen.yaml": config_map_template(
        "seen", data='{{ lookup "v1" "ConfigMap" .Release.Namespace "" | toString | len | quote }}'
    ),
}
STRAY = """\
apiVersion: {api}
kind: {kind}
metadata:
  name: "{{{{ .Release.Name }}}}-stray"
  {namespace}
  annotations: {{{annotations}}}
{rest}
"""
ELSEWHERE = 'namespace: "{{ .Values.elsewhere }}"'
JOB = "spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.invalid/hook:1}]}}}"
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: strays.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: strays, singular: stray, kind: Stray}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""
#: What a chart may hold that lies behind the wall, and a part of what Kubernetes says to it.
STRAYS = {
    "an object": (STRAY.format(api="v1", kind="ConfigMap", namespace=ELSEWHERE, annotations="", rest="data: {}"), ""),
    "a hook": (
        STRAY.format(
            api="batch/v1", kind="Job", namespace=ELSEWHERE, annotations="helm.sh/hook: pre-install", rest=JOB
        ),
        "",
    ),
    "a right": (
        STRAY.format(api=f"{RBAC}/v1", kind="ClusterRole", namespace="", annotations="", rest="rules: []"),
        "clusterroles",
    ),
    "a lookup": (config_map_template(data='{{ lookup "v1" "Secret" .Values.elsewhere "" | toString | quote }}'), ""),
    "a namespace": (
        STRAY.format(api="v1", kind="Namespace", namespace="", annotations="", rest=""),
        "namespaces",
    ),
}


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def tenant(kubernetes: RunningCluster, make_namespace: Callable[[], str]) -> Iterator[Tenant]:
    with make_tenant(kubernetes.kubeconfig, make_namespace(), make_namespace()) as made:
        yield made


@pytest.fixture
def walled(server: RunningServer, tenant: Tenant, helm_cli: HelmCommand) -> Iterator[WalledCluster]:
    with walled_cluster(server, tenant, helm_cli) as made:
        yield made


def upload(server: RunningServer, **parts: Any) -> str:
    answer = server.upload(build_chart(f"walled-{uuid.uuid4().hex[:6]}", **parts))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def names_of(api: Client, kind: Any, namespace: str, *, having: str = "") -> list[str]:
    """Return the names of the objects of that kind in the namespace, if they have that text in them."""
    return [one.metadata.name for one in api.list(kind, namespace=namespace) if having in one.metadata.name]


def names(walled: WalledCluster) -> set[tuple[str, str]]:
    found = walled.server.send("GET", f"/cce/cam/v3/clusters/{walled.server.cluster_id}/releases").json()
    return {(one["namespace"], one["name"]) for one in found}


def test_all_that_is_done_with_a_release_is_done_as_the_walls_user(walled: WalledCluster, api: Client):
    """The registered account may only impersonate: what did not would be refused."""
    chart = upload(walled.server, templates=TEMPLATES, values={"text": "x"})
    web = walled.release(f"web-{uuid.uuid4().hex[:6]}")
    web.deployed(chart)
    walled.server.wait_until_listed(walled.server.cluster_id)
    web.deployed(chart, {"object": {"text": "y"}})
    plan = web.send("POST", "/plan", {"deploy": {"chart": {"id": chart}, "values": [{"object": {"text": "z"}}]}})
    assert plan.status_code in {200, 201}, plan.text
    applied = web.server.send(
        "POST",
        f"/api/v1/plans/{plan.json()['id']}/apply",
        json_body={"digest": plan.json()["digest"]},
        headers={"Prefer": "wait=60"},
        timeout=90,
    )
    web.ended(applied)
    web.ended(web.send("POST", "/rollback", {"revision": 1}))
    web.ended(web.send("POST", "/test", {}))
    for part in ("", "/values", "/manifest", "/notes", "/hooks", "/history", "/diff?from=1&to=2"):
        answer = web.server.send("GET", web.path + part)
        assert answer.status_code == 200, (part, answer.text)
    assert web.get("/diff?to=live")["problems"] == []
    assert [one["revision"] for one in web.get("/history")] == [4, 3, 2, 1]

    def pod() -> str | None:
        tree = [one for one in web.get("/resources")["objects"] if one["kind"] == "Deployment"]
        pods = [pod for replica_set in tree[0]["children"] for pod in replica_set["children"]]
        return pods[0]["name"] if pods and pods[0]["health"] == "healthy" else None

    name = wait_for(pod)
    assert web.get(f"/pod?pod={name}")
    assert web.get(f"/logs?pod={name}")["lines"]
    rendered = {"chart": {"id": chart}, "cluster": walled.server.cluster_id, "namespace": web.namespace, "name": "r"}
    answer = walled.server.send("POST", "/api/v1/render", json_body=rendered)
    assert answer.status_code == 200, answer.text
    web.ended(web.send("DELETE"))
    assert names_of(api, Secret, web.namespace, having=web.name) == []


def test_the_index_has_the_releases_of_every_namespace_of_the_wall(
    walled: WalledCluster, server: RunningServer, namespace: str
):
    chart = upload(server, templates={"map.yaml": config_map_template()}, values={"text": "x"})
    walled.server.wait_until_listed(walled.server.cluster_id)
    mark = f"in-{uuid.uuid4().hex[:6]}"
    made = [walled.release(mark, place) for place in walled.tenant.namespaces]
    other = server.create(chart_id=chart, namespace=namespace, name=mark, version="0.1.0", values={})
    assert other.status_code == 201, other.text
    assert server.wait_until_final(namespace, mark)["status"] == "DEPLOYED"
    for one in made:
        one.deployed(chart)
    assert {one for one in names(walled) if one[1] == mark} == {(one.namespace, mark) for one in made}
    for one in made:
        one.helm("uninstall", one.name, "-n", one.namespace)  # which only the watch can tell
    wait_for(lambda: not {one for one in names(walled) if one[1] == mark}, seconds=30)
    assert server.show(namespace, mark).status_code == 200, "it is there, for the project that may see it"


@pytest.mark.parametrize("which", STRAYS)
def test_kubernetes_refuses_what_a_chart_wants_behind_the_wall(
    walled: WalledCluster, api: Client, namespace: str, which: str
):
    template, word = STRAYS[which]
    api.create(Secret(metadata=ObjectMeta(name="theirs", namespace=namespace), stringData={"key": "swordfish"}))
    chart = upload(
        walled.server,
        templates={"own.yaml": config_map_template("own"), "stray.yaml": template},
        values={"text": "x", "elsewhere": namespace},
    )
    web = walled.release(f"web-{uuid.uuid4().hex[:6]}")
    operation = web.ended(web.put(chart), "failed")
    told = operation["text"]
    assert walled.tenant.name in told, told
    assert (word or namespace) in told, told
    tried = web.put(chart, dry_run=True)
    assert tried.status_code >= 400 or "swordfish" not in tried.text, tried.text
    plan = web.send("POST", "/plan", {"deploy": {"chart": {"id": chart}}})
    for text in (
        told,
        tried.text,
        plan.text,
        str(web.server.send("GET", f"/api/v1/operations/{operation['id']}/evidence").text),
    ):
        assert "swordfish" not in text
        assert "c3dvcmRmaXNo" not in text
    assert set(names_of(api, ConfigMap, namespace)) <= {"kube-root-ca.crt"}
    assert names_of(api, Pod, namespace) == []
    assert names_of(api, Secret, namespace) == ["theirs"]
    assert names_of(api, ConfigMap, web.namespace, having=web.name) == []
    assert names_of(api, Secret, web.namespace, having=web.name) == []


def test_a_chart_with_kinds_of_its_own_cannot_make_them(walled: WalledCluster):
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    chart = upload(walled.server, templates={}, files={"crds/stray.yaml": CRD.replace("GROUP", group)})
    web = walled.release(f"web-{uuid.uuid4().hex[:6]}")
    told = web.ended(web.put(chart), "failed")["text"]
    assert walled.tenant.name in told, told
    assert "customresourcedefinitions" in told.lower(), told


def test_releases_in_other_namespaces_are_refused_by_us_and_by_kubernetes(
    walled: WalledCluster, server: RunningServer, api: Client, namespace: str
):
    chart = upload(server, templates={"map.yaml": config_map_template()}, values={"text": "x"})
    body = {"chart_id": chart, "namespace": namespace, "name": "theirs", "version": "0.1.0", "values": {}}
    assert server.create(**body).status_code == 201
    assert server.wait_until_final(namespace, "theirs")["status"] == "DEPLOYED"
    walled.server.wait_until_listed(walled.server.cluster_id)
    theirs = walled.release("theirs", namespace)
    said = f"this project works in {', '.join(walled.tenant.namespaces)}"
    assert_error(walled.server.create(**body | {"name": "more"}), *FORBIDDEN, said, namespace)
    assert_error(theirs.put(chart), *AWAY, walled.tenant.name, said)
    reads = ("", "/values", "/manifest", "/history", "/resources", "/diff?to=live", "/logs?pod=x", "/pod?pod=x")
    for method, part, sent in (
        *(("GET", part, None) for part in reads),
        ("DELETE", "", None),
        ("POST", "/rollback", {}),
        ("POST", "/test", {}),
        ("POST", "/unlock", {"reason": "a test"}),
        ("POST", "/plan", {"deploy": {"chart": {"id": chart}}}),
    ):
        answer = theirs.send(method, part, sent, wait=0)
        assert answer.status_code in {403, 404, 500}, (method, part, answer.text)
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE clusters SET wall_namespaces = wall_namespaces || %s::text WHERE id = %s",
            [namespace, walled.server.cluster_id],
        )
    for answer in (walled.server.create(**body | {"name": "more"}), theirs.send("DELETE", wait=0), theirs.put(chart)):
        assert answer.status_code >= 400, "without our own list Kubernetes refuses it all the same"
        assert f"'{walled.tenant.name}', as whom the registered account acts" in answer.text, answer.text
    assert names_of(api, Secret, namespace) == ["sh.helm.release.v1.theirs.v1"]


@contextlib.contextmanager
def reading_everywhere(api: Client, tenant: Tenant, verbs: list[str]) -> Iterator[None]:
    """Let the tenant's group do that with all Secrets of the cluster."""
    name = ObjectMeta(name=f"{tenant.name}-{uuid.uuid4().hex[:6]}")
    rule = PolicyRule(apiGroups=[""], resources=["secrets"], verbs=verbs)
    role = RoleRef(apiGroup=RBAC, kind="ClusterRole", name=str(name.name))
    subject = Subject(apiGroup=RBAC, kind="Group", name=tenant.group)
    api.create(ClusterRole(metadata=name, rules=[rule]))
    api.create(ClusterRoleBinding(metadata=name, roleRef=role, subjects=[subject]))
    try:
        yield
    finally:
        api.delete(ClusterRoleBinding, str(name.name))
        api.delete(ClusterRole, str(name.name))


def test_two_projects_never_act_as_the_same_user_in_a_cluster(walled: WalledCluster, server: RunningServer):
    user, said = walled.tenant.name, "another project acts as"
    other = add_tenant(server)
    body = {"name": "theirs", "kubeconfig": walled.tenant.kubeconfig}
    wall = walled.tenant.wall()
    refused = other.send("POST", "/api/v1/clusters", json_body={**body, "wall": wall})
    assert_error(refused, *INVALID, said, user)
    made = other.send("POST", "/api/v1/clusters", json_body=body)
    assert made.status_code == 201, made.text
    theirs = f"/api/v1/clusters/{made.json()['id']}"
    assert_error(other.send("PUT", f"{theirs}/wall", json_body=wall), *INVALID, said, user)
    assert other.send("GET", theirs).json()["wall"] is None
    again = server.send("POST", "/api/v1/clusters", json_body={**body, "name": f"{user}-again", "wall": wall})
    assert again.status_code == 201, "the same project is not kept apart from itself"
    assert server.send("DELETE", f"/api/v1/clusters/{again.json()['id']}").status_code in {200, 204}
    assert walled.set_wall(None).status_code == 200
    try:
        assert other.send("PUT", f"{theirs}/wall", json_body=wall).status_code == 200
        assert_error(walled.set_wall(wall), *INVALID, said, user)
    finally:
        other.send("DELETE", theirs)


def test_a_wall_that_would_not_stand_is_refused_by_name(
    walled: WalledCluster, server: RunningServer, api: Client, namespace: str
):
    user = walled.tenant.name
    stranger = f"stranger-{uuid.uuid4().hex[:8]}"
    for changed, (status, code), why in (
        ({"namespaces": []}, INVALID, "at least one of namespaces"),
        ({"user": ""}, INVALID, "and user"),
        ({"groups": [""]}, INVALID, "1 to 256"),
        ({"groups": ["x"] * 21}, INVALID, "20 groups"),
        ({"namespaces": ["Not a name"]}, INVALID, "'Not a name' cannot be the name of a namespace"),
        ({"namespaces": [f"n{one}" for one in range(21)]}, INVALID, "at most 20 namespaces"),
        ({"namespaces": ["a", "a"]}, INVALID, "twice"),
        ({"user": "a\nb"}, INVALID, "printable"),
        ({"user": "x" * 257}, INVALID, "1 to 256"),
        ({"user": stranger}, INVALID, f"may not impersonate '{stranger}'"),
        ({"groups": ["system:masters"]}, INVALID, "may not impersonate"),
        ({"namespaces": [namespace]}, INVALID, f"'{user}' may not get the namespace '{namespace}'"),
    ):
        assert_error(walled.set_wall(walled.tenant.wall(**changed)), status, code, why)
    allow(api, user, namespace, [PolicyRule(apiGroups=[""], resources=["namespaces", "secrets"], verbs=["get"])])
    wall = walled.tenant.wall(namespaces=[namespace])
    assert_error(
        walled.set_wall(wall), *INVALID, f"may not list, watch, create, update, delete Secrets in '{namespace}'"
    )

    def tells(verb: str) -> bool:
        return verb in walled.set_wall(walled.tenant.wall()).text.partition("cluster (")[2]

    for verbs in (["list"], ["watch"], ["get"], ["*"]):
        with reading_everywhere(api, walled.tenant, verbs):
            wait_for(partial(tells, verbs[0]))  # RBAC counts a moment after it was written
            refused = walled.set_wall(walled.tenant.wall())
        assert_error(refused, *INVALID, "may read the Secrets of all namespaces", "no wall")
    project_admin = add_person(server, "te_admin", project_id=server.project_id).server
    for other in (walled.tenant.wall(), None):
        assert_error(walled.set_wall(other, project_admin), *FORBIDDEN, "pilothouse:wall:update")
    body = {"name": f"own-{uuid.uuid4().hex[:6]}", "kubeconfig": walled.tenant.kubeconfig}
    refused = project_admin.send("POST", "/api/v1/clusters", json_body=body | {"wall": walled.tenant.wall()})
    assert_error(refused, *FORBIDDEN, "pilothouse:wall:update")
    shown = server.send("GET", walled.path).json()
    assert shown["wall"] == walled.tenant.wall()


def test_a_wall_comes_changes_and_goes_by_the_command_line(
    server: RunningServer, kubernetes: RunningCluster, tenant: Tenant, tmp_path: Path
):
    """By an account that may do everything, as most are registered at first."""
    file, name = tmp_path / "kube config", f"wall-{uuid.uuid4().hex[:8]}"
    file.write_text(kubernetes.kubeconfig.read_text())
    inside, outside = tenant.namespaces
    wall = ("--wall-namespace", inside, "--wall-user", tenant.name)
    added = server.command("cluster", "add", name, "--kubeconfig", str(file), *wall, "-o", "json")
    assert added.returncode == 0, added.stderr
    assert added.stderr.startswith("the same API server is registered as ")
    assert json.loads(added.stdout)["wall"] == tenant.wall(namespaces=[inside], groups=[])
    cluster = dataclasses.replace(server, cluster_id=json.loads(added.stdout)["id"])

    def update(*options: str) -> Any:
        done = server.command("cluster", "update", name, *options, "-o", "json")
        assert (done.returncode, done.stderr) == (0, ""), done
        cluster.wait_until_listed(cluster.cluster_id)
        return json.loads(done.stdout)["wall"]

    assert update("--kubeconfig", str(file)) == tenant.wall(namespaces=[inside], groups=[]), "new credentials keep it"
    chart = upload(server, templates={"map.yaml": config_map_template()}, values={"text": "x"})
    mark = f"seen-{uuid.uuid4().hex[:6]}"
    for place in (inside, outside):
        made = server.create(chart_id=chart, namespace=place, name=mark, version="0.1.0", values={})
        assert made.status_code == 201, made.text
        assert server.wait_until_final(place, mark)["status"] == "DEPLOYED"

    def seen() -> list[str]:
        found = cluster.send("GET", f"/cce/cam/v3/clusters/{cluster.cluster_id}/releases").json()
        return sorted(one["namespace"] for one in found if one["name"] == mark)

    wait_for(lambda: seen() == [inside])
    assert update("--no-wall") is None
    wait_for(lambda: seen() == sorted([inside, outside]))
    assert update(*wall, "--wall-group", tenant.group) == tenant.wall(namespaces=[inside])
    assert seen() == [inside]
    with psycopg.connect(server.database_url) as connection:
        rows = connection.execute(
            "SELECT action, detail FROM audit WHERE target = %s AND action LIKE ANY(%s) ORDER BY id",
            [cluster.cluster_id, ["cce:cluster:%", "pilothouse:wall:%"]],
        ).fetchall()
        kept = connection.execute(
            "SELECT DISTINCT namespace FROM release_revisions WHERE cluster_id = %s", [cluster.cluster_id]
        ).fetchall()
    described = f"{inside} as {tenant.name}"
    assert rows == [
        ("cce:cluster:create", described),
        ("cce:cluster:update", "kubeconfig"),
        ("pilothouse:wall:update", "removed"),
        ("pilothouse:wall:update", f"{described} in {tenant.group}"),
    ]
    assert kept == [(inside,)], "what lies behind the wall is not kept"
    document = yaml.safe_load(file.read_text())
    document["users"][0]["user"]["as"] = tenant.name
    file.write_text(json.dumps(document))
    for options, why, status in (
        (("--kubeconfig", str(file)), "impersonates a user itself (as)", 1),
        (("--wall-namespace", inside), "needs both --wall-namespace and --wall-user", 2),
        ((*wall, "--no-wall"), "--no-wall", 2),
        ((), "nothing to change", 2),
    ):
        refused = server.command("cluster", "update", name, *options)
        assert (refused.returncode, refused.stdout, why in refused.stderr) == (status, "", True), refused
    assert server.command("cluster", "remove", name).returncode == 0


def test_a_namespace_that_is_taken_from_the_user_is_told_and_ends_the_others_not(
    walled: WalledCluster, api: Client, server: RunningServer, namespace: str
):
    """A wall of three, one of which the cluster withdraws: what is left works, and the page says what is wrong."""
    chart = upload(server, templates={"map.yaml": config_map_template()}, values={"text": "x"})
    bind(api, walled.tenant.name, RoleRef(apiGroup=RBAC, kind="ClusterRole", name="edit"), namespace)
    wall = walled.tenant.wall(namespaces=[*walled.tenant.namespaces, namespace])
    assert walled.set_wall(wall).status_code == 200
    walled.server.wait_until_listed(walled.server.cluster_id)
    api.delete(RoleBinding, walled.tenant.name, namespace=namespace)
    assert walled.set_wall(wall).status_code >= 400
    with psycopg.connect(
        server.database_url, autocommit=True
    ) as connection:  # instead of waiting for the end of the watch
        connection.execute("SELECT pg_notify('pilothouse_cluster_watches', %s)", [walled.server.cluster_id])
    said = wait_for(lambda: walled.server.index(walled.server.cluster_id)["error"])
    assert f"'{walled.tenant.name}', as whom the registered account acts" in said
    assert namespace in said
    web = walled.release(f"web-{uuid.uuid4().hex[:6]}")
    web.deployed(chart)
    assert web.get()["status"] == "deployed"
