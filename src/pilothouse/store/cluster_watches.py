"""Queries about cluster watches: who watches which cluster, how far it got, and its current error.

A cluster is watched under a lease by the database's clock, like an operation; an observer that stops renewing loses it.
Two observers may briefly watch the same cluster without harm: see ``release_index``.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Select,
    Text,
    all_,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from pilothouse.store.database import Transaction
from pilothouse.store.tables import cluster_watches, clusters, observers, release_revisions

#: Announces that a cluster came, went, or is free to be watched.
CHANNEL = "pilothouse_cluster_watches"


@dataclass(frozen=True)
class ClusterWatchRow:
    """Progress of a cluster in the index. ``resource_version`` 0: a list is due."""

    cluster_id: str
    epoch: int
    resource_version: int
    listed_at: datetime | None
    error: str
    truncated: bool


@dataclass(frozen=True)
class Confirmation:
    """A cluster's word, so many seconds ago, that everything up to this resourceVersion is in the index."""

    cluster_id: str
    epoch: int
    resource_version: int
    age_seconds: float


@dataclass(frozen=True)
class Load:
    """Number of observers and of the clusters that they share."""

    observers: int
    clusters: int

    @property
    def share(self) -> int:
        """The maximum number of clusters per observer such that all are watched."""
        return -(-self.clusters // max(1, self.observers))


@dataclass(frozen=True)
class Freshness:
    """Age of the index of a cluster: seconds since the cluster last confirmed it.

    The index is incomplete until ``listed``; it is ``truncated`` if the cluster has more release Secrets than it takes.
    ``error``: why the cluster is not watched now.
    """

    listed: bool
    age_seconds: float | None
    error: str
    truncated: bool


@dataclass(frozen=True)
class Watching:
    """Totals over all clusters: ``unwatched`` ones fail or wait for their first list."""

    clusters: int
    unwatched: int
    oldest_age_seconds: float


async def find_watching(tx: Transaction) -> Watching:
    """Return how many clusters there are, how many are not watched now, and the greatest age."""
    return Watching(*(await tx.execute(_WATCHING)).one())


async def add_cluster_watch(tx: Transaction, cluster_id: str) -> None:
    """Start watching the cluster; observers are notified on commit."""
    await tx.execute(insert(cluster_watches).values(cluster_id=cluster_id))
    await announce(tx)


async def announce(tx: Transaction) -> None:
    """Wake the observers when the transaction commits."""
    await tx.execute(text(f"NOTIFY {CHANNEL}"))


async def announce_change(tx: Transaction, cluster_id: str) -> None:
    """Tell the cluster's watcher, when the transaction commits, to restart with its current credentials."""
    await tx.execute(select(func.pg_notify(CHANNEL, cluster_id)))


async def forget_progress(tx: Transaction, cluster_id: str) -> None:
    """Make all index rows of the cluster older than what is read from now on; reads go to the cluster."""
    await tx.execute(
        update(cluster_watches)
        .where(cluster_watches.c.cluster_id == cluster_id)
        .values(epoch=cluster_watches.c.epoch + 1, resource_version=0, listed_at=None, error="", truncated=False)
    )


async def forget_outside(tx: Transaction, cluster_id: str, *, namespaces: Sequence[str]) -> None:
    """Delete what the index has of other namespaces of the cluster."""
    outside = release_revisions.c.namespace != all_(bindparam("inside", list(namespaces), type_=ARRAY(Text)))
    await tx.execute(delete(release_revisions).where(release_revisions.c.cluster_id == cluster_id, outside))


def is_outside(namespace: ColumnElement[str]) -> ColumnElement[bool]:
    """Build the condition that a cluster that is watched has a wall, and the namespace lies behind it."""
    return exists().where(
        clusters.c.id == cluster_watches.c.cluster_id,
        clusters.c.wall_user != "",
        namespace != all_(clusters.c.wall_namespaces),
    )


async def report(tx: Transaction, observer: str, *, lease_seconds: float) -> Load:
    """Report that the observer is alive, remove those that are not, and return what the live ones share."""
    row = (await tx.execute(_REPORT, {"observer": observer, "lease": lease_seconds})).one()
    return Load(observers=row[0], clusters=row[1])


async def renew(tx: Transaction, observer: str, *, lease_seconds: float) -> set[str]:
    """Extend the observer's unexpired leases and return their clusters."""
    return set((await tx.execute(_RENEW, {"observer": observer, "lease": lease_seconds})).scalars())


async def take(tx: Transaction, observer: str, *, lease_seconds: float, limit: int) -> set[str]:
    """Assign up to ``limit`` unwatched clusters to the observer."""
    free = (
        select(cluster_watches.c.cluster_id)
        .where(or_(cluster_watches.c.lease_until.is_(None), cluster_watches.c.lease_until < func.clock_timestamp()))
        .order_by(cluster_watches.c.lease_until.asc().nulls_first())
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("free")  # which runs once, so the limit holds
    )
    statement = (
        update(cluster_watches)
        .where(cluster_watches.c.cluster_id.in_(select(free.c.cluster_id)))
        .values(holder=observer, lease_until=_ago(-lease_seconds))
        .returning(cluster_watches.c.cluster_id)
    )
    return set((await tx.execute(statement)).scalars())


async def give_back(tx: Transaction, observer: str, cluster_ids: set[str]) -> None:
    """End these leases of the observer at once, and wake the others."""
    await tx.execute(
        update(cluster_watches)
        .where(cluster_watches.c.holder == observer, cluster_watches.c.cluster_id.in_(cluster_ids))
        .values(holder="", lease_until=None)
    )
    await announce(tx)


async def leave(tx: Transaction, observer: str) -> None:
    """Release all clusters of an observer that stops."""
    await tx.execute(delete(observers).where(observers.c.name == observer))
    await tx.execute(
        update(cluster_watches).where(cluster_watches.c.holder == observer).values(holder="", lease_until=None)
    )
    await announce(tx)


async def hold(tx: Transaction, cluster_id: str) -> None:
    """Keep the cluster from being removed until the transaction ends; for those who write its releases in parts.

    A removal locks this row before the releases: who locks them the other way round may wait for it in a circle.
    """
    await tx.execute(_HOLD, {"of_cluster": cluster_id})


def holding(cluster_id: str) -> Select[tuple[str]]:
    """Build the query that does the same, for part of a statement; the argument is the name of its parameter."""
    watch = select(cluster_watches.c.cluster_id).where(cluster_watches.c.cluster_id == bindparam(cluster_id))
    return watch.with_for_update(read=True, key_share=True)


async def begin_epoch(tx: Transaction, cluster_id: str, *, after: int) -> None:
    """Make all index rows of the cluster older than what is read from now on; a list is due."""
    await tx.execute(
        update(cluster_watches)
        .where(cluster_watches.c.cluster_id == cluster_id, cluster_watches.c.epoch == after)
        .values(epoch=after + 1, resource_version=0)
    )


async def note_listed(
    tx: Transaction, cluster_id: str, *, epoch: int, resource_version: int, truncated: bool = False
) -> None:
    """Record that a list of this resourceVersion is in the index: complete, or ``truncated`` to the limit."""
    params = {"of_cluster": cluster_id, "in_epoch": epoch, "version": resource_version, "is_truncated": truncated}
    await tx.execute(_NOTE_LISTED, params)


async def note_truncated(tx: Transaction, cluster_id: str) -> None:
    """Record that something of the cluster was left out of the index."""
    await tx.execute(
        update(cluster_watches)
        .where(cluster_watches.c.cluster_id == cluster_id, cluster_watches.c.truncated.is_(False))
        .values(truncated=True)
    )


async def note_seen(tx: Transaction, cluster_id: str, *, epoch: int, resource_version: int) -> None:
    """Record that the cluster just confirmed that everything up to this resourceVersion is in the index."""
    await tx.execute(_NOTE_SEEN, {"of_cluster": cluster_id, "in_epoch": epoch, "version": resource_version})


async def note_confirmations(tx: Transaction, confirmations: Sequence[Confirmation]) -> None:
    """Do the same for many clusters, each of which confirmed it a moment ago."""
    if confirmations:
        columns = zip(*map(astuple, confirmations), strict=True)
        params = dict(zip(("clusters", "epochs", "versions", "ages"), map(list, columns), strict=True))
        await tx.execute(_NOTE_CONFIRMATIONS, params)


async def note_error(tx: Transaction, cluster_id: str, error: str) -> None:
    """Record why the cluster is not watched now."""
    changed = and_(cluster_watches.c.cluster_id == cluster_id, cluster_watches.c.error != error)
    await tx.execute(update(cluster_watches).where(changed).values(error=error))


def _ago(seconds: float) -> ColumnElement[datetime]:
    interval: ColumnElement[timedelta] = func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    return func.clock_timestamp() - interval


_HOLD = holding("of_cluster")
_NOTED = update(cluster_watches).where(
    cluster_watches.c.cluster_id == bindparam("of_cluster"), cluster_watches.c.epoch == bindparam("in_epoch")
)
_FURTHER = func.greatest(cluster_watches.c.resource_version, bindparam("version", type_=BigInteger))
_NOTE_SEEN = _NOTED.values(resource_version=_FURTHER, seen_at=func.clock_timestamp(), error="")
_NOTE_LISTED = _NOTED.values(
    resource_version=_FURTHER,
    seen_at=func.clock_timestamp(),
    listed_at=func.coalesce(cluster_watches.c.listed_at, func.clock_timestamp()),
    truncated=bindparam("is_truncated", type_=Boolean),
    error="",
)
_NOTE_CONFIRMATIONS = text("""
UPDATE cluster_watches watch
SET resource_version = greatest(watch.resource_version, confirmed.version), error = '',
  seen_at = greatest(watch.seen_at, clock_timestamp() - make_interval(secs => confirmed.age))
FROM unnest(
  CAST(:clusters AS text[]), CAST(:epochs AS integer[]), CAST(:versions AS bigint[]), CAST(:ages AS double precision[])
) AS confirmed (cluster_id, epoch, version, age)
WHERE watch.cluster_id = confirmed.cluster_id AND watch.epoch = confirmed.epoch
""")
# One statement for all of it, each second of each observer. A row that another observer deletes is left to that one:
# two that take each other for dead must not wait for each other.
_REPORT = text("""
WITH living AS (
  INSERT INTO observers (name, seen_at) VALUES (:observer, clock_timestamp())
  ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
), dead AS (
  SELECT name FROM observers
  WHERE name <> :observer AND seen_at < clock_timestamp() - make_interval(secs => CAST(:lease AS double precision))
  FOR UPDATE SKIP LOCKED
), removed AS (
  DELETE FROM observers WHERE name IN (SELECT name FROM dead)
)
SELECT 1 + (
  SELECT count(*) FROM observers
  WHERE name <> :observer AND seen_at >= clock_timestamp() - make_interval(secs => CAST(:lease AS double precision))
), (SELECT count(*) FROM cluster_watches)
""")
_RENEW = text("""
UPDATE cluster_watches SET lease_until = clock_timestamp() + make_interval(secs => CAST(:lease AS double precision))
WHERE holder = :observer AND lease_until > clock_timestamp()
RETURNING cluster_id
""")
_WATCHING = text("""
SELECT count(*), count(*) FILTER (WHERE error <> '' OR listed_at IS NULL),
  CAST(coalesce(max(extract(epoch FROM clock_timestamp() - seen_at)), 0) AS double precision)
FROM cluster_watches
""")
