"""Reads of operations: requests, progress, and events."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from pilothouse.errors import NotFound
from pilothouse.kubernetes.kubeconfig import api_server
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.logs import sees_logs, without_logs
from pilothouse.services.operations.notifications import Notifications
from pilothouse.states import LIVING_STATES, OperationState
from pilothouse.store import evidence
from pilothouse.store import operation_events as events
from pilothouse.store import operations as store
from pilothouse.store.database import Database, Transaction
from pilothouse.store.evidence import EvidenceRow
from pilothouse.store.operation_events import EventRow
from pilothouse.store.operations import OperationRow
from pilothouse.store.registrations import list_registrations

_PAGE = 500
#: How long a follower hears nothing before it is shown that the connection lives.
_QUIET_SECONDS = 15.0


@dataclass(frozen=True)
class OperationPage:
    """A page of a list, newest first; ``next`` is where the next page begins, None at the end."""

    operations: list[OperationRow]
    next: tuple[datetime, str] | None


@dataclass(frozen=True)
class OperationNews:
    """What has happened to an operation, and what it is now, or was just before."""

    row: OperationRow
    events: list[EventRow]


class Operations:
    """Show the operations of a project."""

    def __init__(self, database: Database, notifications: Notifications, standing: Standing) -> None:
        self._database = database
        self._notifications = notifications
        self._standing = standing

    async def list_operations(
        self,
        caller: Caller,
        *,
        cluster_id: str | None,
        namespace: str | None,
        release_name: str | None,
        state: str | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> OperationPage:
        """Return the project's matching operations that the caller may list, newest first."""
        caller.require_somewhere("cce:operation:list")
        async with self._database.autocommit() as connection:
            every = partial(store.list_places, connection, project_id=caller.project_id)
            places = await caller.limited_to("cce:operation:list", every)
            rows = await store.list_operations(
                connection,
                project_id=caller.project_id,
                cluster_id=cluster_id,
                namespace=namespace,
                release_name=release_name,
                state=state,
                places=places,
                before=before,
                limit=limit + 1,
            )
        last = rows[limit - 1] if len(rows) > limit else None
        return OperationPage(rows[:limit], (last.created_at, last.id) if last is not None else None)

    async def list_of_release(
        self, caller: Caller, *, cluster_id: str, namespace: str, release_name: str, limit: int
    ) -> list[OperationRow]:
        """Return the release's operations that the caller may see, newest first.

        Those through other registrations of its cluster in the caller's project are among them.
        """
        caller.require_somewhere("cce:operation:list")
        async with self._database.autocommit() as connection:
            others = await list_registrations(
                connection, cluster_id, address_of=api_server, project_id=caller.project_id
            )
        seen = [
            registration.id for registration in others if caller.at(registration.id, namespace).may("cce:release:get")
        ]
        found: list[OperationRow] = []
        for each in (cluster_id, *seen):
            page = await self.list_operations(
                caller,
                cluster_id=each,
                namespace=namespace,
                release_name=release_name,
                state=None,
                before=None,
                limit=limit,
            )
            found += page.operations
        return sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)[:limit]

    async def count_before(self, caller: Caller, rows: Sequence[OperationRow]) -> dict[str, int]:
        """Return how many operations, of whatever project, come before each of these that waits for its turn."""
        caller.require_somewhere("cce:operation:list")
        waiting = [row.id for row in rows if row.state == OperationState.QUEUED and row.project_id == caller.project_id]
        if not waiting:
            return {}
        async with self._database.autocommit() as connection:
            return await store.count_before(connection, waiting)

    async def list_progress(self, caller: Caller, rows: Sequence[OperationRow]) -> dict[str, str]:
        """Return what each of these operations that runs does now, by its id; without those that it may not follow."""
        running = [row.id for row in rows if row.state == OperationState.RUNNING and _may_follow(caller, row)]
        if not running:
            return {}
        caller.require_somewhere("cce:operation:get")
        async with self._database.autocommit() as connection:
            return await events.list_progress(connection, running)

    async def count_states(self, caller: Caller, *, release_name: str | None) -> dict[str, int]:
        """Return how many of the operations that the caller may list have each state."""
        caller.require_somewhere("cce:operation:list")
        async with self._database.autocommit() as connection:
            found = await store.count_states(connection, project_id=caller.project_id, release_name=release_name)
        counts: Counter[str] = Counter()
        for cluster_id, namespace, state, count in found:
            if caller.at(cluster_id, namespace).may("cce:operation:list"):
                counts[state] += count
        return counts

    async def name_users(self, caller: Caller, rows: Sequence[OperationRow]) -> dict[str, str]:
        """Return the names of who ordered these operations of the project, by id; without users who are gone."""
        caller.require_somewhere("cce:operation:list")
        ids = {row.user_id for row in rows if row.project_id == caller.project_id}
        async with self._database.autocommit() as connection:
            return await store.list_user_names(connection, ids)

    async def count_workers(self, caller: Caller) -> int:
        """Return how many worker processes are alive and reach the database, whether they work or wait."""
        caller.require_somewhere("cce:operation:list")
        async with self._database.autocommit() as connection:
            return await store.count_workers(connection)

    async def show(self, caller: Caller, operation_id: str) -> OperationRow:
        """Return one operation of the project, else raise NotFound."""
        caller.require_somewhere("cce:operation:get")
        async with self._database.autocommit() as connection:
            return await _find(connection, caller, operation_id)

    async def list_events(self, caller: Caller, operation_id: str, *, after: int = 0) -> list[EventRow]:
        """Return the events after that id, oldest first, at most 500 at a time; logs to those who may read them."""
        caller.require_somewhere("cce:operation:get")
        logs = sees_logs(caller, await self.show(caller, operation_id))
        async with self._database.autocommit() as connection:
            return await events.list_events(connection, operation_id, after=after, limit=_PAGE, logs=logs)

    async def list_newest_events(
        self, caller: Caller, operation_id: str, *, limit: int, most_logs: int
    ) -> list[EventRow]:
        """Return the operation's newest events, oldest first: so many with lines of logs, and so many others.

        Logs are for those who may read them.
        """
        caller.require_somewhere("cce:operation:get")
        most_logs = most_logs if sees_logs(caller, await self.show(caller, operation_id)) else 0
        async with self._database.autocommit() as connection:
            return await events.list_newest_events(connection, operation_id, limit=limit, most_logs=most_logs)

    async def list_evidence(self, caller: Caller, operation_id: str) -> list[EvidenceRow]:
        """Return the evidence of the operation's failed attempts, oldest first; logs to those who may read them."""
        row = await self.show(caller, operation_id)
        async with self._database.autocommit() as connection:
            found = await evidence.list_evidence(connection, operation_id)
        return found if sees_logs(caller, row) else [replace(kept, found=without_logs(kept.found)) for kept in found]

    async def follow(self, caller: Caller, operation_id: str, *, after: int = 0) -> AsyncIterator[EventRow | None]:
        """Yield every event of ``follow_together`` by itself; None means that nothing has happened."""
        caller.require_somewhere("cce:operation:get")
        async for news in self.follow_together(caller, operation_id, after=after):
            for event in news.events:
                yield event
            if not news.events:
                yield None

    async def follow_together(
        self, caller: Caller, operation_id: str, *, after: int = 0
    ) -> AsyncIterator[OperationNews]:
        """Yield the events after that id as they happen, until the operation is final and all events are sent.

        Those that happen while the last ones are handled come together; none at all, now and then, means that nothing
        has happened. A client that reconnects with the last id misses nothing, on any replica. The caller's rights are
        checked again every few seconds: NotAuthenticated, Forbidden or NotFound ends it.
        """
        caller.require_somewhere("cce:operation:get")
        last_sent = time.monotonic()
        with self._notifications.subscribe(events.event_key(operation_id)) as changed:
            while True:
                changed.clear()  # before the look: what comes after it was begun wakes us up
                caller = await self._standing.ask(caller, after_seconds=self._standing.again_seconds)
                async with self._database.autocommit() as connection:
                    # The state is read before the events: what ended the operation is then among them.
                    row = await _find(connection, caller, operation_id)
                    found = await events.list_events(
                        connection, operation_id, after=after, limit=_PAGE, logs=sees_logs(caller, row)
                    )
                if found:
                    after, last_sent = found[-1].id, time.monotonic()
                    yield OperationNews(row, found)
                if len(found) == _PAGE:
                    continue
                if row.state not in LIVING_STATES or self._notifications.closed:
                    return
                if time.monotonic() - last_sent >= _QUIET_SECONDS:
                    last_sent = time.monotonic()
                    yield OperationNews(row, [])
                await self._notifications.wait(changed)


def _may_follow(caller: Caller, row: OperationRow) -> bool:
    return row.project_id == caller.project_id and caller.at(row.cluster_id, row.namespace).may("cce:operation:get")


async def _find(tx: Transaction, caller: Caller, operation_id: str) -> OperationRow:
    row = await store.find_operation(tx, operation_id)
    if row is None or row.project_id != caller.project_id:
        raise NotFound(f"operation {operation_id!r} does not exist in this project")
    caller.at(row.cluster_id, row.namespace).require("cce:operation:get")
    return row
