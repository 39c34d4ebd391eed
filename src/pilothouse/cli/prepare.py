"""One-time preparation by ``pilothouse serve``: schema, grants, certificate, the first account."""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path

import structlog
from rich.console import Console
from rich.panel import Panel

from pilothouse import tracing
from pilothouse.auth.sealing import MasterKeys
from pilothouse.cli.configuration import read_settings
from pilothouse.cli.logs import configure_logs
from pilothouse.errors import DatabaseUnavailable, InvalidSettings
from pilothouse.http.server import certificate_files
from pilothouse.liveness import die_with_parent
from pilothouse.services.identity.bootstrap import FirstCredentials, Identity
from pilothouse.services.identity.issuers import issuers_of
from pilothouse.settings import Settings
from pilothouse.store.database import Database
from pilothouse.store.database_grants import grant_to_application
from pilothouse.store.migration import migrate
from pilothouse.store.poolers import refuse_shared_sessions

log = structlog.get_logger(__name__)


def prepare_installation(parent: int, *, is_embedded: bool, first_credentials: Path | None) -> None:
    """Prepare database, certificate and first account for the servers; skips what is done already.

    ``is_embedded``: the database is embedded, so its application role gets its grants. The first access key goes to the
    file, or to the screen. Raises PilothouseError.
    """
    if parent:
        die_with_parent(parent)
    settings = read_settings()
    configure_logs(settings)
    if settings.database_url is None:
        raise DatabaseUnavailable("PILOTHOUSE_DATABASE_URL is not set; run 'pilothouse serve'")
    if settings.tls.port:
        certificate_files(settings)  # refused now, not by the third death of the API
    issuers_of(settings)
    tracing.check(settings.traces)
    database = Database(settings.database_url.get_secret_value())
    if not is_embedded:
        refuse_shared_sessions(settings.database_url.get_secret_value())
    before, after = migrate(database)
    if before != after:
        log.info("database_migrated", before=before, after=after)
    if is_embedded:
        grant_to_application(database)
    first = asyncio.run(_create_first(settings, database, first_credentials))
    if first is not None and first_credentials is None:
        _show(first)
    elif first is None and first_credentials is not None:
        log.info(
            "first_credentials_not_written",
            file=str(first_credentials),
            reason="the first account was made by an earlier start; 'pilothouse user recover' sets a new password",
        )


async def _create_first(settings: Settings, database: Database, file: Path | None) -> FirstCredentials | None:
    try:
        keys = MasterKeys.load_or_create(settings.master_key)
        return await Identity(database, keys).create_first(
            region=settings.region,
            domain_name=settings.identity.first_domain,
            user_name=settings.identity.first_user,
            keep=lambda first: None if file is None else _write(file, first),
        )
    finally:
        await database.close()


def _write(file: Path, first: FirstCredentials) -> None:
    """Write the first credentials to a file that only we can read; raise InvalidSettings if that cannot be done."""
    try:
        with suppress(FileNotFoundError):
            file.unlink()
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            json.dump(vars(first), out)
    except OSError as error:
        raise InvalidSettings(
            f"cannot write the first credentials to {file}: {error.strerror}. Name a file in a folder that exists and "
            "that Pilothouse may write to (--first-credentials); no account was made, so the next start makes it"
        ) from error


def _show(first: FirstCredentials) -> None:
    """Show the first credentials once, on the screen."""
    text = (
        f"account     {first.domain_name}\n"
        f"project     {first.project_name}  {first.project_id}\n"
        f"user        {first.user_name}\npassword    {first.password}\n"
        f"access key  {first.access_key}\nsecret key  {first.secret_key}"
    )
    Console(stderr=True).print(Panel(text, title="Made at first start, shown only now: keep it", expand=False))
