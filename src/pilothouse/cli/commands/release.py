"""``pilothouse release …``: operations on releases that the vendor's API lacks."""

from typing import Annotated

import typer

from pilothouse.cli.commands import cluster as clusters
from pilothouse.cli.completion import complete_releases
from pilothouse.cli.connection import client_of, cluster_of, session_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_rows

app = connected_group("Releases in the clusters.")


@app.command("unlock")
def unlock(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The release.", autocompletion=complete_releases)],
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Why you know that its writer is dead; stored in the revision.")
    ],
    output: As = Output.TABLE,
) -> None:
    """Unlock a release whose writer died. Its newest revision is marked as failed, permanently."""
    body = {"namespace": session_of(context).namespace, "name": name, "reason": reason}
    done = client_of(context).call(
        "POST", f"/api/v1/clusters/{clusters.id_of(context, cluster_of(context))}/unlock", body=body
    )
    print_rows([done], ("namespace", "name", "revision", "was", "status"), output, single=True)
