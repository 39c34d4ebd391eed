"""``pilothouse diff``: what differs between two revisions of a release."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import orjson
import typer

from pilothouse.cli.completion import complete_revisions, complete_revisions_or_live
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import options_of, takes
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, release_path
from pilothouse.cli.terminal import on_one_line

MARKS: Final = {"added": "+", "changed": "~", "removed": "-", "unchanged": "=", "unknown": "?"}
_LIVE: Final = "live"
_OF_HELMS_PLUGIN: Final = frozenset({"upgrade", "revision", "rollback", "release"})
_UNKNOWN: Final = "unknown"
CHANGES: Final = 2  # the exit status that people know from terraform


def exit_options(
    *,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="End with status 2 if there are changes, 0 if there are none.")
    ] = False,
) -> None:
    """Declare the option of commands that tell changes."""


@takes(exit_options)
def diff(
    context: typer.Context,
    name: Name,
    old: Annotated[
        str,
        typer.Argument(
            metavar="[FROM]",
            help="A revision; default: the one before the newest; live: as TO.",
            autocompletion=complete_revisions,
        ),
    ] = "",
    new: Annotated[
        str,
        typer.Argument(
            metavar="[TO]",
            help="Another one, or live; default: the newest.",
            autocompletion=complete_revisions_or_live,
        ),
    ] = "",
    *,
    output: As = Output.TABLE,
) -> None:
    """Compare two revisions of a release. Object by object and field by field; data of Secrets is masked.

    Examples: pilothouse diff web; pilothouse diff web 3 5 -n prod; pilothouse diff web live
    """
    if name in _OF_HELMS_PLUGIN and old and not old.isdigit():
        raise UsageError("pilothouse plan NAME CHART shows what an upgrade would change; diff compares revisions")
    if old == _LIVE and not new:
        old, new = "", _LIVE
    asked = {"from": _revision(old, "FROM"), "to": new if new == _LIVE else _revision(new, "TO")}
    found = client_of(context).call("GET", release_path(context, name, "diff", **asked))
    if output is Output.TABLE:
        to = found["to_revision"] or "what is in the cluster"
        print_lines([f"{name}: revision {found['from_revision']} to {to}", *change_lines(found)])
    else:
        print_answer(found, output)
    end_with_changes(context, found)


def change_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return a summary, and a line per object and field that differs."""
    counts = found["summary"]
    marks = {change: mark for change, mark in MARKS.items() if change != _UNKNOWN or counts.get(change)}
    yield " ".join(f"{mark}{counts[change]}" for change, mark in marks.items())
    for obj in found["objects"]:
        if obj["change"] == "unchanged":
            continue
        place = f"{obj['namespace']}/{obj['name']}" if obj["namespace"] else obj["name"]
        yield f"{MARKS[obj['change']]} {obj['kind']} {place}"
        yield from field_lines(obj["fields"])
        if obj.get("problem"):
            yield f"    not known: {on_one_line(obj['problem'])}"
    yield from (f"not looked at: {on_one_line(text)}" for text in found.get("problems") or ())


def field_lines(fields: list[dict[str, Any]]) -> Iterator[str]:
    """Return a line per field that differs."""
    for field in fields:
        yield f"    {_readable(field['path'])}: {_shown(field, 'old')} -> {_shown(field, 'new')}"


def _readable(pointer: str) -> str:
    """Return a JSON pointer for people: a name that has a slash in it stands in quotes."""
    words = pointer.split("/")
    return "/".join(f'"{word.replace("~1", "/")}"' if "~1" in word else word for word in words).replace("~0", "~")


def differs(found: dict[str, Any]) -> bool:
    """Return whether there are changes; what a failed revision may never have created is none."""
    summary: dict[str, int] = found["summary"]
    return summary["added"] + summary["changed"] + summary["removed"] > int(found.get("uncreated", 0))


def end_with_changes(context: typer.Context, found: dict[str, Any]) -> None:
    """End the command with status 2 if there are changes and that is asked for."""
    if options_of(context)["detailed_exitcode"] and differs(found):
        raise typer.Exit(CHANGES)


def _shown(field: dict[str, Any], side: str) -> str:
    if field["change"] == {"old": "added", "new": "removed"}[side]:
        return "(none)"
    value = field[side]
    return on_one_line(value if isinstance(value, str) else orjson.dumps(value).decode())


def _revision(word: str, place: str) -> int | None:
    if not word:
        return None
    if not word.isascii() or not word.isdigit() or int(word) < 1:
        raise UsageError(f"{place}: {word!r} is not the number of a revision; 'pilothouse history NAME' shows them")
    return int(word)
