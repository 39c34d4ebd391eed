"""Writes to the release index: which changes of a Secret apply, and which deletions a list proves.

Every row, also of a deleted Secret, carries its cluster's epoch and the Secret's resourceVersion. A write applies only
if it is newer than the row, so writers need no order: the observer, one whose lease ended unnoticed, and the workers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.errors import ForeignKeyViolation
from sqlalchemy import (
    CTE,
    BigInteger,
    BindParameter,
    ColumnElement,
    Double,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import NotFound
from pilothouse.states import Action, ReleaseStatus
from pilothouse.store import drift
from pilothouse.store.chart_origins import inherited_chart
from pilothouse.store.cluster_watches import holding, is_outside
from pilothouse.store.database import Transaction
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
    tx: Transaction, cluster_id: str, revisions: Sequence[NewRevision], *, epoch: int | None = None
) -> None:
    """Write revisions to the index, each if it is newer than its row; raise NotFound if the cluster was removed.

    ``epoch``: of the observer that read them; revisions of an ended one are skipped. None: they were read just now.
    """
    if not revisions:
        return
    params = [_parameters(cluster_id, revision, epoch=epoch) for revision in sorted(revisions, key=_in_order)]
    try:
        # A list of one would go the way of many: slower than a single statement, and most news is of one Secret.
        await tx.execute(_APPLY, params if len(params) > 1 else params[0])
    except IntegrityError as error:
        if isinstance(error.orig, ForeignKeyViolation):
            raise NotFound(f"cluster {cluster_id} was removed meanwhile") from error
        raise
    hiding = [revision for revision in revisions if revision.status == ReleaseStatus.SUPERSEDED or revision.problem]
    await expose(tx, cluster_id, [(revision.namespace, revision.secret) for revision in hiding])


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
        bindparam(revision, type_=BigInteger) == _GIVEN["revision"],
    )
    known = release_revisions.c.secret
    # The cluster is locked before its revisions, as by its removal; of a removed one nothing is written.
    is_held = cluster_watches.c.cluster_id == _HELD
    superseded = _SUPERSEDE.where(release_revisions.c.cluster_id == _HELD)
    # PostgreSQL runs the last of such parts first: the older revision is locked before the newer one.
    return (
        _apply(or_(_HAS_REVISION, its), is_held).returning(known).cte("applied"),
        superseded.returning(known).cte(ReleaseStatus.SUPERSEDED),
    )


async def mark_deleted(tx: Transaction, cluster_id: str, gone: Sequence[DeletedSecret], *, epoch: int) -> None:
    """Write a tombstone for each Secret, unless its row is newer."""
    if gone:
        of_cluster = {"of_cluster": cluster_id, "in_epoch": epoch}
        await tx.execute(_MARK_DELETED, [of_cluster | _as_parameters(secret) for secret in sorted(gone, key=_in_order)])
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
    pairs = list(kept)
    params: dict[str, Any] = {"cluster_id": cluster_id, "namespace": namespace, "name": name}
    params |= {"epoch": epoch, "version": resource_version}
    params |= {"namespaces": [pair[0] for pair in pairs], "secrets": [pair[1] for pair in pairs]}
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
    params = {
        "cluster_id": cluster_id,
        "epoch": epoch,
        "namespaces": [secret.namespace for secret in seen],
        "secrets": [secret.secret for secret in seen],
        "versions": [secret.resource_version for secret in seen],
    }
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


#: What is read of a Secret; a new column needs a new epoch, see docs/dev/recipes.md.
READ_COLUMNS = (
    *("name", "revision", "problem", "uid", "status", "description", "chart_name", "chart_version"),
    *("first_deployed", "last_deployed", "values_sealed", "values_size", "values_text_size", "app_version", "manager"),
)
_GIVEN = {
    name: bindparam(f"its_{name}", type_=release_revisions.c[name].type)
    for name in ("namespace", "secret", "resource_version", *READ_COLUMNS)
}
#: What is known of the operation that wrote it.
_ORIGIN = {
    "origin_chart_id": func.coalesce(func.nullif(operations.c.chart_id, ""), inherited_chart(_GIVEN)),
    "origin_description": operations.c.description,
    "origin_operation_id": operations.c.id,
}
_IN_EPOCH: BindParameter[int] = bindparam("in_epoch", type_=Integer)
_OBSERVED = and_(
    cluster_watches.c.cluster_id == bindparam("of_cluster"),
    or_(_IN_EPOCH.is_(None), cluster_watches.c.epoch == _IN_EPOCH),
)
_HELD = select(holding("of_cluster").cte("held").c.cluster_id).scalar_subquery()
_HAS_REVISION = operations.c.revision == _GIVEN["revision"]
# The operation that wrote the revision is in the row before its engine starts: with the number, the label proves it.
_WRITTEN_BY = and_(
    operations.c.id == bindparam("its_operation_id"),
    operations.c.cluster_id == cluster_watches.c.cluster_id,
    operations.c.namespace == _GIVEN["namespace"],
    operations.c.release_name == _GIVEN["name"],
    or_(operations.c.action == Action.INSTALL, operations.c.action == Action.UPGRADE),
)


def _unless_newer(insert: postgresql.Insert, changed: dict[str, Any]) -> postgresql.Insert:
    known, excluded = release_revisions.c, insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[known.cluster_id, known.namespace, known.secret],
        set_={"epoch": excluded.epoch, "resource_version": excluded.resource_version, **changed},
        where=tuple_(known.epoch, known.resource_version) < tuple_(excluded.epoch, excluded.resource_version),
    )


def _apply(has_revision: ColumnElement[bool], *conditions: ColumnElement[bool]) -> postgresql.Insert:
    insert = postgresql.insert(release_revisions).from_select(
        [
            *("cluster_id", "epoch", "namespace", "secret", "resource_version", *READ_COLUMNS, *_ORIGIN),
        ],
        select(
            cluster_watches.c.cluster_id,
            cluster_watches.c.epoch,
            *(_GIVEN[name] for name in ("namespace", "secret", "resource_version", *READ_COLUMNS)),
            *(func.coalesce(column, "") for column in _ORIGIN.values()),
        )
        .select_from(cluster_watches.outerjoin(operations, and_(_WRITTEN_BY, has_revision)))
        .where(_OBSERVED, ~is_outside(_GIVEN["namespace"]), *conditions),
    )
    known, excluded = release_revisions.c, insert.excluded
    # An operation's record may have expired since; the row keeps what it said as long as the Secret is the same.
    kept = and_(excluded.origin_operation_id == "", known.uid == excluded.uid)
    return _unless_newer(
        insert,
        {
            **{name: excluded[name] for name in READ_COLUMNS},
            "gone_at": None,
            **{name: case((kept, known[name]), else_=excluded[name]) for name in _ORIGIN},
        },
    )


def _mark_deleted() -> postgresql.Insert:
    empty = {"name": "", "revision": 0, "uid": "", "status": "", "description": "", "chart_name": ""}
    insert = postgresql.insert(release_revisions).from_select(
        ["cluster_id", "epoch", "namespace", "secret", "resource_version", "gone_at", "chart_version", *empty],
        select(
            cluster_watches.c.cluster_id,
            cluster_watches.c.epoch,
            *(_GIVEN[name] for name in ("namespace", "secret", "resource_version")),
            func.clock_timestamp(),
            literal(""),
            *(literal(value) for value in empty.values()),
        ).where(_OBSERVED),
    )
    none = {"values_sealed": None, "values_size": 0, "values_text_size": 0}
    return _unless_newer(insert, {"gone_at": insert.excluded.gone_at, **none})


_APPLY = _apply(_HAS_REVISION)
_MARK_DELETED = _mark_deleted()
# EXCEPT, because it never compares each with each, which the planner prefers for a cluster that it knows nothing of.
_MARK_MISSING_DELETED = text("""
WITH absent AS MATERIALIZED (
  SELECT cluster_id, namespace, secret FROM release_revisions
  WHERE cluster_id = :cluster_id AND gone_at IS NULL
    AND (CAST(:namespace AS text) IS NULL OR namespace = :namespace) AND (CAST(:name AS text) IS NULL OR name = :name)
  EXCEPT
  SELECT :cluster_id, namespace, secret
  FROM unnest(CAST(:namespaces AS text[]), CAST(:secrets AS text[])) AS kept (namespace, secret)
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
FROM unnest(CAST(:namespaces AS text[]), CAST(:secrets AS text[]), CAST(:versions AS bigint[]))
  AS seen (namespace, secret, version)
WHERE NOT EXISTS (
  SELECT FROM release_revisions known
  WHERE known.cluster_id = :cluster_id AND known.namespace = seen.namespace AND known.secret = seen.secret
    AND (known.epoch, known.resource_version) >= (:epoch, seen.version)
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
