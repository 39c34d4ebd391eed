"""``pilothouse release …``: operations on releases that the vendor's API lacks."""

from typing import Annotated

import typer

from pilothouse.cli.commands import cluster as clusters
from pilothouse.cli.connection import connect
from pilothouse.cli.groups import command_group
from pilothouse.cli.output import As, Output, print_rows

app = command_group("Releases in the clusters.")
app.callback()(connect)


@app.command("unlock")
def unlock(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The release.")],
    *,
    cluster: Annotated[str, typer.Option("--cluster", help="Name or id of the release's cluster.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The release's namespace.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why you know that its writer is dead; stored in the revision.")
    ],
    output: As = Output.TABLE,
) -> None:
    """Unlock a release whose writer died. Its newest revision is marked as failed, permanently."""
    body = {"namespace": namespace, "name": name, "reason": reason}
    done = context.obj.call("POST", f"/api/v1/clusters/{clusters.id_of(context, cluster)}/unlock", body=body)
    print_rows([done], ("namespace", "name", "revision", "was", "status"), output, one=True)
