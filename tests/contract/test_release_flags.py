"""The flags of Create Release do what the page says, and nothing else."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Secret

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.servers import RunningServer
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
CONFLICT = (409, "CCE.01409001")


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    """One ConfigMap, whose name is refused by the cluster when ``suffix`` says so, and a hook before it."""
    archive = build_chart(
        "flags",
        "2.0.0",
        templates={
            "config.yaml": config_map_template(suffix="{{ .Values.suffix }}"),
            "hook.yaml": hook_job_template("pre-install"),
        },
        values={"text": "hello", "suffix": "config", "nested": {"kept": True}},
    )
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def names_of(kubernetes: RunningCluster, kind: Any, namespace: str) -> list[str]:
    """Return what is in the namespace, but for what Kubernetes itself puts into every one."""
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        found = [one.metadata.name for one in api.list(kind, namespace=namespace)]
    return sorted(name for name in found if name != "kube-root-ca.crt")


def test_a_dry_run_answers_like_a_create_and_stores_nothing(
    server: RunningServer,
    chart_id: str,
    namespace: str,
    helm_cli: Callable[..., str],
    kubernetes: RunningCluster,
):
    answer = server.create(
        name="dry", namespace=namespace, chart_id=chart_id, values={"text": "dust"}, parameters={"dry_run": True}
    )
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert len(shown) == 16
    assert (shown["status"], shown["version"]) == ("PENDING_INSTALL", 1)
    assert shown["status_description"] == shown["description"] == "Dry run complete"
    assert json.loads(shown["values"]) == {"text": "dust", "suffix": "config", "nested": {"kept": True}}
    assert "x-operation-id" not in answer.headers

    assert_error(server.show(namespace, "dry"), 404, "CCE.01404001")
    listed = server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases?namespace={namespace}")
    assert listed.json() == []
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []
    assert names_of(kubernetes, Secret, namespace) == []
    assert names_of(kubernetes, ConfigMap, namespace) == []
    assert names_of(kubernetes, Job, namespace) == []


def test_a_dry_run_asks_the_cluster_what_it_knows(server: RunningServer, namespace: str):
    template = "apiVersion: example.com/v1\nkind: {{ .Values.kind }}\nmetadata:\n  name: x\n"
    uploaded = server.upload(
        build_chart("kinds", templates={"x.yaml": template}, values={"kind": "Unheard"}),
        parameters='{"override": true}',
    )
    body: dict[str, Any] = {"name": "dry", "namespace": namespace, "chart_id": uploaded.json()["id"]}
    assert_error(server.create(**body, parameters={"dry_run": True}), *INVALID, "Unheard")


def test_a_dry_run_of_a_name_in_use_is_a_conflict(server: RunningServer, chart_id: str, namespace: str):
    body: dict[str, Any] = {"name": "real", "namespace": namespace, "chart_id": chart_id}
    assert server.create(**body).status_code == 201
    assert server.wait_until_final(namespace, "real")["status"] == "DEPLOYED"
    assert_error(server.create(**body, parameters={"dry_run": True}), *CONFLICT, "'real'")


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": None}], ids=["absent", "empty", "null"])
def test_a_name_template_makes_the_name_when_none_is_given(
    server: RunningServer, chart_id: str, namespace: str, body: dict[str, Any]
):
    answer = server.create(
        **body,
        namespace=namespace,
        chart_id=chart_id,
        parameters={"name_template": 'made-{{ randAlphaNum 6 | lower }}-{{ "X" | lower }}'},
    )
    assert answer.status_code == 201, answer.text
    name = answer.json()["name"]
    assert re.fullmatch(r"made-[a-z0-9]{6}-x", name)
    assert server.wait_until_final(namespace, name)["status"] == "DEPLOYED"


@pytest.mark.parametrize("template", ["other-{{ randAlpha 4 | lower }}", "string", "{{ broken", ""])
def test_a_given_name_wins_over_the_template(server: RunningServer, chart_id: str, namespace: str, template: str):
    answer = server.create(
        name="given",
        namespace=namespace,
        chart_id=chart_id,
        parameters={"name_template": template, "dry_run": True},
    )
    assert (answer.status_code, answer.json().get("name")) == (201, "given")


@pytest.mark.parametrize(
    "template", ["{{ broken", "{{ nosuchfunction }}", "UPPER", "{{ .Missing.Field }}", "a" * 54, "{{ fail `boom` }}"]
)
def test_a_name_template_that_makes_no_name_is_refused(
    server: RunningServer, chart_id: str, namespace: str, template: str
):
    answer = server.create(namespace=namespace, chart_id=chart_id, parameters={"name_template": template})
    assert_error(answer, *INVALID, "name_template")


def test_a_name_template_has_one_second(server: RunningServer, chart_id: str, namespace: str):
    endless = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"
    began = time.monotonic()
    answer = server.create(namespace=namespace, chart_id=chart_id, parameters={"name_template": endless})
    assert_error(answer, *INVALID, "name_template: stopped after 1 s, the limit")
    assert 1 <= time.monotonic() - began < 15  # on a busy machine; other calls of the engine have 30 s


def test_no_hooks_leaves_the_hook_out(
    server: RunningServer,
    chart_id: str,
    namespace: str,
    helm_cli: Callable[..., str],
    kubernetes: RunningCluster,
):
    for name, parameters in (("with", {}), ("without", {"no_hooks": True})):
        made = server.create(name=name, namespace=namespace, chart_id=chart_id, parameters=parameters)
        assert made.status_code == 201, made.text
    for name in ("with", "without"):
        assert server.wait_until_final(namespace, name)["status"] == "DEPLOYED"
    assert names_of(kubernetes, Job, namespace) == ["with-hook"]
    assert names_of(kubernetes, ConfigMap, namespace) == ["with-config", "without-config"]
    phases = [
        json.loads(helm_cli("status", name, "-n", namespace, "-o", "json"))["hooks"][0]["last_run"].get("phase")
        for name in ("with", "without")
    ]
    assert phases[0] == "Succeeded"
    assert phases[1] != "Succeeded"


def test_replace_takes_the_place_of_a_failed_release(
    server: RunningServer, chart_id: str, namespace: str, helm_cli: Callable[..., str]
):
    body: dict[str, Any] = {"name": "again", "namespace": namespace, "chart_id": chart_id}
    assert server.create(**body, values={"suffix": "Not_A_Name"}).status_code == 201
    assert server.wait_until_final(namespace, "again")["status"] == "FAILED"
    assert_error(server.create(**body), *CONFLICT, "'again'", "failed")
    answer = server.create(**body, parameters={"replace": True})
    assert answer.status_code == 201, answer.text
    made = server.wait_until_final(namespace, "again")
    assert (made["status"], made["version"]) == ("DEPLOYED", 2)
    history = json.loads(helm_cli("history", "again", "-n", namespace, "-o", "json"))
    assert [(one["revision"], one["status"]) for one in history][-1] == (2, "deployed")


def test_replace_does_not_touch_a_deployed_release(
    server: RunningServer, chart_id: str, namespace: str, helm_cli: Callable[..., str]
):
    body: dict[str, Any] = {"name": "kept", "namespace": namespace, "chart_id": chart_id}
    assert server.create(**body, parameters={"replace": True}).status_code == 201
    assert server.wait_until_final(namespace, "kept")["status"] == "DEPLOYED"
    assert_error(server.create(**body, parameters={"replace": True}), *CONFLICT, "'kept'", "deployed")
    assert len(json.loads(helm_cli("history", "kept", "-n", namespace, "-o", "json"))) == 1


def test_flags_that_exist_for_updates_are_accepted_and_ignored(server: RunningServer, chart_id: str, namespace: str):
    flags = {"recreate": True, "reset_values": True, "include_hooks": True, "release_version": 7, "from_2031": "x"}
    answer = server.create(name="plain", namespace=namespace, chart_id=chart_id, parameters=flags, unknown_field=[1])
    assert answer.status_code == 201, answer.text
    made = server.wait_until_final(namespace, "plain")
    assert (made["status"], made["version"], made["status_description"]) == ("DEPLOYED", 1, "Install complete")


@pytest.mark.parametrize("text", ["made by the night shift", "Schicht \u00fc \U0001f680 \u4e2d\u6587", "x" * 2000])
def test_the_callers_description_is_kept_beside_helms(server: RunningServer, chart_id: str, namespace: str, text: str):
    answer = server.create(name="told", namespace=namespace, chart_id=chart_id, description=text).json()
    assert (answer["description"], answer["status_description"]) == (text, "Initial install underway")
    made = server.wait_until_final(namespace, "told")
    assert (made["description"], made["status_description"]) == (text, "Install complete")


def test_values_of_every_kind_reach_helm_as_they_were_sent(
    server: RunningServer, chart_id: str, namespace: str, helm_cli: Callable[..., str]
):
    values = {
        "text": '\u00fc\U0001f680 \u4e2d\u6587 "quoted" \\ {{ .NotATemplate }}',
        "y": "no",
        "int": 2**53 - 1,
        "float": 1.5,
        "flag": False,
        "list": [1, "two", {"three": []}],
        "empty": {},
        "nested": {"added": {"deep": "x"}},
        "a.b/c": "odd key",
    }
    assert server.create(name="v", namespace=namespace, chart_id=chart_id, values=values).status_code == 201
    made = server.wait_until_final(namespace, "v")
    assert made["status"] == "DEPLOYED", made["status_description"]
    assert json.loads(helm_cli("get", "values", "v", "-n", namespace, "-o", "json")) == values
    whole = json.loads(helm_cli("get", "values", "v", "-n", namespace, "--all", "-o", "json"))
    assert json.loads(made["values"]) == whole
    assert whole["nested"] == {"kept": True, "added": {"deep": "x"}}


@pytest.mark.parametrize(
    ("header", "text"),
    [
        *[("X-Pilothouse-Wait", text) for text in ("forever", "true", "none,ready", "1")],
        *[
            ("X-Pilothouse-Timeout", text)
            for text in ("0", "-1", "1.5", "5m", "1e3", "3601", "999999999999", "00000000199999999999", "0x10")
        ],
    ],
)
def test_a_bad_wait_or_timeout_is_refused(server: RunningServer, chart_id: str, namespace: str, header: str, text: str):
    body = {"name": "w", "namespace": namespace, "chart_id": chart_id, "parameters": {"dry_run": True}}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    assert_error(server.send("POST", path, json_body=body, headers={header: text}), *INVALID, header)


def test_a_timeout_over_the_servers_longest_is_refused_with_that_limit(
    server: RunningServer, chart_id: str, namespace: str
):
    body = {"name": "w", "namespace": namespace, "chart_id": chart_id}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    answer = server.send("POST", path, json_body=body, headers={"X-Pilothouse-Timeout": "86400"})
    assert_error(answer, *INVALID, "from 1 to 3600", "PILOTHOUSE_WORKER__LONGEST_TIMEOUT_SECONDS")


@pytest.mark.parametrize("wait", ["none", "hooks", "READY"])
def test_a_good_wait_and_timeout_are_accepted(server: RunningServer, chart_id: str, namespace: str, wait: str):
    body = {"name": "w", "namespace": namespace, "chart_id": chart_id}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    headers = {"X-Pilothouse-Wait": wait, "X-Pilothouse-Timeout": "60"}
    answer = server.send("POST", path, json_body=body, headers=headers)
    assert answer.status_code == 201, answer.text
    made = server.wait_until_final(namespace, "w")
    assert made["status"] == "DEPLOYED", made["status_description"]


def test_values_may_be_the_text_in_which_releases_show_them(server: RunningServer, chart_id: str, namespace: str):
    first = server.create(name="t", namespace=namespace, chart_id=chart_id, values='{"text": "from a text"}')
    assert first.status_code == 201, first.text
    assert json.loads(server.wait_until_final(namespace, "t")["values"])["text"] == "from a text"
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/t"
    body = {"chart_id": chart_id, "action": "upgrade", "values": first.json()["values"], "parameters": {}}
    answer = server.send("PUT", path, json_body=body)
    assert answer.status_code == 200, answer.text
    assert json.loads(server.wait_until_final(namespace, "t")["values"])["text"] == "from a text"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("[1]", "values: must be a JSON object, not an array"),
        ('"{}"', "values: must be a JSON object, not a string"),
        ("null", "values: must be a JSON object, not null"),
        ("text: yaml", "values: not valid JSON"),
        ("", "values: not valid JSON"),
        ('{"a": "\\u0000"}', "a: contains a NUL character"),
    ],
)
def test_values_in_a_text_that_holds_no_object_are_refused(
    server: RunningServer, chart_id: str, namespace: str, values: str, told: str
):
    answer = server.create(name="t", namespace=namespace, chart_id=chart_id, values=values)
    assert_error(answer, *INVALID, told)
