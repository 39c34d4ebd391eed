"""Plans in the native API: what is reviewed is what is applied, or nothing; helm is the judge."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.contract.test_policies import attach, statement
from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.plans import MOVED, Planned, uploaded
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

PAGE = Path(__file__).parents[2] / "docs" / "plan-and-apply.md"
FORBIDDEN = (403, "CCE.01403001")
RANDOM = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-random"}
stringData:
  password: "{{ randAlphaNum 32 }}"
"""
FOUND = """\
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace "seen" }}
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-found"}
data:
  seen: {{ dig "data" "text" "nothing" $found | quote }}
  random: "{{ randAlphaNum 12 }}"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-second"}
data: {text: "{{ .Values.text }}"}
"""
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.plans.example.com}
spec:
  group: plans.example.com
  scope: Namespaced
  names: {kind: Gadget, plural: gadgets, singular: gadget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""
CLAIM = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
"""
KEPT = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: kept
  annotations: {helm.sh/resource-policy: keep}
"""
MAP = {"map.yaml": config_map_template()}
GADGET = """\
apiVersion: plans.example.com/v1
kind: Gadget
metadata: {name: "{{ .Release.Name }}"}
"""
ARCHIVE = build_chart(
    "plans",
    "1.0.0",
    templates={
        "random.yaml": RANDOM,
        "found.yaml": FOUND,
        "hook.yaml": hook_job_template("pre-install,pre-upgrade,pre-rollback,pre-delete"),
        "NOTES.txt": "The code is {{ randAlphaNum 8 }}.",
    },
    values={"text": "hello", "kept": {"a": 1}},
)
#: Without lookup, for callers who may only read.
PLAIN = build_chart("plain", "1.0.0", templates=MAP, values={"text": "secret-default"})


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return uploaded(server, ARCHIVE)


@pytest.fixture(scope="module")
def plain(server: RunningServer) -> str:
    return uploaded(server, PLAIN)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Planned:
    return Planned(server, namespace, helm_cli)


@pytest.fixture
def api(kubernetes: RunningCluster) -> Iterator[Client]:
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    yield client
    client.close()


def changes(plan: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["change"], one["live_change"]) for one in plan["objects"]}


def fields(found: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    return {one["path"]: (one["old"], one["new"]) for one in found}


def test_what_is_applied_is_what_was_planned_random_values_and_look_ups_included(
    release: Planned, chart: str, api: Client
):
    plan = release.plan(chart, {"set": "text=first", "name": "--set"})
    assert plan["text"] == "+3 ~0 -0 =0"
    assert changes(plan) == dict.fromkeys(("web-random", "web-found", "web-second"), ("added", "added"))
    assert [hook["events"] for hook in plan["hooks"]] == [["pre-install", "pre-upgrade", "pre-rollback", "pre-delete"]]
    assert 'seen: "nothing"' in plan["manifest"]
    origins = {one["path"]: one["origin"] for one in plan["origins"]}
    assert origins == {"/text": "values[0] (--set)", "/kept/a": "chart"}
    assert (plan["findings"], plan["base_revision"], plan["operation_id"]) == ([], 0, "")
    # what a second rendering would see
    api.create(ConfigMap(metadata=ObjectMeta(name="seen", namespace=release.namespace), data={"text": "x"}))

    operation = release.applied(plan)

    assert release.get("manifest").strip() == plan["manifest"].strip()
    assert release.get("notes").strip().endswith(plan["notes"].strip())
    stored = api.get(Secret, "web-random", namespace=release.namespace)
    [planned] = [one for one in yaml.safe_load_all(plan["manifest"]) if one["metadata"]["name"] == "web-random"]
    kept = {name: base64.b64decode(text).decode() for name, text in (stored.data or {}).items()}
    assert kept == planned["stringData"]
    # the chart that is stored has its own templates
    shown = release.server.send("GET", f"/api/v1/plans/{plan['id']}").json()
    assert shown["operation_id"] == operation["id"]
    assert json.loads(release.helm("get", "values", "web", "-n", release.namespace, "-o", "json")) == {"text": "first"}


def test_an_upgrade_shows_fields_against_the_revision_and_against_the_cluster(
    release: Planned, plain: str, api: Client
):
    release.applied(release.plan(plain))
    api.patch(ConfigMap, "web-config", {"data": {"other": "by hand", "text": "drifted"}}, namespace=release.namespace)

    mine = {"object": {"text": "new"}, "name": "mine"}
    plan = release.plan(plain, mine, mode="reset_then_reuse", force_conflicts=True)

    (one,) = plan["objects"]
    assert (one["change"], one["live_change"], plan["text"]) == ("changed", "changed", "+0 ~1 -0 =0")
    assert [(field["path"], field["old"], field["new"]) for field in one["fields"]] == [
        ("/data/text", "secret-default", "new")
    ]
    assert ("/data/text", "drifted", "new") in [
        (field["path"], field["old"], field["new"]) for field in one["live_fields"]
    ]
    release.applied(plan)
    assert api.get(ConfigMap, "web-config", namespace=release.namespace).data["text"] == "new"  # type: ignore[index]

    unchanged = release.plan(plain, mode="reset_then_reuse")

    assert unchanged["text"] == "+0 ~0 -0 =1"
    assert {one["path"]: one["origin"] for one in unchanged["origins"]} == {"/text": "previous"}


@pytest.mark.usefixtures("namespace")
def test_a_second_writer_in_between_is_told_and_nothing_is_written(release: Planned, plain: str, tmp_path: Path):
    release.applied(release.plan(plain))
    plan = release.plan(plain, {"set": "text=planned"})
    (tmp_path / "plain.tgz").write_bytes(PLAIN)
    release.helm("upgrade", "web", str(tmp_path / "plain.tgz"), "-n", release.namespace, "--set", "text=theirs")

    answer = release.apply(plan)

    assert_error(answer, *MOVED)
    assert "revision 2 was written, and the plan is over 1" in answer.json()["error_msg"]
    assert "theirs" in release.get("values")


def test_a_plan_is_applied_once_and_by_its_digest(release: Planned, plain: str):
    plan = release.plan(plain)
    wrong = release.apply(plan, digest="sha256:" + "0" * 64)
    assert_error(wrong, *MOVED)
    first = release.apply(plan, key=plan["id"])
    assert first.status_code == 200
    again = release.apply(plan, key=plan["id"])
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])

    answer = release.apply(plan)

    assert_error(answer, *MOVED)
    assert f"has been applied already, by operation {first.json()['id']}" in answer.json()["error_msg"]


def test_a_plan_that_has_expired_is_told(release: Planned, plain: str):
    plan = release.plan(plain)
    with psycopg.connect(release.server.database_url, autocommit=True) as database:
        database.execute("UPDATE plans SET expires_at = clock_timestamp() WHERE id = %s", [plan["id"]])

    answer = release.apply(plan)

    assert_error(answer, *MOVED)
    assert f"plan {plan['id']} expired at " in answer.json()["error_msg"]


def test_plans_that_can_be_applied_are_listed_for_who_may_see_their_release(release: Planned, plain: str):
    def listed(server: RunningServer = release.server) -> list[dict[str, Any]]:
        answer = server.send("GET", "/api/v1/plans?limit=500")
        assert answer.status_code == 200, answer.text
        return [row for row in answer.json() if row["namespace"] == release.namespace]

    first, second = release.plan(plain), release.plan(plain, {"set": "text=other"})
    assert [row["id"] for row in listed()] == [second["id"], first["id"]]
    told = ("action", "cluster_id", "namespace", "name", "created_at", "expires_at")
    assert {name: listed()[0][name] for name in told} == {name: second[name] for name in told}
    denied = add_person(release.server, "te_admin")
    here = {"pilothouse:Namespace": release.namespace}
    attach(release.server, denied, statement("Deny", "cce:release:list", StringLike=here))
    assert listed(denied.server) == []

    release.applied(second)
    assert listed() == []  # the first is over a release that there was not, and would be refused
    first = release.plan(plain, {"set": "text=third"})
    assert [row["id"] for row in listed()] == [first["id"]]
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        connection.execute("UPDATE plans SET expires_at = clock_timestamp() WHERE id = %s", [first["id"]])
    assert listed() == []


def test_an_upgrade_to_an_older_chart_warns_of_that(release: Planned):
    older, newer = (
        uploaded(release.server, build_chart("backwards", version, templates=MAP, values={"text": "x"}))
        for version in ("1.4.3", "2.0.0-rc.1")
    )
    release.applied(release.plan(newer))
    assert release.plan(older)["warnings"] == [
        "chart backwards 1.4.3 is older than the one of now: revision 1 has 2.0.0-rc.1"
    ]
    assert release.plan(newer)["warnings"] == []


def test_a_chart_that_is_gone_is_told(release: Planned):
    chart = uploaded(
        release.server,
        build_chart("fleeting", "1.0.0", templates=MAP, values={"text": "x"}),
    )
    plan = release.plan(chart)
    assert release.server.send("DELETE", f"/v2/charts/{chart}").status_code in {200, 204}

    answer = release.apply(plan)

    assert_error(answer, *MOVED)
    assert "chart fleeting 1.0.0 was deleted or replaced since the plan was made" in answer.json()["error_msg"]


def test_rollback_and_delete_are_planned_too(release: Planned, plain: str, api: Client):
    release.applied(release.plan(plain, {"set": "text=one"}))
    release.applied(release.plan(plain, {"set": "text=two"}))

    back = release.made(release.ask({"rollback": {"revision": 1}}))

    assert back["action"] == "rollback"
    assert changes(back) == {"web-config": ("changed", "changed")}
    assert release.applied(back)["action"] == "rollback"
    assert api.get(ConfigMap, "web-config", namespace=release.namespace).data == {"text": "one"}

    gone = release.made(release.ask({"delete": {}}))

    assert (gone["action"], gone["text"]) == ("uninstall", "+0 ~0 -1 =0")
    assert release.applied(gone)["action"] == "uninstall"
    assert release.helm("list", "-n", release.namespace, "-q").strip() == ""


def test_who_may_only_read_plans_without_values_and_may_not_apply(release: Planned, plain: str, chart: str):
    reader = add_person(release.server, "CCE ReadOnlyAccess").server
    body = {"deploy": {"chart": {"id": plain}, "values": [{"set": "text=top-secret-text"}]}}

    plan = release.made(release.ask(body, reader))

    assert "top-secret-text" not in json.dumps(plan)
    assert plan["values"] == {"text": "******"}
    assert_error(release.apply(plan, reader), *FORBIDDEN)
    assert_error(release.ask({"deploy": {"chart": {"id": chart}}}, reader), *FORBIDDEN)
    assert "top-secret-text" in json.dumps(release.server.send("GET", f"/api/v1/plans/{plan['id']}").json())
    release.applied(plan)


def test_who_may_not_read_values_is_not_told_them_by_a_chart_that_fails(release: Planned, helm_cli: HelmCommand):
    fails = "{{ if .Values.fails }}{{ fail (toYaml .Values) }}{{ end }}"
    schema = '{"properties": {"kept": {"enum": ["no", "shh-kept"]}, "fails": {"type": "boolean"}}}'
    chart = uploaded(
        release.server,
        build_chart("tells", "1.0.0", templates={**MAP, "z.yaml": fails}, values={"kept": "no"}, schema=schema),
    )
    release.applied(release.plan(chart, {"set": "kept=shh-kept"}))
    denied = add_person(release.server, "te_admin")
    attach(release.server, denied, statement("Deny", "pilothouse:values:read"))

    def asked(server: RunningServer, mode: str) -> str:
        values = [{"set": "fails=true", "name": "mine"}]
        answer = release.ask({"deploy": {"chart": {"id": chart}, "values": values, "values_mode": mode}}, server)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error_msg"])

    def tried(server: RunningServer, **body: Any) -> str:
        answer = OneRelease(server, release.namespace, "web", helm_cli).update(chart_id=chart, **body)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error_msg"])

    dry = {"parameters": {"dry_run": True, "replace": True}, "values": {"fails": True}}
    for reader in (add_person(release.server, "CCE ReadOnlyAccess").server, denied.server):
        for mode in ("reuse", "reset_then_reuse"):
            told = asked(reader, mode)
            assert "shh" not in told
            assert "which takes pilothouse:values:read" in told
        assert "fails: true" in asked(reader, "replace"), "what one has given oneself is told"
    assert "shh" not in tried(denied.server, **dry)
    assert "shh-kept" in asked(release.server, "reuse")
    assert "shh-kept" in tried(release.server, **dry)


def test_what_a_chart_destroys_or_brings_is_warned_of(release: Planned):
    before = uploaded(
        release.server, build_chart("holds", "1.0.0", templates={"claim.yaml": CLAIM, "kept.yaml": KEPT}, values={})
    )
    release.applied(release.plan(before))
    after = uploaded(
        release.server,
        build_chart(
            "holds",
            "2.0.0",
            templates=MAP,
            values={"text": "x"},
            files={"crds/gadget.yaml": CRD},
        ),
    )

    plan = release.plan(after, crds="create", force_replace=True)

    assert plan["text"] == "+1 ~0 -2 =0"
    assert (
        "PersistentVolumeClaim 'data' is deleted, and with it what it holds unless its volume is kept"
        in plan["warnings"]
    )
    assert "ConfigMap 'kept' stays in the cluster: helm.sh/resource-policy is keep" in plan["warnings"]
    assert (
        "CustomResourceDefinition 'gadgets.plans.example.com' of the chart's crds/ is created if it is missing"
        in plan["warnings"]
    )


def test_a_plan_with_crds_and_an_object_of_their_kind_is_applied(release: Planned):
    chart = uploaded(
        release.server,
        build_chart("kinds", "1.0.0", templates={"gadget.yaml": GADGET}, values={}, files={"crds/gadget.yaml": CRD}),
    )

    plan = release.plan(chart)

    (one,) = plan["objects"]
    assert (one["change"], one["kind"]) == ("added", "Gadget")
    release.applied(plan)


def test_what_the_cluster_refuses_is_told_before_anything_is_written(release: Planned):
    mistyped = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typed}\ndata: {number: {{ .Values.number }}}"
    chart = uploaded(
        release.server, build_chart("typed", "1.0.0", templates={"a.yaml": mistyped}, values={"number": 1}), lints=False
    )

    answer = release.ask({"deploy": {"chart": {"id": chart}}})

    assert answer.status_code == 201, answer.text
    [refusal] = answer.json()["refusals"]
    assert refusal in answer.json()["warnings"]
    assert "expected string, got" in refusal
    command = release.server.command(
        "install", "web", "typed@1.0.0", "-n", release.namespace, "--cluster", release.server.cluster_id, "--dry-run"
    )
    assert command.returncode == 1
    assert "THE CLUSTER REFUSES: ConfigMap 'typed'" in command.stdout
    assert "apply just this" not in command.stdout


def test_who_may_not_apply_a_plan_is_told_so(release: Planned):
    chart = uploaded(release.server, config_map_chart("looked", "1.0.0"), lints=False)
    words = ("plan", "web", "looked@1.0.0", "--install", "-n", release.namespace)
    where = ("--cluster", release.server.cluster_id)
    viewer = add_person(release.server, "readonly").server

    shown, own = viewer.command(*words, *where), release.server.command(*words, *where)

    assert (shown.returncode, chart != "") == (0, True), shown.stderr
    assert "you may not apply it, which takes cce:release:create; who may, until 20" in shown.stdout
    assert "apply just this" not in shown.stdout
    assert "apply just this, until" in own.stdout
    plan = re.search(r"types: (pilothouse apply (\S+))", shown.stdout)
    assert plan is not None, shown.stdout
    assert viewer.command("apply", plan[2]).returncode == 1
    query = f"outcome=denied&namespace={release.namespace}&cluster={release.server.cluster_id}"
    told = wait_for(lambda: release.server.send("GET", f"/api/v1/audit?{query}").json(), seconds=20) or []
    assert [(row["action"], row["target_name"]) for row in told] == [("cce:release:create", "web")]
    assert viewer.send("GET", f"/api/v1/plans/{plan[2]}").json()["lacks"] == "cce:release:create"
    assert release.server.send("GET", f"/api/v1/plans/{plan[2]}").json()["lacks"] == ""


def test_a_manifest_that_is_too_large_to_be_compared_is_refused(release: Planned):
    many = "{{ range until 10000 }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m{{ . }}}\n{{ end }}"
    chart = uploaded(
        release.server, build_chart("many", "1.0.0", templates={"many.yaml": many}, values={}), lints=False
    )

    answer = release.ask({"deploy": {"chart": {"id": chart}}})

    assert answer.status_code == 400, answer.text
    assert "the limits are 4 MiB and 5000 documents" in answer.json()["error_msg"]


def test_the_examples_of_the_page_work(release: Planned, plain: str):
    found = re.findall(r"```http\n(\w+) (\S+)\n\n(.*?)```", PAGE.read_text(), re.DOTALL)
    known = {"CLUSTER": release.server.cluster_id, "NAMESPACE": release.namespace, "CHART": plain}
    answers = []
    for method, path, body in found:
        for name, value in known.items():
            path, body = path.replace(name, value), body.replace(name, value)  # noqa: PLW2901
        answer = release.server.send(
            method, path, json_body=json.loads(body), headers={"Prefer": "wait=60"}, timeout=120
        )
        assert answer.is_success, answer.text
        answers.append(answer.json())
        known |= {"PLAN": answers[0]["id"], "DIGEST": answers[0]["digest"]}

    plan, operation = answers
    assert {one["path"]: one["origin"] for one in plan["origins"]} == {"/text": "values[1] (--set)"}
    assert operation["state"] == "succeeded"
    assert "text: hi" in release.get("values")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "exactly one of deploy, rollback, delete"),
        ({"deploy": {"chart": {"id": "x"}}, "delete": {}}, "exactly one of deploy, rollback, delete"),
        ({"deploys": {}}, "did you mean deploy?"),
    ],
)
def test_a_body_that_says_nothing_or_too_much_is_refused(release: Planned, body: dict[str, Any], text: str):
    answer = release.ask(body)

    assert answer.status_code == 400, answer.text
    assert text in answer.json()["error_msg"]
