"""Evidence from the cluster about failed operations. One row per attempt, written once."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from pilothouse.store.database import Transaction
from pilothouse.store.tables import operation_evidence


@dataclass(frozen=True)
class EvidenceRow:
    """Evidence of one attempt; ``found`` is a JSON object."""

    attempt: int
    at: datetime
    found: str


async def add_evidence(tx: Transaction, operation_id: str, *, attempt: int, found: str) -> None:
    """Store the attempt's evidence, unless it is stored already."""
    await tx.execute(_ADD, {"operation_id": operation_id, "attempt": attempt, "found": found})


async def list_evidence(tx: Transaction, operation_id: str) -> list[EvidenceRow]:
    """Return the operation's evidence, oldest attempt first."""
    rows = await tx.execute(_LIST, {"of_operation": operation_id})
    return [EvidenceRow(**row) for row in rows.mappings()]


_ADD = insert(operation_evidence).on_conflict_do_nothing()
_LIST = (
    select(operation_evidence.c.attempt, operation_evidence.c.at, operation_evidence.c.found)
    .where(operation_evidence.c.operation_id == bindparam("of_operation"))
    .order_by(operation_evidence.c.attempt)
)
