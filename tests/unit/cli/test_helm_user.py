"""What somebody types who has used helm for years, and what it is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli import COMMANDS
from pilothouse.cli.commands.diff import field_lines
from pilothouse.cli.completion import complete_release_then_chart, complete_tests, complete_versions
from pilothouse.cli.groups import load_command
from pilothouse.cli.wording import reword
from pilothouse.cli.writes import failure_of
from pilothouse.errors import Forbidden
from tests.support.answers import answering
from tests.unit.cli.test_status import context

AT = "/api/v1/clusters/demo/namespaces/shop/releases/web"
CHART = "0b6f5d1e-0000-4000-8000-000000000001"
PLAN = {"manifest": "", "hooks": [], "values": {}, "findings": [], "refusals": []}
DIFF: dict[str, Any] = {"summary": {"added": 0, "changed": 0, "removed": 0}}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("version --short", "No such option: --short: the number is all that is printed"),
        ("completion --no-descriptions", "bash shows none; zsh and fish"),
        ("dep up", "here: helm dependency build fills charts/"),
        ("init", "here: nothing has to be set up here"),
        ("release list", "here: pilothouse list"),
        ("chart remove x", "here: pilothouse chart delete CHART"),
        ("repo index .", "here: helm repo index writes the index"),
        ("template . --validate", "no cluster is asked; pilothouse plan asks it"),
        ("status web --show-resources", "pilothouse get resources NAME"),
        ("chart upload x --replace", "--override puts it in the place of"),
        ("upgrade web x --recreate-pods", "kubectl rollout restart restarts pods"),
        ("delete web --purge", "the history goes, unless --keep-history is given"),
        ("diff upgrade web ./chart", "pilothouse plan NAME CHART shows what an upgrade would change"),
        ("diff upgrade web --set a=b", "pilothouse plan NAME CHART shows what an upgrade would change"),
        ("install web x --dry-run=bogus", "--dry-run: 'bogus' is none of client, server, none"),
        ("install web x --values=", "--values: the name of a file is missing"),
        ("list --namspace x", "(Possible options: --all-namespaces, --namespace)"),
    ],
)
def test_a_word_that_is_not_here_is_told_what_is(typed: str, told: str, tmp_path: Path):
    with answering(tmp_path, {}) as server:
        said = server.typed(*typed.split())

    assert said.returncode == 2
    assert told in said.stderr
    assert not server.asked


@pytest.mark.parametrize("typed", ["upgrade web x --gibberish", "test web --cleaner"])
def test_an_option_that_is_like_none_is_told_no_other(typed: str, tmp_path: Path):
    with answering(tmp_path, {}) as server:
        assert "Possible options" not in server.typed(*typed.split()).stderr


@pytest.mark.parametrize(("word", "wait"), [("true", "ready"), ("false", "hooks"), ("watcher", "ready")])
def test_wait_takes_a_truth_as_helm_does(word: str, wait: str, tmp_path: Path):
    with answering(tmp_path, {f"POST {AT}/plan": PLAN}) as server:
        said = server.typed("plan", "web", CHART, f"--wait={word}", "-o", "json")

    assert said.returncode == 0, said.stderr
    assert server.asked[-1][1]["deploy"]["options"]["wait"] == wait


@pytest.mark.parametrize("typed", [["diff", "web", "live"], ["diff", "web", "3", "live"], ["drift", "web"]])
def test_live_alone_is_what_is_in_the_cluster(typed: list[str], tmp_path: Path):
    with answering(tmp_path, {f"GET {AT}/diff": DIFF}) as server:
        assert server.typed(*typed, "-o", "json").returncode == 0


@pytest.mark.parametrize(("most", "count"), [("0", 3), ("2", 2)])
def test_history_takes_zero_for_all(most: str, count: int, tmp_path: Path):
    row = {"chart_name": "a", "chart_version": "1", "updated_at": ""}
    rows = [{**row, "revision": number} for number in (3, 2, 1)]
    with answering(tmp_path, {f"GET {AT}/history": rows}) as server:
        said = server.typed("history", "web", "--max", most, "-o", "json")

    assert [one["revision"] for one in json.loads(said.stdout)] == [1, 2, 3][-count:]


def test_who_names_an_unknown_cluster_at_log_in_is_not_logged_in(tmp_path: Path):
    answers = {
        "GET /v3/auth/projects": {"projects": []},
        "GET /api/v1/users/me": {"name": "ann"},
        "GET /api/v1/accesskeys": [],
        "GET /api/v1/clusters": [{"id": CHART, "name": "demo"}],
    }
    key = {"CLOUD_SDK_SK": "s", "XDG_CONFIG_HOME": str(tmp_path)}
    with answering(tmp_path, answers) as server:
        words = ["login", server.url, "--access-key", "a", "--secret-key", "s", "--cluster"]
        wrong, right = (server.typed(*words, name, environment=key) for name in ("nope", "demo"))
        assert (wrong.returncode, right.returncode) == (1, 0), right.stderr

    assert "there is no cluster 'nope'" in wrong.stderr
    assert "there are: demo" in wrong.stderr


def test_a_refusal_while_something_runs_does_not_speak_of_an_update(tmp_path: Path):
    refusal = Forbidden("Update release is forbidden: an upgrade of release 'web' is running")
    with answering(tmp_path, {f"POST {AT}/test": refusal}) as server:
        assert server.typed("test", "web").stderr == "pilothouse: an upgrade of release 'web' is running\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'Upgrade "web" failed: a\ncontext deadline exceeded; rolled back',
            "a; context deadline exceeded; rolled back",
        ),
        ("timed out", "timed out"),
    ],
)
def test_a_failure_is_one_line_with_the_name_once(text: str, told: str):
    failed = failure_of({"state": "failed", "action": "upgrade", "release": "web", "text": text, "last_error": ""})

    assert str(failed) == f"upgrade of web failed: {told}"


def test_a_name_with_a_slash_is_told_as_it_is():
    field = {"path": "/metadata/annotations/a.dev~1b", "old": "x", "new": "y", "change": "changed"}

    assert list(field_lines([field])) == ['    /metadata/annotations/"a.dev/b": x -> y']
    assert reword("create it again, or delete it") == "install it again, or uninstall it"


@pytest.mark.parametrize("columns", ["40", "80"])
def test_each_example_can_be_copied(columns: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", columns)
    command = load_command("upgrade", COMMANDS["upgrade"])
    text = command.get_help(command.make_context("pilothouse upgrade", [], resilient_parsing=True))
    examples = text.partition("Examples:\n")[2].partition("\n\n")[0].replace("\\\n", "")

    assert " ".join(examples.splitlines()[1].split()) == (
        "pilothouse upgrade web nginx@1.3.0 --reuse-values --rollback-on-failure"
    )


def test_the_help_names_values_alike():
    command = load_command("source", COMMANDS["source"]).commands["add"]
    text = command.get_help(command.make_context("pilothouse source add", [], resilient_parsing=True))

    assert text.startswith("Usage: pilothouse source add [OPTIONS] NAME URL\n")
    assert "<str>" not in text.partition("Options:")[2]
    assert "--keys FILE" in text


def test_an_address_where_nobody_answers_is_told_in_plain_words(tmp_path: Path):
    with answering(tmp_path, {}) as server:
        said = server.typed("list", "--url", "http://127.0.0.1:1")

    assert said.returncode == 3
    assert "at http://127.0.0.1:1: Connection refused; is" in said.stderr


def test_the_shell_completes_folders_versions_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "Chart.yaml").write_text("name: shop\n")
    (tmp_path / "shelf").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTHOUSE_CONTEXTS", str(tmp_path / "none.json"))
    hooks = [{"name": "web-up", "events": ["test"]}, {"name": "web-job", "events": ["pre-install"]}]
    answers = {
        "GET /api/v1/charts": [],
        "GET /api/v1/sources/-/charts": [],
        "GET /api/v1/sources/lab/charts/shop": [{"version": "0.2.0"}, {"version": "0.1.0"}],
        f"GET {AT}/hooks": {"hooks": hooks},
    }
    with answering(tmp_path, answers) as server:
        at = context(server_url=server.url, with_token="t", in_cluster="demo", in_namespace="shop")
        at.params["names"] = ["web"]
        assert complete_release_then_chart(at, "sh") == ["shop"]
        at.params["names"] = ["web", "lab/shop"]
        assert complete_versions(at, "0.1") == ["0.1.0"]
        at.params["names"] = ["web", "./lab/shop"]
        assert complete_versions(at, "") == []
        at.params["name"] = "web"
        assert complete_tests(at, "name=") == ["name=web-up"]


@pytest.mark.parametrize(("names", "told"), [(["demo"], False), (["demo", "other"], True)])
@pytest.mark.parametrize("typed", [["list", "-A"], ["operation", "list"]])
def test_the_limit_of_a_list_is_told_if_there_is_another_cluster(
    *, typed: list[str], names: list[str], told: bool, tmp_path: Path
):
    clusters = [{"id": f"{CHART[:-1]}{number}", "name": name} for number, name in enumerate(names)]
    answers = {"GET /api/v1/clusters": clusters, "GET /api/v1/releases": [], "GET /api/v1/operations": []}
    with answering(tmp_path, answers) as server:
        said = server.typed(*typed)

    assert (said.returncode, said.stderr.startswith("limited to cluster demo, ")) == (0, told), said.stderr
