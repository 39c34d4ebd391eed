"""Writes to the release index: which changes of a Secret apply, and which deletions a list proves.

Every row, also of a deleted Secret, carries its cluster's epoch and the Secret's resourceVersion. A write applies only
if it is newer than the row, so writers need no order: the observer, one whose lease ended unnoticed, and the workers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from psycopg.errors import ForeignKeyViolation
from sqlalchemy import (
    CTE,
    BigInteger,
    Double,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import NotFound
from pilothouse.states import ReleaseStatus
from pilothouse.store import drift
from pilothouse.store.chart_origins import inherit
from pilothouse.store.cluster_watches import holding
from pilothouse.store.database import Transaction
from pilothouse.store.index_statements import APPLY, APPLY_PAGE, GIVEN, HAS_REVISION, MARK_DELETED, apply_one, page_rows
from pilothouse.store.newest_revisions import expose, expose_all
from pilothouse.store.tables import cluster_watches, operations, release_revisions

_TOMBSTONE_SECONDS = 3600.0


@dataclass(frozen=True)
class Revision:
    """The content of a release Secret; with a ``problem`` it could not be decoded, and other fields are incomplete.

    ``values_text_size``: bytes of the values as JSON text; without ``values_sealed`` they are too large to be stored.
    """

    namespace: str
    secret: str
    name: str
    revision: int
    resource_version: int
    problem: str
    uid: str
    status: str
    description: str
    chart_name: str
    chart_version: str
    first_deployed: datetime | None
    last_deployed: datetime | None
    deleted_at: datetime | None
    values_sealed: bytes | None = field(repr=False)
    values_text_size: int
    app_version: str
    manager: str


@dataclass(frozen=True)
class NewRevision(Revision):
    """A revision for the index; ``operation_id`` comes from its label, and counts only if the number matches."""

    operation_id: str


@dataclass(frozen=True)
class SeenSecret:
    """The metadata of a Secret in a list."""

    namespace: str
    secret: str
    resource_version: int


class DeletedSecret(SeenSecret):
    """A Secret that was deleted at this resourceVersion."""


@dataclass(frozen=True)
class IndexSize:
    """Index usage of a cluster: rows, including tombstones, and bytes of sealed values."""

    rows: int
    values_bytes: int


async def measure(tx: Transaction, cluster_id: str) -> IndexSize:
    """Return the index usage of the cluster."""
    return IndexSize(*(await tx.execute(_MEASURE, {"of_cluster": cluster_id})).one())


async def list_known(tx: Transaction, cluster_id: str, secrets: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those namespaces and names that have a row or tombstone in the index."""
    params = {
        "cluster_id": cluster_id,
        "namespaces": [namespace for namespace, _ in secrets],
        "secrets": [name for _, name in secrets],
    }
    return {(row[0], row[1]) for row in await tx.execute(_LIST_KNOWN, params)}


async def apply_revisions(
    tx: Transaction,
    cluster_id: str,
    revisions: Sequence[NewRevision],
    *,
    epoch: int | None = None,
    exposing: bool = True,
) -> None:
    """Write revisions to the index, each if it is newer than its row; raise NotFound if the cluster was removed.

    ``epoch``: of the observer that read them; revisions of an ended one are skipped. None: they were read just now.
    Without ``exposing``, revisions are left to be exposed by what ends the cluster's first list.
    """
    if not revisions:
        return
    try:
        if len(revisions) == 1:  # most news: nothing is to be packed
            await tx.execute(APPLY, _parameters(cluster_id, revisions[0], epoch=epoch))
        else:
            await _apply_page(tx, cluster_id, revisions, epoch=epoch)
    except IntegrityError as error:
        if isinstance(error.orig, ForeignKeyViolation):
            raise NotFound(f"cluster {cluster_id} was removed meanwhile") from error
        raise
    if exposing:
        hiding = [revision for revision in revisions if revision.status == ReleaseStatus.SUPERSEDED or revision.problem]
        await expose(tx, cluster_id, [(revision.namespace, revision.secret) for revision in hiding])


async def _apply_page(tx: Transaction, cluster_id: str, revisions: Sequence[NewRevision], *, epoch: int | None) -> None:
    newest: dict[tuple[str, str], NewRevision] = {}  # one statement cannot write a row twice
    for revision in revisions:
        known = newest.setdefault((revision.namespace, revision.secret), revision)
        if revision.resource_version > known.resource_version:
            newest[revision.namespace, revision.secret] = revision
    rows = page_rows(
        {**vars(revision), "values_size": len(revision.values_sealed or b"")} for revision in newest.values()
    )
    await tx.execute(APPLY_PAGE, {"of_cluster": cluster_id, "in_epoch": epoch, "rows": rows})
    named = (
        {"namespace": revision.namespace, "name": revision.name, "secret": revision.secret}
        for revision in newest.values()
    )
    await inherit(tx, cluster_id, named)


def record_parameters(cluster_id: str, row: NewRevision) -> dict[str, Any]:
    """Return the parameters for ``recording``: the revision as it was read after an action."""
    below = row.revision if row.status == ReleaseStatus.DEPLOYED else 0
    return {
        **_parameters(cluster_id, row, epoch=None),
        "of_namespace": row.namespace,
        "of_name": row.name,
        "below": below,
    }


def recording(*, operation_id: str, revision: str) -> tuple[CTE, CTE]:
    """Build parts of another statement that write a revision, as ``apply_revisions`` and ``supersede`` do.

    The arguments are the names of that statement's parameters: the operation that it ends, and the revision that this
    wrote. It can differ from the row's, which is the one that it was going to write.
    """
    its = and_(
        operations.c.id == bindparam(operation_id, type_=operations.c.id.type),
        bindparam(revision, type_=BigInteger) == GIVEN["revision"],
    )
    known = release_revisions.c.secret
    # The cluster is locked before its revisions, as by its removal; of a removed one nothing is written.
    is_held = cluster_watches.c.cluster_id == _HELD
    superseded = _SUPERSEDE.where(release_revisions.c.cluster_id == _HELD)
    # PostgreSQL runs the last of such parts first: the older revision is locked before the newer one.
    return (
        apply_one(or_(HAS_REVISION, its), is_held).returning(known).cte("applied"),
        superseded.returning(known).cte(ReleaseStatus.SUPERSEDED),
    )


async def mark_deleted(tx: Transaction, cluster_id: str, gone: Sequence[DeletedSecret], *, epoch: int) -> None:
    """Write a tombstone for each Secret, unless its row is newer."""
    if gone:
        of_cluster = {"of_cluster": cluster_id, "in_epoch": epoch}
        await tx.execute(MARK_DELETED, [of_cluster | _as_parameters(secret) for secret in sorted(gone, key=_in_order)])
        await expose(tx, cluster_id, [(secret.namespace, secret.secret) for secret in gone])
        await drift.forget_deleted(tx, cluster_id, list({secret.namespace for secret in gone}))


async def mark_missing_deleted(
    tx: Transaction,
    cluster_id: str,
    *,
    epoch: int | None = None,
    resource_version: int,
    kept: Iterable[tuple[str, str]],
    namespace: str | None = None,
    name: str | None = None,
) -> int:
    """Write tombstones for Secrets that a complete list did not contain, and return their number.

    ``kept`` are namespace and Secret name of the list's items; ``resource_version`` is the list's: newer rows stay.
    With ``namespace`` and ``name`` the list covered only that release.
    """
    params: dict[str, Any] = {"cluster_id": cluster_id, "namespace": namespace, "name": name}
    params |= {"epoch": epoch, "version": resource_version}
    params["kept"] = orjson.dumps([{"namespace": namespace, "secret": secret} for namespace, secret in kept]).decode()
    deleted = (await tx.execute(_MARK_MISSING_DELETED, params)).rowcount
    if name is None:
        await expose_all(tx, cluster_id)
    if deleted:
        await drift.forget_deleted(tx, cluster_id, [namespace] if namespace is not None else None)
    return deleted


async def list_unknown(
    tx: Transaction, cluster_id: str, seen: Sequence[SeenSecret], *, epoch: int
) -> set[tuple[str, str]]:
    """Return namespace and name of the Secrets that are newer than the index; only these need decoding."""
    told = orjson.dumps([vars(secret) for secret in seen]).decode()
    params = {"cluster_id": cluster_id, "epoch": epoch, "seen": told}
    return {(row[0], row[1]) for row in await tx.execute(_LIST_UNKNOWN, params)}


async def supersede(tx: Transaction, cluster_id: str, *, namespace: str, name: str, revision: int) -> None:
    """Mark older deployed revisions as superseded, as Helm does when it deploys ``revision``.

    The observer may learn of that change later.
    """
    params = {"of_cluster": cluster_id, "of_namespace": namespace, "of_name": name, "below": revision}
    await tx.execute(_SUPERSEDE, params)


async def sweep_tombstones(tx: Transaction) -> int:
    """Delete tombstones after an hour, when no older event can arrive any more; return their number."""
    return (await tx.execute(_SWEEP, {"for_seconds": _TOMBSTONE_SECONDS})).rowcount


def _parameters(cluster_id: str, row: NewRevision, *, epoch: int | None) -> dict[str, Any]:
    return {
        "of_cluster": cluster_id,
        "in_epoch": epoch,
        "its_values_size": len(row.values_sealed or b""),
        **_as_parameters(row),
    }


def _in_order(row: NewRevision | DeletedSecret) -> tuple[str, int, str]:
    """Return the lock order of index rows; every writer uses it, which prevents deadlocks.

    Revisions of a release are ordered from older to newer.
    """
    return row.namespace, len(row.secret), row.secret


def _as_parameters(row: NewRevision | DeletedSecret) -> dict[str, Any]:
    return {f"its_{name}": value for name, value in vars(row).items()}


_HELD = select(holding("of_cluster").cte("held").c.cluster_id).scalar_subquery()
# EXCEPT, because it never compares each with each, which the planner prefers for a cluster that it knows nothing of.
_MARK_MISSING_DELETED = text("""
WITH absent AS MATERIALIZED (
  SELECT cluster_id, namespace, secret FROM release_revisions
  WHERE cluster_id = :cluster_id AND gone_at IS NULL
    AND (CAST(:namespace AS text) IS NULL OR namespace = :namespace) AND (CAST(:name AS text) IS NULL OR name = :name)
  EXCEPT
  SELECT :cluster_id, namespace, secret
  FROM json_to_recordset(CAST(:kept AS json)) AS kept (namespace text COLLATE "C", secret text COLLATE "C")
), missing AS (
  SELECT known.cluster_id, known.namespace, known.secret, seen.epoch
  FROM absent JOIN cluster_watches seen USING (cluster_id)
  JOIN release_revisions known USING (cluster_id, namespace, secret)
  WHERE (CAST(:epoch AS integer) IS NULL OR seen.epoch = :epoch)
    AND known.gone_at IS NULL AND (CAST(:name AS text) IS NULL OR known.name = :name)
    AND (known.epoch, known.resource_version) <= (seen.epoch, :version)
  ORDER BY known.namespace, length(known.secret), known.secret
  FOR UPDATE OF known
)
UPDATE release_revisions known
SET gone_at = clock_timestamp(), epoch = missing.epoch, resource_version = :version, values_sealed = NULL,
  values_size = 0, values_text_size = 0
FROM missing
WHERE known.cluster_id = missing.cluster_id AND known.namespace = missing.namespace AND known.secret = missing.secret
""")
_LIST_UNKNOWN = text("""
SELECT seen.namespace, seen.secret
FROM json_to_recordset(CAST(:seen AS json))
  AS seen (namespace text COLLATE "C", secret text COLLATE "C", resource_version bigint)
WHERE NOT EXISTS (
  SELECT FROM release_revisions known
  WHERE known.cluster_id = :cluster_id AND known.namespace = seen.namespace AND known.secret = seen.secret
    AND (known.epoch, known.resource_version) >= (:epoch, seen.resource_version)
)
""")
_LIST_KNOWN = text("""
SELECT known.namespace, known.secret FROM release_revisions known
JOIN unnest(CAST(:namespaces AS text[]), CAST(:secrets AS text[])) AS seen (namespace, secret)
  ON known.namespace = seen.namespace AND known.secret = seen.secret
WHERE known.cluster_id = :cluster_id
""")
_MEASURE = select(func.count(), func.coalesce(func.sum(release_revisions.c.values_size), 0)).where(
    release_revisions.c.cluster_id == bindparam("of_cluster")
)
_SUPERSEDE = (
    update(release_revisions)
    .where(
        release_revisions.c.cluster_id == bindparam("of_cluster"),
        release_revisions.c.namespace == bindparam("of_namespace"),
        release_revisions.c.name == bindparam("of_name"),
        release_revisions.c.revision < bindparam("below"),
        release_revisions.c.status == ReleaseStatus.DEPLOYED,
        release_revisions.c.gone_at.is_(None),
    )
    .values(status=ReleaseStatus.SUPERSEDED)
)
_SWEEP = delete(release_revisions).where(
    release_revisions.c.gone_at
    < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("for_seconds", type_=Double))
)
