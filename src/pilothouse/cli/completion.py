"""Names for the shell's completion: what a word could become. Nothing is said when they cannot be had."""

from typing import Final

import typer

#: Set by the scripts of ``pilothouse completion``: the program prints what the word could become.
COMPLETE: Final = "_PILOTHOUSE_COMPLETE"


def complete_contexts(incomplete: str) -> list[str]:
    """Return the names of contexts that begin so."""
    from pilothouse.cli.contexts import read_contexts
    from pilothouse.errors import PilothouseError

    try:
        return sorted(one.name for one in read_contexts().contexts if one.name.startswith(incomplete))
    except PilothouseError:
        return []


def complete_clusters(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of clusters that begin so."""
    return [one["name"] for one in _ask(context, "/api/v1/clusters") if one["name"].startswith(incomplete)]


def complete_releases(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of releases in the namespace that begin so."""
    from urllib.parse import urlencode

    from pilothouse.cli.connection import session_of
    from pilothouse.errors import PilothouseError

    try:
        session = session_of(context)
    except PilothouseError:
        return []
    wanted = {"cluster": session.cluster, "namespace": session.namespace, "name": incomplete, "fields": "name"}
    query = urlencode({name: value for name, value in wanted.items() if value})
    return sorted({one["name"] for one in _ask(context, f"/api/v1/releases?{query}")})


def complete_namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Return the namespaces that have releases and begin so."""
    found = _ask(context, "/api/v1/releases?fields=namespace&limit=500&sort=namespace")
    return sorted({one["namespace"] for one in found if one["namespace"].startswith(incomplete)})


def complete_charts(context: typer.Context, incomplete: str) -> list[str]:
    """Return uploaded charts, as NAME@VERSION, that begin so."""
    names = (f"{one['name']}@{one['version']}" for one in _ask(context, "/v2/charts"))
    return [name for name in names if name.startswith(incomplete)]


def _ask(context: typer.Context, path: str) -> list[dict[str, str]]:
    from pilothouse.cli.connection import client_of
    from pilothouse.errors import PilothouseError

    try:
        found: list[dict[str, str]] = client_of(context).call("GET", path)
    except PilothouseError:
        return []
    return found
