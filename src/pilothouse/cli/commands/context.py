"""``pilothouse context …``: the servers that a person is logged in to."""

from typing import Annotated, Any

import typer

from pilothouse.cli.completion import complete_contexts
from pilothouse.cli.contexts import Context, Contexts, contexts_file, edited_contexts, read_contexts, tell_overrides
from pilothouse.cli.groups import command_group
from pilothouse.cli.output import As, Output, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest

app = command_group("Contexts: the servers that you are logged in to.")

_COLUMNS = ("current", "name", "url", "user", "project", "cluster", "namespace", "expires_at")
_LEAST = ("namespace", "cluster", "project", "user")
#: A person waits, and the answer is worth no more.
_CHECK_SECONDS = 5.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context.", autocompletion=complete_contexts)]


@app.command("list")
def list_all(output: As = Output.TABLE) -> None:
    """List the contexts. The current one has a star."""
    contexts = read_contexts()
    print_rows([_row(context, contexts.current) for context in contexts.contexts], _COLUMNS, output, least=_LEAST)


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Default: the current one.", autocompletion=complete_contexts)
    ] = "",
    output: As = Output.TABLE,
) -> None:
    """Show a context, without its credentials."""
    contexts = read_contexts()
    print_rows([_row(contexts.get(name or _current(contexts)), contexts.current)], _COLUMNS, output, single=True)


@app.command("use")
def use(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Default: the current one.", autocompletion=complete_contexts)
    ] = "",
    *,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Set its default cluster.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Set its default namespace.")] = None,
) -> None:
    """Make a context the current one. The options change its defaults, '' removes them; NAME is then optional.

    A cluster is looked up at the server, if that answers.
    """
    name = name or _current(read_contexts())
    if cluster:
        check_cluster(read_contexts().get(name), cluster)
    with edited_contexts() as contexts:
        chosen = contexts.get(name)
        chosen.cluster = chosen.cluster if cluster is None else cluster
        chosen.namespace = chosen.namespace if namespace is None else namespace
        contexts.current = name
    where = f"cluster {chosen.cluster or '(the only one)'}, namespace {chosen.namespace or 'default'}"
    echo(f"commands now ask {chosen.url}, context {name}: {where}")
    tell_overrides(chosen)


@app.command("remove")
def remove(name: Name) -> None:
    """Log out: revoke the context's tokens, and forget the context."""
    revoked = _revoke(read_contexts().get(name))
    with edited_contexts() as contexts:
        contexts.contexts = [context for context in contexts.contexts if context.name != name]
        contexts.current = "" if contexts.current == name else contexts.current
    echo(f"context {name} was removed{revoked}")


def _current(contexts: Contexts) -> str:
    if not contexts.current:
        raise InvalidRequest(f"there is no current context in {contexts_file()}: type 'pilothouse login URL'")
    return contexts.current


def check_cluster(chosen: Context, cluster: str) -> None:
    """Raise InvalidRequest if the context's server says that there is no such cluster; warn if it says nothing."""
    from pilothouse.cli.client import Client, Credentials, ServerRefused
    from pilothouse.cli.exits import NoServer

    client = Client(
        chosen.url,
        credentials=Credentials.of(chosen),
        ca=chosen.ca,
        project=chosen.project,
        timeout_seconds=_CHECK_SECONDS,
    )
    try:
        known = client.call("GET", "/api/v1/clusters")
    except (NoServer, ServerRefused) as error:
        echo(f"whether there is a cluster {cluster!r} is not known: {error}", err=True)
        return
    if not any(cluster in {row["name"], row["id"]} for row in known):
        names = ", ".join(sorted(row["name"] for row in known)) or "none"
        raise InvalidRequest(f"--cluster: there is no cluster {cluster!r} at {chosen.url}; there are: {names}")


def _revoke(removed: Context) -> str:
    """Revoke the tokens of the context at its server, and return what there is to say about that."""
    from pilothouse.cli.client import TOKENS_PATH, Client, Credentials, ServerRefused
    from pilothouse.cli.exits import NoServer

    client = Client(removed.url, credentials=Credentials.of(removed), ca=removed.ca)
    tokens = [*removed.project_tokens.values(), *filter(None, [removed.token])]
    try:
        for token in tokens:
            client.call("DELETE", TOKENS_PATH, headers={"X-Subject-Token": token})
    except (NoServer, ServerRefused) as error:
        return f"; its token is valid until it expires, as it could not be revoked: {error}"
    return " and its token revoked" if tokens else ""


def _row(context: Context, current: str) -> dict[str, Any]:
    return {
        "current": "*" if context.name == current else "",
        "name": context.name,
        "url": context.url,
        "user": context.user or context.access_key,
        "project": context.project,
        "cluster": context.cluster,
        "namespace": context.namespace,
        "expires_at": context.expires_at,
    }
