"""Takes accepted operations, holds each under a lease, and writes how it ended.

A worker that dies simply stops renewing; any worker's sweep then puts its operations back. SIGTERM: nothing new
is taken, running work may finish for a while, and what is left is handed back, which counts as no crash.
"""

import asyncio
import os
import socket
from datetime import UTC, datetime

import structlog

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.errors import ClusterUnavailable, DatabaseUnavailable, PilothouseError
from pilothouse.queue import Queue
from pilothouse.settings import Settings
from pilothouse.store import operations
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from pilothouse.worker.archives import collect_archives
from pilothouse.worker.installs import Installs, Outcome
from pilothouse.worker.lease import Lease
from pilothouse.worker.records import Records

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0


class Runner:
    """One worker process: as many slots as engine children, one sweep, one listener."""

    def __init__(
        self, database: Database, queue: Queue, installs: Installs, records: Records, settings: Settings
    ) -> None:
        self._database = database
        self._queue = queue
        self._installs = installs
        self._records = records
        self._settings = settings.worker
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop`` is set and the running operations have ended or were handed back."""
        helpers = [
            asyncio.create_task(self._queue.listen()),
            asyncio.create_task(self._sweep()),
            asyncio.create_task(collect_archives(self._database, self._settings)),
        ]
        slots = [asyncio.create_task(self._work(slot, stop)) for slot in range(self._settings.operations)]
        log.info("worker_started", worker=self._name, slots=len(slots))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *slots, *helpers], return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                raise RuntimeError("a part of the worker ended by itself") from _first_error([*slots, *helpers])
            _, late = await asyncio.wait(slots, timeout=self._settings.drain_seconds)
            if late:
                log.warning("drain_ended", handed_back=len(late))
        finally:
            for task in [*slots, *helpers, stopping]:
                task.cancel()
            await asyncio.gather(*slots, *helpers, stopping, return_exceptions=True)
        log.info("worker_stopped", worker=self._name)

    async def _work(self, slot: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                row = await self._queue.take(worker=f"{self._name}:{slot}", lease_seconds=self._settings.lease_seconds)
                if row is None:
                    await self._queue.wait()
                else:
                    await self._carry_out(row)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", cause=str(error))
                await asyncio.sleep(self._settings.poll_seconds)

    async def _carry_out(self, row: OperationRow) -> None:
        fence = Fence(boottime() + self._settings.fence_seconds)
        with Lease(
            self._database,
            self._settings,
            row.id,
            attempt=row.attempt,
            on_renewed=lambda seconds: fence.extend(boottime() + seconds),
            on_lost=fence.kill,
        ) as lease:
            try:
                outcome = await self._attempt(row, fence)
            except asyncio.CancelledError:
                await asyncio.shield(self._give_back(row, "handed back: the worker stops"))
                raise
            if lease.lost:
                log.warning("attempt_abandoned", operation_id=row.id, attempt=row.attempt)
                return
            await self._conclude(row, outcome)

    async def _attempt(self, row: OperationRow, fence: Fence) -> Outcome:
        left = row.deadline_seconds - (datetime.now(UTC) - row.created_at).total_seconds()
        log.info("operation_started", operation_id=row.id, attempt=row.attempt, action=row.action)
        hopeless = ""
        if row.crashes >= self._settings.attempts:
            hopeless = f"gave up after {row.crashes} attempts: {row.last_error}"
        elif left <= 0:
            hopeless = f"timed out after {row.deadline_seconds} s"
        try:
            if hopeless:
                return await self._installs.give_up(row, text=hopeless)
            return await self._installs.attempt(row, fence=fence, seconds=left)
        except ClusterUnavailable as error:
            final = left <= _RETRY_SECONDS
            return Outcome("failed" if final else "retry", hopeless or str(error))
        except DatabaseUnavailable:
            raise
        except PilothouseError as error:
            return Outcome("failed", str(error))
        except Exception:
            log.exception("attempt_failed", operation_id=row.id, attempt=row.attempt)
            return Outcome("crashed", "an error inside Pilothouse; the server's log has it under this operation's id")

    async def _conclude(self, row: OperationRow, outcome: Outcome) -> None:
        if outcome.state in {"retry", "crashed"}:
            log.warning("operation_put_back", operation_id=row.id, why=outcome.state, cause=outcome.text)
            await self._give_back(row, outcome.text, crashed=outcome.state == "crashed", after=_RETRY_SECONDS)
            return
        seen = await self._records.look(row, secret=outcome.secret, gone=outcome.gone)
        async with self._database.transaction() as tx:
            written = await operations.finish(
                tx,
                row.id,
                attempt=row.attempt,
                state=outcome.state,
                status_description=outcome.text,
                revision=outcome.revision,
                wrote_release=outcome.wrote_release,
            )
            if written:
                await self._records.write(tx, row, seen)
        log.info(
            "operation_ended" if written else "outcome_not_ours",
            operation_id=row.id,
            attempt=row.attempt,
            state=outcome.state,
        )

    async def _give_back(self, row: OperationRow, why: str, *, crashed: bool = False, after: float = 0.0) -> None:
        async with self._database.transaction() as tx:
            await operations.give_back(
                tx, row.id, attempt=row.attempt, last_error=why, crashed=crashed, retry_seconds=after
            )

    async def _sweep(self) -> None:
        """Puts the operations of dead workers back, every second, in every worker."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    lapsed = await operations.requeue_lapsed(tx, margin_seconds=self._settings.lease_margin_seconds)
                for operation_id in lapsed:
                    log.warning("lease_lapsed", operation_id=operation_id)
            except DatabaseUnavailable as error:
                log.warning("sweep_failed", cause=str(error))
            await asyncio.sleep(1.0)


def _first_error(tasks: list["asyncio.Task[None]"]) -> BaseException | None:
    errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    return next((error for error in errors if error is not None), None)
