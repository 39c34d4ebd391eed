"""Who did what, through which request. Rows are only added, and deleted when they are old (``retention``)."""

from typing import Protocol

from sqlalchemy import insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import audit

_RECORD = insert(audit)


async def record(
    tx: Transaction, *, project_id: str, user_id: str, action: str, target: str, request_id: str, operation_id: str = ""
) -> None:
    """Adds one row in the caller's transaction: it stands exactly when the deed stands."""
    row = {
        "project_id": project_id,
        "user_id": user_id,
        "action": action,
        "target": target,
        "request_id": request_id,
        "operation_id": operation_id,
    }
    await tx.execute(_RECORD, row)


class Actor(Protocol):
    """Who did it, and for which project."""

    @property
    def user_id(self) -> str:
        """The user."""
        ...

    @property
    def project_id(self) -> str:
        """The project; empty if the deed concerns none."""
        ...


async def record_by(tx: Transaction, actor: Actor, action: str, *, target: str, request_id: str) -> None:
    """Adds one row for what the actor did."""
    await record(
        tx,
        project_id=actor.project_id,
        user_id=actor.user_id,
        action=action,
        target=target,
        request_id=request_id,
    )
