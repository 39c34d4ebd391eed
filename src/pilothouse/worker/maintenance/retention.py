"""Deletes old data: operations with their events, commands, audit rows, keys, tokens, sessions.

Every worker tries it periodically; the first one does it for all.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from pilothouse.settings import RetentionSettings
from pilothouse.store import (
    chart_origins,
    exchanged_tokens,
    idempotency_keys,
    password_failures,
    plans,
    retention,
    sessions,
    tokens,
    verifications,
    webhook_outbox,
)
from pilothouse.store.database import Database, Transaction
from pilothouse.worker.periodic import keep_doing

log = structlog.get_logger(__name__)

_AT_ONCE = 200
#: Between two pieces: what is urgent comes first.
_PAUSE_SECONDS = 0.1
#: So long an expired token is still told apart from one that never was.
_TOKEN_SECONDS = 24 * 3600.0


class _NotOurs(Exception):
    """Another worker holds the retention lock."""


async def keep_forgetting(database: Database, settings: RetentionSettings) -> None:
    """Clean up every ``sweep_seconds`` until cancelled."""
    await keep_doing(
        lambda: forget(database, settings), every_seconds=settings.sweep_seconds, failure="retention_failed"
    )


async def forget(database: Database, settings: RetentionSettings) -> Counter[str]:
    """Delete what is older than the settings say, unless another worker is doing it; return counts."""
    gone: Counter[str] = Counter()
    try:
        await _forget_rows(database, settings, gone)
        await _forget_operations(database, settings, gone)
    except _NotOurs:
        log.debug("retention_left_to_another_worker")
    if gone.total():
        log.info("forgotten", **gone)
    return gone


async def _forget_operations(database: Database, settings: RetentionSettings, gone: Counter[str]) -> None:
    position: retention.Position | None = retention.START
    while position is not None:
        async with _turn(database) as tx:
            piece = await retention.expire_operations(
                tx, after=position, ended_seconds_ago=settings.operation_seconds, limit=_AT_ONCE
            )
        gone["operations"] += piece.deleted
        position = piece.following
        await asyncio.sleep(_PAUSE_SECONDS if position else 0)


async def _forget_rows(database: Database, settings: RetentionSettings, gone: Counter[str]) -> None:
    deleted = {"": 1}
    while any(deleted.values()):
        async with _turn(database) as tx:
            deleted = {
                "keys": await idempotency_keys.expire(tx, life_seconds=settings.key_seconds, limit=_AT_ONCE),
                "orders": await retention.drop_orders(tx, limit=_AT_ONCE),
                "audit": await retention.expire_audit(
                    tx,
                    older_seconds=settings.audit_seconds,
                    failed_seconds=settings.audit_failed_seconds,
                    limit=_AT_ONCE,
                ),
                "tokens": await tokens.sweep(tx, expired_seconds_ago=_TOKEN_SECONDS),
                "exchanged_tokens": await exchanged_tokens.expire(tx, limit=_AT_ONCE),
                "sessions": await sessions.sweep(tx, expired_seconds_ago=0.0),
                "password_failures": await password_failures.sweep(tx),
                "chart_origins": await chart_origins.sweep(tx, limit=_AT_ONCE),
                "plans": await plans.expire(tx, limit=_AT_ONCE),
                "verifications": await verifications.expire(tx, limit=_AT_ONCE),
                "webhook_deliveries": await webhook_outbox.expire(
                    tx, ended_seconds_ago=settings.delivery_seconds, limit=_AT_ONCE
                ),
            }
        gone.update(deleted)
        await asyncio.sleep(_PAUSE_SECONDS if any(deleted.values()) else 0)


@asynccontextmanager
async def _turn(database: Database) -> AsyncIterator[Transaction]:
    async with database.transaction() as tx:
        if not await retention.is_ours(tx):
            raise _NotOurs
        yield tx
