"""Chart archives: stored once per digest, written and read in pieces, deleted when unused.

An archive is used by the charts with its digest and by the operations that pin it; both are foreign keys, so one that
is in use cannot be deleted by mistake. Pieces, because a connection keeps a buffer as large as the largest message that
it ever carried.
"""

import struct
from typing import BinaryIO

import psycopg
from sqlalchemy import ARRAY, Text, and_, any_, bindparam, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import DatabaseUnavailable
from pilothouse.store.database import Transaction
from pilothouse.store.tables import chart_archives, charts, operations, project_archives

#: The most that one statement reads or one message writes.
PIECE_BYTES = 256 * 1024

_COPY = "COPY chart_archives (digest, content, size) FROM STDIN (FORMAT BINARY)"
#: PostgreSQL manual, COPY, "Binary Format": signature, no flags, no extension; then rows of counted fields.
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COPY_TRAILER = struct.pack("!h", -1)

_OF_DIGEST = chart_archives.c.digest == bindparam("of_digest")
_READ_PIECE = select(func.substr(chart_archives.c.content, bindparam("first"), bindparam("count"))).where(_OF_DIGEST)
_FIND_SIZE = select(chart_archives.c.size).where(_OF_DIGEST)
_KEEP = update(chart_archives).where(_OF_DIGEST).values(unused_since=None)
_UNUSED = and_(
    ~exists().where(charts.c.digest == chart_archives.c.digest),
    ~exists().where(operations.c.pinned_digest == chart_archives.c.digest),
)
_FIND_UNUSED = (
    select(chart_archives.c.digest)
    .where(chart_archives.c.unused_since.is_(None), _UNUSED)
    .with_for_update(skip_locked=True)
)
_MARK_UNUSED = (
    update(chart_archives)
    .where(chart_archives.c.digest == any_(bindparam("digests", type_=ARRAY(Text))), _UNUSED)
    .values(unused_since=func.clock_timestamp())
)
_OLD_UNUSED = (
    select(chart_archives.c.digest)
    .where(_UNUSED)
    .where(
        chart_archives.c.unused_since
        < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("after_seconds"))
    )
    .with_for_update(skip_locked=True)
)
_OF_PROJECT = project_archives.c.project_id == bindparam("of_project")
_COUNT_BYTES = (
    select(func.coalesce(func.sum(chart_archives.c.size), 0))
    .join_from(project_archives, chart_archives, chart_archives.c.digest == project_archives.c.digest)
    .where(_OF_PROJECT, project_archives.c.digest != bindparam("besides"))
    .where(
        or_(
            exists().where(
                charts.c.digest == project_archives.c.digest, charts.c.project_id == bindparam("of_project")
            ),
            ~exists().where(charts.c.digest == project_archives.c.digest),
        )
    )
)
_NOTE_PROJECT = (
    insert(project_archives)
    .values(project_id=bindparam("of_project"), digest=bindparam("of_digest"))
    .on_conflict_do_nothing()
)
_DELETE_UNUSED = delete(chart_archives).where(chart_archives.c.digest.in_(_OLD_UNUSED))


async def add_archive(tx: Transaction, *, digest: str, content: BinaryIO, size: int) -> None:
    """Store the archive of that digest, unless it exists, and mark it as used now.

    ``content`` is read from its beginning, unless an archive of that digest exists.
    """
    # Two that bring the same archive at once: the second waits, and finds it.
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"archive/{digest}"})
    # The update holds the row, so that a deletion under way is either over, or passes it by.
    if (await tx.execute(_KEEP, {"of_digest": digest})).rowcount == 0:
        content.seek(0)
        await _copy(tx, digest=digest, content=content, size=size)


async def count_bytes(tx: Transaction, *, project_id: str, besides: str) -> int:
    """Return the bytes of the project's archives, except the one with the digest ``besides``.

    Counts those of its charts, and those that it uploaded and no chart uses any more, until they are collected.
    """
    return int((await tx.execute(_COUNT_BYTES, {"of_project": project_id, "besides": besides})).scalar_one())


async def note_project(tx: Transaction, *, project_id: str, digest: str) -> None:
    """Record that the project uploaded the archive of that digest, which must exist."""
    await tx.execute(_NOTE_PROJECT, {"of_project": project_id, "of_digest": digest})


async def find_size(tx: Transaction, digest: str) -> int | None:
    """Return the archive's size in bytes."""
    return (await tx.execute(_FIND_SIZE, {"of_digest": digest})).scalar_one_or_none()


async def read_archive(tx: Transaction, digest: str) -> bytes | None:
    """Return the archive's bytes."""
    pieces: list[bytes] = []
    while (piece := await read_piece(tx, digest, start=len(pieces) * PIECE_BYTES)) is not None:
        pieces.append(piece)
        if len(piece) < PIECE_BYTES:
            return b"".join(pieces)
    return None


async def read_piece(tx: Transaction, digest: str, *, start: int) -> bytes | None:
    """Return up to PIECE_BYTES of the archive from ``start`` on, fewer at its end; None if it does not exist."""
    parameters = {"of_digest": digest, "first": start + 1, "count": PIECE_BYTES}
    piece: bytes | None = (await tx.execute(_READ_PIECE, parameters)).scalar_one_or_none()
    return piece


async def collect_archives(tx: Transaction, *, after_seconds: float) -> int:
    """Delete the archives that were marked unused ``after_seconds`` ago and still are; return how many.

    Archives found unused now are only marked: a request that has just read a chart can still read its archive, or pin
    it.
    """
    try:
        async with tx.begin_nested():
            deleted = (await tx.execute(_DELETE_UNUSED, {"after_seconds": after_seconds})).rowcount
    except IntegrityError:
        # An operation or a chart came to use one between the look and the deletion: the next run sees it.
        deleted = 0
    # Two statements: an upload that was at it has committed when the second one looks whether something uses it.
    if found := list((await tx.execute(_FIND_UNUSED)).scalars()):
        await tx.execute(_MARK_UNUSED, {"digests": found})
    return deleted


async def _copy(tx: Transaction, *, digest: str, content: BinaryIO, size: int) -> None:
    connection = (await tx.get_raw_connection()).driver_connection
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError("the database driver is not psycopg's")
    name = digest.encode()
    try:
        async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            await copy.write(_COPY_HEADER + struct.pack("!hi", 3, len(name)) + name + struct.pack("!i", size))
            while piece := content.read(PIECE_BYTES):
                await copy.write(piece)
            await copy.write(struct.pack("!iq", 8, size) + _COPY_TRAILER)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
