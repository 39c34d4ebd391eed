"""``pilothouse cluster …``: register, list, show, probe and remove clusters of a running server."""

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest

app = connected_group("Registered clusters.")

_COLUMNS = ("id", "name", "server", "created_at")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

ClusterName = Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id of the cluster.")]
File = Annotated[Path, typer.Option("--kubeconfig", exists=True, dir_okay=False, help="Kubeconfig file.")]
KubeContext = Annotated[str | None, typer.Option("--context", help="Context to use instead of the current one.")]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the cluster.")],
    kubeconfig: File,
    kube_context: KubeContext = None,
    output: As = Output.TABLE,
) -> None:
    """Register a cluster. Its credentials are tested, and stored encrypted."""
    body = {"name": name, "kubeconfig": _read(kubeconfig), "context": kube_context}
    print_rows([client_of(context).call("POST", "/api/v1/clusters", body=body)], _COLUMNS, output, one=True)


@app.command("update")
def update(
    context: typer.Context,
    cluster: ClusterName,
    kubeconfig: File,
    kube_context: KubeContext = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace them even if it may be another cluster.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Replace a cluster's credentials. They are tested; later actions use them."""
    body = {"kubeconfig": _read(kubeconfig), "context": kube_context}
    path = f"{_path(context, cluster)}/kubeconfig{'?force=true' if force else ''}"
    print_rows([client_of(context).call("PUT", path, body=body)], _COLUMNS, output, one=True)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's clusters."""
    print_rows(client_of(context).call("GET", "/api/v1/clusters"), _COLUMNS, output)


@app.command("show")
def show(context: typer.Context, cluster: ClusterName, output: As = Output.TABLE) -> None:
    """Show one cluster."""
    print_rows([client_of(context).call("GET", _path(context, cluster))], _COLUMNS, output, one=True)


@app.command("probe")
def probe(context: typer.Context, cluster: ClusterName, output: As = Output.TABLE) -> None:
    """Query the cluster's version now."""
    answer = client_of(context).call("GET", f"{_path(context, cluster)}/probe")
    if output is not Output.TABLE:
        print_answer(answer, output)
    else:
        echo(f"reachable, Kubernetes {answer['version']}")


@app.command("remove")
def remove(context: typer.Context, cluster: ClusterName) -> None:
    """Unregister a cluster. Its releases are not affected."""
    client_of(context).call("DELETE", _path(context, cluster))
    echo(f"cluster {cluster} was removed; its releases are not affected")


def id_of(context: typer.Context, cluster: str) -> str:
    """Return the id of a cluster given by name or id."""
    if _ID.fullmatch(cluster):
        return cluster
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/clusters")
    for row in rows:
        if row["name"] == cluster:
            return str(row["id"])
    raise InvalidRequest(f"no cluster of this project is named {cluster!r}; 'pilothouse cluster list' shows them")


def _path(context: typer.Context, cluster: str) -> str:
    return f"/api/v1/clusters/{quote(id_of(context, cluster), safe='')}"


def _read(kubeconfig: Path) -> str:
    try:
        return kubeconfig.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"--kubeconfig: {kubeconfig} is not UTF-8 text") from error
