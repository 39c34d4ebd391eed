"""``pilothouse cluster …``: register, list, show, probe and remove clusters of a running server."""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.connection import connect
from pilothouse.cli.output import As, Output, print_json, print_rows
from pilothouse.errors import InvalidRequest

app = typer.Typer(help="Clusters that releases are made in.", no_args_is_help=True)
app.callback()(connect)

_COLUMNS = ("id", "name", "server", "created_at")


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="How the cluster is called in answers.")],
    kubeconfig: Annotated[Path, typer.Option("--kubeconfig", exists=True, dir_okay=False, help="File to read.")],
    kube_context: Annotated[str | None, typer.Option("--context", help="Context, if not the current one.")] = None,
    output: As = Output.TABLE,
) -> None:
    """Register a cluster; its credentials are checked by using them, and kept sealed."""
    try:
        text = kubeconfig.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"--kubeconfig: {kubeconfig} is not UTF-8 text") from error
    body = {"name": name, "kubeconfig": text, "context": kube_context}
    print_rows([context.obj.call("POST", "/api/v1/clusters", body=body)], _COLUMNS, output, one=True)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's clusters."""
    print_rows(context.obj.call("GET", "/api/v1/clusters"), _COLUMNS, output)


@app.command("show")
def show(context: typer.Context, cluster_id: str, output: As = Output.TABLE) -> None:
    """Show one cluster."""
    print_rows([context.obj.call("GET", f"/api/v1/clusters/{cluster_id}")], _COLUMNS, output, one=True)


@app.command("probe")
def probe(context: typer.Context, cluster_id: str, output: As = Output.TABLE) -> None:
    """Ask the cluster for its version now."""
    answer = context.obj.call("GET", f"/api/v1/clusters/{cluster_id}/probe")
    if output is Output.JSON:
        print_json(answer)
    else:
        typer.echo(f"reachable, Kubernetes {answer['version']}")


@app.command("remove")
def remove(context: typer.Context, cluster_id: str) -> None:
    """Forget a cluster; the releases in it stay as they are."""
    context.obj.call("DELETE", f"/api/v1/clusters/{cluster_id}")
    typer.echo(f"cluster {cluster_id} is forgotten; its releases stay as they are")
