"""Operations as the causes of a release's revisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from pilothouse.states import Action, OperationState
from pilothouse.store.database import Transaction

#: More revisions than Helm ever keeps.
_MOST = 1000


@dataclass(frozen=True)
class Change:
    """An operation on a release, and who requested it; ``user_name`` is empty if the user is gone.

    ``revision`` is what it wrote or is writing, ``undo_revision`` what undid that: a cancel, or its ``failure``;
    ``restore_revision``: what that restores.
    ``chart_digest``: of the archive that it installed; empty for a rollback, whose ``chart_id`` is that of the revision
    that it restores. ``elsewhere``: it came through another registration of the cluster.
    """

    operation_id: str
    action: str
    state: str
    text: str
    user_id: str
    user_name: str
    request_id: str
    revision: int | None
    undo_revision: int | None
    failure: str
    created_at: datetime
    finished_at: datetime | None
    chart_id: str
    chart_version: str
    chart_digest: str
    elsewhere: bool = False
    restore_revision: int | None = None


async def list_changes(
    tx: Transaction, cluster_id: str, *, namespace: str, name: str, also: Sequence[str] = ()
) -> list[Change]:
    """Return the release's operations that began to write, have uninstalled it or are unfinished, newest first.

    ``also``: other registrations of the cluster, through which they came, too.
    """
    params = {
        "cluster_id": cluster_id,
        "cluster_ids": [cluster_id, *also],
        "namespace": namespace,
        "name": name,
        "most": _MOST,
    }
    return [Change(*row) for row in await tx.execute(_LIST, params)]


_LIST = text("""
SELECT o.id, o.action, o.state, o.status_description, o.user_id, coalesce(u.name, ''), o.request_id,
  CASE WHEN o.wrote_revision OR o.finished_at IS NULL OR o.undo_revision IS NOT NULL THEN o.revision END,
  o.undo_revision, o.failure, o.created_at, o.finished_at, o.chart_id, o.chart_version, coalesce(o.chart_digest, ''),
  o.cluster_id <> :cluster_id, o.restore_revision
FROM operations o LEFT JOIN users u ON u.id = o.user_id
WHERE o.cluster_id = ANY(CAST(:cluster_ids AS text[])) AND o.namespace = :namespace AND o.release_name = :name
  AND (o.wrote_revision OR o.finished_at IS NULL OR o.undo_revision IS NOT NULL
    OR (o.action = :uninstall AND o.state = :succeeded))
ORDER BY o.created_at DESC LIMIT :most
""").bindparams(uninstall=Action.UNINSTALL.value, succeeded=OperationState.SUCCEEDED.value)
