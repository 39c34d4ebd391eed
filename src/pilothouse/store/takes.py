"""Taking the next operation, skipping projects and API servers that are at their limits."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Self

from sqlalchemy import text

from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow
from pilothouse.store.tables import IS_HELD, OF_SERVERS

#: What has run for so long is not taken for what brings the worker down.
_APART_SECONDS = 30.0


@dataclass(frozen=True)
class Caps:
    """Maximum number of running operations of one project, and at one API server; None: no limit but the slots.

    The first two count one worker process, the others all workers. ``last_chance``: an operation with so many crashes
    that the next one fails it does not start next to another such one in the same process, so that an operation that
    crashes its worker each time does not fail its neighbours with it.
    """

    project_here: int | None = None
    cluster_here: int | None = None
    per_project: int | None = None
    per_cluster: int | None = None
    last_chance: int | None = None

    @classmethod
    def of_worker(
        cls, slots: int, *, reserved: int, per_project: int | None, per_cluster: int | None, attempts: int
    ) -> Self:
        """Return the limits of a worker of so many slots: a project leaves more of them to others than an API server.

        Otherwise one project could use up its API server's share, which other projects on it need too. With too few
        slots for both, only projects are limited. ``attempts``: number of crashes after which an operation is given up.
        """
        both = slots > 2 * reserved + 1
        return cls(
            project_here=max(1, slots - (2 if both else 1) * reserved),
            cluster_here=slots - reserved if both else None,
            per_project=per_project,
            per_cluster=per_cluster,
            last_chance=max(1, attempts - 1),
        )


#: Nobody is kept from anything.
NO_CAPS = Caps()


@dataclass(frozen=True)
class Taken:
    """The operation that was taken, and whether more may be due: False if nothing else waits."""

    row: OperationRow
    more: bool


async def take(
    tx: Transaction, *, worker: str, lease_seconds: float, caps: Caps = NO_CAPS, besides: Collection[str] = ()
) -> Taken | None:
    """Assign the next due operation to the worker: attempt + 1, with a lease; return None if there is none.

    A queued one becomes running; one that is being cancelled stays so, for the worker to end it. ``worker`` names the
    process and, after the last colon, its slot. Projects and API servers at a limit are skipped. Processes that take at
    the same moment may each exceed a limit over all workers by one; the limits of one process are exact if it takes one
    at a time. Operations that the process holds ``besides`` need none of its slots.
    """
    params = {
        "by_worker": worker,
        "of_process": worker.rsplit(":", 1)[0],
        "for_seconds": lease_seconds,
        "besides": list(besides),
        "project_here": caps.project_here,
        "cluster_here": caps.cluster_here,
        "per_project": caps.per_project,
        "per_cluster": caps.per_cluster,
        "last_chance": caps.last_chance,
        "apart_seconds": _APART_SECONDS,
    }
    row = (await tx.execute(_TAKE, params)).mappings().one_or_none()
    if row is None:
        return None
    return Taken(OperationRow(**{name: value for name, value in row.items() if name != "more"}), row["more"])


# ruff: noqa: S608  # what is put into this statement are conditions of our own
_DUE_IN_QUEUE = (
    f"{OF_SERVERS} AND project_id = queue.project_id AND api_server = queue.api_server"
    " AND (not_before IS NULL OR not_before <= clock_timestamp())"
    " AND (CAST(:last_chance AS integer) IS NULL OR crashes < :last_chance"
    " OR NOT EXISTS (SELECT FROM held WHERE here AND apart))"
)
# Each by its name: a newer schema may have columns that this program does not know
# (docs/decisions/0023-rolling-upgrades.md).
_TAKEN = ", ".join(f"taken.{field.name}" for field in fields(OperationRow))
# The take walks the waiting projects and their API servers by jumps in one index, past those that are at a cap, and
# looks at the head of each queue: that thousands wait behind a cap costs it nothing.
_TAKE = text(f"""
WITH RECURSIVE held AS MATERIALIZED (
  SELECT project_id, api_server, regexp_replace(worker, ':[^:]*$', '') = :of_process AS here,
    id = ANY(CAST(:besides AS text[])) AS rests,
    crashes >= CAST(:last_chance AS integer) AND taken_at > clock_timestamp() - make_interval(secs => :apart_seconds)
      AS apart
  FROM operations WHERE {IS_HELD}
), full_projects AS MATERIALIZED (
  SELECT project_id FROM held GROUP BY project_id
  HAVING count(*) >= CAST(:per_project AS bigint)
    OR count(*) FILTER (WHERE here AND NOT rests) >= CAST(:project_here AS bigint)
), full_servers AS MATERIALIZED (
  SELECT api_server FROM held GROUP BY api_server
  HAVING count(*) >= CAST(:per_cluster AS bigint)
    OR count(*) FILTER (WHERE here AND NOT rests) >= CAST(:cluster_here AS bigint)
), waiting_projects AS (
  (SELECT project_id FROM operations WHERE {OF_SERVERS} ORDER BY project_id LIMIT 1)
  UNION ALL
  SELECT following.project_id FROM waiting_projects before CROSS JOIN LATERAL (
    SELECT project_id FROM operations WHERE {OF_SERVERS} AND project_id > before.project_id ORDER BY project_id LIMIT 1
  ) following
), queues AS (
  SELECT project.project_id, first.api_server FROM waiting_projects project CROSS JOIN LATERAL (
    SELECT api_server FROM operations WHERE {OF_SERVERS} AND project_id = project.project_id
    ORDER BY api_server LIMIT 1
  ) first
  WHERE project.project_id NOT IN (SELECT project_id FROM full_projects)
  UNION ALL
  SELECT before.project_id, following.api_server FROM queues before CROSS JOIN LATERAL (
    SELECT api_server FROM operations
    WHERE {OF_SERVERS} AND project_id = before.project_id AND api_server > before.api_server
    ORDER BY api_server LIMIT 1
  ) following
), heads AS MATERIALIZED (
  SELECT queue.project_id, queue.api_server, head.queue_position, head.created_at FROM queues queue CROSS JOIN LATERAL (
    SELECT queue_position, created_at FROM operations WHERE {_DUE_IN_QUEUE} ORDER BY queue_position, created_at LIMIT 1
  ) head
  WHERE queue.api_server NOT IN (SELECT api_server FROM full_servers)
), next AS MATERIALIZED (
  SELECT first.id FROM (SELECT * FROM heads ORDER BY queue_position, created_at) queue CROSS JOIN LATERAL (
    SELECT id FROM operations WHERE {_DUE_IN_QUEUE} ORDER BY queue_position, created_at LIMIT 1 FOR UPDATE SKIP LOCKED
  ) first
  LIMIT 1
)
UPDATE operations taken SET
  state = CASE WHEN state = 'queued' THEN 'running' ELSE state END,
  attempt = attempt + 1,
  worker = :by_worker,
  lease_until = clock_timestamp() + make_interval(secs => :for_seconds),
  taken_at = clock_timestamp(),
  started_at = coalesce(started_at, clock_timestamp())
WHERE id = (SELECT id FROM next) AND lease_until IS NULL
RETURNING {_TAKEN}, (SELECT count(*) > 1 FROM heads) OR (
  SELECT id FROM operations
  WHERE {OF_SERVERS} AND project_id = taken.project_id AND api_server = taken.api_server AND id <> taken.id
  ORDER BY queue_position, created_at LIMIT 1
) IS NOT NULL AS more
""")
