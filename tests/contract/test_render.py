"""Rendering in the native API: what ``helm template`` prints, with and without a cluster."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.users import add_person
from tests.support.wire import assert_error

ABOUT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-about", namespace: "{{ .Release.Namespace }}"}
data:
  version: {{ .Capabilities.KubeVersion.Version | quote }}
  has: {{ .Capabilities.APIVersions.Has "example.com/v1" | quote }}
  upgrade: {{ .Release.IsUpgrade | quote }}
  values: {{ .Values | toJson | quote }}
  namespaces: {{ len (lookup "v1" "Namespace" "" "kube-system") | quote }}
"""
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.render.example.com}
spec: {group: render.example.com}
"""
ARCHIVE = build_chart(
    "render",
    "1.0.0",
    templates={
        "about.yaml": ABOUT,
        "map.yaml": config_map_template(),
        "hook.yaml": hook_job_template("pre-install"),
        "tests/test.yaml": hook_job_template("test", suffix="test"),
        "NOTES.txt": "Hello {{ .Values.text }}.",
    },
    values={"text": "default-text"},
    files={"crds/widget.yaml": CRD},
)


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    answer = server.upload(ARCHIVE, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ask(server: RunningServer, body: dict[str, Any], *, accept: str = "") -> httpx2.Response:
    headers = {"Accept": accept} if accept else {}
    return server.send("POST", "/api/v1/render", json_body=body, headers=headers, timeout=60)


def documents(text: str) -> list[tuple[str, Any]]:
    """The documents with their sources, in order."""
    parts = re.split(r"^---\n", text, flags=re.MULTILINE)
    return [(part.splitlines()[0], yaml.safe_load(part)) for part in parts if part.strip()]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, []),
        ({"include_crds": True, "kube_version": "1.27.3"}, ["--include-crds", "--kube-version", "1.27.3"]),
        (
            {"api_versions": ["example.com/v1"], "is_upgrade": True, "no_hooks": True},
            ["-a", "example.com/v1", "--is-upgrade", "--no-hooks"],
        ),
        ({"skip_tests": True}, ["--skip-tests"]),
        (
            {"show_only": ["templates/m*.yaml", "templates/hook.yaml"]},
            ["-s", "templates/m*.yaml", "-s", "templates/hook.yaml"],
        ),
    ],
)
def test_it_prints_what_helm_template_prints(  # noqa: PLR0917  # fixtures
    server: RunningServer, chart: str, helm_cli: HelmCommand, tmp_path: Path, options: dict[str, Any], flags: list[str]
):
    (tmp_path / "render.tgz").write_bytes(ARCHIVE)
    layers = [{"yaml": "text: one\n"}, {"set": "count=3,large=12345678901"}]
    body = {"chart": {"id": chart}, "values": layers, "name": "web", "namespace": "shop", "options": options}

    answer = ask(server, body, accept="application/yaml")

    assert answer.status_code == 200, answer.text
    (tmp_path / "values.yaml").write_text("text: one\n")
    given = ["-f", str(tmp_path / "values.yaml"), "--set", "count=3,large=12345678901"]
    printed = helm_cli("template", "web", str(tmp_path / "render.tgz"), "-n", "shop", *given, *flags)
    assert documents(answer.text) == documents(printed)


def test_with_a_cluster_it_sees_what_that_has(server: RunningServer, chart: str, namespace: str):
    body = {"chart": {"id": chart}, "name_template": 'web-{{ upper "x" | lower }}', "namespace": namespace}

    shown = ask(server, {**body, "cluster": server.cluster_id})

    assert shown.status_code == 200, shown.text
    rendered = shown.json()
    about = next(one for _, one in documents(rendered["manifest"]) if one["metadata"]["name"] == "web-x-about")
    assert about["data"]["namespaces"] != "0"
    assert (rendered["name"], rendered["notes"]) == ("web-x", "Hello default-text.")
    assert [hook["path"] for hook in rendered["hooks"]] == [
        "render/templates/hook.yaml",
        "render/templates/tests/test.yaml",
    ]
    alone = ask(server, body).json()
    assert [one["data"]["namespaces"] for _, one in documents(alone["manifest"]) if "about" in str(one)] == ["0"]


def test_values_are_masked_and_a_cluster_is_asked_for_who_may_create_only(server: RunningServer, chart: str):
    reader = add_person(server, "CCE ReadOnlyAccess").server
    body = {"chart": {"id": chart}, "values": [{"set": "text=top-secret-text"}]}

    shown = ask(reader, body)

    assert shown.status_code == 200, shown.text
    assert "top-secret-text" not in shown.text
    assert "top-secret-text" in ask(server, body).text
    assert_error(ask(reader, {**body, "cluster": server.cluster_id}), 403, "CCE.01403001")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"options": {"show_only": ["templates/none.yaml"]}}, "could not find template templates/none.yaml in chart"),
        ({"options": {"kube_version": "new"}}, "invalid kube version 'new'"),
        ({"values": [{"yaml": "a: [", "name": "mine.yaml"}]}, "values[0] (mine.yaml), line 2, column 1"),
        ({"options": {"kube_versoin": "1.27.3"}}, "did you mean kube_version?"),
        ({"name": "No"}, "name:"),
    ],
)
def test_what_cannot_be_rendered_is_told(server: RunningServer, chart: str, changes: dict[str, Any], text: str):
    answer = ask(server, {"chart": {"id": chart}, **changes})

    assert answer.status_code == 400, answer.text
    assert text in answer.json()["error_msg"]
