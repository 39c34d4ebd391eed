"""Helm's lint stands between an upload and the store: its errors refuse, with what it found, and hostile charts die."""

import json
import uuid
from typing import Any

import pytest

from tests.support.charts import build_chart, config_map_chart, config_map_template, pack_archive
from tests.support.servers import RunningServer
from tests.support.wire import assert_error

INVALID = (400, "CCE.01400001")
SKIPPED = '{"skip_lint": true}'


def fresh_name() -> str:
    return f"lint-{uuid.uuid4().hex[:10]}"


FLAWED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown-function": ({"templates": {"x.yaml": "{{ nothing }}"}}, ("[ERROR] templates/", '"nothing" not defined')),
    "broken-yaml": ({"templates": {"x.yaml": "a: [\n"}}, ("[ERROR] templates/x.yaml", "unable to parse YAML")),
    "broken-action": ({"templates": {"x.yaml": "a: {{ .Values.x "}}, ("[ERROR] templates/", "x.yaml:1")),
    "own-schema": ({"schema": '{"required": ["z"]}', "values": {"a": 1}}, ("[ERROR] values.yaml", "'z'")),
    "undeclared-subchart": (
        {"subcharts": {"inner-0.1.0.tgz": config_map_chart("inner")}},
        ("[ERROR] ", "dependencies: inner"),
    ),
    "annotations-that-are-a-list": ({"metadata": {"annotations": ["a"]}}, ("[ERROR] ", "annotations")),
    "dependencies-that-are-text": ({"metadata": {"dependencies": "none"}}, ("[ERROR] ", "dependencies")),
    "keywords-that-are-a-map": ({"metadata": {"keywords": {"a": "b"}}}, ("[ERROR] ", "keywords")),
    "sources-that-are-text": ({"metadata": {"sources": "https://example.org"}}, ("[ERROR] ", "sources")),
    "warnings-follow": (
        {"templates": {"x.yaml": "a: [\n"}, "version": "v1"},
        ("[ERROR] templates/x.yaml", "; [WARNING] Chart.yaml: version 'v1' is not a valid SemVerV2"),
    ),
}


@pytest.mark.parametrize(("flaw", "words"), FLAWED.values(), ids=FLAWED.keys())
def test_what_lint_calls_an_error_is_refused_with_file_severity_and_message(
    server: RunningServer, flaw: dict[str, Any], words: tuple[str, ...]
):
    name = fresh_name()
    archive = build_chart(name, **flaw)
    for parameters in (None, "{}", '{"skip_lint": false}', '{"skip_lint": null}'):
        message = assert_error(server.upload(archive, parameters=parameters), *INVALID, "helm lint", *words)
        assert "skip_lint" in message
        assert "/helm-lint" not in message, "no path of this machine"
        assert "\n" not in message
    skipped = server.upload(archive, parameters=SKIPPED)
    assert (skipped.status_code, skipped.json().get("name")) == (201, name)


@pytest.mark.parametrize(
    "chart",
    [
        {"values": None},
        {"templates": {"x.yaml": "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata:\n  name: A_b\n"}},
        {"templates": {"x.yaml": '{{ required "a password is needed" .Values.password }}'}},
        {"chart_type": "library", "templates": {"_x.tpl": '{{ define "x" }}{{ end }}'}},
        {"schema": '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}', "values": {"a": 1}},
    ],
    ids=["no-values-no-templates", "deprecated-kind", "required-value", "library", "schema"],
)
def test_a_chart_that_is_only_warned_about_is_stored(server: RunningServer, chart: dict[str, Any]):
    assert server.upload(build_chart(fresh_name(), **chart)).status_code == 201


def test_warnings_of_lint_come_back_with_the_upload(server: RunningServer):
    name = fresh_name()
    archive = build_chart(name, "v1", templates={"x.yaml": config_map_template()}, values={"text": "\u00e9"})
    answer = server.upload(archive)
    assert answer.status_code == 201, answer.text
    (warning,) = json.loads(answer.headers["x-pilothouse-lint"])
    assert warning == "[WARNING] Chart.yaml: version 'v1' is not a valid SemVerV2"
    assert "x-pilothouse-lint" not in server.upload(archive, parameters='{"skip_lint": true, "override": true}').headers
    odd = "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata:\n  name: A_b\n"
    many = {f"{number}.yaml": odd for number in range(50)}
    told = server.upload(build_chart(fresh_name(), templates=many)).headers["x-pilothouse-lint"]
    assert len(told) <= 4096
    assert json.loads(told)


def test_a_library_chart_is_stored_and_not_installed(server: RunningServer, namespace: str):
    library = server.upload(build_chart(fresh_name(), chart_type="library")).json()
    body = {"chart_id": library["id"], "name": "no", "namespace": namespace, "version": "", "values": {}}
    dry = server.create(**body, parameters={"dry_run": True})
    assert_error(dry, *INVALID, "library chart")
    assert server.create(**body).status_code == 201
    failed = server.wait_until_final(namespace, "no")
    assert (failed["status"], "library chart" in failed["status_description"]) == ("FAILED", True)


def test_many_findings_are_cut_to_a_readable_text(server: RunningServer):
    templates = {f"t{n:03}.yaml": "apiVersion: v1\nkind: X\nmetadata: {name: a}\nA: [\n" for n in range(200)}
    message = assert_error(server.upload(build_chart(fresh_name(), templates=templates)), *INVALID, "[ERROR]")
    assert len(message) < 10_000


HOSTILE = {
    "values-that-recurse-through-tpl": (
        {"values": {"x": "{{ tpl .Values.x . }}"}, "templates": {"a.yaml": "{{ tpl .Values.x . }}"}},
        r"limit",
    ),
    "include-cycle": (
        {
            "templates": {
                "_h.tpl": "".join(
                    f'{{{{ define "a{n}" }}}}{{{{ include "a{(n + 1) % 200}" . }}}}{{{{ end }}}}' for n in range(200)
                ),
                "a.yaml": '{{ include "a0" . }}',
            }
        },
        "stack",
    ),
    "a-dict-that-holds-itself": (
        {"templates": {"a.yaml": '{{ $d := dict "a" 1 }}{{ $_ := set $d "d" $d }}{{ $d }}'}},
        "stack",
    ),
    "a-huge-list": ({"templates": {"a.yaml": "{{ until 1000000000 }}"}}, "memory"),
    "a-huge-text": ({"templates": {"a.yaml": '{{ repeat 2000000000 "ab" }}'}}, "memory"),
    "a-huge-indent": ({"templates": {"a.yaml": '{{ indent 2000000000 "ab" }}'}}, "memory"),
}


@pytest.mark.parametrize(("chart", "limit"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_chart_costs_its_own_upload_and_says_which_limit_it_hit(
    server: RunningServer, chart: dict[str, Any], limit: str
):
    assert_error(server.upload(build_chart(fresh_name(), **chart)), *INVALID, "helm lint", limit, "the limit")
    assert server.upload(config_map_chart(fresh_name())).status_code == 201


def test_a_remote_schema_is_refused_by_lint_and_stored_without(server: RunningServer):
    for reference in ("http://127.0.0.1:9/x.json", "file:///etc/passwd"):
        archive = build_chart(fresh_name(), schema=json.dumps({"$ref": reference}))
        assert_error(server.upload(archive), *INVALID, "values.schema.json", reference)
        assert server.upload(archive, parameters=SKIPPED).status_code == 201


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("./", "templates/x.yaml"),
        ("other/", "templates//./x.yaml"),
        ("d/", "templates/" + "n" * 200 + ".yaml"),
        ("d/", "templates/\u4e2d.yaml"),
    ],
    ids=["a-dot-as-folder", "a-folder-of-another-name", "a-long-name", "a-foreign-name"],
)
def test_lint_opens_what_our_own_reader_accepts(server: RunningServer, folder: str, path: str):
    chart = f"apiVersion: v2\nname: {fresh_name()}\nversion: 0.1.0\n".encode()
    answer = server.upload(pack_archive({f"{folder}Chart.yaml": chart, f"{folder}{path}": b"a: b\n"}))
    assert answer.status_code == 201, answer.text
