"""Lists are limited to the cluster of the command line, a variable or the context, and say so; a flag lists all."""

from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pilothouse.cli.commands.operation import with_clusters
from pilothouse.cli.connection import cluster_to_list, tell_limit
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import ConnectedCommand, ConnectedGroup


@pytest.fixture(autouse=True)
def no_contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PILOTHOUSE_CLUSTER", "PILOTHOUSE_CONTEXT", "PILOTHOUSE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOTHOUSE_CONTEXTS", str(tmp_path / "none.json"))


def listed(*arguments: str, all_clusters: bool = False) -> str:
    """Return the cluster that a command with these connection options lists, and tell the limit."""
    seen = []
    group = typer.Typer(cls=ConnectedGroup, rich_markup_mode=None, add_completion=False)

    @group.callback()
    def _group() -> None: ...

    @group.command("one", cls=ConnectedCommand)
    def _one(context: typer.Context) -> None:
        seen.append(cluster_to_list(context, all_clusters=all_clusters))
        tell_limit(context, seen[0])

    get_command(group).main(["one", *arguments], standalone_mode=False)
    return seen[0]


def test_a_variable_limits_a_list_and_that_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PILOTHOUSE_CLUSTER", "prod")

    assert listed() == "prod"
    assert capsys.readouterr().err.startswith("limited to cluster prod, ")
    assert listed(all_clusters=True) == ""
    assert capsys.readouterr().err == ""


def test_what_the_command_line_names_is_not_said_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PILOTHOUSE_CLUSTER", "prod")

    assert listed("--cluster", "test") == "test"
    assert capsys.readouterr().err == ""


def test_one_cluster_and_all_of_them_contradict_each_other():
    with pytest.raises(UsageError, match="--all-clusters: --cluster test asks for one"):
        listed("--cluster", "test", all_clusters=True)


def test_an_operation_has_the_name_of_its_cluster_or_the_id_of_one_that_is_gone():
    rows = with_clusters([{"cluster_id": "1"}, {"cluster_id": "2"}], [{"id": "1", "name": "prod"}])

    assert [row["cluster"] for row in rows] == ["prod", "2"]
