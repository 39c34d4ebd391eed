"""Charts and values that abort, hang or bloat whatever renders them: each costs the request or operation that it is in.

Everything in the table is known to end or block a process that holds the Helm library.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.charts import build_chart, config_map_chart, pack_archive
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.wire import assert_error

INVALID = (400, "CCE.01400001")

_HOLDS_ITSELF = '{{ $d := dict }}{{ $_ := set $d "self" $d }}'


#: In every text that says which limit was passed, beside its value.
LIMIT = "the limit"


@dataclass(frozen=True)
class Hostile:
    """A chart that no process survives."""

    name: str
    templates: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)

    def archive(self) -> bytes:
        return build_chart(f"hostile-{self.name}", templates=self.templates, values=self.values)


def _cycle(length: int) -> str:
    links = (f'{{{{ define "a{n}" }}}}{{{{ include "a{(n + 1) % length}" . }}}}{{{{ end }}}}' for n in range(length))
    return "".join(links)


def _fan(width: int, depth: int) -> str:
    calls = (f'{{{{ define "f{n}" }}}}' + f'{{{{ include "f{n + 1}" . }}}}' * width + "{{ end }}" for n in range(depth))
    return "".join(calls) + f'{{{{ define "f{depth}" }}}}x{{{{ end }}}}'


TABLE = [
    Hostile("tpl", {"a.yaml": "{{ tpl .Values.x . }}"}, {"x": "{{ tpl .Values.x . }}"}),
    Hostile("cycle", {"_h.tpl": _cycle(200), "a.yaml": '{{ include "a0" . }}'}),
    Hostile("printed", {"a.yaml": _HOLDS_ITSELF + "{{ toString $d }}"}),
    Hostile("merged", {"a.yaml": _HOLDS_ITSELF + '{{ $_ := mergeOverwrite (dict "a" 1) $d $d }}{{ toYaml $d }}'}),
    Hostile("copied", {"a.yaml": _HOLDS_ITSELF + "{{ $_ := deepCopy $d }}"}),
    Hostile("fanned", {"_h.tpl": _fan(10, 12), "a.yaml": '{{ include "f0" . }}'}),
    Hostile("nested", {"a.yaml": "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"}),
    Hostile("counted", {"a.yaml": "{{ until 1000000000 }}"}),
    Hostile("repeated", {"a.yaml": '{{ repeat 2000000000 "ab" }}'}),
    Hostile("indented", {"a.yaml": '{{ indent 2000000000 "a" }}'}),
    Hostile("random", {"a.yaml": "{{ randAlphaNum 2000000000 }}"}),
]


def store(server: RunningServer, archive: bytes) -> str:
    """Return the chart's id; it is stored without lint, which would refuse it."""
    answer = server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def assert_works(server: RunningServer, namespace: str, helm_cli: HelmCommand, name: str) -> None:
    one = OneRelease(server, namespace, name, helm_cli)
    chart = store(server, config_map_chart("harmless"))
    assert one.create(chart).status_code == 201
    shown = one.settled()
    assert shown["status"] == "DEPLOYED", shown["status_description"]


@pytest.mark.parametrize("chart", TABLE, ids=lambda chart: chart.name)
def test_a_dry_run_ends_with_the_limit_and_the_next_create_succeeds(
    attacked: RunningServer, namespace: str, helm_cli: HelmCommand, chart: Hostile
):
    stored = store(attacked, chart.archive())
    answer = attacked.create(chart_id=stored, namespace=namespace, name="dry", parameters={"dry_run": True})
    message = assert_error(answer, *INVALID, "dry run", LIMIT)
    assert "goroutine" not in message
    assert_works(attacked, namespace, helm_cli, "after")


@pytest.mark.parametrize("chart", TABLE, ids=lambda chart: chart.name)
def test_the_upload_is_refused_with_the_limit(attacked: RunningServer, chart: Hostile):
    answer = attacked.upload(chart.archive(), parameters='{"override": true}')
    assert_error(answer, *INVALID, "helm lint", LIMIT)


@pytest.mark.parametrize("chart", [TABLE[0], TABLE[6], TABLE[8]], ids=lambda chart: chart.name)
def test_a_real_create_fails_with_the_limit_and_the_worker_goes_on(
    attacked: RunningServer, namespace: str, helm_cli: HelmCommand, chart: Hostile
):
    one = OneRelease(attacked, namespace, "real", helm_cli)
    body = {"chart_id": store(attacked, chart.archive()), "namespace": namespace, "name": "real"}
    path = f"/cce/cam/v3/clusters/{attacked.cluster_id}/releases"
    assert attacked.send("POST", path, json_body=body, headers={"X-Pilothouse-Timeout": "8"}).status_code == 201
    shown = one.settled()
    assert shown["status"] == "FAILED"
    text = shown["status_description"]
    assert LIMIT in text or "timed out after 8 s" in text, text
    assert "runtime" not in text, "what the dying process printed is for the server's log"
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []
    assert_works(attacked, namespace, helm_cli, "after")


def test_hostile_values_of_a_harmless_chart_cost_one_request(
    attacked: RunningServer, namespace: str, helm_cli: HelmCommand
):
    chart = store(attacked, build_chart("obliging", templates={"a.yaml": "{{ tpl .Values.x . }}"}, values={"x": ""}))
    values = {"x": "{{ tpl .Values.x . }}"}
    answer = attacked.create(
        chart_id=chart, namespace=namespace, name="values", values=values, parameters={"dry_run": True}
    )
    assert_error(answer, *INVALID, "dry run", LIMIT)
    assert_works(attacked, namespace, helm_cli, "after")


def test_a_hostile_name_template_costs_one_request(attacked: RunningServer, namespace: str, helm_cli: HelmCommand):
    chart = store(attacked, config_map_chart("named"))
    flags = {"name_template": "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"}
    answer = attacked.create(chart_id=chart, namespace=namespace, parameters=flags)
    assert_error(answer, *INVALID, "name_template", LIMIT)
    assert_works(attacked, namespace, helm_cli, "after")


def test_an_archive_of_34_kilobytes_that_would_be_gigabytes_is_refused_at_the_upload(
    attacked: RunningServer, namespace: str, helm_cli: HelmCommand
):
    inner = pack_archive(
        {"z/Chart.yaml": b"apiVersion: v2\nname: z\nversion: 1.0.0\n"}
        | {f"z/{n}": bytes(5_000_000) for n in range(19)},
        level=9,
    )
    nested = build_chart("bomb", subcharts={f"b{n}.tgz": inner for n in range(8)})
    deeper = build_chart("bombs", subcharts={"a.tgz": nested, "b.tgz": nested})
    for archive in (nested, deeper):
        assert len(archive) < 2_000_000
        assert_error(attacked.upload(archive, parameters='{"skip_lint": true}'), *INVALID, "unpacks to more than")
    assert_works(attacked, namespace, helm_cli, "after")


def test_a_library_chart_is_stored_and_not_installed(attacked: RunningServer, namespace: str):
    chart = store(attacked, build_chart("parts", chart_type="library", templates={"_a.tpl": ""}))
    answer = attacked.create(chart_id=chart, namespace=namespace, name="parts", parameters={"dry_run": True})
    assert_error(answer, *INVALID, "library chart")
