"""``pilothouse chart``: what a person does with charts, against a real server."""

import hashlib
import json
import uuid
from pathlib import Path

import pytest

from tests.support.charts import build_chart, config_map_chart
from tests.support.servers import RunningServer


def fresh_name() -> str:
    return f"command-{uuid.uuid4().hex[:10]}"


def write(folder: Path, archive: bytes) -> str:
    file = folder / "a chart.tgz"
    file.write_bytes(archive)
    return str(file)


def test_a_chart_is_uploaded_shown_updated_fetched_and_deleted(server: RunningServer, tmp_path: Path):
    name = fresh_name()
    first = config_map_chart(name, "1.0.0")
    made = server.command("chart", "upload", write(tmp_path, first), "-o", "json")
    assert (made.returncode, made.stderr) == (0, "")
    chart = json.loads(made.stdout)
    assert (chart["name"], chart["version"]) == (name, "1.0.0")
    listed = json.loads(server.command("chart", "list", "-o", "json").stdout)
    assert {**chart, "signed_by": ""} in listed
    assert json.loads(server.command("chart", "show", chart["id"], "-o", "json").stdout) == chart
    assert json.loads(server.command("chart", "values", chart["id"], "-o", "json").stdout) == {"text": "hello"}
    assert server.command("chart", "values", chart["id"]).stdout == "text: hello\n"

    fetched = server.command("chart", "download", chart["id"], "-o", "json", folder=tmp_path)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert json.loads(fetched.stdout) == {
        "file": f"{name}-1.0.0.tgz",
        "size": len(first),
        "sha256": hashlib.sha256(first).hexdigest(),
    }
    assert (tmp_path / f"{name}-1.0.0.tgz").read_bytes() == first
    again = server.command("chart", "download", chart["id"], folder=tmp_path)
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    assert server.command("chart", "download", chart["id"], "--force", folder=tmp_path).returncode == 0

    second = write(tmp_path, config_map_chart(name, "2.0.0", text="changed"))
    updated = server.command("chart", "update", chart["id"], second, "--hidden", "--source", "package", "-o", "json")
    assert (updated.returncode, updated.stderr) == (0, "")
    assert {key: json.loads(updated.stdout)[key] for key in ("id", "version")} == {
        "id": chart["id"],
        "version": "2.0.0",
    }
    deleted = server.command("chart", "delete", chart["id"], "-o", "json")
    assert json.loads(deleted.stdout) == json.loads(updated.stdout)
    gone = server.command("chart", "show", chart["id"])
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "does not exist" in gone.stderr


def test_warnings_of_lint_are_printed_beside_the_answer(server: RunningServer, tmp_path: Path):
    name = fresh_name()
    odd = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: A_b\n"
    warned = write(tmp_path, build_chart(name, templates={"x.yaml": odd}))
    made = server.command("chart", "upload", warned, "-o", "json")
    assert (made.returncode, json.loads(made.stdout)["name"]) == (0, name)
    assert made.stderr.startswith("[WARNING] templates/x.yaml: object name does not conform")
    updated = server.command("chart", "update", name, warned)
    assert (updated.returncode, updated.stderr) == (0, made.stderr)
    skipped = server.command("chart", "update", name, warned, "--skip-lint")
    assert (skipped.returncode, skipped.stderr) == (0, "")


def test_a_chart_is_named_by_its_name_and_by_its_version_where_it_has_several(server: RunningServer, tmp_path: Path):
    name = fresh_name()
    ids = {}
    for version in ("1.0.0", "2.0.0"):
        made = server.command("chart", "upload", write(tmp_path, config_map_chart(name, version)), "-o", "json")
        ids[version] = json.loads(made.stdout)["id"]
        if version == "1.0.0":
            assert json.loads(server.command("chart", "show", name, "-o", "json").stdout)["id"] == ids[version]
    ambiguous = server.command("chart", "show", name)
    assert (ambiguous.returncode, ambiguous.stdout) == (1, "")
    for version, chart_id in ids.items():
        assert f"{name}@{version} ({chart_id})" in ambiguous.stderr
    shown = server.command("chart", "show", f"{name}@1.0.0", "-o", "json")
    assert json.loads(shown.stdout)["id"] == ids["1.0.0"]
    for wanted, told in (
        (f"{name}@3.0.0", f"has no uploaded version '3.0.0'; there is {name}@2.0.0, {name}@1.0.0\n"),
        (f"{name}-1.0.0", f"no chart of this project is named '{name}-1.0.0'"),
    ):
        unknown = server.command("chart", "delete", wanted)
        assert (unknown.returncode, told in unknown.stderr) == (1, True), unknown.stderr
    assert server.command("chart", "delete", f"{name}@1.0.0").returncode == 0
    assert json.loads(server.command("chart", "values", name, "-o", "json").stdout) == {"text": "hello"}
    assert server.command("chart", "delete", name).returncode == 0


def test_the_quota_is_shown_for_the_keys_project(server: RunningServer):
    shown = server.command("chart", "quota", "-o", "json", variables={"PILOTHOUSE_PROJECT_ID": server.project_id})
    (quota,) = json.loads(shown.stdout)
    assert (quota["type"], quota["quota"]) == ("Charts", 5000)
    foreign = server.command("chart", "quota", "--project", "someone-elses")
    assert (foreign.returncode, foreign.stdout) == (1, "")
    assert "no project of this account is named 'someone-elses'" in foreign.stderr


def test_tables_name_their_columns_and_show_what_the_server_said(server: RunningServer, tmp_path: Path):
    name = fresh_name()
    archive = build_chart(name, metadata={"description": "[red]not[/red] markup"})
    made = server.command("chart", "upload", write(tmp_path, archive))
    assert made.returncode == 0
    assert made.stdout.split()[:3] == ["id", "name", "version"]
    assert "[red]not[/red] markup" in made.stdout
    assert name in server.command("chart", "list").stdout
    table = server.command("chart", "quota", variables={"PILOTHOUSE_PROJECT_ID": server.project_id})
    assert table.stdout.split()[:3] == ["type", "quota", "used"]
    chart_id = json.loads(server.command("chart", "list", "-o", "json").stdout)[0]["id"]
    assert "was deleted" in server.command("chart", "delete", chart_id).stdout


def test_what_the_server_refuses_is_said_without_a_traceback(server: RunningServer, tmp_path: Path):
    name = fresh_name()
    broken = write(tmp_path, build_chart(name, templates={"x.yaml": "{{ nothing }}"}))
    refused = server.command("chart", "upload", broken)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("pilothouse: helm lint found errors: [ERROR] templates/")
    assert server.command("chart", "upload", broken, "--skip-lint").returncode == 0
    again = server.command("chart", "upload", broken, "--skip-lint")
    assert (again.returncode, "already exists" in again.stderr) == (1, True)
    assert server.command("chart", "upload", broken, "--skip-lint", "--override").returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], ["upload", "--help"]])
def test_help_needs_no_credentials(server: RunningServer, arguments: list[str]):
    shown = server.command("chart", *arguments, variables={"CLOUD_SDK_AK": "", "CLOUD_SDK_SK": ""})
    assert (shown.returncode, shown.stderr) == (0, "")
