"""``pilothouse cluster …``: register, list, show, probe and remove clusters of a running server."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pilothouse.cli.completion import complete_clusters
from pilothouse.cli.connection import client_of, cluster_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest, PilothouseError

app = connected_group("Registered clusters.")

_COLUMNS = ("id", "name", "server", "created_at")
_SHOWN = ("id", "name", "server", "drift", "created_at")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

ClusterName = Annotated[
    str, typer.Argument(metavar="CLUSTER", help="Name or id of the cluster.", autocompletion=complete_clusters)
]
File = Annotated[Path, typer.Option("--kubeconfig", exists=True, dir_okay=False, help="Kubeconfig file.")]
NewFile = Annotated[
    Path | None, typer.Option("--kubeconfig", exists=True, dir_okay=False, help="Kubeconfig file that replaces it.")
]
KubeContext = Annotated[str | None, typer.Option("--context", help="Context to use instead of the current one.")]

WallNamespaces = Annotated[
    list[str] | None,
    typer.Option("--wall-namespace", help="A namespace in which the project works, and in no other; repeatable."),
]
WallUser = Annotated[
    str | None, typer.Option("--wall-user", help="The user that the registered account impersonates for the project.")
]
DriftSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="SECONDS|default",
        help="How often its releases are looked at for drift; 0: never; default: as the server's settings say.",
    ),
]
WallGroups = Annotated[list[str] | None, typer.Option("--wall-group", help="A group of that user; repeatable.")]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the cluster.")],
    kubeconfig: File,
    kube_context: KubeContext = None,
    *,
    wall_namespace: WallNamespaces = None,
    wall_user: WallUser = None,
    wall_group: WallGroups = None,
    output: As = Output.TABLE,
) -> None:
    """Register a cluster. Its credentials are tested, and stored encrypted.

    A wall keeps the project in its namespaces: Kubernetes judges it by the rights of the wall's user.
    """
    wall = _wall(wall_namespace, wall_user, wall_group)
    body = {"name": name, "kubeconfig": _read(kubeconfig), "context": kube_context} | ({"wall": wall} if wall else {})
    made = client_of(context).call("POST", "/api/v1/clusters", body=body)
    print_rows([made], _COLUMNS, output, single=True)
    with suppress(PilothouseError):  # it is registered, whatever may be seen of it
        found = client_of(context).call("GET", f"/api/v1/clusters/{quote(made['id'], safe='')}")
        if others := found.get("also_registered_as"):
            echo(f"the same API server is registered as {', '.join(others)}, too: its releases are the same", err=True)


@app.command("update")
def update(
    context: typer.Context,
    cluster: ClusterName,
    kubeconfig: NewFile = None,
    kube_context: KubeContext = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace them even if it may be another cluster.")] = False,
    wall_namespace: WallNamespaces = None,
    wall_user: WallUser = None,
    wall_group: WallGroups = None,
    no_wall: Annotated[bool, typer.Option("--no-wall", help="Remove the wall.")] = False,
    drift_seconds: DriftSeconds = None,
    output: As = Output.TABLE,
) -> None:
    """Replace a cluster's credentials or its wall, which are tested first, or set how often it is looked at for drift.

    Later actions use them.
    """
    wall = _wall(wall_namespace, wall_user, wall_group)
    if wall and no_wall:
        raise UsageError("--no-wall: removes the wall that the other options describe; leave one of them out")
    if kubeconfig is None and not wall and not no_wall and drift_seconds is None:
        raise UsageError(
            "nothing to change: pass --kubeconfig, --wall-namespace and --wall-user, --no-wall, or --drift-seconds"
        )
    looks = _looks(drift_seconds) if drift_seconds is not None else {}
    client, path, changed = client_of(context), _path(context, cluster), {}
    if kubeconfig is not None:
        body = {"kubeconfig": _read(kubeconfig), "context": kube_context}
        changed = client.call("PUT", f"{path}/kubeconfig{'?force=true' if force else ''}", body=body)
    if wall or no_wall:
        changed = client.call("DELETE" if no_wall else "PUT", f"{path}/wall", body=wall)
    if looks:
        changed = client.call("PUT", f"{path}/drift", body=looks)
    print_rows([changed], _COLUMNS, output, single=True)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's clusters."""
    print_rows(client_of(context).call("GET", "/api/v1/clusters"), _COLUMNS, output)


@app.command("show")
def show(context: typer.Context, cluster: ClusterName, output: As = Output.TABLE) -> None:
    """Show one cluster."""
    found = client_of(context).call("GET", _path(context, cluster))
    if output is Output.TABLE and "drift" in found:  # older servers do not tell
        print_rows([found | {"drift": _drift_words(found)}], _SHOWN, output, single=True)
    else:
        print_rows([found], _COLUMNS, output, single=True)


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
    names = ", ".join(sorted(str(row["name"]) for row in rows)) or "none"
    raise InvalidRequest(f"no cluster of this project is named {cluster!r}; there are: {names}")


def require_cluster(context: typer.Context) -> None:
    """Raise the error for a cluster that the project has not: of such a one, every release would be missing."""
    client_of(context).call("GET", _path(context, cluster_of(context)))


def _path(context: typer.Context, cluster: str) -> str:
    return f"/api/v1/clusters/{quote(id_of(context, cluster), safe='')}"


def _wall(namespaces: list[str] | None, user: str | None, groups: list[str] | None) -> dict[str, Any] | None:
    if not namespaces and not user and not groups:
        return None
    if not namespaces or not user:
        raise UsageError("a wall needs both --wall-namespace and --wall-user")
    return {"namespaces": namespaces, "user": user, "groups": groups or []}


def _looks(drift_seconds: str) -> dict[str, int | None]:
    """Return the body that sets the interval of looks at drift."""
    if drift_seconds == "default":
        return {"seconds": None}
    if not (drift_seconds.isascii() and drift_seconds.isdigit()):
        raise UsageError(f"--drift-seconds: {drift_seconds!r} is neither a whole number of seconds nor 'default'")
    return {"seconds": int(drift_seconds[:12])}


def _drift_words(found: dict[str, Any]) -> str:
    """Return how often the cluster's releases are looked at, and who says so."""
    seconds = found["drift"]["seconds"]
    often = f"looked at every {seconds:g} s" if seconds else "not looked at"
    if not found["drift"]["requests_per_second"]:
        return f"{often} (the server makes no looks)"
    return f"{often} (the server's setting)" if found["drift_seconds"] is None else often


def _read(kubeconfig: Path) -> str:
    try:
        return kubeconfig.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"--kubeconfig: {kubeconfig} is not UTF-8 text") from error
