"""The outbox: what is told, once it is true, to whom, until it is taken or given up."""

import asyncio
import base64
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pilothouse.auth.sealing import MasterKeys
from pilothouse.services.webhooks import WebhookTarget, seal_target
from pilothouse.settings import ClusterSettings, WebhookSettings
from pilothouse.store import attempts, drift, operations, webhook_outbox, webhooks
from pilothouse.store.database import Database, Transaction
from pilothouse.store.operations import OperationRow
from pilothouse.store.takes import take
from pilothouse.webhook_targets import Targets
from pilothouse.worker.webhooks.deliveries import Deliveries, retry_seconds
from tests.support.fake_api_servers import http, peer, read_request
from tests.support.operations import accept, new_install

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
SETTINGS = WebhookSettings(allow_loopback=True, plain_http=True, answer_seconds=5, poll_seconds=0.05)
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
KEYS = MasterKeys({b"\x00\x00\x00\x01": bytes(32)})


@dataclass
class Receiver:
    """A target; answers with these statuses, then with 200, or never."""

    port: int = 0
    answers: list[str] = field(default_factory=list)
    hangs: bool = False
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.seen]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await read_request(reader)).decode()
        lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
        headers = {name.lower(): value for name, value in lines}
        self.seen.append((headers, await reader.readexactly(int(headers["content-length"]))))
        if self.hangs:
            await reader.read(-1)
        writer.write(http(self.answers.pop(0) if self.answers else "200 OK", b"thanks"))
        await writer.drain()


class Outbox:
    """Two projects with a cluster each, in a database of their own."""

    def __init__(self, database: Database, rows: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.database = database
        self.rows = rows

    async def run(self, statement: str, **parameters: object) -> list[dict[str, Any]]:
        cursor = await self.rows.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []

    async def add_webhook(self, port: int = 1, *, project: str = "p", form: str = "json", **different: Any) -> str:
        webhook_id = str(uuid.uuid4())
        new = webhooks.NewWebhook(
            id=webhook_id,
            project_id=project,
            name=webhook_id,
            origin="http://127.0.0.1",
            format=form,
            events=different.get("events", ["operation.ended", "drift.changed"]),
            target_sealed=seal_target(
                WebhookTarget(f"http://127.0.0.1:{port}/", SECRET), keys=KEYS, webhook_id=webhook_id
            ),
        )
        async with self.database.transaction() as tx:
            assert await webhooks.add(tx, new)
        return webhook_id

    async def messages(self, webhook_id: str) -> list[webhooks.DeliveryRow]:
        async with self.database.autocommit() as connection:
            return await webhooks.list_deliveries(connection, webhook_id, state=None, before=None, limit=100)

    async def accept(self, *, project: str = "p", **different: Any) -> OperationRow:
        usual = {"cluster_id": f"cluster-{project}", "release_name": f"web-{uuid.uuid4().hex[:8]}"}
        return await accept(self.database, new_install(project, "user", **(usual | different)))

    async def end(self, *, project: str = "p", state: str = "succeeded", said: str = "Install complete") -> str:
        """Accept an operation and carry it to its end, as a worker does; return its id."""
        row = await self.accept(project=project)
        async with self.database.autocommit() as connection:
            taken = await take(connection, worker="w:1:1", lease_seconds=60)
            assert taken is not None
            assert taken.row.id == row.id
            await finish(connection, taken.row, state=state, said=said)
        return row.id

    @asynccontextmanager
    async def sending(self, settings: WebhookSettings = SETTINGS, *, workers: int = 1) -> AsyncIterator[None]:
        targets = Targets(settings, ClusterSettings())
        tasks = [asyncio.create_task(Deliveries(self.database, KEYS, targets, settings).run()) for _ in range(workers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - rows set no event
                await asyncio.sleep(0.02)

    async def states(self, webhook_id: str) -> list[str]:
        return [one.state for one in await self.messages(webhook_id)]

    async def until_states(self, webhook_id: str, *states: str) -> None:
        async def reached() -> bool:
            return await self.states(webhook_id) == [*states]

        await self.until(reached)


async def finish(
    tx: Transaction, row: OperationRow, *, state: str = "succeeded", said: str = "Install complete"
) -> None:
    ended = await attempts.finish(
        tx,
        row.id,
        attempt=row.attempt,
        state=state,
        status_description=said,
        revision=1,
        wrote_revision=True,
    )
    assert ended is not None


@pytest.fixture
async def outbox(own_database: Database) -> AsyncIterator[Outbox]:
    async with await psycopg.AsyncConnection.connect(own_database.dsn(), autocommit=True, row_factory=dict_row) as rows:
        found = Outbox(own_database, rows)
        await found.run("INSERT INTO domains (id, name) VALUES ('d', 'd')")
        for project in ("p", "q"):
            await found.run(
                "INSERT INTO projects (id, domain_id, name) VALUES (%(id)s, 'd', %(name)s)",
                id=project,
                name=f"project {project}",
            )
            cluster = {"id": f"cluster-{project}", "project": project, "name": f"prod-{project}"}
            await found.run(
                "INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed)"
                " VALUES (%(id)s, %(project)s, %(name)s, 'https://c', 'x')",
                **cluster,
            )
            await found.run("INSERT INTO cluster_watches (cluster_id) VALUES (%(id)s)", **cluster)
        yield found


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    found = Receiver()
    async with peer(found, tmp_path, tls=False) as port:
        found.port = port
        yield found


async def _finished(outbox: Outbox) -> str:
    return await outbox.end()


async def _cancelled(outbox: Outbox) -> str:
    row = await outbox.accept()
    async with outbox.database.transaction() as tx:
        assert await operations.cancel(tx, row.id, keep=False, underway="being cancelled", ended="cancelled")
    return row.id


async def _overdue(outbox: Outbox) -> str:
    row = await outbox.accept(deadline_seconds=0)
    async with outbox.database.autocommit() as connection:
        assert [one.id for one in await attempts.fail_overdue(connection)] == [row.id]
    return row.id


@pytest.mark.parametrize("end", [_finished, _cancelled, _overdue])
async def test_every_end_is_told_once_whoever_writes_it(outbox: Outbox, end: Callable[[Outbox], Awaitable[str]]):
    told, disabled, other = (
        await outbox.add_webhook(),
        await outbox.add_webhook(),
        await outbox.add_webhook(project="q"),
    )
    drifts = await outbox.add_webhook(events=["drift.changed"])
    async with outbox.database.transaction() as tx:
        await webhooks.set_enabled(tx, disabled, enabled=False)

    operation_id = await end(outbox)

    (message,) = await outbox.messages(told)
    assert (message.event, message.facts, message.state) == (
        "operation.ended",
        {"operation_id": operation_id},
        "pending",
    )
    assert [await outbox.messages(one) for one in (disabled, other, drifts)] == [[], [], []]


async def test_a_disabled_webhook_is_told_nothing_more(outbox: Outbox):
    webhook = await outbox.add_webhook()
    await _cancelled(outbox)
    async with outbox.database.transaction() as tx:
        assert await webhook_outbox.find_due(tx, webhook) is not None
        await webhooks.set_enabled(tx, webhook, enabled=False)
        assert await webhook_outbox.find_due(tx, webhook) is None


async def test_what_is_taken_back_is_not_told_and_what_only_moves_is_no_end(outbox: Outbox):
    webhook = await outbox.add_webhook()
    row = await outbox.accept()
    async with outbox.database.autocommit() as connection:
        taken = await take(connection, worker="w:1:1", lease_seconds=60)
    assert taken is not None

    with suppress(ZeroDivisionError):
        async with outbox.database.transaction() as tx:
            await finish(tx, taken.row)
            raise ZeroDivisionError
    async with outbox.database.transaction() as tx:
        assert await operations.cancel(tx, row.id, keep=False, underway="being cancelled", ended="cancelled")

    assert await outbox.messages(webhook) == []


async def test_a_webhook_that_is_removed_meanwhile_undoes_no_end(outbox: Outbox):
    webhook = await outbox.add_webhook()
    await outbox.accept()
    async with outbox.database.autocommit() as connection:
        taken = await take(connection, worker="w:1:1", lease_seconds=60)
        assert taken is not None
        async with outbox.database.transaction() as tx:
            await webhooks.remove(tx, webhook)
            ending = asyncio.create_task(finish(connection, taken.row))

            async def waits() -> bool:
                return len(await outbox.run(WAITING)) == 1

            await outbox.until(waits)
        await ending
    assert await outbox.run("SELECT * FROM webhook_deliveries") == []
    assert await outbox.run("SELECT state FROM operations") == [{"state": "succeeded"}]


async def test_the_receiver_can_tell_who_sent_it_and_what_happened(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    operation_id = await outbox.end(state="failed", said="timed out, password=hunter2hunter2 token pht-" + "a" * 43)

    async with outbox.sending():
        await outbox.until_states(webhook, "delivered")

    ((headers, body),) = receiver.seen
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    proof = base64.b64encode(hmac.digest(b"k" * 32, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{proof}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    told = receiver.bodies[0]
    (row,) = await outbox.run("SELECT * FROM operations")
    assert told["id"] == headers["webhook-id"]
    assert told["event"] == "operation.ended"
    assert told["project"] == {"id": "p", "name": "project p"}
    assert told["cluster"] == {"id": "cluster-p", "name": "prod-p"}
    assert (told["namespace"], told["release"]) == ("default", row["release_name"])
    assert "pht-aaa" not in body.decode()
    assert told["operation"].pop("description").startswith("timed out, ")
    assert told["operation"] == {
        "id": operation_id,
        "action": "install",
        "state": "failed",
        "revision": 1,
        "chart": {"name": "chart", "version": "1.0.0"},
        "user": {"id": "user", "name": ""},
        "request_id": "request",
        "accepted_at": row["created_at"].isoformat(timespec="milliseconds"),
        "finished_at": row["finished_at"].isoformat(timespec="milliseconds"),
    }
    async with outbox.database.autocommit() as connection:
        (state,) = await webhooks.list_all(connection, "p")
    assert (state.pending, state.failures, state.last_error) == (0, 0, "")
    assert state.delivered_at is not None


async def test_slack_gets_a_line(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port, form="slack")
    await outbox.end(state="failed", said="a <b> & c")
    async with outbox.sending():
        await outbox.until_states(webhook, "delivered")
    (row,) = await outbox.run("SELECT release_name FROM operations")
    expected = f"install of {row['release_name']} (default, cluster prod-p) failed: a &lt;b&gt; &amp; c"
    assert receiver.bodies == [{"text": expected}]


async def test_what_is_not_taken_is_sent_again_and_everybody_can_see_that(outbox: Outbox, receiver: Receiver):
    receiver.answers = ["503 Service Unavailable"]
    webhook = await outbox.add_webhook(receiver.port)
    await outbox.end()

    async def tried() -> bool:
        return (await outbox.messages(webhook))[0].attempts == 1

    async with outbox.sending():
        await outbox.until(tried)
        (message,) = await outbox.messages(webhook)
        assert (message.state, message.status, message.error) == ("pending", 503, "it answered 503")
        assert 3 < (message.due_at - message.created_at).total_seconds() < 60
        async with outbox.database.autocommit() as connection:
            (seen,) = await webhooks.list_all(connection, "p")
        assert (seen.pending, seen.failures, seen.last_error) == (1, 1, "it answered 503")
        await outbox.run("UPDATE webhooks SET not_before = NULL")
        await outbox.run("UPDATE webhook_deliveries SET due_at = clock_timestamp()")
        await outbox.until_states(webhook, "delivered")
    assert [headers["webhook-id"] for headers, _ in receiver.seen] == [str(message.id)] * 2


def test_retries_grow_to_an_hour():
    assert [retry_seconds(failed) for failed in (0, 1, 2, 9, 10, 1000)] == [5, 10, 20, 2560, 3600, 3600]


async def test_it_is_not_tried_for_ever(outbox: Outbox, receiver: Receiver):
    receiver.answers = ["500 Internal Server Error"]
    webhook = await outbox.add_webhook(receiver.port)
    await outbox.end()
    await outbox.run("UPDATE webhook_deliveries SET created_at = created_at - interval '24 hours'")
    async with outbox.sending():
        await outbox.until_states(webhook, "given_up")
    (message,) = await outbox.messages(webhook)
    assert message.ended_at is not None
    async with outbox.database.transaction() as tx:
        assert await webhook_outbox.expire(tx, ended_seconds_ago=3600, limit=10) == 0
        assert await webhook_outbox.expire(tx, ended_seconds_ago=0, limit=10) == 1


async def test_what_had_no_turn_in_its_time_is_given_up(outbox: Outbox):
    """Those of a disabled webhook are never tried, and those of one that takes nothing once a minute."""
    disabled, young = await outbox.add_webhook(), await outbox.add_webhook()
    await outbox.run(
        "INSERT INTO webhook_deliveries (webhook_id, event, facts, created_at)"
        " SELECT %(id)s, 'ping', '{}', clock_timestamp() - make_interval(secs => %(age)s)"
        " FROM generate_series(1, 1500)",
        id=disabled,
        age=SETTINGS.give_up_seconds + 3660,
    )
    await outbox.run(
        "INSERT INTO webhook_deliveries (webhook_id, event, facts, created_at)"
        " SELECT %(id)s, 'ping', '{}', clock_timestamp() - make_interval(secs => %(age)s)",
        id=young,
        age=SETTINGS.give_up_seconds + 60,
    )
    async with outbox.database.transaction() as tx:
        await webhooks.set_enabled(tx, disabled, enabled=False)

    await Deliveries(outbox.database, KEYS, Targets(SETTINGS, ClusterSettings()), SETTINGS).give_up_old()

    counted = await outbox.run("SELECT state, error, count(*) FROM webhook_deliveries GROUP BY 1, 2 ORDER BY 3")
    assert [tuple(row.values()) for row in counted] == [
        ("pending", "", 1),
        ("given_up", "its turn did not come in time", 1500),
    ]
    assert await outbox.states(young) == ["pending"]
    async with outbox.database.transaction() as tx:
        assert await webhook_outbox.expire(tx, ended_seconds_ago=0, limit=2000) == 1500


async def test_webhooks_that_take_everything_leave_a_turn_for_one_that_failed(outbox: Outbox):
    """With two places, and something due to everybody, the third one is next when the others had their turn."""
    for _ in range(3):
        await outbox.add_webhook()
    await outbox.end()
    await outbox.run("UPDATE webhooks SET failures = 1 WHERE id = (SELECT max(id) FROM webhooks)")
    turns = []
    async with outbox.database.autocommit() as connection:
        for _ in range(2):
            held = [await webhook_outbox.take(connection, lease_seconds=60, besides=[]) for _ in range(2)]
            for webhook in held:
                assert webhook is not None
                turns.append((webhook.id, webhook.failures))
                await webhook_outbox.release(connection, webhook)
    assert len(set(turns)) == 3, turns
    assert 1 in [failures for _, failures in turns]


async def test_a_message_that_cannot_be_made_is_noted_and_has_its_pause(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    await outbox.end()
    await outbox.run("UPDATE webhook_deliveries SET facts = '{}'")
    async with outbox.sending():

        async def noted() -> bool:
            return (await outbox.messages(webhook))[0].attempts == 1

        await outbox.until(noted)
    (message,) = await outbox.messages(webhook)
    assert message.state == "pending"
    assert message.error == "the message cannot be made; the log of Pilothouse has the cause"
    assert message.due_at > message.created_at
    assert await outbox.run("SELECT failures, not_before > clock_timestamp() AS pauses FROM webhooks") == [
        {"failures": 1, "pauses": True}
    ]


async def test_several_workers_send_each_message_once_and_in_order(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    ids = [await outbox.end() for _ in range(12)]
    async with outbox.sending(workers=3):
        await outbox.until_states(webhook, *["delivered"] * 12)
    assert [body["operation"]["id"] for body in receiver.bodies] == ids


async def test_what_a_dead_worker_held_is_sent_when_its_lease_ends(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    await outbox.end()
    async with outbox.database.autocommit() as connection:
        assert await webhook_outbox.take(connection, lease_seconds=60, besides=[]) is not None
        assert await webhook_outbox.take(connection, lease_seconds=60, besides=[]) is None
    await outbox.run("UPDATE webhooks SET lease_until = clock_timestamp()")
    async with outbox.sending():
        await outbox.until_states(webhook, "delivered")


async def test_a_target_that_hangs_holds_up_no_other(outbox: Outbox, receiver: Receiver, tmp_path: Path):
    """Of two places, one project takes one at most, however many of its targets hang."""
    silent = Receiver(hangs=True)
    async with peer(silent, tmp_path, tls=False) as port:
        hanging = [await outbox.add_webhook(port) for _ in range(3)]
        other = await outbox.add_webhook(receiver.port, project="q")
        await outbox.end()
        async with outbox.sending(SETTINGS.model_copy(update={"targets": 2, "answer_seconds": 20})):

            async def begun() -> bool:
                return bool(silent.seen)

            await outbox.until(begun)
            await outbox.end(project="q")
            await outbox.until_states(other, "delivered")
            assert [await outbox.states(one) for one in hanging] == [["pending"]] * 3
            assert len(silent.seen) == 1


async def test_a_damaged_target_is_said_and_costs_only_itself(outbox: Outbox, receiver: Receiver):
    damaged, whole = await outbox.add_webhook(receiver.port), await outbox.add_webhook(receiver.port)
    await outbox.run("UPDATE webhooks SET target_sealed = 'x' WHERE id = %(id)s", id=damaged)
    await outbox.end()
    async with outbox.sending():
        await outbox.until_states(whole, "delivered")

        async def noticed() -> bool:
            return (await outbox.messages(damaged))[0].attempts == 1

        await outbox.until(noticed)
    (message,) = await outbox.messages(damaged)
    assert message.error == "its target cannot be read; remove the webhook, and create it again"


async def test_an_operation_that_is_gone_ends_its_message(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    await outbox.end()
    await outbox.run("DELETE FROM operations")
    async with outbox.sending():
        await outbox.until_states(webhook, "given_up")
    assert receiver.seen == []


async def test_drift_is_told_when_it_begins_and_ends(outbox: Outbox, receiver: Receiver):
    webhook = await outbox.add_webhook(receiver.port)
    for changed in (0, 2, 3, 0):
        async with outbox.database.autocommit() as connection:
            await drift.record_look(
                connection,
                "cluster-p",
                namespace="shop",
                name="web",
                revision=4,
                found={"added": 0, "changed": changed, "removed": 0, "unknown": 1},
            )
    async with outbox.sending():
        await outbox.until_states(webhook, "delivered", "delivered")
    first, second = receiver.bodies
    assert first["event"] == "drift.changed"
    assert (first["cluster"], first["namespace"], first["release"]) == (
        {"id": "cluster-p", "name": "prod-p"},
        "shop",
        "web",
    )
    assert first["drift"] == {
        "drifted": True,
        "revision": 4,
        "added": 0,
        "changed": 2,
        "removed": 0,
        "unknown": 1,
    }
    assert (second["drift"]["drifted"], second["drift"]["changed"]) == (False, 0)
