"""Rules about drift, and what the last look at each release found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from pilothouse.states import ReleaseStatus
from pilothouse.store.database import Transaction
from pilothouse.store.operations import EVENTS_CHANNEL, release_key
from pilothouse.store.tables import drift_rules


@dataclass(frozen=True)
class DriftLook:
    """What a look found: how many objects of each change; ``problem``: why the last one found nothing.

    ``outdated``: what it compared is deployed no more, so that it tells nothing of the release as it is now.
    """

    revision: int
    looked_at: datetime
    added: int
    changed: int
    removed: int
    unknown: int
    problem: str
    drifted: bool
    outdated: bool


@dataclass(frozen=True)
class DueLook:
    """A release that is to be looked at."""

    namespace: str
    name: str


async def list_rules(tx: Transaction, cluster_id: str, *, namespace: str, name: str) -> list[dict[str, Any]]:
    """Return the release's rules."""
    found = (await tx.execute(_LIST_RULES, _of(cluster_id, namespace, name))).scalar_one_or_none()
    return list(found or ())


async def replace_rules(
    tx: Transaction, cluster_id: str, *, namespace: str, name: str, rules: Sequence[Mapping[str, Any]]
) -> None:
    """Store the rules of a release instead of those before; none if there are none."""
    if rules:
        values = {
            "cluster_id": cluster_id,
            "namespace": namespace,
            "name": name,
            "rules": [dict(rule) for rule in rules],
        }
        await tx.execute(_REPLACE_RULES, values)
    else:
        await tx.execute(_DELETE_RULES, _of(cluster_id, namespace, name))


async def find_look(tx: Transaction, cluster_id: str, *, namespace: str, name: str) -> DriftLook | None:
    """Return what the last look found; None if there was none."""
    row = (await tx.execute(_FIND_LOOK, _of(cluster_id, namespace, name))).mappings().one_or_none()
    return DriftLook(**row) if row is not None else None


async def record_look(
    tx: Transaction, cluster_id: str, *, namespace: str, name: str, revision: int, found: Mapping[str, int]
) -> None:
    """Store what a look found, by change, and announce it if the release drifted or was mended since the last one.

    Webhooks are told too, in the same statement: nothing is told that is not stored.
    """
    counts = {change: found[change] for change in ("added", "changed", "removed", "unknown")}
    await tx.execute(
        _RECORD,
        {
            **_of(cluster_id, namespace, name),
            "its_revision": revision,
            "channel": EVENTS_CHANNEL,
            "key": drift_key(cluster_id, namespace, name),
            **counts,
        },
    )


async def record_problem(tx: Transaction, cluster_id: str, *, namespace: str, name: str, problem: str) -> None:
    """Store why a look found nothing; what the one before found stays."""
    await tx.execute(_RECORD_PROBLEM, {**_of(cluster_id, namespace, name), "its_problem": problem})


async def find_due(tx: Transaction, cluster_id: str, *, older_seconds: float) -> DueLook | None:
    """Return a release that no look was at, as it is deployed now; then the one with the oldest look; None for none.

    Of several without a look, that which was deployed last. Not those that an operation is at work on, or that are on
    their way to another state, nor one whose look is younger than the cluster says, or else than ``older_seconds``; 0
    seconds: none is due.
    """
    row = (await tx.execute(_FIND_DUE, {"of_cluster": cluster_id, "older_seconds": older_seconds})).one_or_none()
    return DueLook(*row) if row is not None else None


async def forget_deleted(tx: Transaction, cluster_id: str, namespaces: Sequence[str] | None) -> None:
    """Delete the looks at releases of those namespaces (None: of all) that have no revision any more.

    One of the same name begins with the same numbers, and was not looked at.
    """
    places = list(namespaces) if namespaces is not None else None
    await tx.execute(_FORGET_DELETED, {"of_cluster": cluster_id, "of_namespaces": places})


async def sweep_looks(tx: Transaction) -> int:
    """Delete the looks at releases that are gone; return their number."""
    return (await tx.execute(_SWEEP)).rowcount


def drift_key(cluster_id: str, namespace: str, name: str) -> str:
    """Return what is announced when the drift of the release changed."""
    return f"{release_key(cluster_id, namespace, name)}/drift"


def _of(cluster_id: str, namespace: str, name: str) -> dict[str, str]:
    return {"of_cluster": cluster_id, "of_namespace": namespace, "of_name": name}


def _is_release(table: Any) -> Any:
    return and_(
        table.c.cluster_id == bindparam("of_cluster"),
        table.c.namespace == bindparam("of_namespace"),
        table.c.name == bindparam("of_name"),
    )


# ruff: noqa: S608  # what is put into these statements are conditions of our own
#: Whether a row ``looked`` of drift_looks compared what is deployed no more.
OUTDATED: Final = f"""EXISTS (
    SELECT FROM release_revisions newer WHERE newer.cluster_id = looked.cluster_id
      AND newer.namespace = looked.namespace AND newer.name = looked.name AND newer.gone_at IS NULL
      AND (newer.revision > looked.revision AND newer.status = '{ReleaseStatus.DEPLOYED}'
        OR newer.revision >= looked.revision AND newer.status = '{ReleaseStatus.UNINSTALLED}')
  )"""
_LIST_RULES = select(drift_rules.c.rules).where(_is_release(drift_rules))
_DELETE_RULES = delete(drift_rules).where(_is_release(drift_rules))
_INSERT_RULES = insert(drift_rules)
_REPLACE_RULES = _INSERT_RULES.on_conflict_do_update(
    index_elements=["cluster_id", "namespace", "name"], set_={"rules": _INSERT_RULES.excluded.rules}
)
_FIND_LOOK = text(f"""
SELECT revision, looked_at, added, changed, removed, unknown, problem, drifted, {OUTDATED} AS outdated
FROM drift_looks looked WHERE cluster_id = :of_cluster AND namespace = :of_namespace AND name = :of_name
""")

_RECORD = text("""
WITH before AS (
  SELECT drifted FROM drift_looks WHERE cluster_id = :of_cluster AND namespace = :of_namespace AND name = :of_name
), looked AS (
  INSERT INTO drift_looks (cluster_id, namespace, name, revision, added, changed, removed, unknown)
  SELECT cluster_id, :of_namespace, :of_name, :its_revision, :added, :changed, :removed, :unknown
  FROM cluster_watches WHERE cluster_id = :of_cluster
  ON CONFLICT (cluster_id, namespace, name) DO UPDATE SET revision = excluded.revision,
    looked_at = clock_timestamp(), added = excluded.added, changed = excluded.changed, removed = excluded.removed,
    unknown = excluded.unknown, problem = ''
  RETURNING *
), moved AS (
  SELECT * FROM looked WHERE looked.drifted IS DISTINCT FROM coalesce((SELECT drifted FROM before), false)
), told AS (
  INSERT INTO webhook_deliveries (webhook_id, event, facts)
  SELECT w.id, 'drift.changed', jsonb_build_object(
    'cluster_id', moved.cluster_id, 'namespace', moved.namespace, 'name', moved.name, 'revision', moved.revision,
    'added', moved.added, 'changed', moved.changed, 'removed', moved.removed, 'unknown', moved.unknown,
    'drifted', moved.drifted)
  FROM moved JOIN clusters c ON c.id = moved.cluster_id JOIN webhooks w ON w.project_id = c.project_id
  WHERE w.enabled AND jsonb_exists(w.events, 'drift.changed') FOR KEY SHARE OF w
)
SELECT pg_notify(:channel, :key) FROM moved
""")
_RECORD_PROBLEM = text("""
INSERT INTO drift_looks (cluster_id, namespace, name, revision, added, changed, removed, unknown, problem)
SELECT cluster_id, :of_namespace, :of_name, 0, 0, 0, 0, 0, :its_problem
FROM cluster_watches WHERE cluster_id = :of_cluster
ON CONFLICT (cluster_id, namespace, name) DO UPDATE SET looked_at = clock_timestamp(), problem = excluded.problem
""")
_FIND_DUE = text(f"""
WITH looks AS (
  SELECT coalesce(drift_seconds, CAST(:older_seconds AS double precision)) AS seconds
  FROM clusters WHERE id = :of_cluster
)
SELECT due.namespace, due.name FROM (
  SELECT newest.*, looked.looked_at,
    looked.looked_at IS NULL
      OR (newest.status = 'deployed' AND looked.revision <> newest.revision AND looked.problem = '')
      OR (newest.status = 'failed' AND looked.problem = '' AND {OUTDATED}) AS is_new
  FROM (
    SELECT DISTINCT ON (namespace, name) namespace, name, revision, status, last_deployed FROM release_revisions
    WHERE cluster_id = :of_cluster AND gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)
    ORDER BY namespace, name, revision DESC
  ) newest LEFT JOIN drift_looks looked
    ON looked.cluster_id = :of_cluster AND looked.namespace = newest.namespace AND looked.name = newest.name
  WHERE newest.status IN ('deployed', 'failed')
) due
WHERE (SELECT seconds FROM looks) > 0
AND (is_new OR looked_at < clock_timestamp() - make_interval(secs => (SELECT seconds FROM looks)))
AND NOT EXISTS (
  SELECT FROM operations o WHERE o.cluster_id = :of_cluster AND o.namespace = due.namespace
    AND o.release_name = due.name AND o.state IN ('queued', 'running', 'cancelling')
)
ORDER BY is_new DESC, CASE WHEN is_new THEN last_deployed END DESC NULLS LAST, looked_at, namespace, name LIMIT 1
""")
_IS_GONE = """NOT EXISTS (
  SELECT FROM release_revisions r WHERE r.cluster_id = looked.cluster_id AND r.namespace = looked.namespace
    AND r.name = looked.name AND r.gone_at IS NULL AND r.problem = ''
)"""
_SWEEP = text(f"DELETE FROM drift_looks looked WHERE {_IS_GONE}")
_FORGET_DELETED = text(f"""
DELETE FROM drift_looks looked WHERE cluster_id = :of_cluster
  AND (CAST(:of_namespaces AS text[]) IS NULL OR namespace = ANY(:of_namespaces)) AND {_IS_GONE}
""")
