"""``pilothouse key …``: the master keys of this installation, on the machine that holds their file."""

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pilothouse.cli.groups import command_group
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.terminal import echo

if TYPE_CHECKING:
    from pilothouse.settings import Settings
    from pilothouse.store.database import Database

T = TypeVar("T")

app = command_group("Master keys, which encrypt the secrets in the database.")


@app.command("list")
def list_all(output: As = Output.TABLE) -> None:
    """List the keys of the file, and how many values use each."""
    from pilothouse.services.admin.master_keys import list_keys

    with _installation() as (settings, database):
        uses = _run(database, list_keys(database, settings.master_key))
    rows = [
        {
            "id": use.key.id,
            "role": use.role,
            "values": use.values,
            "created_at": use.key.created_at.isoformat() if use.key.created_at else "",
            "retired_at": use.key.retired_at.isoformat() if use.key.retired_at else "",
        }
        for use in uses
    ]
    print_rows(rows, ("id", "role", "values", "created_at", "retired_at"), output)


@app.command("rotate")
def rotate(
    *,
    stage: Annotated[
        bool,
        typer.Option(
            "--stage", help="Only add the new key without using it, to copy the file to other machines first."
        ),
    ] = False,
) -> None:
    """Start using a new key, and re-seal all values with it. Running servers pick it up by themselves."""
    from pilothouse.services.admin.master_keys import begin_new_key, stage_key

    with _installation() as (settings, database):
        if stage:
            key = stage_key(settings.master_key, now=datetime.now(UTC))
            echo(
                f"key {key.id} is staged in {settings.master_key}: copy the file to every machine that runs "
                "Pilothouse, then run 'pilothouse key rotate'"
            )
            return
        key = begin_new_key(settings.master_key, now=datetime.now(UTC))
        echo(f"key {key.id} seals new values from now on")
        _reseal(settings.master_key, database)
        echo("in ten minutes 'pilothouse key drop' can remove the old key; older backups need it")


@app.command("reseal")
def reseal() -> None:
    """Resume an interrupted 'rotate'. Re-seals all values with the current key."""
    with _installation() as (settings, database):
        _reseal(settings.master_key, database)


@app.command("drop")
def drop(output: As = Output.TABLE) -> None:
    """Remove old keys that no value needs from the file."""
    from pilothouse.services.admin.master_keys import drop_unused_keys

    with _installation() as (settings, database):
        dropped = _run(database, drop_unused_keys(database, settings.master_key, now=datetime.now(UTC)))
    if output is not Output.TABLE:
        print_answer({"dropped": dropped.ids, "kept": dropped.kept}, output)
        return
    for key_id in dropped.ids:
        echo(f"key {key_id} was removed from {settings.master_key}")
    for key_id, reason in dropped.kept.items():
        echo(f"key {key_id} stays: {reason}")
    if not dropped.ids and not dropped.kept:
        echo("there are no old keys")


def _reseal(path: Path, database: "Database") -> None:
    from pilothouse.auth.sealing import MasterKeys
    from pilothouse.errors import DecryptionFailed
    from pilothouse.services.admin.master_keys import reseal_all

    keys = MasterKeys.load_or_create(path)
    done = _run(database, reseal_all(database, keys))
    echo(f"re-sealed {done.values} values")
    if done.broken:
        raise DecryptionFailed("no key of the file opens these values:\n" + "\n".join(done.broken))


def _run(database: "Database", work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(_closing(database, work))


async def _closing(database: "Database", work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        await database.close()


@contextmanager
def _installation() -> "Iterator[tuple[Settings, Database]]":
    from pilothouse.cli.configuration import read_settings
    from pilothouse.cli.databases import check_schema, reachable_database
    from pilothouse.store.database import Database

    settings = read_settings()
    with reachable_database(settings) as url:
        check_schema(url)
        yield settings, Database(url)
