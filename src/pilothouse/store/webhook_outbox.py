"""What workers read and write of messages to webhooks: a webhook is one worker's at a time, by a lease in its row."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from pilothouse.store.database import Transaction


@dataclass(frozen=True)
class TakenWebhook:
    """A webhook under a lease."""

    id: str
    project_id: str
    format: str
    failures: int
    lease_until: datetime
    target_sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class DueMessage:
    """A message that is to be sent now."""

    id: int
    event: str
    facts: dict[str, Any]
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class EndedFacts:
    """What is told of the end of an operation, with the names of what it belongs to; empty if that is gone."""

    id: str
    action: str
    state: str
    status_description: str
    namespace: str
    release_name: str
    revision: int | None
    chart_name: str
    chart_version: str
    request_id: str
    created_at: datetime
    finished_at: datetime | None
    user_id: str
    user_name: str
    cluster_id: str
    cluster_name: str
    project_id: str
    project_name: str


async def take(tx: Transaction, *, lease_seconds: float, besides: Collection[str]) -> TakenWebhook | None:
    """Take a webhook with a message that is due; None if there is none. None of the projects ``besides``."""
    params = {"lease_seconds": lease_seconds, "besides": list(besides)}
    row = (await tx.execute(_TAKE, params)).mappings().one_or_none()
    return TakenWebhook(**row) if row is not None else None


async def release(tx: Transaction, webhook: TakenWebhook) -> None:
    """Give up the lease, if it is still ours."""
    await tx.execute(_RELEASE, {"webhook": webhook.id, "lease_until": webhook.lease_until})


async def find_due(tx: Transaction, webhook_id: str) -> DueMessage | None:
    """Return the message that has been due for longest; None if there is none."""
    row = (await tx.execute(_FIND_DUE, {"webhook": webhook_id})).mappings().one_or_none()
    return DueMessage(**row) if row is not None else None


async def find_ended(tx: Transaction, operation_id: str) -> EndedFacts | None:
    """Return the ended operation; None if it was deleted since."""
    row = (await tx.execute(_FIND_ENDED, {"operation": operation_id})).mappings().one_or_none()
    return EndedFacts(**row) if row is not None else None


async def find_names(tx: Transaction, *, cluster_id: str, project_id: str) -> tuple[str, str]:
    """Return the names of a cluster and a project; empty for what is gone."""
    cluster, project = (await tx.execute(_FIND_NAMES, {"cluster": cluster_id, "project": project_id})).one()
    return cluster, project


async def note_delivered(tx: Transaction, webhook_id: str, message_id: int, *, status: int) -> None:
    """Store that the webhook took the message."""
    await tx.execute(_DELIVERED, {"webhook": webhook_id, "message": message_id, "status": status})


async def note_failure(
    tx: Transaction,
    webhook_id: str,
    message_id: int,
    *,
    status: int | None,
    error: str,
    retry_seconds: float | None,
    pause_seconds: float,
) -> None:
    """Store a failed attempt: the message is due again after ``retry_seconds``, None: never; others after the pause."""
    params = {
        "webhook": webhook_id,
        "message": message_id,
        "status": status,
        "error": error,
        "retry_seconds": retry_seconds,
        "pause_seconds": pause_seconds,
    }
    await tx.execute(_FAILURE, params)


async def give_up(tx: Transaction, *, older_seconds: float, limit: int) -> int:
    """Give up at most ``limit`` pending messages that are older, tried or not; return how many."""
    return (await tx.execute(_GIVE_UP, {"older_seconds": older_seconds, "most": limit})).rowcount


async def expire(tx: Transaction, *, ended_seconds_ago: float, limit: int) -> int:
    """Delete at most ``limit`` messages that ended that long ago; return how many."""
    return (await tx.execute(_EXPIRE, {"ended_seconds_ago": ended_seconds_ago, "most": limit})).rowcount


# NO KEY: who writes a message holds its webhook's key, and must neither wait for a lease nor hide the webhook from it.
_TAKE = text("""
UPDATE webhooks SET lease_until = clock_timestamp() + make_interval(secs => :lease_seconds) WHERE id = (
  SELECT w.id FROM webhooks w
  WHERE w.enabled AND (w.lease_until IS NULL OR w.lease_until < clock_timestamp())
    AND (w.not_before IS NULL OR w.not_before <= clock_timestamp()) AND NOT w.project_id = ANY(:besides)
    AND EXISTS (
      SELECT FROM webhook_deliveries d
      WHERE d.webhook_id = w.id AND d.state = 'pending' AND d.due_at <= clock_timestamp()
    )
  ORDER BY w.lease_until NULLS FIRST, w.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id, project_id, format, failures, lease_until, target_sealed
""")
# Not to NULL: who has just had a turn comes last, so that those that take everything leave one for those that do not.
_RELEASE = text("""
UPDATE webhooks SET lease_until = clock_timestamp() WHERE id = :webhook AND lease_until = :lease_until
""")
_FIND_DUE = text("""
SELECT id, event, facts, attempts, created_at FROM webhook_deliveries
WHERE webhook_id = :webhook AND state = 'pending' AND due_at <= clock_timestamp()
  AND EXISTS (SELECT FROM webhooks w WHERE w.id = :webhook AND w.enabled)
ORDER BY due_at, id LIMIT 1
""")
_FIND_ENDED = text("""
SELECT o.id, o.action, o.state, o.status_description, o.namespace, o.release_name, o.revision, o.chart_name,
       o.chart_version, o.request_id, o.created_at, o.finished_at, o.user_id, coalesce(u.name, '') AS user_name,
       o.cluster_id, coalesce(c.name, '') AS cluster_name, o.project_id, coalesce(p.name, '') AS project_name
FROM operations o LEFT JOIN users u ON u.id = o.user_id LEFT JOIN clusters c ON c.id = o.cluster_id
LEFT JOIN projects p ON p.id = o.project_id WHERE o.id = :operation
""")
_FIND_NAMES = text("""
SELECT coalesce((SELECT name FROM clusters WHERE id = :cluster), ''),
       coalesce((SELECT name FROM projects WHERE id = :project), '')
""")
# The webhook first: whoever removes it locks it before its messages.
_DELIVERED = text("""
WITH webhook AS (
  UPDATE webhooks SET failures = 0, last_error = '', delivered_at = clock_timestamp(), not_before = NULL
  WHERE id = :webhook RETURNING id
)
UPDATE webhook_deliveries d SET state = 'delivered', attempts = attempts + 1, status = :status, error = '',
  ended_at = clock_timestamp()
FROM webhook WHERE d.webhook_id = webhook.id AND d.id = :message AND d.state = 'pending'
""")
_FAILURE = text("""
WITH webhook AS (
  UPDATE webhooks SET failures = failures + 1, last_error = :error,
    not_before = clock_timestamp() + make_interval(secs => :pause_seconds)
  WHERE id = :webhook RETURNING id
)
UPDATE webhook_deliveries d SET attempts = attempts + 1, status = CAST(:status AS integer), error = :error,
  state = CASE WHEN CAST(:retry_seconds AS double precision) IS NULL THEN 'given_up' ELSE d.state END,
  ended_at = CASE WHEN CAST(:retry_seconds AS double precision) IS NULL THEN clock_timestamp() END,
  due_at = coalesce(clock_timestamp() + make_interval(secs => CAST(:retry_seconds AS double precision)), d.due_at)
FROM webhook WHERE d.webhook_id = webhook.id AND d.id = :message AND d.state = 'pending'
""")
_GIVE_UP = text("""
UPDATE webhook_deliveries SET state = 'given_up', ended_at = clock_timestamp(),
  error = coalesce(nullif(error, ''), 'its turn did not come in time')
WHERE id IN (
  SELECT id FROM webhook_deliveries
  WHERE state = 'pending' AND created_at < clock_timestamp() - make_interval(secs => :older_seconds)
  LIMIT :most FOR UPDATE SKIP LOCKED
)
""")
_EXPIRE = text("""
DELETE FROM webhook_deliveries WHERE id IN (
  SELECT id FROM webhook_deliveries
  WHERE ended_at < clock_timestamp() - make_interval(secs => :ended_seconds_ago) LIMIT :most
)
""")
