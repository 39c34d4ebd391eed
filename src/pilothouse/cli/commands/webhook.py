"""``pilothouse webhook …``: who is told what happens in a project, and what became of messages to them."""

import re
import time
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import orjson
import typer

from pilothouse.cli.completion import complete_webhooks
from pilothouse.cli.connection import client_of
from pilothouse.cli.durations import seconds_of
from pilothouse.cli.exits import ExitStatus, UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_rows, tell_older
from pilothouse.cli.passwords import ask
from pilothouse.cli.sources import read_text
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest
from pilothouse.states import DeliveryState, WebhookFormat

app = connected_group("Webhooks: other programs that are told what happens in the project.")

_COLUMNS: Final = ("id", "name", "origin", "events", "enabled", "pending", "failures", "last_error", "delivered_at")
_LEAST: Final = ("delivered_at", "events", "failures", "last_error")
_DELIVERIES: Final = ("id", "event", "about", "state", "attempts", "status", "error", "created_at", "due_at")
_LEAST_OF_DELIVERIES: Final = ("due_at", "attempts", "created_at", "error")
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOOK_SECONDS: Final = 0.5

Webhook = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Name or id of the webhook.", autocompletion=complete_webhooks)
]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the webhook.")],
    *,
    url_file: Annotated[
        Path | None,
        typer.Option("--url-file", exists=True, dir_okay=False, help="Read the URL from this file."),
    ] = None,
    url_stdin: Annotated[
        bool, typer.Option("--url-stdin", help="Read the URL from standard input instead of asking.")
    ] = False,
    events: Annotated[
        list[str] | None,
        typer.Option("--event", help="operation.ended or drift.changed; both if none is given. Can be repeated."),
    ] = None,
    form: Annotated[
        WebhookFormat, typer.Option("--format", help="json, or slack for an incoming webhook of Slack.")
    ] = WebhookFormat.JSON,
    output: As = Output.TABLE,
) -> None:
    """Create a webhook. Asks for its URL, whose path is a secret. What signs its messages is shown once.

    Example: pilothouse webhook create ci --url-file url.txt --event operation.ended
    """
    body: dict[str, Any] = {"name": name, "url": _read_url(url_file, from_stdin=url_stdin), "format": form.value}
    if events:
        body["events"] = events
    made = client_of(context).call("POST", "/api/v1/webhooks", body=body)
    _print([made], output, single=True)
    if output is Output.TABLE:
        echo(f"secret  {made['secret']}  (shown only now; it verifies the messages)")


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's webhooks."""
    _print(client_of(context).call("GET", "/api/v1/webhooks"), output)


@app.command("show")
def show(context: typer.Context, webhook: Webhook, output: As = Output.TABLE) -> None:
    """Show one webhook."""
    _print([client_of(context).call("GET", _path(context, webhook))], output, single=True)


@app.command("enable")
def enable(context: typer.Context, webhook: Webhook, output: As = Output.TABLE) -> None:
    """Enable a webhook. What waits for it is sent."""
    _set(context, webhook, output, enabled=True)


@app.command("disable")
def disable(context: typer.Context, webhook: Webhook, output: As = Output.TABLE) -> None:
    """Disable a webhook. What happens while it is disabled is never told to it."""
    _set(context, webhook, output, enabled=False)


@app.command("test")
def try_out(
    context: typer.Context,
    webhook: Webhook,
    *,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="For how long at most: 90s, 5m.")] = "30s",
    output: As = Output.TABLE,
) -> None:
    """Send a webhook a message. Tells what became of it; status 1 unless it was delivered at once."""
    seconds = seconds_of(timeout, option="--timeout")
    path = _path(context, webhook)
    sent = client_of(context).call("POST", f"{path}/ping")["id"]
    ends_at = time.monotonic() + seconds
    found = _find_message(context, path, sent)
    while found["state"] == DeliveryState.PENDING and not found["attempts"] and time.monotonic() < ends_at:
        time.sleep(_LOOK_SECONDS)
        found = _find_message(context, path, sent)
    _print_messages([found], output, single=True)
    if found["state"] != DeliveryState.DELIVERED:
        echo(f"pilothouse: {_why_not(found, webhook, timeout)}", err=True)
        raise typer.Exit(ExitStatus.FAILED)


@app.command("deliveries")
def deliveries(
    context: typer.Context,
    webhook: Webhook,
    *,
    state: Annotated[
        DeliveryState | None, typer.Option("--state", help="Only in this state: pending, delivered or given_up.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of rows, newest first.")] = 50,
    marker: Annotated[str, typer.Option(help="Go on where the command before ended, as it said.")] = "",
    output: As = Output.TABLE,
) -> None:
    """List messages to a webhook, newest first."""
    asked = {"state": state.value if state is not None else "", "limit": limit, "marker": marker}
    query = urlencode({name: value for name, value in asked.items() if value})
    answer = client_of(context).get(f"{_path(context, webhook)}/deliveries?{query}")
    _print_messages(orjson.loads(answer.content), output)
    tell_older(answer.next)


@app.command("remove")
def remove(context: typer.Context, webhook: Webhook) -> None:
    """Remove a webhook. What it was not told yet is not told."""
    client_of(context).call("DELETE", _path(context, webhook))
    echo(f"webhook {webhook} was removed")


def _read_url(file: Path | None, *, from_stdin: bool) -> str:
    if file is not None and from_stdin:
        raise UsageError("--url-file and --url-stdin: give one of them")
    if file is None:
        return ask("URL", from_stdin=from_stdin, flag="--url-stdin or --url-file").strip()
    url = read_text(file, "--url-file").strip()
    if not url:
        raise UsageError(f"--url-file: {file} is empty")
    return url


def _set(context: typer.Context, webhook: str, output: Output, *, enabled: bool) -> None:
    row = client_of(context).call("PATCH", _path(context, webhook), body={"enabled": enabled})
    _print([row], output, single=True)


def _path(context: typer.Context, webhook: str) -> str:
    """Return the address of a webhook given by name or id."""
    found = webhook
    if not _ID.fullmatch(webhook):
        rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/webhooks")
        found = next((row["id"] for row in rows if row["name"] == webhook), "")
        if not found:
            raise InvalidRequest(
                f"no webhook of this project is named {webhook!r}; 'pilothouse webhook list' shows them"
            )
    return f"/api/v1/webhooks/{quote(found, safe='')}"


def _find_message(context: typer.Context, path: str, sent: int) -> dict[str, Any]:
    """Return the message of that id, whatever was queued after it."""
    rows: list[dict[str, Any]] = client_of(context).call("GET", f"{path}/deliveries?limit=1&marker={sent + 1}")
    if not rows or rows[0]["id"] != sent:
        raise InvalidRequest(f"message {sent} is not there any more: the webhook was removed")
    return rows[0]


def _why_not(message: dict[str, Any], webhook: str, timeout: str) -> str:
    if message["attempts"]:
        return f"webhook {webhook} did not take the message: {message['error']}; it is tried again"
    return f"the message was not sent within {timeout}: others wait before it, or no worker runs"


def _print(rows: list[dict[str, Any]], output: Output, *, single: bool = False) -> None:
    if output is Output.TABLE:
        rows = [{**row, "events": ", ".join(row["events"])} for row in rows]
    print_rows(rows, _COLUMNS, output, single=single, least=_LEAST)


def _print_messages(rows: list[dict[str, Any]], output: Output, *, single: bool = False) -> None:
    if output is not Output.TABLE:
        print_answer(rows[0] if single else rows, output)
        return
    shown = [{**row, "about": _about(row["facts"])} for row in rows]
    print_rows(shown, _DELIVERIES, output, single=single, least=_LEAST_OF_DELIVERIES)


def _about(facts: dict[str, Any]) -> str:
    """Return what a message is about: a release, or the operation that ended."""
    if "name" in facts:
        return f"{facts['namespace']}/{facts['name']}"
    return str(facts.get("operation_id", ""))
