"""Queries about versions that a source with keys has signed by one of them, as far as that is known.

Those that were pulled, and others whose signature was looked at: the newest ones of charts that releases are made from.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, text
from sqlalchemy.dialects.postgresql import insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import signed_versions


@dataclass(frozen=True)
class Candidate:
    """A version that may be offered as an update; ``known``: it is signed, and a look would tell nothing else."""

    name: str
    version: str
    url: str
    digest: str
    known: bool


async def list_candidates(tx: Transaction, source_id: str, *, name: str, each: int, limit: int) -> list[Candidate]:
    """Return what is newer than the charts that releases were made from, and is not refused.

    Of ``each`` chart the newest ones, the newest first; charts that were looked at longest ago come first. ``name``:
    those of that chart, whether there is a release of it or not.
    """
    params = {"of_source": source_id, "of_name": name, "each": each, "most": limit}
    return [Candidate(*row) for row in await tx.execute(_CANDIDATES, params)]


async def note(tx: Transaction, source_id: str, *, name: str, version: str, digest: str) -> None:
    """Note that the version, which has that digest in the list of its source, was found to be signed."""
    values = {"digest": digest, "looked_at": func.clock_timestamp()}
    statement = insert(signed_versions).values(source_id=source_id, name=name, version=version, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["source_id", "name", "version"], set_=values))


async def forget(tx: Transaction, source_id: str, *, name: str = "", version: str = "") -> None:
    """Forget that of one version, or of all of the source, which has other keys by now."""
    statement = delete(signed_versions).where(signed_versions.c.source_id == source_id)
    if name:
        statement = statement.where(signed_versions.c.name == name, signed_versions.c.version == version)
    await tx.execute(statement)


async def forget_unlisted(tx: Transaction, source_id: str) -> None:
    """Forget what is listed no more, or with another digest."""
    await tx.execute(_FORGET_UNLISTED, {"of_source": source_id})


#: A version ``v`` was pulled, and so verified, as its source lists it.
_IS_PULLED: Final = """EXISTS (
    SELECT FROM charts c WHERE (c.source_id, c.name, c.version) = (v.source_id, v.name, v.version)
      AND (v.digest = '' OR c.digest = lower(replace(v.digest, 'sha256:', '')))
  )"""
_IS_LOOKED_AT: Final = """EXISTS (
    SELECT FROM signed_versions g
    WHERE (g.source_id, g.name, g.version, g.digest) = (v.source_id, v.name, v.version, v.digest)
  )"""
#: A version ``v`` of the source ``s`` is known to be signed by one of its keys, if it has any.
IS_SIGNED: Final = f"(s.verification = 'none' OR {_IS_LOOKED_AT} OR {_IS_PULLED})"
#: What is known of it, for those who choose a version: ``r`` is its row of what was refused. Empty without keys.
SIGNATURE: Final = f"""CASE WHEN s.verification = 'none' THEN '' WHEN r.reason IS NOT NULL THEN 'refused'
  WHEN {IS_SIGNED} THEN 'verified' ELSE 'unchecked' END"""
# What has no digest, as in a registry, can be replaced: it is looked at again.
_CANDIDATES = text(f"""
WITH used AS MATERIALIZED (
  SELECT DISTINCT r.origin_chart_id FROM release_revisions r
  WHERE :of_name = '' AND r.gone_at IS NULL AND r.problem = '' AND (r.status <> 'superseded' OR r.exposed)
    AND EXISTS (SELECT FROM chart_origins o WHERE o.source_id = :of_source)
), named AS MATERIALIZED (
  SELECT o.name, min(o.order_key) AS oldest FROM chart_origins o
  WHERE o.source_id = :of_source
    AND (o.name = :of_name OR (:of_name = '' AND o.chart_id IN (SELECT origin_chart_id FROM used)))
  GROUP BY o.name
)
SELECT v.name, v.version, v.url, v.digest, ({_IS_PULLED} OR (v.digest <> '' AND {_IS_LOOKED_AT})) AS known
FROM named CROSS JOIN LATERAL (
  SELECT v.source_id, v.name, v.version, v.url, v.digest, v.order_key FROM source_versions v
  WHERE v.source_id = :of_source AND v.name = named.name AND v.order_key > named.oldest AND NOT v.is_gone
    AND right(v.order_key, 1) = '~' AND NOT EXISTS (
      SELECT FROM refused_versions r
      WHERE (r.source_id, r.name, r.version, r.digest) = (v.source_id, v.name, v.version, v.digest)
    )
  ORDER BY v.order_key DESC, v.version LIMIT :each
) v
ORDER BY (
  SELECT max(g.looked_at) FROM signed_versions g WHERE g.source_id = :of_source AND g.name = v.name
) NULLS FIRST, v.name, v.order_key DESC, v.version
LIMIT :most
""")  # noqa: S608  # what is put in are conditions of our own
_FORGET_UNLISTED = text("""
DELETE FROM signed_versions g WHERE g.source_id = :of_source AND NOT EXISTS (
  SELECT FROM source_versions v
  WHERE (v.source_id, v.name, v.version, v.digest) = (g.source_id, g.name, g.version, g.digest) AND NOT v.is_gone
)
""")
