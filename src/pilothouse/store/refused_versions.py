"""Queries about versions of chart sources that were refused, as no key of their source has signed them."""

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import refused_versions


async def note(tx: Transaction, source_id: str, *, name: str, version: str, digest: str, reason: str) -> None:
    """Keep why the version was refused, which has that digest in the list of its source."""
    values = {"digest": digest, "reason": reason.replace("\0", ""), "refused_at": func.clock_timestamp()}
    statement = insert(refused_versions).values(source_id=source_id, name=name, version=version, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["source_id", "name", "version"], set_=values))


async def forget(tx: Transaction, source_id: str, *, name: str = "", version: str = "") -> None:
    """Forget that of one version, or of all of the source, which has other keys by now."""
    statement = delete(refused_versions).where(refused_versions.c.source_id == source_id)
    if name:
        statement = statement.where(refused_versions.c.name == name, refused_versions.c.version == version)
    await tx.execute(statement)
