"""``pilothouse source …``: where charts come from, registries and repositories."""

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
import typer

from pilothouse.cli.client import Client, ServerRefused
from pilothouse.cli.commands.list import time_of
from pilothouse.cli.completion import complete_sources
from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group, connection_options_of
from pilothouse.cli.output import As, Output, print_answer, print_lines, print_rows
from pilothouse.cli.passwords import FromStdin, ask
from pilothouse.cli.sources import OCI, read_text, source_of
from pilothouse.cli.terminal import echo

app = connected_group("Chart sources: OCI registries and HTTP repositories.")

_COLUMNS = ("id", "name", "kind", "url", "verification", "synced_at", "failed_at", "problem")
_LEAST_OF_FAILING = ("verification", "kind", "synced_at", "url")
#: Releases that are named when their source is removed.
_NAMED = 5


class Verify(StrEnum):
    """How charts of a source are verified."""

    NONE = "none"
    PGP = "pgp"
    COSIGN = "cosign"


SourceName = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Name, id or address of the source.", autocompletion=complete_sources)
]


_CaFile = Annotated[
    Path | None, typer.Option("--ca-file", exists=True, dir_okay=False, help="Authorities that are trusted (PEM).")
]
_Keys = Annotated[
    Path | None,
    typer.Option("--keys", exists=True, dir_okay=False, help="Public keys that are trusted, for --verify."),
]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    url: Annotated[
        str, typer.Argument(help="oci://HOST/FOLDER, or https://… of a repository; http:// if the server allows it.")
    ],
    *,
    username: Annotated[str, typer.Option("--username", help="User name; its password is asked for.")] = "",
    password_stdin: FromStdin = False,
    ca_file: _CaFile = None,
    verify: Annotated[
        Verify, typer.Option("--verify", help="How its charts are verified; those that do not verify are refused.")
    ] = Verify.NONE,
    keys: _Keys = None,
    sync_seconds: Annotated[
        int, typer.Option("--sync-seconds", min=0, help="How often it is synchronised; 0: only by 'source sync'.")
    ] = 3600,
    output: As = Output.TABLE,
) -> None:
    """Add a source. It is asked and synchronised first; the password is stored encrypted.

    Example: pilothouse source add team oci://registry.example.com/charts --username puller
    """
    if "://" not in url:
        raise UsageError(
            f"{url!r} is no address: it begins with oci:// (a registry) or https:// (a repository); http:// takes the "
            "server's setting PILOTHOUSE_SOURCES__ALLOW_HTTP=true"
        )
    body: dict[str, object] = {
        "name": name,
        "kind": "oci" if url.startswith(OCI) else "http",
        "url": url,
        "ca": _text(ca_file, "--ca-file") or "",
        "verification": _verification(verify, keys),
        "sync_seconds": sync_seconds,
    }
    if username:
        body["credentials"] = {"username": username, "password": ask("Password", from_stdin=password_stdin)}
    client = client_of(context)
    made = client.call("POST", "/api/v1/sources", body=body)
    print_rows([made], _COLUMNS, output, single=True)
    _warn_of_keys(made)
    others = [row["name"] for row in client.call("GET", "/api/v1/sources") if row["url"] == made["url"]]
    if made["kind"] == "oci" and len(others) > 1:
        echo(
            f"{', '.join(others)} have one address: {made['url']}/CHART names none of them; type {name}/CHART",
            err=True,
        )
    _warn_of_none(context, made)


def _warn_of_none(context: typer.Context, source: dict[str, Any]) -> None:
    """Say why a source that was just synchronised has no charts to list, if it has none."""
    if not client_of(context).call("GET", f"{_path(context, source['id'])}/charts?devel=true&limit=1"):
        echo(_none_known(source), err=True)


def _none_known(source: dict[str, Any]) -> str:
    if source["kind"] == "oci":
        return f"no chart is known there yet; one of a registry is asked for by its name, as {source['name']}/NAME"
    return f"its index lists no chart yet; once it does, 'pilothouse source sync {source['name']}' reads it again"


@app.command("update")
def update(
    context: typer.Context,
    source: SourceName,
    *,
    username: Annotated[str, typer.Option("--username", help="Another user name; its password is asked for.")] = "",
    password_stdin: FromStdin = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Ask it without user name and password.")] = False,
    ca_file: _CaFile = None,
    system_ca: Annotated[bool, typer.Option("--system-ca", help="Trust the system's authorities only.")] = False,
    verify: Annotated[Verify | None, typer.Option("--verify", help="Another way to verify its charts.")] = None,
    keys: _Keys = None,
    sync_seconds: Annotated[
        int | None,
        typer.Option("--sync-seconds", min=0, help="How often it is synchronised; 0: only by 'source sync'."),
    ] = None,
    output: As = Output.TABLE,
) -> None:
    """Change a source: what is not named stays as it is, and so do its name, its address and what came from it.

    New credentials and authorities are tried before they are stored; other authorities take the password again.
    Example, with a new password for the same user:
    pilothouse source update team --password-stdin < password.txt
    """
    if anonymous and (username or password_stdin):
        raise UsageError("--anonymous: it goes with no user name and no password")
    if system_ca and ca_file is not None:
        raise UsageError("--system-ca: it goes without --ca-file")
    client = client_of(context)
    known = client.call("GET", _path(context, source))
    if keys is not None and verify is None:
        verify = Verify(known["verification"])
    credentials = {"username": "", "password": ""} if anonymous else None
    again = ca_file is not None and bool(known["username"]) and not anonymous and sys.stdin.isatty()
    if username or password_stdin or again:
        credentials = _credentials(username or known["username"], again=again, from_stdin=password_stdin)
    body = {
        "credentials": credentials,
        "ca": "" if system_ca else _text(ca_file, "--ca-file"),
        "verification": _verification(verify, keys) if verify is not None else None,
        "sync_seconds": sync_seconds,
    }
    changes = {name: value for name, value in body.items() if value is not None}
    if not changes:
        raise UsageError(
            f"nothing to change: name --username, --password-stdin, --ca-file, --verify or others{_of_server(context)}"
        )
    changed = client.call("PATCH", _path(context, known["id"]), body=changes)
    print_rows([changed], _COLUMNS, output, single=True)
    _warn_of_keys(changed)


def _of_server(context: typer.Context) -> str:
    """Return what the options mean that may have been meant for the source."""
    authority = connection_options_of(context).get("authority")
    return "; --ca is the authority of the Pilothouse server" if authority else ""


def _credentials(user: str, *, again: bool, from_stdin: bool) -> dict[str, str]:
    """Return the credentials of the user; ``again``: only other authorities are given, which takes the password."""
    what = f"Password of {user}, for hosts of the other authorities, too" if again else "Password"
    return {"username": user, "password": ask(what, from_stdin=from_stdin)}


def _warn_of_keys(source: dict[str, Any]) -> None:
    """Tell if the source takes no chart any more, because none of its keys can sign."""
    if source["verification"] != Verify.NONE and not source["trusted"]:
        reasons = "; ".join(source["unusable"])
        echo(f"none of these keys can sign, so no chart of {source['name']} will be taken: {reasons}", err=True)


def _text(file: Path | None, option: str) -> str | None:
    return read_text(file, option) if file is not None else None


def _verification(verify: Verify, keys: Path | None) -> dict[str, str]:
    if verify is not Verify.NONE and keys is None:
        raise UsageError(f"--keys: missing; --verify {verify.value} takes a file with the public keys")
    if verify is Verify.NONE and keys is not None:
        raise UsageError("--keys: they are for --verify pgp and --verify cosign")
    return {"kind": verify.value, "keys": _text(keys, "--keys") or ""}


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's sources."""
    rows = client_of(context).call("GET", "/api/v1/sources")
    failing = any(row["problem"] for row in rows)
    print_rows(rows, _COLUMNS, output, least=_LEAST_OF_FAILING if failing else ("failed_at", "synced_at", "kind"))


@app.command("show")
def show(context: typer.Context, source: SourceName, output: As = Output.TABLE) -> None:
    """Show one source: its address, user, authorities and keys, and when it was synchronised. Secrets are not shown."""
    found = client_of(context).call("GET", _path(context, source))
    if output is Output.TABLE:
        print_lines(_lines(found))
        count, names = _made_of(client_of(context), found["name"])
        if count is not None:
            echo(f"RELEASES: {count}{f': {names}' if count else ''}")
    else:
        print_answer(found, output)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"NAME: {found['name']}"
    yield f"ID: {found['id']}"
    yield f"URL: {found['url']}"
    yield f"USER: {found['username'] or '(none)'}"
    yield f"AUTHORITIES: {'those of the system and' if found['has_ca'] else 'those of the system'}"
    yield from (f"  {authority}" for authority in found["authorities"])
    yield f"VERIFICATION: {found['verification']}"
    yield from (f"  trusts {key}" for key in found["trusted"])
    yield from (f"  not {key}" for key in found["unusable"])
    seconds = found["sync_seconds"]
    yield f"SYNCHRONISED: {f'every {seconds} s' if seconds else 'only when asked to'}"
    yield f"LAST SYNCHRONISED: {time_of(found['synced_at'] or '') or 'never'}"
    if found["problem"]:
        at = f" (at {time_of(found['failed_at'])})" if found["failed_at"] else ""
        yield f"PROBLEM: {found['problem']}{at}"


@app.command("sync")
def sync(context: typer.Context, source: SourceName, output: As = Output.TABLE) -> None:
    """Synchronise a source now."""
    synchronised = client_of(context).call("POST", f"{_path(context, source)}/sync")
    print_rows([synchronised], _COLUMNS, output, single=True)
    _warn_of_none(context, synchronised)


@app.command("remove")
def remove(
    context: typer.Context,
    source: SourceName,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print which releases use it.")] = False,
) -> None:
    """Remove a source and what was pulled from it. Releases made from its charts run on, without its updates.

    They are named first. Adding it again does not give it back to them.
    To change its password, authorities or keys: pilothouse source update
    """
    client = client_of(context)
    name = client.call("GET", _path(context, source))["name"]
    echo(_lost(*_made_of(client, name)))
    if dry_run:
        echo(f"dry run: source {name} was not removed")
        return
    client.call("DELETE", _path(context, name))
    echo(f"source {name} was removed")


def _made_of(client: Client, source: str) -> tuple[int | None, str]:
    """Return how many releases are of the source, and the first ones by name; None if they may not be listed."""
    try:
        query = {"source": source, "limit": _NAMED, "totals": "true", "fields": "name"}
        answer = client.get(f"/api/v1/releases?{urlencode(query)}")
    except ServerRefused:
        return None, ""
    rows = orjson.loads(answer.content)
    totals = answer.headers.get("X-Pilothouse-Totals", "")
    count = sum(int(pair.partition("=")[2]) for pair in totals.split(", ") if pair)
    names = ", ".join(f"{row['cluster_name']}/{row['namespace']}/{row['name']}" for row in rows)
    return count, f"{names} and others" if count > len(rows) else names


def _lost(count: int | None, names: str) -> str:
    """Return what becomes of the releases of a source that is removed."""
    if count is None:
        return (
            "releases that use charts of this source keep running; no updates are shown for them any more, until they "
            "are upgraded with a chart of a source"
        )
    if not count:
        return "no release that you may list is made from its charts"
    if count == 1:
        return (
            f"1 release uses charts of this source: {names}\nIt keeps running. No updates are shown for it any more, "
            "until it is upgraded with a chart of a source: another one, or this one after it was added again"
        )
    return (
        f"{count} releases use charts of this source: {names}\nThey keep running. No updates are shown for them any "
        "more, until they are upgraded with a chart of a source: another one, or this one after it was added again"
    )


def _path(context: typer.Context, source: str) -> str:
    return f"/api/v1/sources/{quote(source_of(context, source), safe='')}"
