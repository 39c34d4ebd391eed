"""Reads of operations: requests, progress, and events."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from pilothouse.errors import NotFound
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.notifications import Notifications
from pilothouse.states import LIVING_STATES
from pilothouse.store import evidence
from pilothouse.store import operation_events as events
from pilothouse.store import operations as store
from pilothouse.store.database import Database
from pilothouse.store.evidence import EvidenceRow
from pilothouse.store.operation_events import EventRow
from pilothouse.store.operations import OperationRow

_PAGE = 500
#: How long a follower hears nothing before it is shown that the connection lives.
_QUIET_SECONDS = 15.0


@dataclass(frozen=True)
class OperationPage:
    """A page of a list, newest first; ``next`` is where the next page begins, None at the end."""

    operations: list[OperationRow]
    next: tuple[datetime, str] | None


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
        """Return the project's matching operations, newest first."""
        caller.require("cce:operation:list")
        async with self._database.autocommit() as connection:
            rows = await store.list_operations(
                connection,
                project_id=caller.project_id,
                cluster_id=cluster_id,
                namespace=namespace,
                release_name=release_name,
                state=state,
                before=before,
                limit=limit + 1,
            )
        last = rows[limit - 1] if len(rows) > limit else None
        return OperationPage(rows[:limit], (last.created_at, last.id) if last is not None else None)

    async def show(self, caller: Caller, operation_id: str) -> OperationRow:
        """Return one operation of the project, else raise NotFound."""
        caller.require("cce:operation:get")
        async with self._database.autocommit() as connection:
            row = await store.find_operation(connection, operation_id)
        if row is None or row.project_id != caller.project_id:
            raise NotFound(f"operation {operation_id!r} does not exist in this project")
        return row

    async def list_events(self, caller: Caller, operation_id: str, *, after: int = 0) -> list[EventRow]:
        """Return the events after that id, oldest first, at most 500 at a time."""
        caller.require("cce:operation:get")
        await self.show(caller, operation_id)
        async with self._database.autocommit() as connection:
            return await events.list_events(connection, operation_id, after=after, limit=_PAGE)

    async def list_evidence(self, caller: Caller, operation_id: str) -> list[EvidenceRow]:
        """Return the evidence of the operation's failed attempts, oldest first."""
        await self.show(caller, operation_id)
        async with self._database.autocommit() as connection:
            return await evidence.list_evidence(connection, operation_id)

    async def follow(self, caller: Caller, operation_id: str, *, after: int = 0) -> AsyncIterator[EventRow | None]:
        """Yield every event after that id as it happens, until the operation is final and all events are sent.

        None now and then means that nothing has happened. A client that reconnects with the last id misses nothing, on
        any replica. The caller's rights are checked again every few seconds: NotAuthenticated, Forbidden or NotFound
        ends it.
        """
        caller.require("cce:operation:get")
        last_sent = time.monotonic()
        with self._notifications.subscribe(events.event_key(operation_id)) as news:
            while True:
                news.clear()  # before the look: what comes after it was begun wakes us up
                caller = await self._standing.require(
                    caller, "cce:operation:get", after_seconds=self._standing.again_seconds
                )
                # The state is read before the events: what ended the operation is then among them.
                row = await self.show(caller, operation_id)
                found = await self.list_events(caller, operation_id, after=after)
                for event in found:
                    after, last_sent = event.id, time.monotonic()
                    yield event
                if len(found) == _PAGE:
                    continue
                if row.state not in LIVING_STATES or self._notifications.closed:
                    return
                if time.monotonic() - last_sent >= _QUIET_SECONDS:
                    last_sent = time.monotonic()
                    yield None
                await self._notifications.wait(news)
