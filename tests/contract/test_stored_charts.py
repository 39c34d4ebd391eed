"""The chart that a revision of a release stores, as the chart of the next one: helm is the judge of what it makes."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.forwarder import Forwarder
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer
from tests.support.wire import assert_error

INVALID, MISSING = (400, "CCE.01400001"), (404, "CCE.01404001")
SCHEMA = '{"properties": {"text": {"type": "string"}}}'
FILES = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-files"}
data:
  large: "{{ .Values.large }} {{ .Values.fraction }}"
  greeting: {{ .Files.Get "greeting.txt" | quote }}
  binary: {{ .Files.Get "binary.dat" | b64enc }}
"""
ARCHIVE = build_chart(
    "nowhere",
    "1.2.3",
    templates={"files.yaml": FILES, "map.yaml": config_map_template(), "hook.yaml": hook_job_template("pre-upgrade"),
               "NOTES.txt": "hello {{ .Release.Name }}, {{ .Values.text }}\n"},
    values={"text": "x", "large": 1000000, "fraction": 1.0, "nested": {"a": None}},
    schema=SCHEMA,
    files={"greeting.txt": "hej\n", "binary.dat": bytes(range(256)), "README.md": "# Nowhere\n"},
    app_version="9",
)  # fmt: skip


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand, tmp_path: Path) -> OwnRelease:
    """A release that helm has installed from a chart that the server does not have."""
    (tmp_path / "nowhere.tgz").write_bytes(ARCHIVE)
    helm_cli("install", "web", str(tmp_path / "nowhere.tgz"), "-n", namespace, "--set", "text=installed")
    return OwnRelease(server, namespace, "web", helm_cli)


def put(release: OwnRelease, revision: int, *layers: dict[str, Any], **more: Any) -> Any:
    return release.send("PUT", "", {"chart": {"revision": revision}, "values": list(layers), **more})


def test_values_change_and_the_chart_is_the_one_of_the_revision(
    release: OwnRelease, helm_cli: HelmCommand, tmp_path: Path
):
    operation = release.ended(put(release, 1, {"set": "text=changed"}))

    assert (operation["action"], operation["revision"]) == ("upgrade", 2)
    ours = release.manifest()
    shown = release.get()
    assert (shown["chart_name"], shown["chart_version"], shown["app_version"]) == ("nowhere", "1.2.3", "9")
    assert shown["notes"] == "hello web, changed\n"
    helm_cli("upgrade", "web", str(tmp_path / "nowhere.tgz"), "-n", release.namespace, "--set", "text=changed")
    assert release.manifest() == ours
    # what it stores is whole again, whoever made it
    release.ended(put(release, 2, {"set": "text=again"}))
    release.ended(put(release, 4, {"set": "text=changed"}))
    assert release.manifest() == ours
    assert release.helm_values() == {"text": "changed"}


def test_it_is_planned_and_applied_and_its_schema_counts(release: OwnRelease):
    refused = put(release, 1, {"set": "text=5"})
    assert refused.status_code in (200, 400), refused.text
    assert "/text" in refused.text
    plan = release.send("POST", "/plan", {"deploy": {"chart": {"revision": 1}, "values": [{"set": "text=planned"}]}})
    assert plan.status_code == 201, plan.text
    assert plan.json()["text"].startswith("+0 ~1 -0")
    path = f"/api/v1/plans/{plan.json()['id']}/apply"
    body = {"digest": plan.json()["digest"]}
    applied = release.server.send("POST", path, json_body=body, headers={"Prefer": "wait=60"})
    release.ended(applied)
    assert release.helm_values() == {"text": "planned"}


def test_another_newest_revision_than_the_one_that_was_read_is_refused(
    release: OwnRelease, helm_cli: HelmCommand, tmp_path: Path
):
    newer = tmp_path / "newer.tgz"
    newer.write_bytes(
        build_chart("nowhere", "2.0.0", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    )
    release.ended(put(release, 1, {"set": "text=same"}, base_revision=1))
    text = "release 'web' moved: it is at revision 2 by now, and this request is for revision 1; nothing was done"
    assert_error(put(release, 1, base_revision=1), 409, "CCE.01409005", text)
    planned = {"deploy": {"chart": {"revision": 1}, "base_revision": 1}}
    assert_error(release.send("POST", "/plan", planned), 409, "CCE.01409005", text)

    moves = [lambda: helm_cli("upgrade", "web", str(newer), "-n", release.namespace)]

    def before(data: bytes) -> None:
        if data.startswith(b"PUT ") and moves:
            moves.pop()()

    address = urlsplit(release.server.url)
    forwarder = Forwarder(address.hostname or "", address.port or 0, before=before)
    try:
        url = f"http://127.0.0.1:{forwarder.port}"
        place = ("-n", release.namespace, "--cluster", release.server.cluster_id)
        refused = release.server.command("upgrade", "web", "--reuse-chart", *place, variables={"PILOTHOUSE_URL": url})
    finally:
        forwarder.stop()
    assert not moves
    assert refused.returncode != 0
    assert "release 'web' moved: it is at revision 3 by now, and this request is for revision 2" in refused.stderr
    assert [one[0] for one in release.helm_history()] == [1, 2, 3]
    release.server.wait_until_shown(release.namespace, "web", revision=3)
    again = release.server.command("upgrade", "web", "--reuse-chart", *place)
    assert again.returncode == 0, again
    assert release.get()["chart_version"] == "2.0.0"


def test_it_is_in_no_list_of_charts(release: OwnRelease):
    release.ended(put(release, 1))
    assert release.server.send("GET", "/api/v1/charts?name=nowhere").json() == []


@pytest.mark.parametrize(
    ("chart", "said"),
    [
        ({"revision": 1, "id": "x"}, "chart: revision goes with none of id, source"),
        ({}, "chart: must have either id, or source and name"),
        ({"revision": 0}, "chart.revision: must be at least 1"),
        ({"revision": 1, "digest": "0" * 64}, "chart: revision goes with none of id, source"),
    ],
)
def test_what_names_no_chart_is_refused(server: RunningServer, chart: dict[str, Any], said: str):
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/default/releases/none"
    assert_error(server.send("PUT", path, json_body={"chart": chart}), *INVALID, said)


def test_a_revision_that_is_not_there_or_whose_chart_has_subcharts_is_refused_with_the_reason(
    release: OwnRelease, helm_cli: HelmCommand, tmp_path: Path
):
    refused = assert_error(put(release, 7), *MISSING, "chart.revision: release 'web' has no revision 7")
    assert "its history lists" in refused
    part = build_chart("part", templates={"map.yaml": config_map_template("part")}, values={"text": "p"})
    whole = build_chart("whole", templates={}, subcharts={"part-0.1.0.tgz": part})
    (tmp_path / "whole.tgz").write_bytes(whole)
    helm_cli("upgrade", "web", str(tmp_path / "whole.tgz"), "-n", release.namespace)
    refused = assert_error(put(release, 2), *INVALID, "chart.revision: revision 2: chart whole 0.1.0 has subcharts")
    assert refused.endswith("upload the chart, and send its id")


def test_a_release_that_was_uninstalled_is_not_the_one_that_was_read(release: OwnRelease):
    release.ended(release.send("DELETE", "", {"options": {"keep_history": True}}))
    text = "release 'web' was uninstalled; nothing was done: send the request without base_revision"
    assert_error(put(release, 1, base_revision=1), 409, "CCE.01409005", text)
    planned = {"deploy": {"chart": {"revision": 1}, "base_revision": 1}}
    assert_error(release.send("POST", "/plan", planned), 409, "CCE.01409005", text)
    assert release.ended(put(release, 1))["action"] == "install"
