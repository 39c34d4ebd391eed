"""Connection of a command to its server: what the command line, the environment and the contexts say.

A flag counts before a variable, a variable before the current context. A context's credentials and authority go to the
context's own URL only.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pilothouse.cli.completion import complete_clusters, complete_contexts, complete_namespaces, complete_projects
from pilothouse.cli.groups import connection_options_of
from pilothouse.cli.terminal import echo

if TYPE_CHECKING:
    from pilothouse.cli.client import Client, Credentials
    from pilothouse.cli.contexts import Context

AllClusters = Annotated[
    bool, typer.Option("--all-clusters", help="List all clusters of the project, though the context names one.")
]
_InProject = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="Project, by name or id (PILOTHOUSE_PROJECT_ID).",
        autocompletion=complete_projects,
    ),
]

_META: Final = "pilothouse.session"
_DEFAULT_URL: Final = "http://127.0.0.1:8440"


@dataclass
class Session:
    """The server that a command asks, and where there. ``cluster`` is empty until something names one.

    ``project`` is empty if the credentials alone say it.
    """

    client: "Client"
    context: "Context | None"
    project: str
    cluster: str
    namespace: str


def options(  # noqa: PLR0917 (typer reads parameters as options)
    named_context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            help="Use this context instead of the current one (PILOTHOUSE_CONTEXT).",
            autocompletion=complete_contexts,
        ),
    ] = None,
    in_project: _InProject = None,
    in_cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="NAME",
            help="Cluster, by name or id (PILOTHOUSE_CLUSTER); default: the context's, else the only one.",
            autocompletion=complete_clusters,
        ),
    ] = None,
    in_namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Namespace (PILOTHOUSE_NAMESPACE); default: 'default'.",
            autocompletion=complete_namespaces,
        ),
    ] = None,
    server_url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="URL of the server (PILOTHOUSE_URL).")
    ] = None,
    with_access_key: Annotated[
        str | None, typer.Option("--access-key", metavar="AK", help="Access key (CLOUD_SDK_AK).")
    ] = None,
    with_secret_key: Annotated[
        str | None, typer.Option("--secret-key", metavar="SK", help="Secret key; prefer the variable CLOUD_SDK_SK.")
    ] = None,
    with_token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="Token; prefer the variable PILOTHOUSE_TOKEN.")
    ] = None,
    authority: Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="Authority (PEM) of an https server (PILOTHOUSE_CA)."),
    ] = None,
) -> None:
    """Declare the options of every command that talks to a server."""


def client_of(context: typer.Context) -> "Client":
    """Return the client of the server that this command asks."""
    return session_of(context).client


def session_of(context: typer.Context) -> Session:
    """Return the server that this command asks, and where there; raise PilothouseError if that contradicts itself."""
    if _META not in context.meta:
        context.meta[_META] = _resolve(connection_options_of(context))
    session: Session = context.meta[_META]
    return session


def cluster_of(context: typer.Context) -> str:
    """Return the name or id of the cluster that the command is about; without a word of it the project's only one."""
    session = session_of(context)
    if not session.cluster:
        session.cluster = _only_cluster(session)
    return session.cluster


def cluster_to_list(context: typer.Context, *, all_clusters: bool) -> str:
    """Return the name or id of the cluster that a list is limited to; empty: none."""
    if not all_clusters:
        return session_of(context).cluster
    if named := connection_options_of(context).get("in_cluster"):
        from pilothouse.cli.exits import UsageError

        raise UsageError(f"--all-clusters: --cluster {named} asks for one; leave one of them out")
    return ""


def tell_limit(context: typer.Context, cluster: str) -> None:
    """Say to which cluster a list is limited, unless the command line does, or there is no other."""
    if cluster and not connection_options_of(context).get("in_cluster") and _has_others(context):
        echo(f"limited to cluster {cluster}, by the context or PILOTHOUSE_CLUSTER; --all-clusters lists all", err=True)


def _has_others(context: typer.Context) -> bool:
    """Return whether the project has several clusters; so it may if nobody says."""
    from pilothouse.errors import PilothouseError

    try:
        return len(client_of(context).call("GET", "/api/v1/clusters")) > 1
    except PilothouseError:
        return True


def _only_cluster(session: Session) -> str:
    from pilothouse.cli.exits import UsageError

    names = [str(cluster["name"]) for cluster in session.client.call("GET", "/api/v1/clusters")]
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError("the project has no cluster yet: 'pilothouse cluster add NAME --kubeconfig FILE' adds one")
    raise UsageError(
        f"--cluster: choose one of {', '.join(sorted(names))}; 'pilothouse context use --cluster NAME' keeps the choice"
    )


def url_of(options: dict[str, Any]) -> str:
    """Return the URL that flags or environment name, or nothing."""
    return str(options.get("server_url") or _variable(options, "PILOTHOUSE_URL"))


def authority_of(options: dict[str, Any]) -> str:
    """Return the text of the authorities that ``--ca`` or PILOTHOUSE_CA name, or nothing."""
    from pathlib import Path

    from pilothouse.cli.exits import UsageError

    file = options.get("authority") or _variable(options, "PILOTHOUSE_CA")
    try:
        text = Path(file).read_text("ascii") if file else ""
    except (OSError, ValueError) as error:
        raise UsageError(f"--ca: {file} is not a readable PEM file of certificates: {error}") from error
    if file and "-----BEGIN CERTIFICATE-----" not in text:
        raise UsageError(f"--ca: {file} is not a readable PEM file of certificates: none begins in it")
    return text


def origin_of(context: typer.Context, option: str, variable: str, stored: str) -> str:
    """Return what says it: the command line, the variable, the context if it has ``stored``, or nothing."""
    options, own = connection_options_of(context), session_of(context).context
    if options.get(option):
        return "command line"
    if _variable(options, variable):
        return variable
    return f"context {own.name}" if own is not None and stored else ""


def _resolve(options: dict[str, Any]) -> Session:
    from pilothouse.cli.client import Client

    stored = _stored_context(options)
    url = url_of(options) or (stored.url if stored else _DEFAULT_URL)
    own = stored if stored is not None and stored.url == url.rstrip("/") else None
    credentials = _credentials(options, own)
    project = options.get("in_project") or ""
    # another token than the context's was made for its own project
    if not project and (not credentials.token or (own is not None and credentials.context is own)):
        project = _variable(options, "PILOTHOUSE_PROJECT_ID") or (own.project if own else "")
    client = Client(
        url,
        credentials=credentials,
        ca=authority_of(options) or (own.ca if own else ""),
        project=project,
    )
    return Session(
        client=client,
        context=own,
        project=str(project),
        cluster=_default(options, "in_cluster", "PILOTHOUSE_CLUSTER", own.cluster if own else ""),
        namespace=_default(options, "in_namespace", "PILOTHOUSE_NAMESPACE", own.namespace if own else "") or "default",
    )


def _stored_context(options: dict[str, Any]) -> "Context | None":
    from pilothouse.cli.contexts import read_contexts

    contexts = read_contexts()
    named = options.get("named_context") or os.environ.get("PILOTHOUSE_CONTEXT")
    return contexts.get(str(named)) if named else contexts.find(contexts.current)


def _credentials(options: dict[str, Any], own: "Context | None") -> "Credentials":
    """Return flags' credentials, else those of a context that a flag names, the environment's, the context's."""
    from pilothouse.cli.client import Credentials

    variables = os.environ
    flags = Credentials(
        token=options.get("with_token") or "",
        access_key=options.get("with_access_key") or variables.get("CLOUD_SDK_AK", ""),
        secret_key=options.get("with_secret_key") or variables.get("CLOUD_SDK_SK", ""),
        origin="--token",
    )
    if flags.token or options.get("with_access_key") or options.get("with_secret_key"):
        return flags
    if own is not None and options.get("named_context"):
        return Credentials.of(own)
    if token := variables.get("PILOTHOUSE_TOKEN"):
        return Credentials(token=token)
    # CLOUD_SDK_AK is also the vendor's, so that it may be meant for another server than the context's
    return Credentials.of(own) if own is not None else flags


def _default(options: dict[str, Any], option: str, variable: str, stored: str) -> str:
    return str(options.get(option) or _variable(options, variable) or stored)


def _variable(options: dict[str, Any], name: str) -> str:
    """Return a variable's value, or nothing beside a context that a flag names, which counts before it."""
    return "" if options.get("named_context") else os.environ.get(name, "")
