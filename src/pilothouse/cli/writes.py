"""What commands that change a release share: their options, the request, and how its operation is told."""

import os
import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from pilothouse.cli.connection import client_of, session_of
from pilothouse.cli.durations import TIMEOUT_HELP, seconds_of
from pilothouse.cli.evidence import evidence_lines
from pilothouse.cli.exits import ExitStatus, NoServer, NotLoggedIn, UsageError
from pilothouse.cli.groups import options_of
from pilothouse.cli.hints import typed
from pilothouse.cli.output import Output, print_answer
from pilothouse.cli.releases import release_path
from pilothouse.cli.terminal import echo
from pilothouse.cli.wording import explain_conflict
from pilothouse.errors import PilothouseError
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus

if TYPE_CHECKING:
    from pilothouse.cli.client import Client

#: What is done before that many seconds have passed is answered at once, without a look at its events.
_FIRST_WAIT_SECONDS: Final = 1
_TRIES: Final = 5
_EVIDENCE_LINES: Final = 40
#: Options that the API has by the same name; ``tests/unit/cli/test_commands.py`` compares them with its bodies.
SENT_OPTIONS: Final = (
    "no_hooks",
    "description",
    "force_conflicts",
    "force_replace",
    "history_max",
    "cleanup_on_fail",
    "take_ownership",
    "skip_schema_validation",
    "create_namespace",
    "rollback_on_failure",
    "checks",
)
#: How the small program (``engine/front``) tells of a write that it has sent, with which key, and that it was stopped.
_SENT_KEY: Final = "_PILOTHOUSE_SENT_KEY"
_INTERRUPTED: Final = "_PILOTHOUSE_INTERRUPTED"
_WAITS: Final = {
    "watcher": "ready",
    "legacy": "ready",
    "ready": "ready",
    "hookonly": "hooks",
    "hooks": "hooks",
    "none": "none",
    "jobs": "jobs",
    "true": "ready",
    "false": "hooks",
}


def wait_options(
    *,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="FOR",
            help="Wait until the objects are ready (watcher, legacy); --wait=hookOnly: for hooks only, the default.",
            autocompletion=lambda: ["watcher", "legacy", "hookOnly", "none"],
        ),
    ] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="TIME", help=TIMEOUT_HELP)] = None,
) -> None:
    """Declare the options of for what, and for how long, to wait."""


def detach_options(
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not follow it; 'pilothouse operation follow' does, anywhere.")
    ] = False,
) -> None:
    """Declare the option of commands that start an operation."""


def job_options(
    *,
    wait_for_jobs: Annotated[
        bool, typer.Option("--wait-for-jobs", help="With --wait, wait for Jobs to complete, too.")
    ] = False,
) -> None:
    """Declare the option of commands that wait for what a revision creates."""


def hook_options(*, no_hooks: Annotated[bool, typer.Option("--no-hooks", help="Run no hooks.")] = False) -> None:
    """Declare the option of all commands that may run hooks."""


def write_options(
    *,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="Text for the history, in place of Helm's.")
    ] = None,
) -> None:
    """Declare the option of commands whose revision may have a text of its own."""


def force_options(
    *,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that somebody else has set.")
    ] = False,
    force_replace: Annotated[bool, typer.Option("--force-replace", help="Replace objects, not change them.")] = False,
    force: Annotated[bool, typer.Option("--force", hidden=True)] = False,
) -> None:
    """Declare the options of what may be overwritten."""


def history_options(
    *,
    history_max: Annotated[
        int | None, typer.Option("--history-max", min=0, metavar="N", help="Keep so many revisions (10); 0: all.")
    ] = None,
) -> None:
    """Declare the option of commands that add to a history."""


def cleanup_options(
    *,
    cleanup_on_fail: Annotated[
        bool, typer.Option("--cleanup-on-fail", help="If it fails, delete the objects that it has created.")
    ] = False,
) -> None:
    """Declare the option of commands that can clean up."""


def check_options(
    *,
    checks: Annotated[
        list[str] | None,
        typer.Option("--checks", metavar="test", help="Run the chart's tests after it; it fails if they fail."),
    ] = None,
) -> None:
    """Declare the option of commands whose revision can be checked."""


def write_body(context: typer.Context) -> dict[str, Any]:
    """Return the API's options that the command line gives, by the API's names."""
    given = options_of(context)
    options: dict[str, Any] = {
        name: value
        for name in SENT_OPTIONS
        if (value := given.get(name)) not in (None, [], ()) and value is not False  # 0 revisions are all of them
    }
    if given.get("force"):
        echo("--force is deprecated, use --force-replace", err=True)
        options["force_replace"] = True
    if given.get("atomic"):
        options["rollback_on_failure"] = True
    ready = bool(options.get("rollback_on_failure") or options.get("checks"))
    if (waited := _wait_of(given, ready=ready)) is not None:
        options["wait"] = waited
    if given["timeout"] is not None:
        options["timeout_seconds"] = seconds_of(given["timeout"], option="--timeout")
    return options


def _wait_of(options: dict[str, Any], *, ready: bool) -> str | None:
    """Return for what to wait, as Helm does: without a flag for hooks, and for all if a failure is rolled back."""
    word = options["wait"]
    if word is not None and word.lower() not in _WAITS:
        raise UsageError(f"--wait: {word!r} is none of watcher, hookOnly, legacy, none")
    waited = _WAITS[word.lower()] if word is not None else "ready" if ready else "hooks"
    return "jobs" if options.get("wait_for_jobs") and waited == "ready" else waited


def start(context: typer.Context, method: str, path: str, body: object) -> dict[str, Any]:
    """Send a write; return its operation, which may have ended. A connection that breaks does not start it twice."""
    import uuid

    client = client_of(context)
    wait = {} if options_of(context)["detach"] else {"Prefer": f"wait={_FIRST_WAIT_SECONDS}"}
    headers = {"Idempotency-Key": os.environ.pop(_SENT_KEY, "") or str(uuid.uuid4()), **wait}
    try:
        for _ in range(_TRIES - 1):
            try:
                return _sent(client, method, path, body, headers)
            except NoServer as error:
                if isinstance(error, NotLoggedIn) or isinstance(error.__cause__, ConnectionRefusedError):
                    raise
        return _sent(client, method, path, body, headers)
    except KeyboardInterrupt:
        raise _interrupted() from None


def end_if_interrupted() -> None:
    """End the command if the front was interrupted after it had sent this write."""
    if os.environ.pop(_INTERRUPTED, ""):
        raise _interrupted()


def _interrupted() -> typer.Exit:
    echo(
        "interrupted before the server answered: it may have begun; 'pilothouse operation list' and "
        "'pilothouse status NAME' tell",
        err=True,
    )
    return typer.Exit(ExitStatus.INTERRUPTED)


def _sent(client: "Client", method: str, path: str, body: object, headers: dict[str, str]) -> dict[str, Any]:
    operation: dict[str, Any] = client.call(method, path, body=body, headers=headers)
    return operation


def finish(context: typer.Context, operation: dict[str, Any], output: Output) -> dict[str, Any] | None:
    """Follow the operation to its end, and return it; None if it goes on alone.

    A failure ends the command; a program is given the operation.
    """
    ended = followed(context, operation, output)
    if ended is not None and (failure := failure_of(ended)) is not None:
        show_evidence(context, ended, evidence_of(client_of(context), ended))
        if output is not Output.TABLE:
            print_answer(ended, output)
        _tell_what_is_left(context, ended)
        raise failure
    return ended


def _tell_what_is_left(context: typer.Context, ended: dict[str, Any]) -> None:
    """Say of an install that failed that its release is there, and what can become of it."""
    if ended["action"] != Action.INSTALL or ended["state"] != OperationState.FAILED:
        return
    place = (quote(str(ended[part]), safe="") for part in ("cluster_id", "namespace", "release"))
    path = "/api/v1/clusters/{}/namespaces/{}/releases/{}".format(*place)
    with suppress(PilothouseError):  # it is gone, for one
        found = client_of(context).call("GET", path)
        if found["revision"] and found["status"] == ReleaseStatus.FAILED:
            where = () if session_of(context).namespace == ended["namespace"] else ("-n", ended["namespace"])
            undo = typed(context, Action.UNINSTALL, ended["release"], *where)
            echo(f"what it has created stays, as a failed release: upgrade it, or remove it with: {undo}", err=True)


def failure_of(operation: dict[str, Any]) -> PilothouseError | None:
    """Return why the operation has not succeeded; None if it has."""
    if operation["state"] == OperationState.SUCCEEDED:
        return None
    text = explain_conflict(_own_words(operation))
    return PilothouseError(f"{operation['action']} of {operation['release']} {_ended(operation['state'], text)}")


def _own_words(operation: dict[str, Any]) -> str:
    """Return why it failed on one line, without the name of the release in front, which is told before."""
    text = "; ".join(line for line in (operation["text"] or operation["last_error"]).splitlines() if line.strip())
    begun = re.match(rf'(failed: )?\w+ "{re.escape(operation["release"])}" failed: ', text)
    return f"{begun[1] or ''}{text[begun.end() :]}" if begun else text


def _ended(state: str, text: str) -> str:
    """Return how it ended, as a verb with the rest of the text: a cancel says itself that it is one."""
    rest = text.removeprefix(state)
    return text if rest != text and rest[:1] in {"", " ", ":"} else f"{state}: {text.removeprefix(f'{state}; ')}"


def followed(context: typer.Context, operation: dict[str, Any], output: Output) -> dict[str, Any] | None:
    """Follow the operation to its end, and return it; None if it goes on alone."""
    if options_of(context)["detach"]:
        if output is not Output.TABLE:
            print_answer(operation, output)
        else:
            what = "the cancel of the " if operation["state"] == OperationState.CANCELLING else ""
            echo(f"{what}{operation['action']} of {operation['release']} is accepted as operation {operation['id']}")
            echo(f"follow it with: {typed(context, 'operation', 'follow', operation['id'])}")
        return None
    if operation["state"] in LIVING_STATES:
        from pilothouse.cli.following import follow

        operation = follow(client_of(context), operation["id"], quiet=bool(options_of(context).get("quiet")))
    return operation


def evidence_of(client: "Client", operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was found in the cluster, by attempts."""
    found: list[dict[str, Any]] = client.call("GET", f"/api/v1/operations/{operation['id']}/evidence")
    return found


def show_evidence(context: typer.Context, operation: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Print what was found in the cluster after the last attempt failed, as far as it is short."""
    lines = list(evidence_lines(found[-1])) if found else []
    for line in lines[1:_EVIDENCE_LINES]:  # the first says the error, which follows
        echo(line, err=True)
    if len(lines) > _EVIDENCE_LINES:
        more = typed(context, "operation", "show", operation["id"])
        echo(f"  … {len(lines) - _EVIDENCE_LINES} more: {more}", err=True)


def existing(context: typer.Context, name: str, *, required: bool = False) -> dict[str, Any] | None:
    """Return the release; if there is none, None, or the server's error if it is ``required``."""
    from pilothouse.cli.client import ServerRefused

    try:
        found: dict[str, Any] = client_of(context).call("GET", release_path(context, name))
    except ServerRefused as error:
        if required or error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return found


def is_gone(context: typer.Context, name: str, error: PilothouseError) -> bool:
    """Return whether the server refused a write because the release has gone in between."""
    from pilothouse.cli.client import ServerRefused

    missing = isinstance(error, ServerRefused) and error.status == HTTPStatus.NOT_FOUND
    return missing and existing(context, name) is None
