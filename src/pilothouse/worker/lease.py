"""Holding an operation: a thread renews its lease and kills the engine child when renewals stop.

The thread has its own connection. Time without a confirmed renewal is counted from when the last confirmed one was
*sent*: the database cannot have extended the lease earlier than that. A second thread counts it, because a renewal can
wait without end: a stalled database answers nothing, while its machine keeps the connection alive.

That second thread wakes often. If it wakes late, and this process used the CPU meanwhile, some work held the
interpreter and kept every thread from running. That distinguishes a lease that was lost to work in this process from
one that was lost to the database, or to a pause of the process from outside.
"""

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from pilothouse.errors import DatabaseUnavailable
from pilothouse.metrics import LEASE_RENEWALS
from pilothouse.settings import WorkerSettings
from pilothouse.states import OperationState
from pilothouse.store.database import Database
from pilothouse.store.leases import LeaseConnection

log = structlog.get_logger(__name__)

#: How often the second thread wakes, and how late it may be on a busy machine.
_LOOK_SECONDS = 0.25
_LATE_SECONDS = 0.5


class Lease:
    """Renew one operation's lease until left; call ``on_lost`` once, from its thread, when the lease is lost.

    ``held_for``: maximum seconds since the operation was taken. ``on_renewed(seconds)`` is called after each confirmed
    renewal with how long the child may run without another one; ``on_cancelling`` once, when a renewal finds that the
    operation is to be cancelled.
    """

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        operation_id: str,
        *,
        attempt: int,
        held_for: float = 0.0,
        on_renewed: Callable[[float], None],
        on_lost: Callable[[], None],
        on_cancelling: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._connection = LeaseConnection(database, timeout_seconds=settings.fence_seconds / 2)
        self._operation_id = operation_id
        self._attempt = attempt
        self._on_renewed = on_renewed
        self._on_lost = on_lost
        self._on_cancelling = on_cancelling
        self._ended = threading.Event()
        self._confirmed = time.monotonic() - held_for
        self._held_up = 0.0
        self._due = math.inf
        self._used = 0.0
        self._losing = threading.Lock()
        self._threads = [
            threading.Thread(target=work, name=f"lease-{operation_id[:8]}", daemon=True)
            for work in (self._keep, self._watch)
        ]
        self.lost = False
        self.cancelling = False
        #: Whether the lease was lost to work that held the interpreter of this process.
        self.held_up = False

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _keep(self) -> None:
        try:
            while not self._ended.wait(self._settings.renew_seconds) and not self.lost:
                sent = time.monotonic()
                state: str | None = None
                try:
                    state = self._connection.renew(
                        self._operation_id, attempt=self._attempt, lease_seconds=self._settings.lease_seconds
                    )
                    held = state is not None
                    if not held and self._connection.was_left(self._operation_id, attempt=self._attempt):
                        return  # its end is stored, which the holder has yet to hear of
                    LEASE_RENEWALS.labels("renewed" if held else "lost").inc()
                except DatabaseUnavailable as error:
                    LEASE_RENEWALS.labels("failed").inc()
                    log.warning("lease_renewal_failed", operation_id=self._operation_id, cause=str(error))
                    held = self._left() > 0
                    sent = self._confirmed
                if not held:
                    self._lose()
                    return
                if sent > self._confirmed:
                    self._confirmed, self._held_up = sent, 0.0
                self._on_renewed(max(0.0, self._left()))
                if state == OperationState.CANCELLING and not self.cancelling and not self._ended.is_set():
                    self.cancelling = True
                    self._on_cancelling()
        finally:
            self._connection.close()

    def _watch(self) -> None:
        while (left := self._left()) > 0:
            seconds = min(left, _LOOK_SECONDS)
            self._due, self._used = time.monotonic() + seconds, time.process_time()
            if self._ended.wait(seconds):
                return
            self._held_up += self._late()
        self._lose()

    def _late(self) -> float:
        """Return for how many seconds the second thread is late, or was, while this process was at work."""
        late = time.monotonic() - self._due
        return min(late, time.process_time() - self._used) if late > _LATE_SECONDS else 0.0

    def _left(self) -> float:
        """Return for how many seconds the operation is still certainly held."""
        return self._confirmed + self._settings.fence_seconds - time.monotonic()

    def _lose(self) -> None:
        with self._losing:
            if self._ended.is_set() or self.lost:
                return
            held_up = max(self._held_up, self._late())  # whichever thread was the first to wake
            # by less than this it cannot have been lost
            self.held_up = held_up >= self._settings.fence_seconds / 2
            log.error(
                "lease_lost",
                operation_id=self._operation_id,
                attempt=self._attempt,
                held_up_seconds=round(held_up, 1),
            )
            self.lost = True
            self._on_lost()
