"""Names for the shell's completion: what a word could become. Nothing is said when they cannot be had."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import typer

#: Set by the scripts of ``pilothouse completion``: the program prints what the word could become.
COMPLETE: Final = "_PILOTHOUSE_COMPLETE"
_FOUND_CHARTS: Final = 200
_RECENT_OPERATIONS: Final = "/api/v1/operations?limit=50"


def complete_contexts(incomplete: str) -> list[str]:
    """Return the names of contexts that begin so."""
    from pilothouse.cli.contexts import read_contexts
    from pilothouse.errors import PilothouseError

    try:
        return sorted(context.name for context in read_contexts().contexts if context.name.startswith(incomplete))
    except PilothouseError:
        return []


def completer(path: str, field: str = "name") -> Callable[[typer.Context, str], list[str]]:
    """Return a function that returns what begins so in that field of the server's list."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return [row[field] for row in _ask(context, path) if row[field].startswith(incomplete)]

    return complete


complete_clusters: Final = completer("/api/v1/clusters")
complete_projects: Final = completer("/api/v1/projects")
complete_sources: Final = completer("/api/v1/sources")
complete_users: Final = completer("/api/v1/users")
complete_groups: Final = completer("/api/v1/groups")
complete_policies: Final = completer("/api/v1/policies")
complete_webhooks: Final = completer("/api/v1/webhooks")
complete_access_keys: Final = completer("/api/v1/accesskeys", "access_key")


def complete_releases(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of releases in the namespace that begin so."""
    found = _releases(context, in_namespace=True, name=incomplete, fields="name")
    return sorted({release["name"] for release in found})


def complete_namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Return the namespaces that have releases in the cluster and begin so."""
    found = _releases(context, in_namespace=False, limit="500", sort="namespace", fields="namespace")
    return sorted({release["namespace"] for release in found if release["namespace"].startswith(incomplete)})


def complete_revisions(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the revisions of the release that is named before, with what each is."""
    from pilothouse.cli.releases import release_path
    from pilothouse.errors import PilothouseError

    # behind an option that lacks its value, words are not told apart yet
    name = context.params.get("name") or next(iter(context.args), "")
    if not name:
        return []
    try:
        path = release_path(context, name, "history")
    except PilothouseError:
        return []
    return [
        (str(revision["revision"]), f"{revision['status']} {revision['chart_name']}-{revision['chart_version']}")
        for revision in _ask(context, path)
        if str(revision["revision"]).startswith(incomplete)
    ]


def complete_revisions_or_live(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the revisions of the release, and the word for what is in the cluster."""
    live = [("live", "what is in the cluster")] if "live".startswith(incomplete) else []
    return [*live, *complete_revisions(context, incomplete)]


def complete_operations(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return releases of the namespace, which name their newest operation, and ids of recent operations."""
    recent = [operation for operation in _ask(context, _RECENT_OPERATIONS) if operation["id"].startswith(incomplete)]
    named = [(name, "its newest operation") for name in complete_releases(context, incomplete)]
    return [*named, *(_describe_operation(operation) for operation in recent)]


def complete_plans(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of plans that can be applied, with what each is about."""
    return [
        (
            plan["id"],
            f"{plan['action']} {plan['namespace']}/{plan['name']}, until {plan['expires_at'][11:16]} UTC",
        )
        for plan in _ask(context, "/api/v1/plans")
        if plan["id"].startswith(incomplete)
    ]


def complete_living_operations(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of recent operations that have not ended."""
    from pilothouse.states import LIVING_STATES

    recent = _ask(context, _RECENT_OPERATIONS)
    return [
        _describe_operation(operation)
        for operation in recent
        if operation["state"] in LIVING_STATES and operation["id"].startswith(incomplete)
    ]


def _describe_operation(operation: dict[str, Any]) -> tuple[str, str]:
    return operation["id"], f"{operation['action']} {operation['release']} {operation['state']}"


def complete_charts(context: typer.Context, incomplete: str) -> list[str]:
    """Return uploaded charts, as NAME@VERSION, that begin so, and charts of sources, as SOURCE/NAME."""
    names: list[str] = []
    if "/" not in incomplete:
        names += (f"{chart['name']}@{chart['version']}" for chart in _ask(context, "/api/v1/charts?limit=500"))
    if "@" not in incomplete:
        query = urlencode({"q": incomplete, "limit": _FOUND_CHARTS})
        names += (f"{chart['source']}/{chart['name']}" for chart in _ask(context, f"/api/v1/sources/-/charts?{query}"))
    return [name for name in names if name.startswith(incomplete)]


def complete_release_then_chart(context: typer.Context, incomplete: str) -> list[str]:
    """Return releases for the first word, charts for the second; a path is the shell's to complete."""
    if incomplete.startswith((".", "/", "~")):
        return []
    if not context.params.get("names"):
        return complete_releases(context, incomplete)
    return [*_folders(incomplete), *complete_charts(context, incomplete)]


def _folders(incomplete: str) -> list[str]:
    """Return the folders of charts here that begin so."""
    from pathlib import Path

    return sorted(file.parent.name for file in Path().glob(f"{incomplete or '*'}*/Chart.yaml"))


def complete_versions(context: typer.Context, incomplete: str) -> list[str]:
    """Return the versions of the chart that is named before, if it is one of a source, the newest first."""
    words = [*(context.params.get("names") or ()), *context.args]
    source, _, name = next((word for word in reversed(words) if "/" in word), "").partition("/")
    if not source.strip("./~") or not name:
        return []
    found = _ask(context, f"/api/v1/sources/{quote(source, safe='')}/charts/{quote(name, safe='')}?limit=500")
    return [version["version"] for version in found if version["version"].startswith(incomplete)]


def complete_tests(context: typer.Context, incomplete: str) -> list[str]:
    """Return what chooses a test of the release that is named before."""
    from pilothouse.cli.releases import release_path
    from pilothouse.errors import PilothouseError

    name = context.params.get("name") or next(iter(context.args), "")
    try:
        found: Any = _ask(context, release_path(context, name, "hooks")) if name else {}
    except PilothouseError:
        return []
    hooks = found.get("hooks", ()) if isinstance(found, dict) else ()
    words = [f"name={hook['name']}" for hook in hooks if "test" in hook["events"]]
    return [word for word in words if word.startswith(incomplete)]


def _releases(context: typer.Context, *, in_namespace: bool, **query: str) -> list[dict[str, Any]]:
    """Return the releases of the cluster, and of the namespace, that the command line or the context names."""
    from pilothouse.cli.connection import session_of
    from pilothouse.errors import PilothouseError

    try:
        session = session_of(context)
    except PilothouseError:
        return []
    place = {"cluster": session.cluster, "namespace": session.namespace if in_namespace else ""}
    asked = urlencode({name: value for name, value in (place | query).items() if value})
    return _ask(context, f"/api/v1/releases?{asked}")


def _ask(context: typer.Context, path: str) -> list[dict[str, Any]]:
    from pilothouse.cli.connection import client_of
    from pilothouse.errors import PilothouseError

    try:
        found: list[dict[str, Any]] = client_of(context).call("GET", path)
    except PilothouseError:
        return []
    return found
