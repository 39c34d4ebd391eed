"""The table of commands says what the commands say of themselves, and no option hides another."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from pilothouse.api.v1.models import Body
from pilothouse.api.v1.release_bodies import DeleteOptions, DeployOptions, RollbackOptions
from pilothouse.cli import COMMANDS, app, commands
from pilothouse.cli.exits import MEANINGS
from pilothouse.cli.groups import ConnectedCommand, ConnectedGroup, load_command
from pilothouse.cli.writes import SENT_OPTIONS
from tests.process.test_cli_start import run

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


@pytest.mark.parametrize(
    "name", [name for name, one in EVERY.items() if isinstance(one, ConnectedCommand) and name != "user recover"]
)
def test_what_runs_at_a_client_shows_no_setting_of_the_server(name: str):
    shown = [param for param in EVERY[name].params if getattr(param, "show_envvar", False) and param.envvar]

    assert not [param.envvar for param in shown if "__" in str(param.envvar)]


def test_a_log_in_says_what_an_account_is():
    help_text = " ".join(run("login", "--help").stdout.split())

    assert "--domain ACCOUNT" in help_text
    assert (
        "whose user it is: an account has users and projects of its own; in the vendor's IAM it is a domain"
        in help_text
    )


def test_every_module_of_commands_is_in_the_table():
    assert {entry.where.partition(":")[0] for entry in COMMANDS.values()} == MODULES


@pytest.mark.parametrize("name", EVERY)
def test_no_option_or_argument_of_a_command_takes_the_name_of_another(name: str):
    params = EVERY[name].params
    names = [param.name for param in params]
    options = [option for param in params for option in (*param.opts, *param.secondary_opts) if option.startswith("-")]

    assert len(names) == len(set(names))
    assert len(options) == len(set(options))


def test_the_page_has_the_exit_statuses_and_what_they_mean():
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)

    assert {int(status): meaning.replace("`", "") for status, meaning in rows} == MEANINGS


def forms() -> list[tuple[str, str]]:
    """Each command whose form the page has, with the line."""
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    found = []
    for line in re.sub(r"\n {8,}(?=\[)", " ", page).splitlines():
        if not line.startswith("    pilothouse "):
            continue
        first, *others = line.partition("  #")[0].split()[1:]
        inner = others[0].split("|") if hasattr(EVERY[first], "commands") else [""]
        found += [(f"{first} {one}".strip(), line) for one in inner]
    return found


def test_the_forms_of_the_page_are_those_of_the_commands():
    assert len(forms()) > 40
    for name, line in forms():
        assert name in EVERY, line
        known = {option for param in EVERY[name].params for option in (*param.opts, *param.secondary_opts)}
        named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line.partition("  #")[0]))
        assert named - known == set(), line


#: Options of the API that commands send in another way than by their name, and the flag of each.
OTHERWISE_SENT = {
    "wait": "wait",
    "timeout_seconds": "timeout",
    "crds": "skip_crds",
    "labels": "labels",
    "keep_history": "keep_history",
    "cascade": "cascade",
}
#: Helm's install has neither.
NOT_OF_INSTALL = {"history_max", "cleanup_on_fail"}


@pytest.mark.parametrize(
    ("name", "body", "without"),
    [
        ("install", DeployOptions, NOT_OF_INSTALL),
        ("upgrade", DeployOptions, set()),
        ("rollback", RollbackOptions, set()),
        ("uninstall", DeleteOptions, set()),
    ],
)
def test_every_option_of_the_api_is_a_flag_and_is_sent(name: str, body: type[Body], without: set[str]):
    flags = {param.name for param in EVERY[name].params}
    options = set(body.model_fields)

    assert {one for one in options - without if OTHERWISE_SENT.get(one, one) not in flags} == set()
    assert options - set(SENT_OPTIONS) - set(OTHERWISE_SENT) == set()


def test_plan_takes_every_flag_of_upgrade():
    flags = {verb: {flag for one in EVERY[verb].params for flag in one.opts} for verb in ("plan", "upgrade")}

    assert flags["upgrade"] <= flags["plan"]


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


@pytest.mark.parametrize("columns", [40, 50, 60, 80])
def test_the_help_of_every_command_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    texts = {
        name: command.get_help(command.make_context(f"pilothouse {name}", [], resilient_parsing=True))
        for name, command in EVERY.items()
    }

    wide = {(name, line) for name, text in texts.items() for line in text.splitlines() if len(line.rstrip()) > columns}
    assert wide == set()


@pytest.mark.parametrize("command", [get_command(app), EVERY["user"]], ids=["all", "user"])
def test_a_narrow_terminal_gets_the_whole_sentence_of_each_command(command: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = command.get_help(command.make_context("pilothouse", [], resilient_parsing=True))

    assert max(len(line.rstrip()) for line in text.splitlines()) <= 40
    assert "..." not in text.partition("Commands:")[2]


def test_an_explanation_on_a_narrow_terminal_has_most_of_its_width(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    command = EVERY["list"]
    lines = command.get_help(command.make_context("pilothouse list", [], resilient_parsing=True)).splitlines()

    assert lines[lines.index("  -A, --all-namespaces") + 1].strip() == "List all namespaces."


#: Arguments that name what is not there yet, what is on this machine, or a free text.
NOT_STORED = {
    "accesskey describe description", "backup file", "chart download file", "chart update archive",
    "chart upload archive", "cluster add name", "completion shell", "group add name", "login url",
    "policy add document", "policy add name", "policy replace document", "project add name", "restore file",
    "search words", "source add name", "source add url", "user add name", "user recover name",
    "webhook create name",
    "group grant role", "group withdraw role", "user grant role", "user withdraw role",
}  # fmt: skip


def test_every_argument_that_names_something_stored_is_completed():
    bare = {
        f"{name} {param.name}"
        for name, command in EVERY.items()
        for param in command.params
        if param.param_type_name == "argument" and param._custom_shell_complete is None
    }

    assert bare == NOT_STORED
