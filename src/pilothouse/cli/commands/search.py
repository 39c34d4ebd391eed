"""``pilothouse search``: charts of the project's sources, as ``helm search repo`` lists them."""

from typing import Annotated, Any, Final
from urllib.parse import quote

import orjson
import typer

from pilothouse.cli.commands.list import time_of
from pilothouse.cli.completion import complete_sources
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.helm_words import command_hint
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo

_COLUMNS: Final = ("NAME", "CHART VERSION", "APP VERSION", "DESCRIPTION")
_PAGE: Final = 500
#: Whether a key of the source has signed the version; empty where the source has no keys.
_SIGNED: Final = {"verified": "yes", "refused": "no", "unchecked": "not checked yet"}


def search(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS...]", help="Part of NAME, SOURCE/NAME, description or keywords."),
    ] = None,
    *,
    source: Annotated[
        str, typer.Option("--source", help="Search this source only.", autocompletion=complete_sources)
    ] = "",
    versions: Annotated[bool, typer.Option("--versions", "-l", help="List all versions.")] = False,
    devel: Annotated[bool, typer.Option("--devel", help="List prereleases too.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Search the charts of the project's sources.

    Their names are what install and upgrade take.

    Examples: pilothouse search redis; pilothouse search redis --versions --source bitnami
    """
    wanted = words or []
    if len(wanted) > 1 and (hint := command_hint(["search", wanted[0]])):
        raise UsageError(f"there is no command 'search {wanted[0]}': {hint}")
    query = {"q": " ".join(wanted), **({"devel": "true"} if devel or versions else {})}
    found = _charts(context, query, source or "-")
    if versions:
        found = [
            {**version, "source": chart["source"]}
            for chart in found
            for version in _versions(context, chart)
            if (devel or not version["prerelease"]) and not version["gone"]
        ]
    if output is not Output.TABLE:
        print_answer(found, output)
        return
    if not found:
        echo("No results found")
        if not source and not client_of(context).call("GET", "/api/v1/sources"):
            echo("the project has no sources of charts: 'pilothouse source add NAME URL' adds one", err=True)
        return
    columns = [*_COLUMNS]
    if any(chart["signature"] for chart in found):
        columns.insert(2, "SIGNED")
    print_rows([_for_people(chart) for chart in found], columns, output, least=("APP VERSION",))


def _charts(context: typer.Context, query: dict[str, str], source: str) -> list[dict[str, Any]]:
    path = f"/api/v1/sources/{quote(source, safe='')}/charts"
    return [row for page in client_of(context).pages(path, query) for row in orjson.loads(page.content)]


def _versions(context: typer.Context, chart: dict[str, Any]) -> list[dict[str, Any]]:
    path = f"/api/v1/sources/{quote(chart['source'], safe='')}/charts/{quote(chart['name'], safe='')}"
    return [row for page in client_of(context).pages(path, {}) for row in orjson.loads(page.content)]


def _for_people(chart: dict[str, Any]) -> dict[str, str]:
    marks = "DEPRECATED: " if chart["deprecated"] else ""
    if chart["moved_at"]:
        marks = f"MOVED since {time_of(chart['moved_at'])}: another archive is there than was pulled; {marks}"
    if chart["refused"]:
        marks = f"REFUSED: {chart['refused']}; {marks}"
    return {
        "NAME": f"{chart['source']}/{chart['name']}",
        "CHART VERSION": chart["version"],
        "SIGNED": _SIGNED.get(chart["signature"], ""),
        "APP VERSION": chart["app_version"],
        "DESCRIPTION": (marks + chart["description"]).removesuffix("; "),
    }
