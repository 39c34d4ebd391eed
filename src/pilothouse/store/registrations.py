"""The registrations of one API server: clusters that have other names or projects, and are the same one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select

from pilothouse.states import LIVING_STATES, Action
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Transaction
from pilothouse.store.tables import clusters, in_states, operations


@dataclass(frozen=True)
class Registration(ClusterName):
    """Another registration of a cluster, and whose it is."""

    project_id: str


@dataclass(frozen=True)
class OperationElsewhere:
    """An operation on a release through another registration of its cluster."""

    operation_id: str
    action: str
    state: str
    project_id: str
    cluster_id: str
    cluster_name: str


async def list_registrations(
    tx: Transaction, cluster_id: str, *, address_of: Callable[[str], str], project_id: str | None = None
) -> list[Registration]:
    """Return the other registrations of the cluster, by name; ``project_id``: only those of that project.

    They are the same cluster by what ``address_of`` makes of their URLs; in the cluster's own project by identity, too,
    which is what a server says of itself: another project must not be able to claim a cluster by it.
    """
    here = (
        await tx.execute(
            select(clusters.c.server, clusters.c.identity, clusters.c.project_id).where(clusters.c.id == cluster_id)
        )
    ).one_or_none()
    if here is None:
        return []
    query = (
        select(clusters.c.id, clusters.c.name, clusters.c.project_id, clusters.c.server, clusters.c.identity)
        .where(clusters.c.id != cluster_id)
        .order_by(clusters.c.name)
    )
    if project_id is not None:
        query = query.where(clusters.c.project_id == project_id)
    address, own = address_of(here.server), (here.project_id, here.identity)
    return [
        Registration(row.id, row.name, row.project_id)
        for row in await tx.execute(query)
        if address_of(row.server) == address or (here.identity and (row.project_id, row.identity) == own)
    ]


async def list_written_elsewhere(
    tx: Transaction, *, project_id: str, address_of: Callable[[str], str], ended_since: timedelta
) -> list[tuple[str, str, str]]:
    """Return cluster, namespace and name of the project's releases that another registration writes, of any project.

    What is the same cluster, and what counts as at work, is as for ``find_operation_elsewhere``.
    """
    wanted = (
        select(operations.c.cluster_id, operations.c.namespace, operations.c.release_name)
        .where(
            operations.c.revision.is_not(None),
            operations.c.action != Action.TEST,
            or_(
                in_states(LIVING_STATES),
                operations.c.finished_at > func.clock_timestamp() - ended_since,
            ),
        )
        .distinct()
    )
    writing = (await tx.execute(wanted)).all()
    if not writing:
        return []
    query = select(clusters.c.id, clusters.c.project_id, clusters.c.server, clusters.c.identity)
    rows = (await tx.execute(query)).all()
    by_id = {row.id: row for row in rows}
    by_address: dict[str, list[str]] = {}
    by_identity: dict[str, list[str]] = {}
    for row in rows:
        if row.project_id == project_id:
            by_address.setdefault(address_of(row.server), []).append(row.id)
            by_identity.setdefault(row.identity, []).append(row.id)
    found = set()
    for registration in writing:
        at = by_id.get(registration.cluster_id)
        if at is None:
            continue
        same = set(by_address.get(address_of(at.server), ()))
        if at.identity and at.project_id == project_id:
            same.update(by_identity.get(at.identity, ()))
        found |= {(cluster_id, registration.namespace, registration.release_name) for cluster_id in same - {at.id}}
    return sorted(found)


async def find_operation_elsewhere(
    tx: Transaction,
    registrations: Sequence[Registration],
    *,
    namespace: str,
    name: str,
    project_id: str,
    ended_since: timedelta | None = None,
) -> OperationElsewhere | None:
    """Return the unfinished operation that writes the release through one of these, of ``project_id`` before others.

    One that has not begun to write does not count: it has not locked the release, and fails by itself if it is locked.
    ``ended_since``: one that has ended so short a time ago counts, too, after those that have not.
    """
    by_id = {registration.id: registration for registration in registrations}
    if not by_id:
        return None
    at_work = in_states(LIVING_STATES)
    if ended_since is not None:
        at_work = or_(at_work, operations.c.finished_at > func.clock_timestamp() - ended_since)
    query = (
        select(operations.c.id, operations.c.action, operations.c.state, operations.c.cluster_id)
        .where(
            operations.c.cluster_id.in_(list(by_id)),
            operations.c.namespace == namespace,
            operations.c.release_name == name,
            operations.c.revision.is_not(None),
            operations.c.action != Action.TEST,
            at_work,
        )
        .order_by(
            operations.c.finished_at.desc().nulls_first(),
            (operations.c.project_id == project_id).desc(),
            operations.c.started_at.nulls_last(),
        )
        .limit(1)
    )
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    at = by_id[row.cluster_id]
    return OperationElsewhere(row.id, row.action, row.state, at.project_id, at.id, at.name)
