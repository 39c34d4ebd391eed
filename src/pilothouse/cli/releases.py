"""What commands about one release share: its address, and its name for completion."""

from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from pilothouse.cli.completion import complete_releases, complete_revisions
from pilothouse.cli.connection import cluster_of, session_of
from pilothouse.states import ReleaseStatus

Name = Annotated[str, typer.Argument(metavar="NAME", help="The release.", autocompletion=complete_releases)]
Revision = Annotated[
    int | None,
    typer.Option(
        "--revision",
        min=1,
        metavar="N",
        help="This revision; default: the newest.",
        autocompletion=complete_revisions,
    ),
]


def is_entry_only(found: dict[str, Any]) -> bool:
    """Return whether only a failed installation is known of it, which left nothing in the cluster."""
    return not found["revision"] and found["status"] == ReleaseStatus.FAILED


def release_path(context: typer.Context, name: str, part: str = "", **query: object) -> str:
    """Return the address of a release or of a part of it; what is None is left out of the query."""
    names = (cluster_of(context), session_of(context).namespace, name)
    cluster, namespace, release = (quote(word, safe="") for word in names)
    path = f"/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{release}{f'/{part}' if part else ''}"
    encoded = urlencode({key: value for key, value in query.items() if value is not None})
    return f"{path}?{encoded}" if encoded else path
