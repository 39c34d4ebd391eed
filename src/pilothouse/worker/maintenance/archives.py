"""Chart archives in a worker: recently used ones are cached, and unused ones are deleted."""

from collections import OrderedDict
from typing import Final

import structlog

from pilothouse.settings import WorkerSettings
from pilothouse.store import archives
from pilothouse.store.database import Database
from pilothouse.worker.periodic import keep_doing

log = structlog.get_logger(__name__)

_KEPT_BYTES: Final = 8 * 1024 * 1024


class Archives:
    """Read archives; an archive never changes under its digest, so recent ones need not be read again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    async def read(self, digest: str | None) -> bytes | None:
        """Return the archive's bytes; None if it is gone, and without a digest."""
        if digest is None:
            return None
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        async with self._database.autocommit() as connection:
            archive = await archives.read_archive(connection, digest)
        if archive is not None and digest not in self._kept and len(archive) <= _KEPT_BYTES // 4:
            self._kept[digest] = archive
            self._kept_bytes += len(archive)
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return archive


async def collect_archives(database: Database, settings: WorkerSettings) -> None:
    """Check every ``collect_seconds`` until cancelled, and delete archives that were unused for a while."""

    async def collect() -> None:
        async with database.transaction() as tx:
            deleted = await archives.collect_archives(tx, after_seconds=settings.unused_archive_seconds)
        if deleted:
            log.info("archives_collected", count=deleted)

    await keep_doing(collect, every_seconds=settings.collect_seconds, failure="archive_collection_failed")
