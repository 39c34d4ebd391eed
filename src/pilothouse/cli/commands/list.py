"""``pilothouse list``: releases, with the flags of ``helm list``."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, compress, islice
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
import typer

from pilothouse.cli.completion import complete_sources
from pilothouse.cli.connection import AllClusters, cluster_to_list, session_of, tell_limit
from pilothouse.cli.exits import UsageError
from pilothouse.cli.hints import typed
from pilothouse.cli.output import As, Output, print_answer, print_lines, print_rows
from pilothouse.cli.releases import is_entry_only
from pilothouse.cli.terminal import echo
from pilothouse.errors import PilothouseError
from pilothouse.states import ReleaseStatus

_PAGE: Final = 500  # the most that one answer holds
_COLUMNS: Final = ("NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION")
_LEAST: Final = ("APP VERSION", "REVISION", "UPDATED", "SOURCE", "CHART", "UPDATE", "NAMESPACE", "CLUSTER", "STATUS")
#: Name and cluster are always there.
_SHOWN: Final = (
    "revision,updated_at,status,chart_name,chart_version,app_version,source,source_removed_at,update_available,"
    "update_deprecated"
)
#: Sources that are named where no update is known.
_NAMED: Final = 5
#: What the flags list, in their order.
_STATUSES: Final = (
    (ReleaseStatus.DEPLOYED,),
    (ReleaseStatus.FAILED,),
    (ReleaseStatus.PENDING_INSTALL, ReleaseStatus.PENDING_UPGRADE, ReleaseStatus.PENDING_ROLLBACK),
    (ReleaseStatus.SUPERSEDED,),
    (ReleaseStatus.UNINSTALLED,),
    (ReleaseStatus.UNINSTALLING,),
)
_Pattern = Annotated[
    str, typer.Option("--filter", "-f", metavar="REGEX", help="List names that match the regular expression.")
]
_Uninstalled = Annotated[bool, typer.Option("--uninstalled", help="List uninstalled ones whose history is kept.")]
_OfSource = Annotated[
    str, typer.Option("--source", help="List those whose chart is of this source.", autocompletion=complete_sources)
]
_Updatable = Annotated[
    bool, typer.Option("--update-available", help="List those for whose chart its source has a newer version.")
]
_Unknown = Annotated[
    bool,
    typer.Option(
        "--update-unknown",
        help="List those without an update of which there may be one: their source was removed or fails, or has a "
        "newer version that is refused or not checked yet ('pilothouse status NAME' tells which).",
    ),
]
_Drifted = Annotated[
    bool, typer.Option("--drifted", help="List those of which the last look found drift ('pilothouse drift' looks).")
]


def list_releases(
    context: typer.Context,
    *,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="List all namespaces.")] = False,
    all_clusters: AllClusters = False,
    pattern: _Pattern = "",
    by_date: Annotated[bool, typer.Option("--date", "-d", help="Sort by date, not by name.")] = False,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Reverse the order.")] = False,
    short: Annotated[bool, typer.Option("--short", "-q", help="Print only the names.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Print no headers.")] = False,
    most: Annotated[int, typer.Option("--max", "-m", help="List at most so many; 0: all.")] = 256,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Skip so many.")] = 0,
    deployed: Annotated[bool, typer.Option("--deployed", help="List deployed ones.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="List failed ones.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="List pending ones.")] = False,
    superseded: Annotated[bool, typer.Option("--superseded", help="List superseded ones.")] = False,
    uninstalled: _Uninstalled = False,
    uninstalling: Annotated[bool, typer.Option("--uninstalling", help="List those being uninstalled.")] = False,
    source: _OfSource = "",
    updatable: _Updatable = False,
    unknown: _Unknown = False,
    drifted: _Drifted = False,
    output: As = Output.TABLE,
) -> None:
    """List releases. Those of the namespace, in the cluster that --cluster or the context names; if none does, in all.

    Examples: pilothouse list -A --all-clusters; pilothouse list -n prod --filter 'web.*' -o json; pilothouse ls -A
    """
    session, cluster = session_of(context), cluster_to_list(context, all_clusters=all_clusters)
    statuses = (deployed, failed, pending, superseded, uninstalled, uninstalling)
    query = {
        "cluster": cluster,
        "namespace": "" if everywhere else session.namespace,
        "status": ",".join(chain.from_iterable(compress(_STATUSES, statuses))),
        "name": pattern if re.fullmatch("[a-z0-9-]+", pattern) else "",
        "source": source,
        "update_available": "true" if updatable else "",
        "update_unknown": "true" if unknown else "",
        "drifted": "true" if drifted else "",
        "sort": f"{'-' if reverse else ''}{'updated' if by_date else 'name'}",
        "fields": "name,revision,status" if short else _SHOWN if output is Output.TABLE else "",
    }
    found = _matching(_pages(session.client, query), pattern, releases_only=short)
    rows = list(islice(found, offset, offset + most if most > 0 else None))
    _print(rows, output, short=short, headers=not no_headers, clusters=all_clusters)
    if everywhere and output is Output.TABLE and not short:
        tell_limit(context, cluster)
    if most > 0 and next(found, None) is not None:
        echo(f"there are more than {offset + most}; --max 0 lists all", err=True)
    _tell_unknown(context, session.client, query)


def _tell_unknown(context: typer.Context, client: Any, query: dict[str, str]) -> None:
    """Tell of releases that are not listed although there may be an update, and of sources that fail."""
    if query["update_available"]:
        with suppress(PilothouseError):  # who may not see sources gets the list alone
            _tell_unlisted(context, client, query)
            _tell_failing(context, client)


def _tell_unlisted(context: typer.Context, client: Any, query: dict[str, str]) -> None:
    wanted = {**query, "update_available": "", "update_unknown": "true", "fields": "name", "totals": "true"}
    asked = urlencode({**{name: value for name, value in wanted.items() if value}, "limit": 1})
    totals = client.get(f"/api/v1/releases?{asked}").headers.get("X-Pilothouse-Totals", "")
    if count := sum(int(pair.partition("=")[2]) for pair in totals.split(", ") if pair):
        words = ["--update-unknown", *(["-A"] if not query["namespace"] else [])]
        what = "1 release is" if count == 1 else f"{count} releases are"
        echo(
            f"{what} not listed, whose updates are unknown or refused: {typed(context, 'list', *words)}",
            err=True,
        )


def _tell_failing(context: typer.Context, client: Any) -> None:
    for source in orjson.loads(client.get("/api/v1/sources").content):
        if source["problem"]:
            at = f" at {time_of(source['failed_at'])}" if source["failed_at"] else ""
            show = typed(context, "source", "show", source["name"])
            echo(f"source {source['name']} could not be synchronised{at}, so updates may be missing: {show}", err=True)


def _explain_none(client: Any, asked: dict[str, str]) -> None:
    """Tell why there may be nothing to be listed, if that is not plain."""
    if "drifted" in asked:
        echo("no release is known to have drifted; those that nobody looked at may: 'pilothouse drift NAME'", err=True)
    if "update_available" in asked:
        with suppress(PilothouseError):  # who may not see sources gets the empty list alone
            _explain_no_update(client)


def _explain_no_update(client: Any) -> None:
    sources = orjson.loads(client.get("/api/v1/sources").content)
    if not sources:
        echo("no update is known: this project has no source of charts ('pilothouse source add')", err=True)
        return
    syncs = [f"{source['name']} {time_of(source['synced_at'] or '') or 'never'}" for source in sources[:_NAMED]]
    more = f" and {len(sources) - _NAMED} others" if len(sources) > _NAMED else ""
    echo(
        "no update is known for these releases; it counts from which source the chart of a release was installed, as "
        f"of the last synchronisation: {', '.join(syncs)}{more}",
        err=True,
    )


def _pages(client: Any, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the releases, a page at a time, and warn of clusters that are not wholly known."""
    asked = {name: value for name, value in query.items() if value}
    unknown, count = "", 0
    for page in client.pages("/api/v1/releases", asked):
        rows = orjson.loads(page.content)
        count += len(rows)
        yield from rows
        unknown = page.headers.get("X-Pilothouse-Incomplete", "")
    if not count:
        _explain_none(client, asked)
    if unknown:
        echo(f"not all releases of these clusters are known (yet): {unknown}", err=True)


def _matching(rows: Iterator[dict[str, Any]], pattern: str, *, releases_only: bool) -> Iterator[dict[str, Any]]:
    """Return those whose name matches; ``releases_only``: without what a failed installation alone has left."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--filter: {pattern!r} is not a regular expression: {error}") from error
    return (row for row in rows if expression.search(row["name"]) and not (releases_only and is_entry_only(row)))


def _print(rows: list[dict[str, Any]], output: Output, *, short: bool, headers: bool, clusters: bool) -> None:
    if output is not Output.TABLE:
        print_answer([row["name"] if short else _for_programs(row) for row in rows], output)
    elif short:
        print_lines(row["name"] for row in rows)
    else:
        several = len({row["cluster_id"] for row in rows}) > 1
        columns = (_COLUMNS[0], "CLUSTER", *_COLUMNS[1:]) if several or clusters else _COLUMNS
        columns = (*columns, "SOURCE") if any(row["source"] for row in rows) else columns
        columns = (*columns, "UPDATE") if any(update_of(row) for row in rows) else columns
        print_rows([_for_people(row) for row in rows], columns, output, headers=headers, least=_LEAST)


def chart_of(row: dict[str, Any]) -> str:
    """Return chart and version in one word, as Helm does."""
    return "-".join(filter(None, [row["chart_name"], row["chart_version"]]))


def update_of(row: dict[str, Any]) -> str:
    """Return the newer version that the chart's source has; empty without one, unknown if the source was removed."""
    if row.get("source_removed_at"):
        return "unknown"
    return f"{row['update_available']}{' (deprecated)' if row['update_deprecated'] else ''}"


def time_of(moment: str) -> str:
    """Return a time of an answer to the second, as one word."""
    return f"{moment[:19]}Z" if moment else ""


def _for_programs(row: dict[str, Any]) -> dict[str, Any]:
    """Add the names that ``helm list -o json`` has and the server does not, and whether it is a release."""
    installed = not is_entry_only(row)
    return {**row, "chart": chart_of(row), "updated": row["updated_at"], "installed": installed}


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "NAME": row["name"],
        "CLUSTER": row["cluster_name"],
        "NAMESPACE": row["namespace"],
        "REVISION": row["revision"] or "",
        "UPDATED": time_of(row["updated_at"]),
        "STATUS": row["status"] if row["revision"] else f"{row['status']} (not installed)",
        "CHART": chart_of(row),
        "APP VERSION": row["app_version"],
        "SOURCE": f"{row['source']} (removed)" if row["source_removed_at"] else row["source"],
        "UPDATE": update_of(row),
    }
