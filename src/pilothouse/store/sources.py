"""Queries about chart sources: their addresses, credentials, and when they are synchronised.

Their charts: ``source_charts``.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, or_, select, text, update

from pilothouse.store.database import Transaction
from pilothouse.store.operations import as_interval
from pilothouse.store.tables import chart_sources

_NOW: Final = func.clock_timestamp()


@dataclass(frozen=True, kw_only=True)
class NewSource:
    """A source that is to be added; ``trusted``: the fingerprints of the keys that its charts are verified with.

    ``unusable``: of keys that cannot sign any more, each with the reason.
    """

    id: str
    project_id: str
    name: str
    kind: str
    url: str
    credentials_sealed: bytes | None = field(repr=False)
    ca: str
    sync_seconds: int
    verification: str = "none"
    verification_keys: str = field(default="", repr=False)
    trusted: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SourceRow(NewSource):
    """A source; ``problem``: why its last synchronisation failed. ``pushed_at``: when this server last pushed to it."""

    etag: str
    last_modified: str
    synced_at: datetime | None
    problem: str
    failed_at: datetime | None
    pushed_at: datetime | None
    due_at: datetime | None
    syncing_until: datetime | None
    created_at: datetime


async def lock_project(tx: Transaction, project_id: str) -> None:
    """Serialise additions in the project until the transaction ends, so that counts stay valid."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"sources/{project_id}"})


async def count(tx: Transaction, project_id: str) -> int:
    """Return how many sources the project has."""
    query = select(func.count()).select_from(chart_sources).where(chart_sources.c.project_id == project_id)
    return int((await tx.execute(query)).scalar_one())


async def add(tx: Transaction, new: NewSource) -> SourceRow:
    """Insert a source that has just answered."""
    statement = insert(chart_sources).values(**vars(new))
    return SourceRow(**(await tx.execute(statement.returning(chart_sources))).mappings().one())


async def find(tx: Transaction, named: str, *, project_id: str) -> SourceRow | None:
    """Return the project's source of that id, else the one of that name."""
    row = (await tx.execute(_FIND, {"named": named, "of_project": project_id})).mappings().first()
    return SourceRow(**row) if row is not None else None


async def find_by_id(tx: Transaction, source_id: str) -> SourceRow | None:
    """Return the source of that id."""
    row = (await tx.execute(_FIND_BY_ID, {"source_id": source_id})).mappings().one_or_none()
    return SourceRow(**row) if row is not None else None


async def find_to_change(tx: Transaction, source_id: str) -> SourceRow | None:
    """Return the source of that id, which nobody else changes until the transaction ends."""
    found = await tx.execute(_FIND_BY_ID.with_for_update(key_share=True), {"source_id": source_id})
    row = found.mappings().one_or_none()
    return SourceRow(**row) if row is not None else None


async def list_sources(tx: Transaction, *, project_id: str) -> list[SourceRow]:
    """Return the project's sources by name."""
    query = select(chart_sources).where(chart_sources.c.project_id == project_id).order_by(chart_sources.c.name)
    return [SourceRow(**row) for row in (await tx.execute(query)).mappings()]


async def remove(tx: Transaction, source_id: str) -> bool:
    """Delete the source with its versions and pulled charts; return False if it was gone."""
    return bool((await tx.execute(delete(chart_sources).where(chart_sources.c.id == source_id))).rowcount)


async def hold(tx: Transaction, source_id: str) -> bool:
    """Keep the source until the transaction ends; return False if it is gone."""
    return (await tx.execute(_HOLD, {"source_id": source_id})).scalar_one_or_none() is not None


async def hold_all(tx: Transaction, project_id: str) -> None:
    """Wait until nobody holds a source of the project, and keep others from it until the transaction ends.

    Before it holds any of them by itself.
    """
    await tx.execute(_HOLD_ALL, {"of_project": project_id})


async def has_keys_of(tx: Transaction, row: SourceRow) -> bool:
    """Return whether the source verifies its charts as it did when the row was read."""
    found = (await tx.execute(_KEYS, {"source_id": row.id})).one_or_none()
    return found is not None and tuple(found) == (row.verification, row.verification_keys)


async def was_pushed_to(tx: Transaction, row: SourceRow) -> bool:
    """Return whether this server pushed to the source, which the caller holds, since the row was read."""
    pushed_at = (await tx.execute(_PUSHED, {"source_id": row.id})).scalar_one_or_none()
    return bool(pushed_at != row.pushed_at)


async def note_push(tx: Transaction, source_id: str) -> None:
    """Note that something was pushed to the source, after those who hold it have ended."""
    of_source = chart_sources.c.id == source_id
    await tx.execute(select(chart_sources.c.id).where(of_source).with_for_update())
    await tx.execute(update(chart_sources).where(of_source).values(pushed_at=_NOW))


async def begin_sync(tx: Transaction, source_id: str, *, seconds: float) -> bool:
    """Return True if this process may synchronise the source now, for that long; False if another one does."""
    return bool((await tx.execute(_BEGIN, {"source_id": source_id, "seconds": seconds})).rowcount)


async def end_sync(tx: Transaction, source_id: str, *, problem: str = "", **found: Any) -> None:
    """Record how the synchronisation ended; a source that failed is tried again as late as any other.

    ``found``: etag and last_modified of the index, if there is another than before.
    """
    changes: dict[str, Any] = {"problem": problem, "syncing_until": None, "due_at": _NEXT, **found}
    changes["failed_at"] = _NOW if problem else None
    if not problem:
        changes["synced_at"] = _NOW
    await tx.execute(update(chart_sources).where(chart_sources.c.id == source_id).values(changes))


async def release(tx: Transaction, source_id: str) -> None:
    """Let others synchronise the source again."""
    await tx.execute(update(chart_sources).where(chart_sources.c.id == source_id).values(syncing_until=None))


async def change(tx: Transaction, source_id: str, changes: dict[str, Any]) -> bool:
    """Replace columns of the source; it is due by its interval from now on. Return False if it is gone."""
    of_source = update(chart_sources).where(chart_sources.c.id == source_id)
    if not (await tx.execute(of_source.values(changes))).rowcount:
        return False
    if "sync_seconds" in changes:
        await tx.execute(of_source.values(due_at=_NEXT))
    return True


async def take_due(tx: Transaction, *, seconds: float, besides: Collection[str]) -> SourceRow | None:
    """Return a source that is due, and that no other process synchronises, for that long; None if there is none.

    None of the projects ``besides``.
    """
    row = (await tx.execute(_TAKE_DUE, {"seconds": seconds, "besides": list(besides)})).mappings().one_or_none()
    return SourceRow(**row) if row is not None else None


_FIND = (
    select(chart_sources)
    .where(
        chart_sources.c.project_id == bindparam("of_project"),
        or_(chart_sources.c.id == bindparam("named"), chart_sources.c.name == bindparam("named")),
    )
    .order_by((chart_sources.c.id == bindparam("named")).desc())
)
_FIND_BY_ID = select(chart_sources).where(chart_sources.c.id == bindparam("source_id"))
_HOLD = (
    select(chart_sources.c.id)
    .where(chart_sources.c.id == bindparam("source_id"))
    .with_for_update(read=True, key_share=True)
)
_HOLD_ALL = (
    select(chart_sources.c.id)
    .where(chart_sources.c.project_id == bindparam("of_project"))
    .order_by(chart_sources.c.id)
    .with_for_update()
)
_KEYS = select(chart_sources.c.verification, chart_sources.c.verification_keys).where(
    chart_sources.c.id == bindparam("source_id")
)
_PUSHED = select(chart_sources.c.pushed_at).where(chart_sources.c.id == bindparam("source_id"))
_FREE = or_(chart_sources.c.syncing_until.is_(None), chart_sources.c.syncing_until < _NOW)
_UNTIL = _NOW + as_interval(bindparam("seconds"))
_NEXT = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, func.nullif(chart_sources.c.sync_seconds, 0))
_BEGIN = update(chart_sources).where(chart_sources.c.id == bindparam("source_id"), _FREE).values(syncing_until=_UNTIL)
_DUE = (
    select(chart_sources.c.id)
    .where(
        chart_sources.c.due_at <= _NOW, _FREE, chart_sources.c.project_id.not_in(bindparam("besides", expanding=True))
    )
    .order_by(chart_sources.c.due_at)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_TAKE_DUE = (
    update(chart_sources)
    .where(chart_sources.c.id == _DUE.scalar_subquery())
    .values(syncing_until=_UNTIL)
    .returning(chart_sources)
)
