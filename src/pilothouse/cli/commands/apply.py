"""``pilothouse apply``: carry out a plan, exactly as it was made."""

from typing import Annotated
from urllib.parse import quote

import typer

from pilothouse.cli.completion import complete_plans
from pilothouse.cli.connection import client_of
from pilothouse.cli.deploying import show_release
from pilothouse.cli.groups import takes
from pilothouse.cli.hints import typed
from pilothouse.cli.output import As, Output
from pilothouse.cli.plans import print_plan
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import detach_options, finish, start
from pilothouse.errors import PilothouseError
from pilothouse.states import Action


@takes(detach_options)
def apply(
    context: typer.Context,
    plan_id: Annotated[
        str,
        typer.Argument(metavar="PLAN", help="The id that 'pilothouse plan' printed.", autocompletion=complete_plans),
    ],
    *,
    digest: Annotated[
        str, typer.Option("--digest", metavar="DIGEST", help="Digest of the plan that was reviewed; default: its own.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan again.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Apply a plan. Just what was planned; refused if anything of it has moved. Followed to its end.

    Examples: pilothouse apply 1b4e28ba-2fa1-4d5e-9f3c-7a0c5b9e1d20 --dry-run;
    pilothouse apply 1b4e28ba-2fa1-4d5e-9f3c-7a0c5b9e1d20
    """
    from pilothouse.cli.client import RELEASE_MOVED, ServerRefused

    path = f"/api/v1/plans/{quote(plan_id, safe='')}"
    plan = client_of(context).call("GET", path)
    if dry_run:
        print_plan(context, plan, output)
        return
    body = {"digest": digest or plan["digest"]}
    try:
        started = start(context, "POST", f"{path}/apply", body)
    except ServerRefused as error:
        if error.reason != RELEASE_MOVED:
            raise
        history = typed(context, "history", plan["name"], "-n", plan["namespace"], "--cluster", plan["cluster_name"])
        raise PilothouseError(f"{error}; who wrote what: {history}") from error
    operation = finish(context, started, output)
    if operation is None:
        return
    if plan["action"] == Action.UNINSTALL:
        echo(f'release "{plan["name"]}" uninstalled')
        return
    place = (plan["cluster_id"], plan["namespace"], plan["name"])
    cluster, namespace, name = (quote(word, safe="") for word in place)
    show_release(context, f"/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", operation, output)
