"""Webhooks of a project: made, listed, tried out, removed; and what became of messages to them."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pilothouse.auth.sealing import MasterKeys
from pilothouse.auth.webhook_signing import new_secret
from pilothouse.errors import (
    AlreadyExists,
    DamagedRow,
    DecryptionFailed,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
)
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.settings import WebhookSettings
from pilothouse.states import DeliveryState, WebhookEvent, WebhookFormat
from pilothouse.store import audit
from pilothouse.store import webhooks as store
from pilothouse.store.clusters import lock_project
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.webhooks import DeliveryRow, NewWebhook, WebhookRow
from pilothouse.webhook_targets import Targets

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,62}[a-z0-9])?")
#: With so many messages before it, a ping would tell nothing soon.
_MOST_PENDING: Final = 100
#: What can be asked for; a ping is sent to whoever asks for one.
TOLD: Final = (WebhookEvent.OPERATION_ENDED, WebhookEvent.DRIFT_CHANGED)


class WebhookTarget(msgspec.Struct):
    """Where messages go and what signs them; both are secrets."""

    url: str
    secret: str

    def __repr__(self) -> str:
        """Return no secret."""
        return "WebhookTarget()"


@dataclass(frozen=True)
class CreatedWebhook:
    """A new webhook; its secret is shown only now."""

    webhook: WebhookRow
    secret: str = field(repr=False)


@dataclass(frozen=True)
class DeliveryPage:
    """Messages, newest first, and the id before which the next page begins; None at the end."""

    rows: list[DeliveryRow]
    next: int | None


class Webhooks:
    """Manage the webhooks of a project."""

    def __init__(self, database: Database, keys: MasterKeys, targets: Targets, settings: WebhookSettings) -> None:
        self._database = database
        self._keys = keys
        self._targets = targets
        self._settings = settings

    async def create(
        self,
        caller: Caller,
        *,
        name: str,
        url: str,
        events: Sequence[WebhookEvent],
        format_: WebhookFormat,
        request_id: str,
    ) -> CreatedWebhook:
        """Store a webhook; raise InvalidRequest, AlreadyExists or QuotaExceeded."""
        caller.require("cce:webhook:create")
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"name: {name!a} is not a webhook's name: a lower-case letter, then lower-case letters, digits and "
                "'-', ending in a letter or digit, at most 64 characters"
            )
        wanted = [event for event in TOLD if event in events]
        if not wanted or len(wanted) != len(events):
            raise InvalidArgument(f"events: one or more of {', '.join(TOLD)}, each once")
        origin = self._targets.check(url)
        webhook_id, secret = str(uuid.uuid4()), new_secret()
        new = NewWebhook(
            id=webhook_id,
            project_id=caller.project_id,
            name=name,
            origin=origin,
            format=format_,
            events=[str(event) for event in wanted],
            target_sealed=seal_target(WebhookTarget(url, secret), keys=self._keys, webhook_id=webhook_id),
        )
        async with self._database.transaction() as tx:
            await lock_project(tx, caller.project_id)
            if await store.count(tx, caller.project_id) >= self._settings.per_project:
                raise QuotaExceeded(
                    f"this project has {self._settings.per_project} webhooks, the limit "
                    "(PILOTHOUSE_WEBHOOKS__PER_PROJECT); remove one first"
                )
            if not await store.add(tx, new):
                raise AlreadyExists(f"name: this project already has a webhook named {name!r}")
            await require_still(tx, caller, "cce:webhook:create")
            await audit.record(
                tx, caller, "cce:webhook:create", target=webhook_id, target_name=name, request_id=request_id
            )
            row = await self._find(tx, caller, webhook_id)
        return CreatedWebhook(row, secret)

    async def list_all(self, caller: Caller) -> list[WebhookRow]:
        """Return the project's webhooks, by name."""
        caller.require("cce:webhook:list")
        async with self._database.autocommit() as connection:
            return await store.list_all(connection, caller.project_id)

    async def show(self, caller: Caller, webhook_id: str) -> WebhookRow:
        """Return one webhook of the project, else raise NotFound."""
        caller.require("cce:webhook:get")
        async with self._database.autocommit() as connection:
            return await self._find(connection, caller, webhook_id)

    async def list_deliveries(
        self, caller: Caller, webhook_id: str, *, state: DeliveryState | None, before: int | None, limit: int
    ) -> DeliveryPage:
        """Return messages to the webhook; raise NotFound."""
        caller.require("cce:webhook:get")
        async with self._database.autocommit() as connection:
            await self._find(connection, caller, webhook_id)
            rows = await store.list_deliveries(connection, webhook_id, state=state, before=before, limit=limit + 1)
        return DeliveryPage(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)

    @retry_conflicts
    async def set_enabled(self, caller: Caller, webhook_id: str, *, enabled: bool, request_id: str) -> WebhookRow:
        """Enable or disable the webhook: what happens while it is disabled is never told."""
        caller.require("cce:webhook:update")
        async with self._database.transaction() as tx:
            await require_still(tx, caller, "cce:webhook:update")
            row = await self._find(tx, caller, webhook_id)
            await store.set_enabled(tx, webhook_id, enabled=enabled)
            await _record_update(tx, caller, row, "enable" if enabled else "disable", request_id)
            return await self._find(tx, caller, webhook_id)

    async def ping(self, caller: Caller, webhook_id: str, *, request_id: str) -> int:
        """Queue a message that tells nothing but that the webhook works; return its id.

        Raises InvalidRequest if the webhook is disabled, QuotaExceeded if too much waits for it.
        """
        caller.require("cce:webhook:update")
        async with self._database.transaction() as tx:
            await require_still(tx, caller, "cce:webhook:update")
            row = await self._find(tx, caller, webhook_id)
            if not row.enabled:
                raise InvalidRequest(f"webhook {row.name!r} is disabled; enable it to have it told something")
            if row.pending >= _MOST_PENDING:
                raise QuotaExceeded(
                    f"{row.pending} messages wait for webhook {row.name!r}; there is a ping while there are fewer than "
                    f"{_MOST_PENDING}"
                )
            await _record_update(tx, caller, row, "ping", request_id)
            return await store.add_ping(tx, webhook_id, event=WebhookEvent.PING)

    @retry_conflicts
    async def remove(self, caller: Caller, webhook_id: str, *, request_id: str) -> None:
        """Delete the webhook; what it was not told yet is not told."""
        caller.require("cce:webhook:delete")
        async with self._database.transaction() as tx:
            await require_still(tx, caller, "cce:webhook:delete")
            row = await self._find(tx, caller, webhook_id)
            await store.remove(tx, webhook_id)
            await audit.record(
                tx, caller, "cce:webhook:delete", target=webhook_id, target_name=row.name, request_id=request_id
            )

    async def _find(self, tx: Transaction, caller: Caller, webhook_id: str) -> WebhookRow:
        row = await store.find(tx, webhook_id, project_id=caller.project_id)
        if row is None:
            raise NotFound(f"webhook {webhook_id!r} does not exist in this project")
        return row


def seal_target(target: WebhookTarget, *, keys: MasterKeys, webhook_id: str) -> bytes:
    """Return the sealed target; it opens for this webhook only."""
    return keys.seal(msgspec.json.encode(target), context=_context(webhook_id))


def open_target(sealed: bytes, *, keys: MasterKeys, webhook_id: str) -> WebhookTarget:
    """Return the target of the webhook; raise DamagedRow for another's, or a damaged one."""
    try:
        return msgspec.json.decode(keys.unseal(sealed, context=_context(webhook_id)), type=WebhookTarget)
    except (DecryptionFailed, msgspec.DecodeError) as error:
        raise DamagedRow("its target cannot be read; remove the webhook, and create it again") from error


def _context(webhook_id: str) -> str:
    return f"webhook:{webhook_id}"


async def _record_update(tx: Transaction, caller: Caller, row: WebhookRow, detail: str, request_id: str) -> None:
    await audit.record(
        tx, caller, "cce:webhook:update", target=row.id, target_name=row.name, detail=detail, request_id=request_id
    )
