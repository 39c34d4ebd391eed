"""Operations as the database takes them, for tests below the API."""

import uuid
from typing import Any

from pilothouse.store import submit as queue
from pilothouse.store.database import Database
from pilothouse.store.operations import NewOperation, OperationRow

#: More than a test queues.
LIMITS = queue.QueueLimits(per_cluster=1000, per_project=1000, retry_seconds=1)


def new_install(project_id: str, user_id: str, **different: Any) -> NewOperation:
    """Return an install of release ``web``; ``different``: what is to be otherwise."""
    usual: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "cluster_id": "cluster",
        "namespace": "default",
        "release_name": "web",
        "action": "install",
        "chart_digest": None,
        "chart_id": "chart",
        "chart_name": "chart",
        "chart_version": "1.0.0",
        "request_sealed": b"sealed",
        "shown_sealed": b"shown",
        "include_hooks": False,
        "revision": None,
        "base_revision": None,
        "base_uid": "",
        "base_version": "",
        "description": "",
        "status_description": "Initial install underway",
        "deadline_seconds": 300,
        "request_id": "request",
    }
    cluster_id = different.get("cluster_id", usual["cluster_id"])
    usual["api_server"] = f"{cluster_id}.example.com:443"
    return NewOperation(**usual | different, project_id=project_id, user_id=user_id)


async def accept(database: Database, new: NewOperation, *, limits: queue.QueueLimits = LIMITS) -> OperationRow:
    """Return the operation stands."""
    async with database.transaction() as tx:
        return await queue.enqueue(tx, new, audit_action="cce:release:create", observed_seconds_ago=0.0, limits=limits)
