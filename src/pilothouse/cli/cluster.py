"""``pilothouse cluster …``: register, list, show, probe and remove clusters of a running server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pilothouse.cli.client import Client
from pilothouse.errors import InvalidRequest

app = typer.Typer(help="Clusters that releases are made in.", no_args_is_help=True)


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="PILOTHOUSE_URL", help="The server.")] = "http://127.0.0.1:8440",
    access_key: Annotated[str, typer.Option(envvar="CLOUD_SDK_AK", help="Access key (AK).")] = "",
    secret_key: Annotated[
        str, typer.Option(envvar="CLOUD_SDK_SK", help="Secret key (SK); better given by the environment.")
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(envvar="PILOTHOUSE_CA", help="Authority (PEM file) that an https server is trusted by."),
    ] = None,
) -> None:
    """Clusters that releases are made in."""
    if not access_key or not secret_key:
        raise InvalidRequest("set CLOUD_SDK_AK and CLOUD_SDK_SK to the access key that the first start printed")
    context.obj = Client(url, access_key=access_key, secret_key=secret_key, ca=ca)


As = Annotated[Output, typer.Option("--output", "-o", help="table or json")]


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
    _print([context.obj.call("POST", "/api/v1/clusters", body=body)], output, one=True)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's clusters."""
    _print(context.obj.call("GET", "/api/v1/clusters"), output)


@app.command("show")
def show(context: typer.Context, cluster_id: str, output: As = Output.TABLE) -> None:
    """Show one cluster."""
    _print([context.obj.call("GET", f"/api/v1/clusters/{cluster_id}")], output, one=True)


@app.command("probe")
def probe(context: typer.Context, cluster_id: str, output: As = Output.TABLE) -> None:
    """Ask the cluster for its version now."""
    answer = context.obj.call("GET", f"/api/v1/clusters/{cluster_id}/probe")
    if output is Output.JSON:
        typer.echo(orjson.dumps(answer).decode())
    else:
        typer.echo(f"reachable, Kubernetes {answer['version']}")


@app.command("remove")
def remove(context: typer.Context, cluster_id: str) -> None:
    """Forget a cluster; the releases in it stay as they are."""
    context.obj.call("DELETE", f"/api/v1/clusters/{cluster_id}")
    typer.echo(f"cluster {cluster_id} is forgotten; its releases stay as they are")


def _print(rows: list[dict[str, Any]], output: Output, *, one: bool = False) -> None:
    if output is Output.JSON:
        typer.echo(orjson.dumps(rows[0] if one else rows, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(box=None)
    for column in ("id", "name", "server", "created_at"):
        table.add_column(column)
    for row in rows:
        table.add_row(row["id"], row["name"], row["server"], row["created_at"])
    Console().print(table)
