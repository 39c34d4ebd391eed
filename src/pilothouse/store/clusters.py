"""Queries about registered clusters."""

from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import bindparam, delete, exists, func, select, text, update
from sqlalchemy.dialects import postgresql

from pilothouse.store.cluster_watches import ClusterWatchRow
from pilothouse.store.database import Transaction
from pilothouse.store.tables import cluster_watches, clusters


@dataclass(frozen=True)
class ClusterName:
    """The id and name of a registered cluster."""

    id: str
    name: str


@dataclass(frozen=True)
class WallRow:
    """Where a project works in a cluster, and as whom; all empty: no wall."""

    wall_namespaces: list[str] = field(default_factory=list)
    wall_user: str = ""
    wall_groups: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ClusterRow:
    """One registered cluster; the kubeconfig is sealed."""

    id: str
    project_id: str
    name: str
    server: str
    kubeconfig_sealed: bytes
    wait: str
    created_at: datetime
    identity: str
    wall_namespaces: list[str]
    wall_user: str
    wall_groups: list[str]
    drift_seconds: int | None


async def add_cluster(
    tx: Transaction,
    *,
    cluster_id: str,
    project_id: str,
    name: str,
    server: str,
    kubeconfig_sealed: bytes,
    identity: str = "",
    wall: WallRow | None = None,
) -> ClusterRow | None:
    """Insert a cluster; return None if the project has one of that name."""
    statement = (
        postgresql.insert(clusters)
        .values(
            id=cluster_id,
            project_id=project_id,
            name=name,
            server=server,
            kubeconfig_sealed=kubeconfig_sealed,
            identity=identity,
            **(vars(wall) if wall else {}),
        )
        .on_conflict_do_nothing(index_elements=[clusters.c.project_id, clusters.c.name])
        .returning(clusters)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def lock_project(tx: Transaction, project_id: str) -> None:
    """Serialise registrations in the project until the transaction ends, so that counts stay valid."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"clusters/{project_id}"})


async def count_clusters(tx: Transaction, project_id: str) -> int:
    """Return how many clusters the project has."""
    query = select(func.count()).select_from(clusters).where(clusters.c.project_id == project_id)
    return int((await tx.execute(query)).scalar_one())


async def replace_kubeconfig(
    tx: Transaction, cluster_id: str, *, project_id: str, server: str, kubeconfig_sealed: bytes, identity: str
) -> ClusterRow | None:
    """Replace the cluster's credentials; return None if the project has no such cluster."""
    statement = (
        update(clusters)
        .where(clusters.c.id == cluster_id, clusters.c.project_id == project_id)
        .values(server=server, kubeconfig_sealed=kubeconfig_sealed, identity=identity)
        .returning(clusters)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def set_wall(
    tx: Transaction,
    cluster_id: str,
    *,
    project_id: str,
    wall: WallRow,
) -> ClusterRow | None:
    """Store where the project works, and as whom; return None if the project has no such cluster."""
    statement = (
        update(clusters)
        .where(clusters.c.id == cluster_id, clusters.c.project_id == project_id)
        .values(**vars(wall))
        .returning(clusters)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def set_drift_seconds(
    tx: Transaction, cluster_id: str, *, project_id: str, seconds: int | None
) -> ClusterRow | None:
    """Store how often the cluster's releases are looked at for drift; return None if the project has no such cluster.

    0: never; None: as the settings say.
    """
    statement = (
        update(clusters)
        .where(clusters.c.id == cluster_id, clusters.c.project_id == project_id)
        .values(drift_seconds=seconds)
        .returning(clusters)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def shares_wall_user(tx: Transaction, row: ClusterRow) -> bool:
    """Return True if a cluster of another project has that wall's user, and is the same one by address or identity.

    Serialises such questions about that user until the transaction ends.
    """
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"wall/{row.wall_user}"})
    is_same = clusters.c.server == row.server
    if row.identity:
        is_same |= clusters.c.identity == row.identity
    others = exists().where(clusters.c.wall_user == row.wall_user, clusters.c.project_id != row.project_id, is_same)
    return bool((await tx.execute(select(others))).scalar_one())


_FIND = select(clusters).where(clusters.c.id == bindparam("cluster_id"))
_FIND_OF_PROJECT = _FIND.where(clusters.c.project_id == bindparam("of_project"))
_PROGRESS = [field.name for field in fields(ClusterWatchRow)]
_OWN = [field.name for field in fields(ClusterRow)]
_FIND_WATCHED = (
    select(*(cluster_watches.c[name] for name in _PROGRESS), *(clusters.c[name] for name in _OWN))
    .join_from(cluster_watches, clusters, clusters.c.id == cluster_watches.c.cluster_id)
    .where(cluster_watches.c.cluster_id == bindparam("cluster_id"))
)


async def find_cluster(tx: Transaction, cluster_id: str, *, project_id: str | None) -> ClusterRow | None:
    """Return the cluster if it belongs to that project (None: to any)."""
    query = _FIND if project_id is None else _FIND_OF_PROJECT
    row = (await tx.execute(query, {"cluster_id": cluster_id, "of_project": project_id})).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def find_watched(tx: Transaction, cluster_id: str) -> tuple[ClusterWatchRow, ClusterRow] | None:
    """Return the cluster with its progress in the index; None if it was removed."""
    row = (await tx.execute(_FIND_WATCHED, {"cluster_id": cluster_id})).mappings().one_or_none()
    if row is None:
        return None
    progress = ClusterWatchRow(**{name: row[name] for name in _PROGRESS})
    return progress, ClusterRow(**{name: row[name] for name in _OWN})


async def hold_cluster(tx: Transaction, cluster_id: str, *, project_id: str) -> ClusterRow | None:
    """Return the cluster of that project, and keep its row until the transaction ends."""
    query = _FIND_OF_PROJECT.with_for_update()
    row = (await tx.execute(query, {"cluster_id": cluster_id, "of_project": project_id})).mappings().one_or_none()
    return ClusterRow(**row) if row else None


async def identify_cluster(tx: Transaction, named: str, *, project_id: str) -> ClusterName | None:
    """Return the project's cluster of that id, else the one of that name; None if it has neither."""
    row = (await tx.execute(_IDENTIFY, {"named": named, "project_id": project_id})).one_or_none()
    return ClusterName(*row) if row else None


_IDENTIFY = text("""
SELECT id, name FROM clusters WHERE project_id = :project_id AND (id = :named OR name = :named)
ORDER BY id = :named DESC LIMIT 1
""")


async def list_clusters(tx: Transaction, *, project_id: str) -> list[ClusterRow]:
    """Return the project's clusters by name."""
    query = select(clusters).where(clusters.c.project_id == project_id).order_by(clusters.c.name)
    return [ClusterRow(**row) for row in (await tx.execute(query)).mappings()]


async def list_names(tx: Transaction, *, project_id: str) -> dict[str, str]:
    """Return the names of the project's clusters by id, in their order."""
    query = select(clusters.c.id, clusters.c.name).where(clusters.c.project_id == project_id).order_by(clusters.c.name)
    return {row.id: row.name for row in await tx.execute(query)}


async def list_all_clusters(tx: Transaction) -> list[ClusterRow]:
    """Return the clusters of every project, by name."""
    return [ClusterRow(**row) for row in (await tx.execute(select(clusters).order_by(clusters.c.name))).mappings()]


async def remove_cluster(tx: Transaction, cluster_id: str, *, project_id: str) -> str | None:
    """Delete a cluster and return its name; None if the project has none of that id."""
    statement = delete(clusters).where(clusters.c.id == cluster_id, clusters.c.project_id == project_id)
    name: str | None = (await tx.execute(statement.returning(clusters.c.name))).scalar_one_or_none()
    return name
