"""Queries about versions of registries that are known without being pulled, as this server has pushed them.

A registry lists tags alone. ``source_versions.manifest`` is that under which a version was pushed, or was pulled before
its archive was dropped; as long as its tag leads there, what is told of it holds.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, select, update

from pilothouse.store.database import Transaction
from pilothouse.store.tables import charts, source_versions


@dataclass(frozen=True)
class DescribedVersion:
    """A version that was not pulled, and the digest of the manifest whose chart its description is of."""

    name: str
    version: str
    manifest: str


async def note_pushed(
    tx: Transaction, source_id: str, pushed: DescribedVersion, *, description: str, app_version: str
) -> None:
    """Fill in what the registry does not list of a version that was just pushed, if it is listed."""
    found = {"manifest": pushed.manifest, "description": description, "app_version": app_version}
    moved = {"moved_at": None, "moved_from": "", "moved_to": ""}
    await tx.execute(_of(source_id, pushed).values({**found, **moved}))


async def list_described(tx: Transaction, source_id: str, *, limit: int) -> list[DescribedVersion]:
    """Return some of them that are listed, in no order: each has its turn if there are more."""
    rows = await tx.execute(_LIST, {"of_source": source_id, "most": limit})
    return [DescribedVersion(*row) for row in rows]


async def forget(tx: Transaction, source_id: str, replaced: DescribedVersion) -> None:
    """Forget what was known of a version whose tag leads elsewhere, unless it was pushed or pulled since."""
    of_that = _of(source_id, replaced).where(source_versions.c.manifest == replaced.manifest, IS_DESCRIBED, ~_IS_PULLED)
    await tx.execute(of_that.values(manifest="", description="", app_version=""))


def _of(source_id: str, version: DescribedVersion) -> Any:
    return update(source_versions).where(
        source_versions.c.source_id == source_id,
        source_versions.c.name == version.name,
        source_versions.c.version == version.version,
    )


#: What was found to be moved has the manifest of something else.
IS_DESCRIBED = and_(source_versions.c.manifest != "", source_versions.c.moved_at.is_(None))
_IS_PULLED = exists().where(*(charts.c[name] == source_versions.c[name] for name in ("source_id", "name", "version")))
_LIST = (
    select(*(source_versions.c[name] for name in ("name", "version", "manifest")))
    .where(
        source_versions.c.source_id == bindparam("of_source"),
        source_versions.c.is_gone.is_(False),
        IS_DESCRIBED,
        ~_IS_PULLED,
    )
    .order_by(func.random())
    .limit(bindparam("most"))
)
