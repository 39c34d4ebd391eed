"""Queries about versions of chart sources that were refused, as no key of their source has signed them."""

from dataclasses import dataclass

from sqlalchemy import and_, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import refused_versions, source_versions


@dataclass(frozen=True)
class RefusedVersion:
    """A version that was refused, as its source lists it; ``evidence``: a digest of what signed it then."""

    name: str
    version: str
    url: str
    digest: str
    evidence: str


async def note(
    tx: Transaction, source_id: str, *, name: str, version: str, digest: str, reason: str, evidence: str
) -> None:
    """Keep why the version was refused, which has that digest in the list of its source."""
    values = {
        "digest": digest,
        "reason": reason.replace("\0", ""),
        "evidence": evidence,
        "refused_at": func.clock_timestamp(),
    }
    statement = insert(refused_versions).values(source_id=source_id, name=name, version=version, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["source_id", "name", "version"], set_=values))


async def forget(tx: Transaction, source_id: str, *, name: str = "", version: str = "") -> None:
    """Forget that of one version, or of all of the source, which has other keys by now."""
    statement = delete(refused_versions).where(refused_versions.c.source_id == source_id)
    if name:
        statement = statement.where(refused_versions.c.name == name, refused_versions.c.version == version)
    await tx.execute(statement)


async def list_refused(tx: Transaction, source_id: str, *, limit: int) -> list[RefusedVersion]:
    """Return what is refused of the source and listed still, that which was looked at longest ago first."""
    rows = await tx.execute(_LIST, {"of_source": source_id, "most": limit})
    return [RefusedVersion(*row) for row in rows]


async def look(tx: Transaction, source_id: str, refused: RefusedVersion, *, evidence: str) -> bool:
    """Note that it was looked at; forget that it was refused, and return True, if something else signs it by now."""
    # It may have been refused anew meanwhile, for what signs it by now.
    then = {"name": refused.name, "version": refused.version, "digest": refused.digest, "evidence": refused.evidence}
    is_it = and_(
        refused_versions.c.source_id == source_id, *(refused_versions.c[key] == was for key, was in then.items())
    )
    if evidence == refused.evidence:
        await tx.execute(update(refused_versions).where(is_it).values(refused_at=func.clock_timestamp()))
        return False
    return bool((await tx.execute(delete(refused_versions).where(is_it))).rowcount)


async def forget_unlisted(tx: Transaction, source_id: str) -> None:
    """Forget what was refused and is listed no more, or with another digest."""
    await tx.execute(_FORGET_UNLISTED, {"of_source": source_id})


_LIST = (
    select(*(refused_versions.c[name] for name in ("name", "version")), source_versions.c.url)
    .add_columns(refused_versions.c.digest, refused_versions.c.evidence)
    .join(
        source_versions,
        and_(
            *(
                refused_versions.c[name] == source_versions.c[name]
                for name in ("source_id", "name", "version", "digest")
            )
        ),
    )
    .where(refused_versions.c.source_id == bindparam("of_source"), source_versions.c.is_gone.is_(False))
    .order_by(refused_versions.c.refused_at)
    .limit(bindparam("most"))
)
_FORGET_UNLISTED = text("""
DELETE FROM refused_versions r WHERE r.source_id = :of_source AND NOT EXISTS (
  SELECT FROM source_versions v
  WHERE (v.source_id, v.name, v.version, v.digest) = (r.source_id, r.name, r.version, r.digest) AND NOT v.is_gone
)
""")
