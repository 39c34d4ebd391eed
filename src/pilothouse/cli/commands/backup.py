"""``pilothouse backup`` and ``pilothouse restore``: database, master keys and local authority in one file."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilothouse.cli.output import As, Output, print_answer
from pilothouse.cli.terminal import echo

if TYPE_CHECKING:
    from pilothouse.services.admin.backups import Backup


def backup(
    file: Annotated[Path, typer.Argument(help="File to create; its folder must exist, the file must not.")],
    *,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Leave out master keys and certificates; store those separately.")
    ] = False,
    output: As = Output.TABLE,
) -> None:
    """Back up database, keys and authority to one file. Servers can keep running."""
    from pilothouse.cli.configuration import read_settings
    from pilothouse.cli.databases import check_schema, reachable_database
    from pilothouse.services.admin.backups import make_backup
    from pilothouse.store.database import Database

    settings = read_settings()
    with reachable_database(settings) as url:
        check_schema(url)
        made = make_backup(
            file,
            Database(url),
            data_dir=settings.data_dir,
            key_file=settings.master_key,
            with_key=not without_key,
            clock=lambda: datetime.now(UTC),
        )
    if output is not Output.TABLE:
        print_answer(asdict(made), output)
        return
    echo(f"{file}: {_described(made)}")
    if without_key:
        echo(f"Not included: {settings.master_key}. Without that file the secrets in the backup cannot be decrypted.")
    else:
        echo("It contains the master keys: whoever can read it can read every secret in it.")


def restore(
    file: Annotated[Path, typer.Argument(help="A file created by 'pilothouse backup'.", exists=True, dir_okay=False)],
    *,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Discard the database's content; the old key file is kept under another name."),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(help="Master key file for a backup without keys, unless it is already in the data folder."),
    ] = None,
    output: As = Output.TABLE,
) -> None:
    """Restore a backup into an empty database. Also restores keys and authority; servers must be stopped."""
    from pilothouse.auth.key_file import read_keys
    from pilothouse.cli.configuration import read_settings
    from pilothouse.cli.databases import reachable_database
    from pilothouse.services.admin.backups import install_files, open_backup, refuse_other_keys, restore_backup
    from pilothouse.store.database import Database

    settings = read_settings()
    with open_backup(file) as stored:
        ring = read_keys(key) if key is not None else stored.keys() or read_keys(settings.master_key)
        if not replace:
            refuse_other_keys(settings.master_key, ring)
        with reachable_database(settings, may_create=True) as url:
            restore_backup(stored, Database(url), ring, replace=replace)
        aside = install_files(stored, ring, data_dir=settings.data_dir, key_file=settings.master_key)
    if output is not Output.TABLE:
        print_answer({**asdict(stored.facts), "set_aside": [str(path) for path in aside]}, output)
        return
    echo(f"restored {file}: {_described(stored.facts)}")
    for path in aside:
        echo(f"the previous file is now {path}")
    echo("Operations that were unfinished then resume when a server starts; later changes are not included.")


def _described(facts: "Backup") -> str:
    return (
        f"{facts.tables} tables at schema {facts.revision}, {facts.sealed_values} sealed values, "
        f"{'with' if facts.has_key else 'without'} master keys, of {facts.created_at:%Y-%m-%d %H:%M:%S} UTC"
    )
