"""Sends what webhooks are to be told: at least once, again at growing intervals if it was not taken, and not for ever.

Every worker does it, and none leads: a webhook is one worker's at a time, by a lease in its row. If a worker dies with
one, another begins with the same message again. Messages to one webhook are sent one after the other, in their order as
long as it takes them.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import orjson
import structlog

from pilothouse import __version__
from pilothouse.auth.sealing import MasterKeys
from pilothouse.auth.webhook_signing import signed_headers
from pilothouse.errors import DamagedRow, DatabaseUnavailable
from pilothouse.metrics import WEBHOOK_DELIVERIES
from pilothouse.services.webhooks import open_target
from pilothouse.settings import WebhookSettings
from pilothouse.states import WebhookEvent
from pilothouse.store import webhook_outbox as store
from pilothouse.store.database import Database
from pilothouse.store.webhook_outbox import DueMessage, TakenWebhook
from pilothouse.webhook_targets import Reply, Targets
from pilothouse.worker.periodic import keep_doing
from pilothouse.worker.webhooks.messages import DriftFacts, Facts, message

log = structlog.get_logger(__name__)

#: Nothing is begun under a lease after so long, and what was begun has ended before it does.
_TURN_SECONDS: Final = 10.0
_LEASE_SECONDS: Final = 60.0
_FIRST_RETRY_SECONDS: Final = 5.0
_LONGEST_RETRY_SECONDS: Final = 3600.0
#: Of a webhook that does not take one message, the next one is tried after so long at the latest.
_LONGEST_PAUSE_SECONDS: Final = 60.0
_MOST_DOUBLINGS: Final = 20
_SWEEP_SECONDS: Final = 600.0
_AT_ONCE: Final = 1000
_NOT_MADE: Final = "the message cannot be made; the log of Pilothouse has the cause"


class Deliveries:
    """Send messages until cancelled."""

    def __init__(self, database: Database, keys: MasterKeys, targets: Targets, settings: WebhookSettings) -> None:
        self._database = database
        self._keys = keys
        self._targets = targets
        self._settings = settings
        self._most_of_project = max(1, settings.targets // 2)
        self._projects: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look for what is due every ``poll_seconds``; no failure ends it."""
        giving_up = asyncio.create_task(
            keep_doing(self.give_up_old, every_seconds=_SWEEP_SECONDS, failure="old_messages_not_given_up")
        )
        try:
            while True:
                try:
                    while len(self._running) < self._settings.targets and await self._begin():
                        pass
                except DatabaseUnavailable as error:
                    log.warning("webhooks_not_looked_at", cause=str(error))
                except Exception:
                    log.exception("webhooks_not_looked_at")
                await asyncio.sleep(self._settings.poll_seconds)
        finally:
            tasks = [giving_up, *self._running]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def give_up_old(self) -> None:
        """Give up what had no turn in all its time: its webhook is disabled, or takes nothing."""
        number = _AT_ONCE
        while number == _AT_ONCE:
            async with self._database.autocommit() as connection:
                number = await store.give_up(
                    connection, older_seconds=self._settings.give_up_seconds + _LONGEST_RETRY_SECONDS, limit=_AT_ONCE
                )
            WEBHOOK_DELIVERIES.labels("given up").inc(number)
            await asyncio.sleep(0)

    async def _begin(self) -> bool:
        """Begin with a webhook that has something due; return False if there is none."""
        busy = [project for project, number in self._projects.items() if number >= self._most_of_project]
        async with self._database.autocommit() as connection:
            webhook = await store.take(connection, lease_seconds=_LEASE_SECONDS, besides=busy)
        if webhook is None:
            return False
        self._projects[webhook.project_id] += 1
        task = asyncio.create_task(self._serve(webhook))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    async def _serve(self, webhook: TakenWebhook) -> None:
        """Send what is due to one webhook until it does not take one, or others are to have their turn."""
        until = time.monotonic() + _TURN_SECONDS
        try:
            while time.monotonic() < until:
                async with self._database.autocommit() as connection:
                    due = await store.find_due(connection, webhook.id)
                if due is None or not await self._send(webhook, due):
                    break
        except DatabaseUnavailable as error:
            log.warning("webhook_not_served", webhook_id=webhook.id, cause=str(error))
        except Exception:
            log.exception("webhook_not_served", webhook_id=webhook.id)
        finally:
            self._projects[webhook.project_id] -= 1
            self._projects += Counter()  # without those that have none
            with suppress(DatabaseUnavailable):  # then the lease ends by itself
                async with self._database.autocommit() as connection:
                    await store.release(connection, webhook)

    async def _send(self, webhook: TakenWebhook, due: DueMessage) -> bool:
        """Send one message and store what came of it; return True if it was taken."""
        try:
            return await self._make_and_send(webhook, due)
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("webhook_message_not_made", webhook_id=webhook.id, message_id=due.id)
            await self._note(webhook, due, Reply(None, _NOT_MADE))
            return False

    async def _make_and_send(self, webhook: TakenWebhook, due: DueMessage) -> bool:
        facts = await self._facts(webhook, due)
        if facts is None and due.event != WebhookEvent.PING:
            gone = Reply(None, "the operation was deleted, as it ended so long ago")
            await self._note(webhook, due, gone, again=False)
            return True
        try:
            target = open_target(webhook.target_sealed, keys=self._keys, webhook_id=webhook.id)
        except DamagedRow as error:
            await self._note(webhook, due, Reply(None, str(error)))
            return False
        body = orjson.dumps(message(due, facts, form=webhook.format))
        headers = {
            "content-type": "application/json",
            "user-agent": f"Pilothouse/{__version__}",
            **signed_headers(target.secret, body, message_id=str(due.id), timestamp=int(time.time())),
        }
        reply = await self._targets.post(target.url, body, headers, project=webhook.project_id)
        await self._note(webhook, due, reply)
        return not reply.problem

    async def _facts(self, webhook: TakenWebhook, due: DueMessage) -> Facts:
        async with self._database.autocommit() as connection:
            if due.event == WebhookEvent.OPERATION_ENDED:
                return await store.find_ended(connection, due.facts["operation_id"])
            if due.event == WebhookEvent.DRIFT_CHANGED:
                cluster, project = await store.find_names(
                    connection, cluster_id=due.facts["cluster_id"], project_id=webhook.project_id
                )
                return DriftFacts(due.facts, cluster, webhook.project_id, project)
        return None

    async def _note(self, webhook: TakenWebhook, due: DueMessage, reply: Reply, *, again: bool = True) -> None:
        if not reply.problem and reply.status is not None:
            WEBHOOK_DELIVERIES.labels("delivered").inc()
            async with self._database.autocommit() as connection:
                await store.note_delivered(connection, webhook.id, due.id, status=reply.status)
            return
        retry = retry_seconds(due.attempts)
        age = (datetime.now(UTC) - due.created_at).total_seconds()
        again = again and age + retry <= self._settings.give_up_seconds
        WEBHOOK_DELIVERIES.labels("postponed" if again else "given up").inc()
        log.warning(
            "webhook_not_taken" if again else "webhook_given_up",
            webhook_id=webhook.id,
            message_id=due.id,
            attempt=due.attempts + 1,
            cause=reply.problem,
            detail=reply.detail,
        )
        async with self._database.autocommit() as connection:
            await store.note_failure(
                connection,
                webhook.id,
                due.id,
                status=reply.status,
                error=reply.problem,
                retry_seconds=retry if again else None,
                pause_seconds=min(retry_seconds(webhook.failures), _LONGEST_PAUSE_SECONDS),
            )


def retry_seconds(failed: int) -> float:
    """Return the delay after a failed attempt that follows so many others: 5 s, doubled each time, an hour at most."""
    return float(min(_FIRST_RETRY_SECONDS * 2 ** min(failed, _MOST_DOUBLINGS), _LONGEST_RETRY_SECONDS))
