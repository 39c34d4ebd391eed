"""Helm's words that are none of ours: who types one is told what there is, as docs/helm-flags.md says."""

import re
from pathlib import Path

import pytest

from pilothouse.cli import COMMANDS, helm_words
from pilothouse.cli.groups import load_command
from tests.process.test_cli_start import run

PAGE = (Path(__file__).parents[2] / "docs" / "helm-flags.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of a table of the page, without marks."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", table, re.MULTILINE)[1:]
    return [line.replace("`", "").split(" | ") for line in lines if not line.startswith("---")]


def test_the_page_and_the_command_line_say_the_same():
    assert dict(rows("Helm's commands")) == helm_words.COMMANDS
    assert dict(rows("Flags of all commands")) == helm_words.SHARED
    assert [tuple(row) for row in rows("What Helm has and Pilothouse does not")] == list(helm_words.FLAGS)


@pytest.mark.parametrize("here", [*helm_words.COMMANDS.values(), *helm_words._OWN.values()])
def test_what_stands_in_the_place_of_a_command_is_there(here: str):
    for name, inner in re.findall(r"pilothouse ([a-z]+)(?: ([a-z]+))?", here):
        command = load_command(name, COMMANDS[name])
        assert not inner or inner in command.commands


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["repo"], "No such command 'repo'; here: pilothouse source"),
        (["repo", "add", "x", "https://x"], "No such command 'repo'; here: pilothouse source add NAME URL"),
        (["registry", "login", "x"], "No such command 'registry'; here: pilothouse source add NAME oci://HOST/FOLDER"),
        (["create", "web"], "No such command 'create'; here: helm create makes the folder of a chart"),
        (["unlock", "web"], "No such command 'unlock'; here: pilothouse release unlock NAME --reason TEXT"),
        (["whoami"], "No such command 'whoami'; here: pilothouse env"),
        (["list", "--al"], "Possible options: --all-clusters, --all-namespaces"),
        (["search", "repo", "redis"], "there is no command 'search repo': pilothouse search WORD"),
        (["install", "web", "x", "--repo", "https://x"], "No such option: --repo: a source (pilothouse source add)"),
        (
            ["install", "web", "x", "--devel"],
            'No such option: --devel: ranges choose prereleases (--version ">0.0.0-0")',
        ),
        (["upgrade", "web"], "CHART is missing: NAME CHART, in this order; or --reuse-chart"),
        (["plan", "web"], "CHART is missing: NAME CHART, in this order; or --reuse-chart"),
        (["upgrade", "web", "x", "--reuse-chart"], "CHART and --version do not go with it"),
        (["pull", "x", "--untar"], "No such option: --untar: tar xzf unpacks the archive"),
        (["list", "-l", "a=b"], "No such option: -l: the index of releases holds no labels"),
        (["get", "web"], "No such command 'web': pilothouse get values|manifest|notes|hooks|metadata|resources|all"),
        (["get", "value"], "No such command 'value'. Did you mean 'values'?"),
        (["get", "all", "x", "--template", "y"], "No such option: --template: -o json and jq"),
        (["status", "x", "--kube-context", "y"], "--kube-context: the server connects to the cluster; --cluster names"),
    ],
)
def test_who_types_a_word_of_helm_is_told_ours(typed: list[str], told: str):
    ended = run(*typed)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in " ".join(ended.stderr.replace("│", " ").split())
