"""The table of commands says what the commands say of themselves, and no option hides another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from pilothouse.cli import COMMANDS, commands
from pilothouse.cli.groups import ConnectedCommand, ConnectedGroup, load_command
from tests.unit.cli.test_cli_start import run

MODULES = {path.stem for path in Path(commands.__path__[0]).glob("*.py")} - {"__init__"}


def every_command() -> Iterator[tuple[str, Any]]:
    """Each command and group with its full name."""
    for name, entry in COMMANDS.items():
        command = load_command(name, entry)
        yield name, command
        yield from ((f"{name} {inner}", one) for inner, one in getattr(command, "commands", {}).items())


EVERY = dict(every_command())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_commands_says_the_first_sentence_of_each(name: str):
    first, entry = f"{(EVERY[name].help or '').partition('.')[0]}.", COMMANDS[name]

    assert entry.help == ("" if entry.hidden else first)


def test_every_module_of_commands_is_in_the_table():
    assert {entry.where.partition(":")[0] for entry in COMMANDS.values()} == MODULES


@pytest.mark.parametrize("name", EVERY)
def test_no_option_or_argument_of_a_command_takes_the_name_of_another(name: str):
    params = EVERY[name].params
    names = [param.name for param in params]
    options = [option for param in params for option in (*param.opts, *param.secondary_opts) if option.startswith("-")]

    assert len(names) == len(set(names))
    assert len(options) == len(set(options))


def test_a_connection_option_counts_wherever_it_stands_and_the_last_one_wins():
    seen = []
    group = typer.Typer(cls=ConnectedGroup, rich_markup_mode=None, add_completion=False)

    @group.callback()
    def _group() -> None: ...

    @group.command("one", cls=ConnectedCommand)
    def _one(context: typer.Context) -> None:
        seen.append(context.meta["pilothouse.connection"])

    command = get_command(group)
    for arguments in (["-n", "a", "one"], ["one", "-n", "a"], ["--namespace", "b", "one", "--namespace=a"]):
        command.main(arguments, standalone_mode=False)

    assert seen == [{"in_namespace": "a"}] * 3


def test_a_wrong_name_of_a_command_is_told_the_nearest():
    wrong = run("clusterr", "list")

    assert wrong.returncode == 2
    assert "Did you mean 'cluster'" in wrong.stderr
