"""Queries about webhooks, by those who own them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from pilothouse.states import DeliveryState
from pilothouse.store.database import Transaction
from pilothouse.store.tables import webhook_deliveries, webhooks


@dataclass(frozen=True)
class NewWebhook:
    """A webhook that is to be stored."""

    id: str
    project_id: str
    name: str
    origin: str
    format: str
    events: list[str]
    target_sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class WebhookRow:
    """A webhook as its project sees it; ``pending``: messages that it is still to be told."""

    id: str
    name: str
    origin: str
    format: str
    events: list[str]
    enabled: bool
    created_at: datetime
    failures: int
    last_error: str
    delivered_at: datetime | None
    pending: int


@dataclass(frozen=True)
class DeliveryRow:
    """A message to a webhook."""

    id: int
    event: str
    facts: dict[str, Any]
    state: str
    attempts: int
    status: int | None
    error: str
    created_at: datetime
    due_at: datetime
    ended_at: datetime | None


async def count(tx: Transaction, project_id: str) -> int:
    """Return the number of the project's webhooks."""
    return int((await tx.execute(_COUNT, {"of_project": project_id})).scalar_one())


async def add(tx: Transaction, new: NewWebhook) -> bool:
    """Insert the webhook; return False if the project has one of that name."""
    return (await tx.execute(_ADD, vars(new))).first() is not None


async def list_all(tx: Transaction, project_id: str) -> list[WebhookRow]:
    """Return the project's webhooks, by name."""
    rows = await tx.execute(_LIST, {"of_project": project_id})
    return [WebhookRow(**row) for row in rows.mappings()]


async def find(tx: Transaction, webhook_id: str, *, project_id: str) -> WebhookRow | None:
    """Return the webhook, if it is that project's."""
    params = {"of_project": project_id, "wanted_id": webhook_id}
    row = (await tx.execute(_FIND, params)).mappings().one_or_none()
    return WebhookRow(**row) if row is not None else None


async def set_enabled(tx: Transaction, webhook_id: str, *, enabled: bool) -> None:
    """Enable or disable the webhook; what is pending waits, and what happens while it is disabled is not told."""
    statement = update(webhooks).where(webhooks.c.id == webhook_id)
    await tx.execute(statement.values(enabled=enabled, failures=0, not_before=None))


async def remove(tx: Transaction, webhook_id: str) -> None:
    """Delete the webhook with its messages."""
    await tx.execute(delete(webhooks).where(webhooks.c.id == webhook_id))


async def add_ping(tx: Transaction, webhook_id: str, *, event: str) -> int:
    """Queue a message that is about nothing; return its id."""
    statement = insert(webhook_deliveries).values(webhook_id=webhook_id, event=event, facts={})
    return int((await tx.execute(statement.returning(webhook_deliveries.c.id))).scalar_one())


async def list_deliveries(
    tx: Transaction, webhook_id: str, *, state: str | None, before: int | None, limit: int
) -> list[DeliveryRow]:
    """Return messages to the webhook, newest first; ``before``: only with a lower id."""
    query = _DELIVERIES.where(webhook_deliveries.c.webhook_id == webhook_id)
    if state is not None:
        query = query.where(webhook_deliveries.c.state == state)
    if before is not None:
        query = query.where(webhook_deliveries.c.id < before)
    rows = await tx.execute(query.order_by(webhook_deliveries.c.id.desc()).limit(limit))
    return [DeliveryRow(**row) for row in rows.mappings()]


_COUNT = select(func.count()).select_from(webhooks).where(webhooks.c.project_id == bindparam("of_project"))
_ADD = insert(webhooks).on_conflict_do_nothing(index_elements=["project_id", "name"]).returning(webhooks.c.id)
_PENDING = (
    select(func.count())
    .select_from(webhook_deliveries)
    .where(
        webhook_deliveries.c.webhook_id == webhooks.c.id,
        webhook_deliveries.c.state == literal(DeliveryState.PENDING, literal_execute=True),
    )
    .correlate(webhooks)
    .scalar_subquery()
)
_LIST = (
    select(
        *(webhooks.c[name] for name in WebhookRow.__dataclass_fields__ if name != "pending"), _PENDING.label("pending")
    )
    .where(webhooks.c.project_id == bindparam("of_project"))
    .order_by(webhooks.c.name)
)
_FIND = _LIST.where(webhooks.c.id == bindparam("wanted_id"))
_DELIVERIES = select(*(webhook_deliveries.c[name] for name in DeliveryRow.__dataclass_fields__))
