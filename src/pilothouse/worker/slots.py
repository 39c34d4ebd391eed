"""The slots of a worker: how many operations work at a time, and how many more only wait for their cluster.

An operation that waits until objects are ready or a hook has ended needs no CPU, only the memory of its engine child.
It gives its slot to the next one, while there is room for waiting ones; when it continues, it is counted again, above
the number of slots if necessary, and nothing new begins until one is free.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Collection

from pilothouse.engine import phases


class Slots:
    """All slots of one worker process; belongs to one event loop."""

    def __init__(self, working: int, *, waiting: int) -> None:
        """Start at most ``working`` operations at a time; ``waiting`` more may wait, half of one project."""
        self._free = working
        self._most_waiting = waiting
        self._most_of_project = max(1, waiting // 2)
        self._waiting: dict[str, Slot] = {}
        self._wants_to_wait: dict[str, Slot] = {}
        self._entering: deque[asyncio.Future[bool]] = deque()
        self._closed = False

    @property
    def waiting(self) -> Collection[str]:
        """The ids of waiting operations that have given up their slots."""
        return tuple(self._waiting)

    async def enter(self) -> "Slot | None":
        """Return with a slot, to be released by ``Slot.leave``; None after ``close``."""
        if self._closed:
            return None
        if self._free > 0 and not self._entering:
            self._free -= 1
            return Slot(self)
        entering: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entering.append(entering)
        try:
            return Slot(self) if await entering else None
        except asyncio.CancelledError:
            if entering in self._entering:
                self._entering.remove(entering)
            elif entering.done() and not entering.cancelled() and entering.result():
                self._give()
            raise

    def close(self) -> None:
        """Hand out no more slots."""
        self._closed = True
        while self._entering:
            entering = self._entering.popleft()
            if not entering.done():
                entering.set_result(False)

    def release_while_waiting(self, slot: "Slot") -> None:
        """Release the slot to others as soon as there is room for one more waiting operation."""
        self._wants_to_wait[slot.operation_id] = slot
        self._grant_waiting()

    def resume(self, slot: "Slot") -> None:
        """Count the slot's operation as working again."""
        self._wants_to_wait.pop(slot.operation_id, None)
        if self._waiting.pop(slot.operation_id, None) is not None:
            self._free -= 1
            self._grant_waiting()

    def leave(self, slot: "Slot") -> None:
        """Release the slot, whatever its operation did last."""
        self._wants_to_wait.pop(slot.operation_id, None)
        if self._waiting.pop(slot.operation_id, None) is None:
            self._give()
        self._grant_waiting()

    def _grant_waiting(self) -> None:
        held = Counter(slot.project_id for slot in self._waiting.values())
        for operation_id, slot in list(self._wants_to_wait.items()):
            if len(self._waiting) < self._most_waiting and held[slot.project_id] < self._most_of_project:
                del self._wants_to_wait[operation_id]
                self._waiting[operation_id] = slot
                held[slot.project_id] += 1
                self._give()

    def _give(self) -> None:
        self._free += 1
        while self._free > 0 and self._entering:
            entering = self._entering.popleft()
            if not entering.done():
                self._free -= 1
                entering.set_result(True)


class Slot:
    """One operation's slot, from before it is taken to its end."""

    def __init__(self, slots: Slots) -> None:
        """Use ``Slots.enter`` to create one."""
        self._slots = slots
        self._waits = False
        self.operation_id = ""
        self.project_id = ""

    def hold(self, operation_id: str, project_id: str) -> None:
        """Assign the slot to the operation."""
        self.operation_id, self.project_id = operation_id, project_id

    def notice(self, phase: str) -> None:
        """Record the operation's current phase; one that is neither work nor waiting changes nothing."""
        if phase in phases.WAITING and not self._waits:
            self._waits = True
            self._slots.release_while_waiting(self)
        elif phase in phases.WORKING and self._waits:
            self.work()

    def work(self) -> None:
        """Count the operation as working again."""
        if self._waits:
            self._waits = False
            self._slots.resume(self)

    def leave(self) -> None:
        """Release the slot."""
        self._slots.leave(self)


#: Where an attempt is made outside the slots of a worker: it has nothing to give away.
NO_SLOT = Slot(Slots(1, waiting=0))
