"""``pilothouse status``: how a release is, as ``helm status`` tells it, and what is being done to it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

import typer

from pilothouse.cli.commands.list import chart_of, time_of, update_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.hints import typed
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, Revision, is_entry_only, release_path
from pilothouse.errors import PilothouseError
from pilothouse.states import UNSETTLED, Action, ReleaseStatus


def show_status(context: typer.Context, name: Name, *, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Show the status of a release. With the operation that is at work on it, and its notes.

    Its live objects are told by 'pilothouse get resources'. Status 1 if it was never installed.

    Example: pilothouse status web -n prod
    """
    found = client_of(context).call("GET", release_path(context, name, revision=revision))
    if output is Output.TABLE:
        shown = {**found, "operation": _underway(context, found["operation"])}
        print_lines(status_lines(context, shown, newest=revision is None))
    else:
        print_answer(in_helms_words(found), output)
    if is_entry_only(found) and found["operation"] is None:
        why = _failed_install(context, found)
        raise PilothouseError(f"release {name!r} was never installed{f': {why}' if why else ''}")


def in_helms_words(found: dict[str, Any]) -> dict[str, Any]:
    """Return the release with the names that helm's status has besides."""
    info = {name: found[name] for name in ("status", "description", "notes")}
    return {**found, "version": found["revision"], "info": {**info, "last_deployed": found["updated_at"]}}


def _failed_install(context: typer.Context, found: dict[str, Any]) -> str:
    """Return what tells why the installation failed; empty if the caller may not see it."""
    wanted = {"cluster_id": found["cluster_id"], "namespace": found["namespace"], "release": found["name"], "limit": 1}
    with suppress(PilothouseError):
        for newest in client_of(context).call("GET", f"/api/v1/operations?{urlencode(wanted)}"):
            return typed(context, "operation", "show", newest["id"])
    return ""


def is_locked_elsewhere(found: dict[str, Any]) -> bool:
    """Return whether something else than an operation of the server has begun to change the release."""
    return found["operation"] is None and not found.get("elsewhere") and found["status"] in UNSETTLED


def locked_elsewhere(context: typer.Context, found: dict[str, Any]) -> PilothouseError:
    """Return that there is nothing to follow or to cancel, and what can be done."""
    unlock = typed(context, "release", "unlock", found["name"], "--reason", "TEXT")
    return PilothouseError(
        f"{found['name']} is {found['status']}, and no operation of this server is at work on it: another client, such "
        f"as helm, began that. It may be at work still ({typed(context, 'status', found['name'])} tells when it has "
        f"ended), or dead; if it is dead: {unlock}"
    )


def through_another(found: dict[str, Any]) -> str:
    """Return what the server does to the release through another registration of its API server."""
    there = found["elsewhere"]
    if not there["operation_id"]:
        return "an operation of this server is at work on it through another registration of its API server"
    return (
        f"{there['action']} {there['state']} through cluster {there['cluster_name']}, another registration of the same "
        "API server"
    )


def at_work_elsewhere(context: typer.Context, found: dict[str, Any]) -> PilothouseError:
    """Return that what is at work on the release is an operation of another registration of its API server."""
    follow = found["elsewhere"]["operation_id"]
    hint = f"; follow it with: {typed(context, 'operation', 'follow', follow)}" if follow else ""
    return PilothouseError(f"{found['name']} is {found['status']}: {through_another(found)}{hint}")


def _underway(context: typer.Context, operation: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the operation with what it does now, if the caller may see that."""
    if operation is None:
        return None
    with suppress(PilothouseError):
        now = client_of(context).call("GET", f"/api/v1/operations/{operation['id']}")
        return {**operation, "text": now["progress"] or operation["text"]}
    return operation


DEPRECATED: Final = "WARNING: this chart is deprecated: its authors do not maintain it any more"


def signer_of(verified: dict[str, Any]) -> str:
    """Return who signed a chart, and with which key."""
    who = f"{verified['kind']}, signed by {verified['signed_by'] or 'the key'} ({verified['fingerprint']})"
    who = who if verified["key_trusted"] else f"{who}, which is not trusted any more"
    if verified["of_revision"]:
        return f"not itself: packed from a revision of this release, whose chart was verified: {who}"
    return who


def source_of(found: dict[str, Any]) -> str:
    """Return the name of the chart's source; of one that was removed with its address, and when."""
    if not (removed_at := found.get("source_removed_at")):
        return str(found["source"])
    return f"{found['source']} ({found['source_url']}), removed {time_of(removed_at)}"


def _chart_lines(context: typer.Context, found: dict[str, Any]) -> Iterator[str]:
    yield f"CHART: {chart_of(found)}"
    if found.get("chart_deprecated"):
        yield DEPRECATED
    if found.get("source"):
        yield f"SOURCE: {source_of(found)}"
    if found.get("chart_digest"):
        yield f"CHART DIGEST: sha256:{found['chart_digest']}"
    if found.get("source_removed_at"):
        yield "UPDATES: unknown: its source was removed"
    if found["update_available"]:
        yield f"UPDATE AVAILABLE: {update_of(found)}, of source {found['source']}"
    if refused := found.get("update_refused"):
        yield f"UPDATE REFUSED: {refused}, of source {found['source']}, is not signed by a trusted key"
    if unchecked := found.get("update_unchecked"):
        yield f"UPDATE NOT CHECKED: {unchecked}, of source {found['source']}: whether it is signed is not known yet"
        yield f"  look at it with: {typed(context, 'source', 'sync', found['source'])}"
    yield from _source_problem_lines(context, found)
    if verified := found.get("verification"):
        yield f"VERIFIED: {signer_of(verified)}"
    elif found.get("verification_missing"):
        yield "VERIFIED: no, nobody is known to have signed the chart; this project takes verified charts only"


def _source_problem_lines(context: typer.Context, found: dict[str, Any]) -> Iterator[str]:
    if not found.get("source_problem"):
        return
    failed, synced = found.get("source_failed_at"), found.get("source_synced_at")
    since = f" at {time_of(failed)}" if failed else ""
    yield f"SOURCE FAILING: {found['source']} could not be synchronised{since}: {found['source_problem']}"
    if synced:
        yield f"  updates are as of its last synchronisation, {time_of(synced)}"
    yield f"  try it now with: {typed(context, 'source', 'sync', found['source'])}"


def _progress_lines(context: typer.Context, found: dict[str, Any], *, newest: bool) -> Iterator[str]:
    if underway := found["operation"]:
        yield f"IN PROGRESS: {underway['action']} {underway['state']}: {underway['text']}"
        yield f"  follow it with: {typed(context, 'operation', 'follow', underway['id'])}"
    elif newest and found.get("elsewhere"):
        yield f"IN PROGRESS: {through_another(found)}"
        if follow := found["elsewhere"]["operation_id"]:
            yield f"  follow it with: {typed(context, 'operation', 'follow', follow)}"
    elif newest and is_locked_elsewhere(found):
        yield "LOCKED: what began this is no operation of this server; it may be at work elsewhere, or dead"
        yield f"  if it is dead: {typed(context, 'release', 'unlock', found['name'], '--reason', 'TEXT')}"


def status_lines(context: typer.Context, found: dict[str, Any], *, newest: bool = True) -> Iterator[str]:
    """Return what is told of a release, line by line; ``newest``: of its newest revision, which alone can be locked."""
    yield f"NAME: {found['name']}"
    yield f"LAST DEPLOYED: {time_of(found['updated_at'])}"
    yield f"CLUSTER: {found['cluster_name']}"
    yield f"NAMESPACE: {found['namespace']}"
    yield f"STATUS: {found['status']}"
    yield f"REVISION: {found['revision'] or '(none)'}"
    yield from _chart_lines(context, found)
    yield f"DESCRIPTION: {found['description']}"
    if not found["revision"]:
        yield "NOT INSTALLED: the installation failed and left nothing in the cluster"
        yield f"  install it again, or remove this entry with: {typed(context, Action.UNINSTALL, found['name'])}"
    if changed := found["changed_by"]:
        who = changed["user_name"] or changed["user_id"]
        cause = changed["cause"].replace("_", " ")
        at = f", {time_of(changed['at'])}" if found["status"] == ReleaseStatus.UNINSTALLED else ""
        yield f"CHANGED BY: {who}, {cause}{at}, operation {changed['operation_id']}"
        if found["status"] == ReleaseStatus.FAILED:
            yield f"  why: {typed(context, 'operation', 'show', changed['operation_id'])}"
    if found["manager"]:
        yield f"MANAGED BY: {found['manager']}"
    yield from _progress_lines(context, found, newest=newest)
    if found["problem"]:
        yield f"NOT KNOWN: notes and labels: {found['problem']}"
    if found["notes"]:
        yield f"NOTES:\n{found['notes'].rstrip()}"
