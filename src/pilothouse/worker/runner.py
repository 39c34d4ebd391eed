"""Takes accepted operations, holds each under a lease, and writes the outcome.

A worker that dies simply stops renewing; any worker's sweep then requeues its operations. On SIGTERM, no new operation
is taken, running ones may finish for a while, and the rest is handed back, which does not count as a crash.
"""

import asyncio
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import structlog

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.errors import ClusterUnavailable, DatabaseUnavailable, PilothouseError
from pilothouse.metrics import ATTEMPTS, QUEUE_SECONDS, WORKER_OPERATIONS, WORKER_SLOTS
from pilothouse.queue import Queue
from pilothouse.services.operations.ends import report_end
from pilothouse.settings import Settings
from pilothouse.states import OperationState
from pilothouse.store import attempts, operation_events, operations, repairs
from pilothouse.store.database import Database, retry_conflicts
from pilothouse.store.operations import EndedOperation, OperationRow
from pilothouse.worker.actions.registry import Actions
from pilothouse.worker.index_writer import IndexWriter, RecordedState
from pilothouse.worker.lease import Lease
from pilothouse.worker.maintenance.archives import collect_archives
from pilothouse.worker.maintenance.repairs import Repairs
from pilothouse.worker.maintenance.retention import keep_forgetting
from pilothouse.worker.outcome import LeaseLost, Outcome
from pilothouse.worker.periodic import keep_doing
from pilothouse.worker.slots import Slot, Slots
from pilothouse.worker.traces import traced_attempt

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 15.0
#: Sweeps from one look at what waits beyond its deadline to the next: the queue may be long.
_OVERDUE_EVERY = 3
#: How often, one second apart, a worker that lost its lease tries to say that it lives.
_EXCUSE_TRIES = 120
#: How often one that is given up is looked at, if it changes meanwhile.
_LAST_LOOKS = 3
_HELD_UP = "the worker was blocked by its own work for longer than its lease while it ran this operation"
_NOT_THE_END = frozenset({"retry", "crashed"})


class Runner:
    """One worker process: a slot for each operation that works or waits at a time, one sweep, one listener."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        actions: Actions,
        index_writer: IndexWriter,
        settings: Settings,
        *,
        name: str,
    ) -> None:
        """``name`` is the supervisor's name for its worker, over all restarts; empty without a supervisor."""
        self._database = database
        self._queue = queue
        self._actions = actions
        self._index_writer = index_writer
        self._retractions: set[asyncio.Task[None]] = set()
        self._settings = settings.worker
        self._retention = settings.retention
        self._slots = Slots(self._settings.operations, waiting=self._settings.waiting)
        self._supervised_name = name
        self._name = f"{name or socket.gethostname()}:{os.getpid()}"
        self.started = asyncio.Event()  # it takes operations

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set and the running operations have ended or were handed back."""
        await self._adopt_previous()
        helpers = [
            asyncio.create_task(self._queue.listen()),
            asyncio.create_task(self._sweep()),
            asyncio.create_task(collect_archives(self._database, self._settings)),
            asyncio.create_task(Repairs(self._database, self._actions).run()),
            asyncio.create_task(keep_forgetting(self._database, self._retention)),
        ]
        most = self._settings.operations + self._settings.waiting
        slots = [asyncio.create_task(self._work(number, stop)) for number in range(most)]
        WORKER_SLOTS.set(self._settings.operations)
        log.info("worker_started", worker=self._name, slots=len(slots))
        self.started.set()
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *slots, *helpers], return_when=asyncio.FIRST_COMPLETED)
            self._slots.close()
            if not stop.is_set():
                raise RuntimeError("a part of the worker ended unexpectedly") from _first_error([*slots, *helpers])
            _, late = await asyncio.wait(slots, timeout=self._settings.drain_seconds)
            if late:
                log.warning("drain_ended", handed_back=len(late))
        finally:
            stop.set()  # a slot that is cancelled while it hands back takes nothing new
            others = [*helpers, *self._retractions, stopping]
            for task in [*slots, *others]:
                task.cancel()
            await asyncio.gather(*slots, *others, return_exceptions=True)
        log.info("worker_stopped", worker=self._name)

    async def _adopt_previous(self) -> None:
        """Take over the operations of this supervisor's previous worker, which is known to be dead."""
        if not self._supervised_name:
            return
        try:
            async with self._database.transaction() as tx:
                inherited = await attempts.end_leases(tx, worker=self._supervised_name)
        except DatabaseUnavailable as error:  # its leases end by themselves
            log.warning("leases_not_ended", cause=str(error))
            return
        for operation_id in inherited:
            log.warning("worker_had_died", operation_id=operation_id)

    async def _work(self, number: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            slot = await self._slots.enter()
            if slot is None:
                return
            try:
                asked = boottime()
                row = await self._queue.take(
                    worker=f"{self._name}:{number}",
                    lease_seconds=self._settings.lease_seconds,
                    besides=self._slots.waiting,
                )
                if row is None:
                    await self._queue.wait()
                else:
                    slot.hold(row.id, row.project_id)
                    try:
                        with WORKER_OPERATIONS.track_inprogress(), traced_attempt(row):
                            await self._carry_out(row, asked, slot)
                    finally:
                        self._queue.note_end(row)
            except DatabaseUnavailable as error:
                log.warning("database_unavailable", cause=str(error))
                await asyncio.sleep(self._settings.poll_seconds)
            except Exception:  # the lease of what was held ends by itself
                log.exception("slot_failed", slot=number)
                await asyncio.sleep(self._settings.poll_seconds)
            finally:
                slot.leave()

    async def _carry_out(self, row: OperationRow, asked: float, slot: Slot) -> None:
        """Carry out the operation; ``asked``: when it was taken at the earliest (the answer may have been late)."""
        loop = asyncio.get_running_loop()
        fence = Fence(asked + self._settings.fence_seconds)
        attempts: list[asyncio.Task[bool]] = []

        def lose() -> None:
            fence.kill()
            loop.call_soon_threadsafe(lambda: [attempt.cancel() for attempt in attempts])

        def stop_what_was_ordered() -> None:
            if row.state != OperationState.CANCELLING:
                loop.call_soon_threadsafe(lambda: [attempt.cancel() for attempt in attempts[:1]])

        with Lease(
            self._database,
            self._settings,
            row.id,
            attempt=row.attempt,
            held_for=boottime() - asked,
            on_renewed=lambda seconds: fence.extend(boottime() + seconds),
            on_lost=lose,
            on_cancelling=stop_what_was_ordered,
        ) as lease:
            try:
                attempts.append(asyncio.create_task(self._carry_through(row, fence, slot)))
                await asyncio.wait(attempts)
                if not lease.lost and not _has_ended(attempts[0]):
                    # no longer what was ordered: the operation is to be cancelled, if it is still ours
                    attempts.append(asyncio.create_task(self._cancel(row, fence, slot)))
                    await asyncio.wait(attempts)
            except asyncio.CancelledError:
                await _kill(attempts)
                await asyncio.shield(self._give_back(row, "handed back: the worker stops"))
                raise
        failure = None if attempts[-1].cancelled() else attempts[-1].exception()
        if lease.lost or fence.passed or isinstance(failure, DatabaseUnavailable):
            ATTEMPTS.labels("lost").inc()
            log.warning("attempt_abandoned", operation_id=row.id, attempt=row.attempt)
            self._account_for(row, lease)
        if failure is not None:
            raise failure

    async def _carry_through(self, row: OperationRow, fence: Fence, slot: Slot) -> bool:
        """Return True if the attempt's end was written; else it lost the operation, or has to cancel it."""
        left = self._left(row)
        give_up_reason = self._give_up_reason(row, left)
        try:
            outcome = await self._attempt(row, fence, slot, left, give_up_reason=give_up_reason)
            return await self._conclude(row, outcome)
        except LeaseLost:
            return False
        except DatabaseUnavailable:
            raise
        except Exception:  # what a cluster answers, or a row holds, may not end the worker, and then the next one
            log.exception("attempt_failed", operation_id=row.id, attempt=row.attempt)
            return await self._conclude(row, _broken(give_up_reason))

    def _deadline(self, row: OperationRow) -> tuple[float, datetime]:
        """Return the operation's total seconds, over all attempts and its time in the queue, and since when."""
        if row.state == OperationState.CANCELLING:  # the undo has a deadline of its own
            return self._settings.undo_timeout_seconds, row.cancelling_at or row.created_at
        return float(row.deadline_seconds), row.created_at

    def _left(self, row: OperationRow) -> float:
        seconds, since = self._deadline(row)
        return seconds - (datetime.now(UTC) - since).total_seconds()

    async def _cancel(self, row: OperationRow, fence: Fence, slot: Slot) -> bool:
        async with self._database.autocommit() as connection:
            now = await operations.find_operation(connection, row.id)
        if now is None or now.attempt != row.attempt or now.state != OperationState.CANCELLING:
            log.info("outcome_not_ours", operation_id=row.id, attempt=row.attempt)
            return False
        return await self._carry_through(now, fence, slot)

    def _give_up_reason(self, row: OperationRow, left: float) -> str:
        """Return why no further attempt is made; empty if one is."""
        if row.crashes >= self._settings.attempts:
            return f"gave up after {row.crashes} attempts: {row.last_error}"
        if left > 0:
            return ""
        why = row.last_error or ("it waited in the queue for a worker" if row.attempt == 1 else "")
        return f"timed out after {self._deadline(row)[0]:.0f} s" + (f": {why}" if why else "")

    async def _attempt(
        self, row: OperationRow, fence: Fence, slot: Slot, left: float, *, give_up_reason: str
    ) -> Outcome:
        if row.attempt == 1:
            QUEUE_SECONDS.observe((datetime.now(UTC) - row.created_at).total_seconds())
        log.info("operation_started", operation_id=row.id, attempt=row.attempt, action=row.action, state=row.state)
        try:
            if give_up_reason:
                return await self._give_up(row, fence, give_up_reason)
            return await self._actions.attempt(row, fence=fence, seconds=left, slot=slot)
        except ClusterUnavailable as error:
            final = left <= _RETRY_SECONDS
            return Outcome(OperationState.FAILED if final else "retry", give_up_reason or str(error), unseen=True)
        except DatabaseUnavailable:
            raise
        except PilothouseError as error:
            return Outcome(OperationState.FAILED, str(error))

    async def _give_up(self, row: OperationRow, fence: Fence, give_up_reason: str) -> Outcome:
        for _ in range(_LAST_LOOKS):
            outcome = await self._actions.give_up(row, fence=fence, text=give_up_reason)
            if outcome.state not in _NOT_THE_END:  # else the release changed while it was read
                return outcome
        return _broken(give_up_reason)

    async def _conclude(self, row: OperationRow, outcome: Outcome) -> bool:
        """Return True if the attempt still held the operation and its end is written."""
        if outcome.state in _NOT_THE_END:
            ATTEMPTS.labels(outcome.state).inc()
            log.warning("operation_put_back", operation_id=row.id, why=outcome.state, cause=outcome.text)
            # not later than the deadline, which the next attempt is there to see
            after = max(0.0, min(_RETRY_SECONDS * row.attempt, _LONGEST_RETRY_SECONDS, self._left(row)))
            return await self._give_back(row, outcome.text, crashed=outcome.state == "crashed", after=after)
        if outcome.is_undone:
            return await self._begin_undo(row, outcome)
        if row.state == OperationState.CANCELLING:
            outcome = _undone(row, outcome)
        ended = await self._write_end(row, outcome, await self._index_writer.look(row, outcome))
        ATTEMPTS.labels("lost" if ended is None else "ended").inc()
        if ended is not None:
            report_end(ended)
        return ended is not None

    @retry_conflicts
    async def _write_end(self, row: OperationRow, outcome: Outcome, seen: RecordedState) -> EndedOperation | None:
        """Write the outcome and what was seen, in one transaction; return None if the attempt lost the operation."""
        doubtful = row.last_writing_attempt is not None or row.state == OperationState.CANCELLING or outcome.unseen
        several = doubtful or outcome.events or seen.absent_at is not None
        async with self._database.transaction() if several else self._database.autocommit() as tx:
            ended = await attempts.finish(
                tx,
                row.id,
                attempt=row.attempt,
                state=outcome.state,
                status_description=outcome.text,
                revision=outcome.revision,
                wrote_revision=outcome.wrote_revision,
                cancelling=row.state == OperationState.CANCELLING,
                keep_order=doubtful,
                seen=self._index_writer.read(row, seen),
            )
            await self._index_writer.write_absence(tx, row, seen)
            if ended is not None and doubtful:
                later = self._settings.lease_seconds + self._settings.lease_margin_seconds
                await repairs.plan_repair(tx, row.id, after_seconds=later)
            if ended is not None:
                for event in outcome.events:
                    await operation_events.add_event(
                        tx, row.id, attempt=row.attempt, kind=event.kind, text=event.text, data=event.data
                    )
        return ended

    async def _begin_undo(self, row: OperationRow, outcome: Outcome) -> bool:
        """Return False: the operation has not ended, and the same attempt undoes it, if it still holds it."""
        async with self._database.transaction() as tx:
            if await attempts.undo_failed(tx, row.id, attempt=row.attempt, failure=outcome.text):
                said = f"{outcome.text}; what it did is being undone"
                await operation_events.add_event(tx, row.id, attempt=row.attempt, kind="failure_undone", text=said)
        log.info("operation_undone", operation_id=row.id, attempt=row.attempt)
        return False

    async def _give_back(self, row: OperationRow, why: str, *, crashed: bool = False, after: float = 0.0) -> bool:
        async with self._database.transaction() as tx:
            return await attempts.give_back(
                tx, row.id, attempt=row.attempt, last_error=why, crashed=crashed, retry_seconds=after
            )

    def _account_for(self, row: OperationRow, lease: Lease) -> None:
        """Report that this worker is alive, and whether it was a crash, once the database is reachable.

        It was none if the database was unreachable or this process was paused, however often. It was one if work
        blocked this process: that of the attempt itself, or of one next to it.
        """
        crashed = lease.held_up
        why = _HELD_UP if crashed else "the worker was cut off from the database"

        async def say() -> None:
            for _ in range(_EXCUSE_TRIES):
                try:
                    async with self._database.transaction() as tx:
                        if await attempts.give_back(tx, row.id, attempt=row.attempt, last_error=why, crashed=crashed):
                            return
                        if crashed:
                            await attempts.blame(tx, row.id, attempt=row.attempt, last_error=why)
                        else:
                            await attempts.excuse(tx, row.id, attempt=row.attempt)
                except DatabaseUnavailable:
                    await asyncio.sleep(1.0)
                else:
                    return

        task = asyncio.create_task(say())
        self._retractions.add(task)
        task.add_done_callback(self._retractions.discard)

    async def _sweep(self) -> None:
        """Requeue the operations of dead workers, every second, in every worker; fail what waited too long."""
        turns = count()

        async def sweep() -> None:
            async with self._database.transaction() as tx:
                lapsed = await attempts.requeue_lapsed(tx, margin_seconds=self._settings.lease_margin_seconds)
            for operation_id in lapsed:
                log.warning("lease_lapsed", operation_id=operation_id)
            if next(turns) % _OVERDUE_EVERY == 0:
                async with self._database.autocommit() as connection:
                    overdue = await attempts.fail_overdue(connection)
                for ended in overdue:
                    report_end(ended)

        await keep_doing(sweep, every_seconds=1.0, failure="sweep_failed")


def _undone(row: OperationRow, outcome: Outcome) -> Outcome:
    """Return the end of an operation that was undone: one that had failed has failed, whatever came of that."""
    if not row.failure:
        failed = outcome.state == OperationState.FAILED
        return replace(outcome, text=f"cancelled, but {outcome.text}") if failed else outcome
    said = outcome.text.removeprefix("cancelled; ").removeprefix("cancelled and ")
    how = said if outcome.state != OperationState.FAILED else f"then {said}"
    return replace(outcome, state=OperationState.FAILED, text=f"{row.failure}; {how}")


def _broken(give_up_reason: str) -> Outcome:
    """Return the outcome of an internal error: another attempt or, with a ``give_up_reason``, the end with it."""
    if give_up_reason:
        return Outcome(OperationState.FAILED, give_up_reason, unseen=True)
    return Outcome("crashed", "an error inside Pilothouse; the server's log has it under this operation's id")


def _has_ended(attempt: "asyncio.Task[bool]") -> bool:
    """Return True if the attempt wrote its own end, or failed in a way that is reported later."""
    return not attempt.cancelled() and (attempt.exception() is not None or attempt.result())


async def _kill(attempts: list["asyncio.Task[bool]"]) -> None:
    """End all attempts and their children."""
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)


def _first_error(tasks: list["asyncio.Task[None]"]) -> BaseException | None:
    return next((error for task in tasks if task.done() and not task.cancelled() and (error := task.exception())), None)
