"""Deletes chart archives that no chart and no living operation uses any more; every worker does it."""

import asyncio

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.settings import WorkerSettings
from pilothouse.store import archives
from pilothouse.store.database import Database

log = structlog.get_logger(__name__)


async def collect_archives(database: Database, settings: WorkerSettings) -> None:
    """Looks every ``collect_seconds`` until cancelled; an archive goes when it was unused for a while."""
    while True:
        try:
            async with database.transaction() as tx:
                deleted = await archives.collect_archives(tx, after_seconds=settings.unused_archive_seconds)
            if deleted:
                log.info("archives_collected", count=deleted)
        except DatabaseUnavailable as error:
            log.warning("archive_collection_failed", cause=str(error))
        await asyncio.sleep(settings.collect_seconds)
