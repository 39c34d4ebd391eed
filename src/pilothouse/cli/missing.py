"""What a person may have meant who named what is not there."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from pilothouse.cli.connection import client_of, session_of
from pilothouse.cli.releases import is_entry_only
from pilothouse.cli.wording import release_in
from pilothouse.errors import PilothouseError


def with_hint(context: Any, error: PilothouseError) -> PilothouseError:
    """Return the error; of a release or cluster that is not there with where there is one, or which there are."""
    from pilothouse.cli.client import CLUSTER_MISSING, RELEASE_MISSING, ServerRefused

    if not isinstance(error, ServerRefused) or error.reason not in {CLUSTER_MISSING, RELEASE_MISSING}:
        return error
    name = release_in(error.called) or context.params.get("name", "")
    hint = known_clusters(context) if error.reason == CLUSTER_MISSING else elsewhere(context, name)
    return PilothouseError(f"{error}; {hint}") if hint else error


def elsewhere(context: Any, name: str) -> str:
    """Return where else there is a release of that name; nothing if it is nowhere, or the caller may list none."""
    query = urlencode({"name": name, "fields": "name,revision,status", "limit": 100})
    found: list[dict[str, Any]] = []
    with suppress(PilothouseError):
        found = client_of(context).call("GET", f"/api/v1/releases?{query}")
    session = session_of(context)
    here = [(session.namespace, cluster) for cluster in (session.cluster,) if cluster]
    places = [
        (release["namespace"], release["cluster_name"])
        for release in found
        if release["name"] == name
        and not is_entry_only(release)
        and not {(release["namespace"], release["cluster_name"]), (release["namespace"], release["cluster_id"])}
        & {*here}
    ]
    if not places:
        return ""
    (namespace, cluster), *more = places
    others = f", and {len(more)} more ('pilothouse list -A' lists them)" if more else ""
    return f"there is one in namespace {namespace} of cluster {cluster}{others}"


def known_clusters(context: Any) -> str:
    """Return which clusters there are; nothing if the caller may list none."""
    with suppress(PilothouseError):
        names = sorted(str(cluster["name"]) for cluster in client_of(context).call("GET", "/api/v1/clusters"))
        return f"there are: {', '.join(names) or 'none'}"
    return ""
