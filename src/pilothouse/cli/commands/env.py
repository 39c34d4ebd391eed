"""``pilothouse env``: what the other commands would use here, and what says so."""

from typing import TYPE_CHECKING

import typer

from pilothouse.cli.connection import origin_of, session_of
from pilothouse.cli.output import As, Output, print_rows

if TYPE_CHECKING:
    from pilothouse.cli.client import Credentials

_COLUMNS = ("name", "value", "from")
#: What people are told that counts if nothing is said.
_EMPTY = {"user": "(nobody: not logged in)", "project": "(that of the credentials)", "cluster": "(the only one)"}


def show_environment(context: typer.Context, *, output: As = Output.TABLE) -> None:
    """Show which server, project and cluster commands use here. With the user, the namespace, and what says each.

    The server is not asked. 'pilothouse list' shows whether it answers, and accepts the credentials.
    """
    session, own = session_of(context), session_of(context).context
    project = origin_of(context, "in_project", "PILOTHOUSE_PROJECT_ID", own.project if own else "")
    rows = [
        ("url", session.client.url, origin_of(context, "server_url", "PILOTHOUSE_URL", own.url if own else "")),
        ("user", *_who(session.client.credentials)),
        ("project", session.project, project if session.project else ""),
        (
            "cluster",
            session.cluster,
            origin_of(context, "in_cluster", "PILOTHOUSE_CLUSTER", own.cluster if own else ""),
        ),
        (
            "namespace",
            session.namespace,
            origin_of(context, "in_namespace", "PILOTHOUSE_NAMESPACE", own.namespace if own else ""),
        ),
    ]
    named = [
        {
            "name": name,
            "value": value or (_EMPTY.get(name, "") if output is Output.TABLE else ""),
            "from": origin or "default",
        }
        for name, value, origin in rows
    ]
    print_rows(named, _COLUMNS, output)


def _who(credentials: "Credentials") -> tuple[str, str]:
    """Return whom the credentials prove, as far as is known here, and what says them."""
    context = credentials.context
    if context is not None:
        return context.user or f"access key {context.access_key}", f"context {context.name}"
    if credentials.token:
        return "(a token)", credentials.origin
    if credentials.access_key:
        return f"access key {credentials.access_key}", "--access-key or CLOUD_SDK_AK"
    return "", ""
