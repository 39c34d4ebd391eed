"""PUT of a release in the native API: it is made so, with Helm's options by Helm's names; helm is the judge."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
FORBIDDEN = (403, "CCE.01403001")
VALUES = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-values"}
data:
  large: "{{ .Values.large }}"
  fraction: "{{ .Values.fraction }}"
  all: {{ .Values | toJson | quote }}
"""
OTHER = """\
{{- if .Values.other }}
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Values.other }}}
data: {owner: "{{ .Release.Name }}"}
{{- end }}
"""
JOB = hook_job_template("pre-install,pre-upgrade")
ARCHIVE = build_chart(
    "puts",
    "1.0.0",
    templates={"values.yaml": VALUES, "other.yaml": OTHER, "hook.yaml": JOB, "map.yaml": config_map_template()},
    values={"text": "x", "large": 5, "fraction": 1.5, "nested": {"a": 1, "b": {"c": 2}}, "list": [1, 2], "other": ""},
)


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    answer = server.upload(ARCHIVE, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "web", helm_cli)


def test_it_installs_and_then_upgrades_as_helm_does(
    release: OwnRelease, chart: str, helm_cli: HelmCommand, make_namespace: Callable[[], str], tmp_path: Path
):
    (tmp_path / "puts.tgz").write_bytes(ARCHIVE)
    (tmp_path / "values.yaml").write_text("nested:\n  a: 1000000\n  b: null\nlist: [3]\n---\ntext: second document\n")
    (tmp_path / "more.json").write_text('{"nested": {"d": 12345678901}}')
    other = make_namespace()
    layers: list[dict[str, Any]] = [
        {"yaml": (tmp_path / "values.yaml").read_text(), "name": "values.yaml"},
        {"object": {"nested": {"d": 12345678901}}},
        {"set_json": 'nested.e={"f":[1,null]}'},
        {"set_json": '{"g": 7}'},
        {"set": r"large=1000000,list[2].x=a\,b,text=null"},
        {"set_string": "fraction=1.0"},
        {"set_literal": "other=a,b"},
    ]
    flags = ["-f", str(tmp_path / "values.yaml"), "-f", str(tmp_path / "more.json")]
    flags += ["--set-json", 'nested.e={"f":[1,null]}', "--set-json", '{"g": 7}']
    flags += ["--set", r"large=1000000,list[2].x=a\,b,text=null", "--set-string", "fraction=1.0"]
    layers[-1]["set_literal"] = "other="
    flags += ["--set-literal", "other="]
    for revision in (1, 2):
        operation = release.deployed(chart, *layers)
        assert (operation["action"], operation["revision"]) == ("upgrade" if revision == 2 else "install", revision)
        helm_cli("upgrade", "--install", "web", str(tmp_path / "puts.tgz"), "-n", other, *flags)
        theirs = OwnRelease(release.server, other, "web", helm_cli)
        assert release.helm_values() == theirs.helm_values()
        # how a number is printed depends on the parser that read it
        assert release.manifest() == theirs.manifest()
        assert 'large: "1000000"' in release.manifest()
        assert release.helm_history() == theirs.helm_history()


def test_values_modes_are_helms(
    release: OwnRelease, chart: str, helm_cli: HelmCommand, make_namespace: Callable[[], str], tmp_path: Path
):
    (tmp_path / "puts.tgz").write_bytes(ARCHIVE)
    theirs = OwnRelease(release.server, make_namespace(), "web", helm_cli)
    modes = {"replace": "--reset-values", "reuse": "--reuse-values", "reset_then_reuse": "--reset-then-reuse-values"}
    steps = [
        ("replace", "nested.a=2"),
        ("reuse", "nested.b.c=3"),
        ("reset_then_reuse", "text=null"),
        ("reuse", "large=1"),
    ]
    for mode, text in [*steps, ("reset_then_reuse", ""), ("reuse", ""), ("replace", "")]:
        release.deployed(chart, *([{"set": text}] if text else []), mode=mode)
        wanted = ["--set", text] if text else []
        helm_cli(
            *("upgrade", "--install", "web", str(tmp_path / "puts.tgz"), "-n", theirs.namespace, modes[mode], *wanted)
        )
        assert release.helm_values() == theirs.helm_values(), (mode, text)
        assert release.manifest() == theirs.manifest(), (mode, text)
        shown = release.get("/values?layer=computed")["values"]
        judge = helm_cli("get", "values", "-a", "web", "-n", theirs.namespace, "-o", "json")
        assert shown == json.loads(judge), (mode, text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "chart: missing"),
        (
            {"chart": {"source": "bitnami"}},
            "chart: must have either id, or source and name",
        ),
        ({"chart": {"idd": "1"}}, "chart.idd: unknown field; did you mean id?"),
        ({"options": {"waits": "none"}}, "options.waits: unknown field; did you mean wait?"),
        ({"options": {"wait": "long"}}, "options.wait: must be 'none', 'hooks', 'ready' or 'jobs'"),
        ({"options": {"timeout_seconds": 10**6}}, "timeout_seconds: 1000000 is more than "),
        ({"options": {"labels": {"owner": "me"}}}, "options.labels: owner is a label that Helm or Pilothouse sets"),
        ({"options": {"labels": {"a b": "c"}}}, "options.labels: 'a b' is not a label of Kubernetes"),
        ({"options": {"force_conflicts": True, "force_replace": True}}, "force_conflicts and force_replace cannot be"),
        ({"values_mode": "merge"}, "values_mode: must be 'replace', 'reuse' or 'reset_then_reuse'"),
        ({"values": [{"name": "x"}]}, "values.0: must have exactly one of yaml, object, set,"),
        ({"values": [{"set": "a=1", "set_string": "a=1"}]}, "values.0: must have exactly one of"),
        (
            {"values": [{"set": "a=1"}, {"yaml": "a: 1\nb: c: d\n", "name": "prod.yaml"}]},
            "values[1] (prod.yaml), line 2, column 5: cannot unmarshal yaml document: ",
        ),
        ({"values": [{"yaml": "\n  - a\n"}]}, "values[0], line 2, column 3: cannot unmarshal yaml document: "),
        ({"values": [{"set": "a=1,b"}]}, 'values[0]: failed parsing --set data: key "b" has no value'),
        ({"values": [{"set_json": "a={"}]}, "values[0]: failed parsing --set-json data"),
        ({"values": [{"set": "a[60000]=1"}]}, "the layers make more than 50000 values, the limit"),
        ({"values": [{"set_string": "a=\x00"}]}, "values[0].set_string: contains a NUL character"),
    ],
)
def test_what_is_wrong_is_refused_by_name(release: OwnRelease, chart: str, body: dict[str, Any], message: str):
    whole = {"chart": {"id": chart}, **body} if body else {}
    refused = release.send("PUT", "", whole)
    assert_error(refused, *INVALID)
    assert message in refused.json()["error_msg"]
    assert_error(release.server.send("GET", release.path), 404, "CCE.01404001")


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "a" * 64 + "\n", 1])
def test_a_malformed_digest_is_refused(release: OwnRelease, chart: str, digest: object):
    refused = release.send("PUT", "", {"chart": {"id": chart, "digest": digest}})
    assert_error(refused, *INVALID)
    assert "chart.digest" in refused.json()["error_msg"]


def test_a_chart_that_was_replaced_is_not_deployed_in_place_of_the_wanted_one(
    release: OwnRelease, server: RunningServer
):
    def upload(text: str) -> tuple[str, str]:
        archive = build_chart("replaced", "1.0.0", templates={"map.yaml": config_map_template() + f"# {text}\n"})
        answer = server.upload(archive, parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        return answer.json()["id"], hashlib.sha256(archive).hexdigest()

    def operations() -> list[str]:
        found = server.send("GET", f"/api/v1/operations?namespace={release.namespace}").json()
        return [one["id"] for one in found]

    def refused(part: str, method: str, wanted: str, there: str) -> None:
        chart = {"id": chart_id, "digest": wanted}
        answer = release.send(method, part, {"deploy": {"chart": chart}} if part else {"chart": chart})
        assert_error(answer, 409, "CCE.01409004")
        assert f"now has the archive {there}, not {wanted}" in answer.json()["error_msg"]

    chart_id, first = upload("first")
    assert upload("second")[0] == chart_id
    second = upload("second")[1]
    refused("", "PUT", first, second)
    refused("/plan", "POST", first, second)
    rendered = server.send("POST", "/api/v1/render", json_body={"chart": {"id": chart_id, "digest": first}})
    assert_error(rendered, 409, "CCE.01409004")
    assert operations() == []
    chart = {"id": chart_id, "digest": second}
    installed = release.ended(release.send("PUT", "", {"chart": chart}))
    assert "# second" in release.manifest()

    _, third = upload("third")
    refused("", "PUT", second, third)
    refused("/plan", "POST", second, third)
    assert operations() == [installed["id"]]
    chart["digest"] = third
    assert release.send("POST", "/plan", {"deploy": {"chart": chart}}).status_code == 201
    release.ended(release.send("PUT", "", {"chart": chart}))
    assert "# third" in release.manifest()


def test_an_alias_bomb_is_refused_and_the_server_goes_on(release: OwnRelease, chart: str):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{one}: &a{one} [{', '.join([f'*a{one - 1}'] * 10)}]" for one in range(1, 12)]
    refused = release.put(chart, {"yaml": "\n".join(lines)})
    assert_error(refused, *INVALID)
    release.deployed(chart)


def test_helms_options_have_helms_effect(release: OwnRelease, chart: str, helm_cli: HelmCommand):
    release.deployed(chart, labels={"team": "a", "stage": "one"}, description="the first", no_hooks=True)
    assert release.helm_history() == [(1, "deployed", "the first")]
    release.deployed(chart, labels={"team": None, "stage": "two"})
    assert release.get()["labels"] == {"stage": "two"}
    listed = json.loads(helm_cli("list", "-n", release.namespace, "-l", "stage=two,!team", "-o", "json"))
    assert [one["name"] for one in listed] == ["web"]
    for _ in range(3):
        release.deployed(chart, history_max=2, no_hooks=True)
    assert [one for one, *_ in release.helm_history()] == [4, 5]


def test_a_namespace_is_created_only_on_request(release: OwnRelease, chart: str, helm_cli: HelmCommand):
    fresh = OwnRelease(release.server, f"{release.namespace}-made", "web", helm_cli)
    missing = fresh.put(chart)
    assert_error(missing, 404, "CCE.01404001")
    assert missing.json()["error_msg"].endswith("; create it first, or set options.create_namespace")
    fresh.deployed(chart, create_namespace=True, no_hooks=True)
    assert fresh.helm_history() == [(1, "deployed", "Install complete")]
    helm_cli("uninstall", "web", "-n", fresh.namespace)


def test_an_uninstalled_release_with_history_is_installed_anew(release: OwnRelease, chart: str, helm_cli: HelmCommand):
    release.deployed(chart, no_hooks=True)
    helm_cli("uninstall", "web", "-n", release.namespace, "--keep-history", "--no-hooks")
    operation = release.deployed(chart, {"set": "text=again"}, no_hooks=True)
    assert (operation["action"], operation["revision"]) == ("install", 2)
    assert release.helm_history()[-1] == (2, "deployed", "Install complete")


def test_after_a_failed_install_without_a_record_it_installs(release: OwnRelease, chart: str):
    """An object of an unknown owner stands in its way, so that Helm stores nothing; then it may be taken."""
    standing = OwnRelease(release.server, release.namespace, "standing", release.helm)
    standing.deployed(chart, {"set": "other=shared"}, no_hooks=True)
    failed = release.ended(release.put(chart, {"set": "other=shared"}, no_hooks=True), "failed")
    assert failed["action"] == "install"
    assert "shared" in failed["text"]
    taken = release.deployed(chart, {"set": "other=shared"}, no_hooks=True, take_ownership=True)
    assert taken["action"] == "install"
    assert release.helm_history() == [(1, "deployed", "Install complete")]
    rows = release.server.send("GET", f"/api/v1/audit?request_id={taken['request_id']}").json()
    found = [one for one in rows if one["request_id"] == taken["request_id"]]
    assert [one["detail"] for one in found] == ["install: take_ownership"]


def test_after_a_failed_install_with_a_record_it_upgrades(release: OwnRelease, server: RunningServer):
    archive = build_chart("breaks", templates={"x.yaml": config_map_template("{{ .Values.suffix }}")}, values={})
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    release.ended(release.put(chart, {"set": "suffix=Not_Valid"}), "failed")
    assert [one[:2] for one in release.helm_history()] == [(1, "failed")]
    assert release.deployed(chart, {"set": "suffix=valid"})["action"] == "upgrade"
    assert release.helm_history()[-1][:2] == (2, "deployed")


def test_it_is_accepted_at_once_and_the_end_can_be_waited_for(release: OwnRelease, chart: str):
    body = {"chart": {"id": chart}}
    accepted = release.send("PUT", "", body, wait=0, Idempotency_Key=f"one-{release.namespace}")
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["location"] == f"/api/v1/operations/{accepted.json()['id']}"
    again = release.send("PUT", "", body, Idempotency_Key=f"one-{release.namespace}")
    assert again.status_code == 200, again.text
    assert again.headers["x-pilothouse-repeated"] == "true"
    assert (again.json()["id"], again.json()["state"]) == (accepted.json()["id"], "succeeded")
    assert release.helm_history() == [(1, "deployed", "Install complete")]
    other = release.send("PUT", "", {**body, "values_mode": "reuse"}, Idempotency_Key=f"one-{release.namespace}")
    assert_error(other, 422, "CCE.01422001")


def test_two_writes_at_once_are_told_apart(release: OwnRelease, chart: str):
    first = release.send("PUT", "", {"chart": {"id": chart}}, wait=0)
    assert first.status_code == 202, first.text
    second = release.send("PUT", "", {"chart": {"id": chart}}, wait=0)
    if second.status_code == 202:  # the first had ended by then
        return
    assert_error(second, *FORBIDDEN)
    assert first.json()["id"] in second.json()["error_msg"]


def test_what_another_manager_owns_is_taken_over_by_force_only(
    release: OwnRelease, server: RunningServer, kubernetes: RunningCluster
):
    archive = build_chart("fields", templates={"m.yaml": config_map_template()}, values={"text": "one"})
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    release.deployed(chart)
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "theirs"}}
    where: dict[str, Any] = {"name": "web-config", "namespace": release.namespace}
    forced: list[dict[str, Any]] = [{"force_conflicts": True}, {"force_replace": True}]
    config = KubeConfig.from_file(kubernetes.kubeconfig)
    with Client(config=config, field_manager="another", trust_env=False) as api:
        for number, option in enumerate(forced):
            api.patch(ConfigMap, obj=theirs, patch_type=PatchType.APPLY, force=True, **where)
            failed = release.ended(release.put(chart, {"set": f"text=our{number}"}), "failed")
            assert 'conflict with "another"' in failed["text"]
            release.deployed(chart, {"set": f"text=our{number}"}, **option)
            assert (api.get(ConfigMap, **where).data or {})["text"] == f"our{number}"
        # a replaced object has lost what others had added; after it, Helm applies on the server's side again
        release.deployed(chart, {"set": "text=last"})
        assert (api.get(ConfigMap, **where).data or {})["text"] == "last"


def test_a_rollback_goes_back_and_never_to_a_failed_revision(release: OwnRelease, server: RunningServer):
    archive = build_chart("breaks", templates={"x.yaml": config_map_template("{{ .Values.suffix }}")}, values={})
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    release.deployed(chart, {"set": "suffix=one"})
    release.deployed(chart, {"set": "suffix=two"})
    release.ended(release.put(chart, {"set": "suffix=Not_Valid"}), "failed")
    failed = release.send("POST", "/rollback", {"revision": 3})
    assert_error(failed, *INVALID)
    assert "revision: revision 3 is failed and was never deployed" in failed.json()["error_msg"]
    assert_error(release.send("POST", "/rollback", {"revision": 9}), 404, "CCE.01404001")
    assert release.ended(release.send("POST", "/rollback"))["action"] == "rollback"
    assert release.helm_history()[-1] == (4, "deployed", "Rollback to 2")
    release.ended(release.send("POST", "/rollback", {"revision": 1, "options": {"history_max": 2, "wait": "jobs"}}))
    assert release.helm_history()[-1] == (5, "deployed", "Rollback to 1")
    assert len(release.helm_history()) == 2


def test_what_was_uninstalled_with_its_history_is_brought_back_as_helm_does(
    release: OwnRelease, chart: str, helm_cli: HelmCommand, make_namespace: Callable[[], str], tmp_path: Path
):
    (tmp_path / "puts.tgz").write_bytes(ARCHIVE)
    theirs = OwnRelease(release.server, make_namespace(), "web", helm_cli)
    for number in (1, 2):
        release.deployed(chart, {"set": f"text={number}"}, no_hooks=True)
        flags = ("--set", f"text={number}", "--no-hooks")
        helm_cli("upgrade", "--install", "web", str(tmp_path / "puts.tgz"), "-n", theirs.namespace, *flags)
    release.ended(release.send("DELETE", "", {"options": {"keep_history": True, "no_hooks": True}}))
    helm_cli("uninstall", "web", "-n", theirs.namespace, "--keep-history", "--no-hooks")
    for revision in (2, None, 1):
        named = {"revision": revision} if revision is not None else {}
        release.ended(release.send("POST", "/rollback", {**named, "options": {"no_hooks": True}}))
        helm_cli("rollback", "web", *([str(revision)] if revision else []), "-n", theirs.namespace, "--no-hooks")
        assert release.helm_history() == theirs.helm_history()
        assert release.manifest() == theirs.manifest()
        assert release.get()["status"] == "deployed"


def test_a_rollback_without_a_number_goes_to_what_was_uninstalled_if_that_was_deployed(
    release: OwnRelease, server: RunningServer
):
    archive = build_chart("breaks", templates={"x.yaml": config_map_template("{{ .Values.suffix }}")}, values={})
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    kept = {"options": {"keep_history": True}}
    release.deployed(chart, {"set": "suffix=one"})
    release.ended(release.send("DELETE", "", kept))
    alone = release.send("POST", "/rollback")
    assert_error(alone, 404, "CCE.01404001")
    assert "to bring back what was uninstalled, name revision 1" in alone.json()["error_msg"]
    release.ended(release.send("POST", "/rollback", {"revision": 1}))
    release.ended(release.send("POST", "/rollback"))
    assert release.helm_history()[-2:] == [(2, "superseded", "Rollback to 1"), (3, "deployed", "Rollback to 1")]
    release.ended(release.put(chart, {"set": "suffix=Not_Valid"}), "failed")
    release.ended(release.send("DELETE", "", kept))
    release.ended(release.send("POST", "/rollback"))
    release.ended(release.send("POST", "/rollback"))
    assert release.helm_history()[3:] == [
        (4, "uninstalled", "Uninstallation complete"),
        (5, "superseded", "Rollback to 3"),
        (6, "deployed", "Rollback to 3"),
    ]


def uninstalled_in(release: OwnRelease) -> list[dict[str, Any]]:
    """The uninstalled releases of its namespace, once there are any."""
    until = time.monotonic() + 20
    while True:
        query = f"namespace={release.namespace}&status=uninstalled"
        found: list[dict[str, Any]] = release.server.send("GET", f"/api/v1/releases?{query}").json()
        if found or time.monotonic() > until:
            return found
        time.sleep(0.2)


def test_a_delete_can_keep_the_history_as_helm_does(
    release: OwnRelease, chart: str, helm_cli: HelmCommand, make_namespace: Callable[[], str], tmp_path: Path
):
    (tmp_path / "puts.tgz").write_bytes(ARCHIVE)
    theirs = OwnRelease(release.server, make_namespace(), "web", helm_cli)
    for number in (1, 2):
        release.deployed(chart, {"set": f"text={number}"}, no_hooks=True)
        helm_cli("upgrade", "--install", "web", str(tmp_path / "puts.tgz"), "-n", theirs.namespace, "--no-hooks")
    keeping = {"options": {"keep_history": True, "cascade": "foreground", "wait": "ready", "description": "no longer"}}
    ended = release.ended(release.send("DELETE", "", keeping))
    helm_cli("uninstall", "web", "-n", theirs.namespace, "--keep-history", "--description", "no longer")
    assert ended["text"] == "Uninstallation complete"
    assert release.helm_history() == theirs.helm_history()
    assert release.helm_history()[-1] == (2, "uninstalled", "no longer")
    for one in (theirs, release):  # whoever did it
        (listed,) = uninstalled_in(one)
        assert listed["uninstalled_at"] is not None
        assert listed["uninstalled_at"] > listed["updated_at"]
    assert release.get()["status"] == "uninstalled"
    again = release.send("DELETE", "", keeping)
    assert_error(again, *INVALID)
    assert "is uninstalled already" in again.json()["error_msg"]
    release.ended(release.send("POST", "/rollback", {"revision": 1}))
    assert release.helm_history()[-1] == (3, "deployed", "Rollback to 1")
    release.ended(release.send("DELETE"))
    assert_error(release.server.send("GET", release.path), 404, "CCE.01404001")
    assert json.loads(helm_cli("list", "-n", release.namespace, "-o", "json")) == []


BREAKING = build_chart(
    "breaking",
    templates={
        "a.yaml": config_map_template("{{ .Values.first }}"),
        "b.yaml": config_map_template("{{ .Values.last }}"),
    },
    values={"first": "a", "last": "b", "text": "x"},
)


@pytest.fixture(scope="module")
def breaking(server: RunningServer) -> str:
    """Two ConfigMaps, of which Kubernetes refuses the second if its name says so."""
    answer = server.upload(BREAKING, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def maps_of(release: OwnRelease, kubernetes: RunningCluster) -> set[str]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        found = {one.metadata.name for one in api.list(ConfigMap, namespace=release.namespace) if one.metadata}
    return {str(name) for name in found} - {"kube-root-ca.crt"}


def test_a_failed_upgrade_is_rolled_back_on_request(release: OwnRelease, breaking: str, kubernetes: RunningCluster):
    release.deployed(breaking)
    bad = [{"set": "first=new,last=Not_Valid"}]
    failed = release.ended(release.put(breaking, *bad, rollback_on_failure=True), "failed")
    assert failed["text"].startswith('Upgrade "web" failed: ')
    assert failed["text"].endswith("; rolled back to revision 1, as revision 3")
    assert [one[:2] for one in release.helm_history()] == [(1, "superseded"), (2, "failed"), (3, "deployed")]
    assert maps_of(release, kubernetes) == {"web-a", "web-b"}
    shown = release.get()
    assert (shown["status"], shown["revision"], shown["operation"]) == ("deployed", 3, None)
    events = release.server.send("GET", f"/api/v1/operations/{failed['id']}/events").json()
    assert "failure_undone" in [one["kind"] for one in events]
    evidence = release.server.send("GET", f"/api/v1/operations/{failed['id']}/evidence").json()
    assert len(evidence) == 1


def test_a_failed_install_is_uninstalled_on_request(
    release: OwnRelease, breaking: str, kubernetes: RunningCluster, helm_cli: HelmCommand
):
    failed = release.ended(release.put(breaking, {"set": "last=Not_Valid"}, rollback_on_failure=True), "failed")
    assert failed["text"].endswith("; uninstalled")
    assert json.loads(helm_cli("list", "-n", release.namespace, "-o", "json")) == []
    assert maps_of(release, kubernetes) == set()
    assert release.get()["status"] == "failed"
    assert release.deployed(breaking, rollback_on_failure=True)["action"] == "install"


def test_what_a_failed_upgrade_created_is_deleted_on_request(
    release: OwnRelease, breaking: str, kubernetes: RunningCluster
):
    release.deployed(breaking)
    release.ended(release.put(breaking, {"set": "first=kept,last=Not_Valid"}), "failed")
    assert maps_of(release, kubernetes) == {"web-a", "web-b", "web-kept"}
    bad = {"set": "first=new,last=Not_Valid"}
    release.ended(release.put(breaking, bad, cleanup_on_fail=True), "failed")
    assert maps_of(release, kubernetes) == {"web-a", "web-b", "web-kept"}
    assert [one[:2] for one in release.helm_history()][-1] == (3, "failed")


def test_who_may_not_update_is_refused_before_the_body_is_read(release: OwnRelease, chart: str):
    reader = add_person(release.server, "CCE ReadOnlyAccess").server
    assert_error(reader.send("PUT", release.path, body=b"{"), *FORBIDDEN)
    hidden = add_tenant(release.server).send("PUT", release.path, json_body={"chart": {"id": chart}})
    assert_error(hidden, 404, "CCE.01404001")
