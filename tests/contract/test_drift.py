"""``GET R/diff?to=live`` and the ignore rules, on the real cluster: what counts as drift, and what does not."""

import base64
import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Secret, Service
from lightkube.types import PatchType

from tests.support.charts import build_chart
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

TEMPLATES = {
    "map.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-map"}
data: {text: {{ .Values.text | quote }}, other: stays}
""",
    "secret.yaml": """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-secret"}
stringData: {password: {{ .Values.password | quote }}}
""",
    "service.yaml": """\
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}-web"}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
""",
    "web.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-web"}
spec:
  replicas: 1
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec:
      containers:
        - name: main
          image: example.invalid/web:1
          env: [{name: A, value: "1"}]
          resources: {limits: {cpu: 1000m, memory: 1Gi}}
""",
    "budget.yaml": """\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: "{{ .Release.Name }}"}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: "{{ .Release.Name }}"}}}
""",
}

ARCHIVE = build_chart("drifting", templates=TEMPLATES, values={"text": "x", "password": "long-enough"})


class Made:
    """A release, and the hands of somebody who changes its objects."""

    def __init__(self, server: RunningServer, namespace: str, chart: str, api: Client) -> None:
        self.server = server
        self.namespace = namespace
        self.chart = chart
        self.api = api
        self.path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/web"

    def drift(self, query: str = "", *, server: RunningServer | None = None) -> dict[str, Any]:
        answer = (server or self.server).send("GET", f"{self.path}/diff?to=live{query}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["problems"] == []
        return found

    def changed(self, server: RunningServer | None = None) -> dict[str, list[dict[str, Any]]]:
        """The fields that differ, by object; nothing else may differ."""
        found = self.drift(server=server)
        odd = [one for one in found["objects"] if one["change"] not in {"changed", "unchanged"}]
        assert odd == []
        return {f"{one['kind']}/{one['name']}": one["fields"] for one in found["objects"] if one["change"] == "changed"}

    def patch(self, kind: Any, name: str, change: Any, *, manager: str = "kubectl-edit") -> None:
        self.api.patch(kind, name, change, namespace=self.namespace, patch_type=PatchType.MERGE, field_manager=manager)

    def rules(self, *rules: dict[str, str], server: RunningServer | None = None) -> Any:
        return (server or self.server).send("PUT", f"{self.path}/ignore-rules", json_body={"rules": rules})


@pytest.fixture(scope="module")
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


@pytest.fixture
def made(server: RunningServer, make_namespace: Callable[[], str], api: Client) -> Made:
    return install(server, make_namespace(), api)


def install(server: RunningServer, namespace: str, api: Client) -> Made:
    """The release ``web`` of the templates, deployed."""
    chart = server.upload(ARCHIVE, parameters='{"override": true}').json()["id"]
    created = server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={})
    assert created.status_code == 201, created.text
    release = Made(server, namespace, chart, api)
    wait_for(lambda: server.send("GET", release.path).json()["status"] == "deployed")
    return release


def field(path: str, old: Any, new: Any) -> dict[str, Any]:
    change = "added" if old is None else "removed" if new is None else "changed"
    return {"path": path, "change": change, "old": old, "new": new}


def test_what_the_api_server_defaults_is_no_drift(made: Made):
    found = made.drift()
    assert found["summary"] == {"added": 0, "changed": 0, "removed": 0, "unchanged": 5, "unknown": 0}
    assert (found["from_revision"], found["to_revision"]) == (1, None)


def test_changed_fields_are_told_with_both_values(made: Made):
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited"}})
    container = {"name": "main", "image": "example.invalid/web:2", "env": [{"name": "A", "value": "1"}]}
    made.patch(Deployment, "web-web", {"spec": {"template": {"spec": {"containers": [container]}}}})
    changed = made.changed()
    assert changed["ConfigMap/web-map"] == [field("/data/text", "x", "edited")]
    place = "/spec/template/spec/containers/0"
    assert {one["path"]: one["change"] for one in changed["Deployment/web-web"]} == {
        f"{place}/image": "changed",
        f"{place}/resources/limits": "removed",
    }
    assert made.drift("&from=1")["summary"]["changed"] == 2


def test_what_somebody_adds_or_takes_away_counts_too(made: Made):
    made.patch(ConfigMap, "web-map", {"data": {"more": "1", "other": None}, "metadata": {"labels": {"x.io/team": "a"}}})
    made.patch(Service, "web-web", {"metadata": {"annotations": {"x.io/y": "z"}}})
    changed = made.changed()
    assert sorted(changed["ConfigMap/web-map"], key=lambda one: str(one["path"])) == [
        field("/data/more", None, "1"),
        field("/data/other", "stays", None),
        field("/metadata/labels/x.io~1team", None, "a"),
    ]
    assert changed["Service/web-web"] == [field("/metadata/annotations/x.io~1y", None, "z")]


def test_secrets_are_masked_and_told_apart(made: Made):
    data = {"password": base64.b64encode(b"another-secret").decode()}
    made.patch(Secret, "web-secret", {"data": data})
    assert made.changed()["Secret/web-secret"] == [field("/data/password", "******", "******")]
    text = json.dumps(made.drift())
    assert data["password"] not in text
    assert base64.b64encode(b"long-enough").decode() not in text


def test_what_a_controller_owns_is_no_drift_and_what_a_person_scales_is(made: Made):
    def scale(replicas: int, manager: str) -> None:
        made.api.patch(
            Deployment.Scale,
            "web-web",
            {"spec": {"replicas": replicas}},
            namespace=made.namespace,
            patch_type=PatchType.MERGE,
            field_manager=manager,
        )

    scale(3, "kube-controller-manager")  # as an autoscaler does
    assert made.changed() == {}
    scale(4, "kubectl")
    assert made.changed() == {"Deployment/web-web": [field("/spec/replicas", 1, 4)]}


def test_missing_and_extra_objects_are_told(made: Made):
    made.api.delete(ConfigMap, "web-map", namespace=made.namespace)
    marks = {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": made.namespace}
    for name, annotations in (
        ("left", marks),
        ("kept", {**marks, "helm.sh/resource-policy": "keep"}),
        ("foreign", {**marks, "meta.helm.sh/release-name": "other"}),
    ):
        metadata = ObjectMeta(
            name=name,
            namespace=made.namespace,
            labels={"app.kubernetes.io/managed-by": "Helm"},
            annotations=annotations,
        )
        made.api.create(ConfigMap(metadata=metadata))
    found = made.drift()
    named = {f"{one['kind']}/{one['name']}": one["change"] for one in found["objects"] if one["change"] != "unchanged"}
    assert named == {"ConfigMap/web-map": "removed", "ConfigMap/left": "added"}
    assert found["summary"] == {"added": 1, "changed": 0, "removed": 1, "unchanged": 4, "unknown": 0}


def test_rules_take_fields_and_objects_out(made: Made):
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited", "more": "1"}})
    made.patch(Service, "web-web", {"metadata": {"annotations": {"x.io/y": "z"}}})
    made.api.delete(Secret, "web-secret", namespace=made.namespace)
    assert made.drift()["summary"]["unchanged"] == 2
    rules = [
        {"pointer": "/data/text", "kind": "ConfigMap", "name": "web-map", "group": ""},
        {"pointer": "/metadata/annotations/x.io~1y", "kind": "", "name": "", "group": ""},
        {"pointer": "", "kind": "Secret", "name": "", "group": ""},
    ]
    answer = made.rules(*rules)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"rules": rules} == made.server.send("GET", f"{made.path}/ignore-rules").json()
    assert made.changed() == {"ConfigMap/web-map": [field("/data/more", None, "1")]}
    assert made.rules({"pointer": "/data"}, *rules[1:]).status_code == 200
    assert made.changed() == {}
    assert made.rules().json() == {"rules": []}
    assert made.drift()["summary"]["unchanged"] == 2


def test_rules_are_checked_audited_and_for_those_who_may_update(made: Made):
    for rule, text in (
        ({"pointer": "spec"}, "rules[0].pointer: 'spec' is no JSON pointer"),
        ({"pointer": "/a", "kinds": "x"}, "kinds: unknown field; did you mean kind?"),
        ({"pointer": "/x" * 51}, "deeper than 50 parts"),
    ):
        assert text in assert_error(made.rules(rule), 400, "CCE.01400001")
    assert "at most 100" in assert_error(made.rules(*[{"pointer": f"/{n}"} for n in range(101)]), 400, "CCE.01400001")
    reader = add_person(made.server, "CCE ReadOnlyAccess").server
    assert made.rules({"pointer": "/a"}, server=reader).status_code == 403
    missing = made.server.send("PUT", f"{made.path}x/ignore-rules", json_body={"rules": []})
    assert "release 'webx' does not exist" in assert_error(missing, 404, "CCE.01404001")
    assert made.rules({"pointer": "/a"}).status_code == 200
    rows = made.server.send("GET", "/api/v1/audit?limit=50").json()
    assert any((row["action"], row["detail"]) == ("cce:release:update", "ignore rules") for row in rows)


def test_readers_without_the_right_see_no_values(made: Made):
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited-text"}})
    reader = add_person(made.server, "CCE ReadOnlyAccess").server
    assert made.changed(reader) == {"ConfigMap/web-map": [field("/data/text", "******", "******")]}


def test_put_mends_it(made: Made):
    """With the right to take fields that somebody else set: without it, Helm refuses them."""
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited"}})
    made.api.delete(Service, "web-web", namespace=made.namespace)
    assert {word: count for word, count in made.drift()["summary"].items() if count} == {
        "changed": 1,
        "removed": 1,
        "unchanged": 3,
    }
    body = {"chart": {"id": made.chart}, "options": {"force_conflicts": True}}
    answer = made.server.send("PUT", made.path, json_body=body, headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text
    found = made.drift()
    assert (found["from_revision"], found["summary"]["unchanged"]) == (2, 5)


@pytest.mark.parametrize(
    ("manager", "kind", "mended"),
    [
        ("helm", PatchType.APPLY, {"PUT", "rollback"}),
        ("helm", PatchType.MERGE, {"rollback"}),  # Helm takes what it wrote without server-side apply only there
        ("kubectl-edit", PatchType.MERGE, set()),
    ],
    ids=["applied by helm", "written by helm", "edited"],
)
def test_without_force_it_mends_what_helm_mends(
    *, made: Made, helm_cli: HelmCommand, tmp_path: Path, manager: str, kind: PatchType, mended: set[str]
):
    """A field that somebody else's manager holds is a conflict for Helm, which force_conflicts decides."""
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(ARCHIVE)
    deploy = {"chart": {"id": made.chart}}
    ways: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
        "PUT": ("PUT", "", deploy, ["upgrade", "web", str(chart)]),
        "rollback": ("POST", "/rollback", {"revision": 1}, ["rollback", "web", "1"]),
    }

    def ordered(method: str, path: str, body: dict[str, Any]) -> tuple[str, str]:
        answer = made.server.send(method, made.path + path, json_body=body, headers={"Prefer": "wait=60"}, timeout=90)
        return answer.json()["state"], answer.json()["text"]

    def edited() -> None:
        state, text = ordered("PUT", "", {**deploy, "options": {"force_conflicts": True}})
        assert (state, made.changed()) == ("succeeded", {}), text
        text_of = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web-map"}, "data": {"text": "edited"}}
        made.api.patch(ConfigMap, "web-map", text_of, namespace=made.namespace, patch_type=kind, field_manager=manager)
        assert "ConfigMap/web-map" in made.changed()

    for way, (method, path, body, words) in ways.items():
        edited()
        state, text = ordered(method, path, body)
        drifts = made.changed() != {}
        assert (state, drifts) == (("succeeded", False) if way in mended else ("failed", True)), (way, text)
        assert way in mended or f'conflict with "{manager}"' in text
        edited()
        with contextlib.nullcontext() if way in mended else pytest.raises(subprocess.CalledProcessError):
            helm_cli(*words, "-n", made.namespace)
        assert (made.changed() != {}) == drifts, way


def test_a_release_of_helm_itself_has_no_drift_either(
    made: Made, helm_cli: Callable[..., str], tmp_path: Any, namespace: str
):
    chart = tmp_path / "chart.tgz"
    chart.write_bytes(build_chart("byhelm", templates=TEMPLATES, values={"text": "x", "password": "long-enough"}))
    helm_cli("install", "web", str(chart), "-n", namespace, "--server-side=false")
    path = made.path.replace(made.namespace, namespace)
    answer = made.server.send("GET", f"{path}/diff?to=live")
    assert answer.json()["summary"]["unchanged"] == 5, answer.text


def test_the_last_look_is_shown_and_filtered_by(made: Made):
    def listed(query: str) -> list[tuple[str, bool | None]]:
        answer = made.server.send("GET", f"/api/v1/releases?namespace={made.namespace}&{query}")
        assert answer.status_code == 200, answer.text
        return [(one["name"], one["drifted"]) for one in answer.json()]

    assert made.server.send("GET", made.path).json()["drift"] is None
    assert listed("") == [("web", None)]
    made.drift()
    assert (listed("drifted=false"), listed("drifted=true")) == ([("web", False)], [])
    none = made.server.command("list", "--drifted", "-n", made.namespace)
    assert ("web" in none.stdout, "'pilothouse drift NAME'" in none.stderr) == (False, True)
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited"}})
    made.drift()
    assert (listed("drifted=true"), listed("drifted=false")) == ([("web", True)], [])
    assert made.server.command("list", "--drifted", "-q", "-n", made.namespace).stdout == "web\n"
    shown = made.server.send("GET", made.path).json()["drift"]
    assert (shown["drifted"], shown["revision"], shown["changed"], shown["problem"]) == (True, 1, 1, "")


def test_what_an_operation_made_anew_is_not_said_to_drift(made: Made):
    def shown() -> tuple[bool | None, list[str]]:
        listed = made.server.send("GET", f"/api/v1/releases?namespace={made.namespace}").json()
        drifted = made.server.send("GET", f"/api/v1/releases?namespace={made.namespace}&drifted=true").json()
        return listed[0]["drifted"], [one["name"] for one in drifted]

    def done(method: str, path: str = "", body: Any = None) -> None:
        answer = made.server.send(method, made.path + path, json_body=body, headers={"Prefer": "wait=60"}, timeout=90)
        assert answer.json()["state"] == "succeeded", answer.text

    made.patch(ConfigMap, "web-map", {"data": {"text": "edited"}})
    made.drift()
    assert shown() == (True, ["web"])
    done("DELETE")
    body = {"chart": {"id": made.chart}}
    done("PUT", body=body)
    assert shown() == (None, [])
    assert made.server.send("GET", made.path).json()["drift"] is None
    made.patch(ConfigMap, "web-map", {"data": {"text": "edited"}})
    made.drift()
    assert shown() == (True, ["web"])
    done("DELETE", body={"options": {"keep_history": True}})
    assert shown() == (None, [])
    done("POST", "/rollback", {"revision": 1})
    assert shown() == (None, [])


def test_what_is_asked_wrongly_is_explained(made: Made):
    for query in ("to=alive", "to=0", "from=0&to=live"):
        assert_error(made.server.send("GET", f"{made.path}/diff?{query}"), 400, "CCE.01400001")
    answer = made.server.send("GET", f"{made.path}/diff?to=live&from=7")
    assert "has no revision 7" in assert_error(answer, 404, "CCE.01404001")
    answer = made.server.send("GET", f"{made.path}x/diff?to=live")
    assert "release 'webx' does not exist" in assert_error(answer, 404, "CCE.01404001")
