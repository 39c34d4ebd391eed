"""Our flags are those of the pinned helm, or docs/helm-flags.md says why not."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pilothouse.api.v1 import release_bodies, render
from pilothouse.api.v1.models import Body
from pilothouse.cli import COMMANDS
from pilothouse.cli.groups import load_command
from pilothouse.cli.helm_words import COMMANDS as HELM_COMMANDS
from tools.localcluster.cluster import RunningCluster

PAGE = Path(__file__).parents[2] / "docs" / "helm-flags.md"
#: Ours that stand for one of helm's; "get values" is a command of a group in both.
GETS = ["get all", "get hooks", "get manifest", "get metadata", "get notes", "get values"]
SHOWS = ["show all", "show chart", "show crds", "show readme", "show values"]
TWINS = ["install", "upgrade", "rollback", "uninstall", "test", "list", "status", "history", "template", "lint", "show"]
TWINS += [*GETS, *SHOWS, "pull", "search", "version", "env", "completion"]
#: What requests have as options.
BODIES: dict[str, tuple[type[Body], ...]] = {
    "install": (release_bodies.DeployReleaseBody, release_bodies.DeployOptions),
    "upgrade": (release_bodies.DeployReleaseBody, release_bodies.DeployOptions),
    "rollback": (release_bodies.RollbackReleaseBody, release_bodies.RollbackOptions),
    "uninstall": (release_bodies.DeleteReleaseBody, release_bodies.DeleteOptions),
    "test": (release_bodies.RunTestsBody, release_bodies.RunTestsOptions),
    "template": (render.RenderBody, render.RenderOptions),
}
#: Those that helm has below a name of a group.
BELOW = {"search": "search repo", "completion": "completion bash"}


@dataclass(frozen=True)
class Flag:
    """A flag with its short form, and whether a value follows it."""

    long: str
    short: str
    takes_value: bool


@cache
def helms(helm: Path, command: str, section: str = "Flags") -> dict[str, Flag]:
    """The flags in that section of ``helm COMMAND --help``."""
    words = BELOW.get(command, command).split()
    done = subprocess.run([str(helm), *words, "--help"], capture_output=True, text=True, check=True)
    _, _, after = done.stdout.partition(f"\n{section}:\n")
    text = after.partition("\n\n")[0]
    found = {}
    for line in text.splitlines():
        match = re.match(r"^ +(?:-(\w), )? *--([\w-]+)(.*)$", line)
        assert match, line
        short, long, rest = match.groups()
        kind, _, _ = rest.partition("  ")
        found[f"--{long}"] = Flag(f"--{long}", f"-{short}" if short else "", bool(kind.strip()))
    return found


@cache
def hidden(command: str) -> set[str]:
    """Our options that stand in no help: deprecated names of helm's."""
    return {name for param in loaded(command).params if param.hidden for name in param.opts}


def loaded(command: str) -> Any:
    name, _, inner = command.partition(" ")
    found = load_command(name, COMMANDS[name])
    return found.commands[inner] if inner else found


@cache
def aliases(helm: Path, command: str) -> set[str]:
    done = subprocess.run([str(helm), *command.split(), "--help"], capture_output=True, text=True, check=True)
    found = re.search(r"^Aliases:\n +(.*)$", done.stdout, re.MULTILINE)
    return set(found[1].split(", ")[1:]) if found else set()


def ours(command: str, *, shared: bool = False) -> dict[str, Flag]:
    """The options of our command: its own, or those of every command."""
    one = loaded(command)
    connection = {param.name for param in getattr(one, "_shared", ())}
    found = {}
    for param in one.params:
        options = [option for option in param.opts if option.startswith("-")]
        if not options or param.hidden or (param.name in connection) != shared:
            continue
        [long] = [option for option in options if option.startswith("--")]
        short = next((option for option in options if not option.startswith("--")), "")
        found[long] = Flag(long, short, not param.is_flag)
    return found


def rows(heading: str) -> set[tuple[str, str]]:
    """Command and flag of each row under a heading of the page."""
    _, _, after = PAGE.read_text().partition(f"## {heading}\n")
    table = after.partition("\n## ")[0]
    return {
        (command, flag)
        for commands, flags in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", table, re.MULTILINE)
        for command in re.findall(r"`([^`]+)`", commands)
        for flag in re.findall(r"`(--[\w-]+)`", flags)
    }


@pytest.mark.parametrize("command", TWINS)
def test_every_flag_of_helm_is_ours_too_or_the_page_says_why_not(kubernetes: RunningCluster, command: str):
    theirs = helms(kubernetes.helm, command)
    theirs.pop("--help")
    mine = ours(command)

    missing = theirs.keys() - mine.keys()
    added = mine.keys() - theirs.keys()

    assert missing == {flag for name, flag in rows("What Helm has and Pilothouse does not") if name == command}
    assert added == {flag for name, flag in rows("What Pilothouse adds") if name == command}
    assert {mine[name] for name in mine.keys() & theirs.keys()} == {
        theirs[name] for name in mine.keys() & theirs.keys()
    }


@pytest.mark.parametrize(("command", "bodies"), BODIES.items())
def test_every_flag_of_helm_is_an_option_of_the_api_or_the_page_says_what_is_in_its_place(
    kubernetes: RunningCluster, command: str, bodies: tuple[type[Body], ...]
):
    options = {f"--{name.replace('_', '-')}" for body in bodies for name in body.model_fields}

    missing = helms(kubernetes.helm, command).keys() - options - {"--help"}

    assert missing == {flag for name, flag in rows("Options in the bodies of the API") if name == command}


@pytest.mark.parametrize("command", [name for name in TWINS if " " not in name])
def test_a_command_has_helms_other_names(kubernetes: RunningCluster, command: str):
    assert set(COMMANDS[command].aliases) == aliases(kubernetes.helm, command)


def test_every_command_of_helm_is_ours_too_or_has_a_word_in_its_place(kubernetes: RunningCluster):
    done = subprocess.run([str(kubernetes.helm), "--help"], capture_output=True, text=True, check=True)
    listed = done.stdout.partition("\nAvailable Commands:\n")[2].partition("\n\n")[0]
    theirs = {line.split()[0] for line in listed.splitlines()}

    assert theirs - COMMANDS.keys() == {name for name in HELM_COMMANDS if " " not in name}


def test_every_global_flag_of_helm_is_ours_too_or_the_page_says_why_not(kubernetes: RunningCluster):
    theirs = helms(kubernetes.helm, "list", "Global Flags")
    mine = ours("list", shared=True)
    _, _, after = PAGE.read_text().partition("## Flags of all commands\n")
    listed = set(
        re.findall(r"`(--[\w-]+)`", "".join(re.findall(r"^\| (`.*?) \|", after.partition("\n## ")[0], re.MULTILINE)))
    )

    assert theirs.keys() - mine.keys() == listed
    assert mine["--namespace"] == theirs["--namespace"]


def test_the_page_names_only_commands_that_are_compared():
    named = {
        command
        for heading in ("What Helm has and Pilothouse does not", "What Pilothouse adds")
        for command, _ in rows(heading)
    }

    assert named <= set(TWINS)
