"""``pilothouse test``: the tests of a release, with the flags of ``helm test``."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pilothouse.cli.commands.list import time_of
from pilothouse.cli.commands.status import status_lines
from pilothouse.cli.completion import complete_tests
from pilothouse.cli.connection import client_of
from pilothouse.cli.durations import TIMEOUT_HELP, seconds_of
from pilothouse.cli.groups import takes
from pilothouse.cli.hints import typed
from pilothouse.cli.output import As, Output, print_answer, print_lines
from pilothouse.cli.releases import Name, release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.writes import detach_options, evidence_of, failure_of, followed, show_evidence, start


@takes(detach_options)
def run_tests(
    context: typer.Context,
    name: Name,
    *,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="name=TEST",
            help="Run only this test; '!name=TEST': all others; several with commas.",
            autocompletion=complete_tests,
        ),
    ] = None,
    logs: Annotated[
        bool, typer.Option("--logs", help="Print the logs of the tests' pods, also of those that are gone.")
    ] = False,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="TIME", help=TIMEOUT_HELP)] = None,
    output: As = Output.TABLE,
) -> None:
    """Run the tests of a release. Followed to their end; status 1 if one fails.

    Examples: pilothouse test web -n prod --logs; pilothouse test web --filter name=web-connection
    """
    chosen = [word for text in filters or () for word in text.split(",")]
    options = {"timeout_seconds": seconds_of(timeout, option="--timeout")} if timeout is not None else {}
    body = {"filters": chosen, "options": options}
    operation = followed(context, start(context, "POST", release_path(context, name, "test"), body), output)
    if operation is None:
        return
    client, revision = client_of(context), operation["revision"]
    evidence = evidence_of(client, operation)
    if output is not Output.TABLE:
        print_answer({**operation, "evidence": evidence}, output)
    else:
        found = client.call("GET", release_path(context, name, revision=revision))
        hooks = client.call("GET", release_path(context, name, "hooks", revision=revision))["hooks"]
        print_lines(status_lines(context, {**found, "notes": ""}))
        print_lines(_suites(hooks))
        if logs:
            print_lines(_logs(evidence))
    if (failure := failure_of(operation)) is None:
        return
    if output is Output.TABLE and not logs:
        show_evidence(context, operation, evidence)
        echo(f"again, with whole logs: {typed(context, 'test', name, '--logs')}", err=True)
    raise failure


def _suites(hooks: list[dict[str, Any]]) -> Iterator[str]:
    """Return what Helm prints of each test."""
    for hook in hooks:
        if _EVENT not in hook["events"] or not (ran := hook["last_run"]) or not ran["phase"]:
            continue
        yield f"TEST SUITE:     {hook['name']}"
        yield f"Last Started:   {time_of(ran['started_at'] or '')}"
        yield f"Last Completed: {time_of(ran['completed_at'] or '')}"
        yield f"Phase:          {ran['phase']}"


def _logs(evidence: list[dict[str, Any]]) -> Iterator[str]:
    for pod in evidence[-1]["pods"] if evidence else ():
        for container in pod["containers"]:
            yield f"\nPOD LOGS: {pod['name']} ({container['name']})"
            yield from container["log"]


_EVENT = "test"
