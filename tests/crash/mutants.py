"""``python -m tests.crash.mutants BUG worker …``: a worker with one safeguard taken out.

The suite has to find each of these: a safeguard whose absence nobody notices is not tested.
"""

import sys
from collections.abc import Callable

from pilothouse.cli import main
from pilothouse.engine import deadline
from pilothouse.kubernetes import helm_secrets as storage
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.store import attempts as store_attempts
from pilothouse.store.database import Transaction
from pilothouse.worker import attempt as attempts
from pilothouse.worker import slots


def without_fence() -> None:
    """Neither the child nor the worker stops when the lease is lost, and the outcome is written all the same."""

    def passed(_: deadline.Fence) -> bool:
        return False

    def attach(self: deadline.Fence, apply: Callable[[float], None], kill: Callable[[], None]) -> None:
        del self, apply, kill

    deadline.Fence.passed = property(passed)  # type: ignore[assignment,method-assign]
    deadline.Fence.attach = attach  # type: ignore[method-assign]


def without_sweep() -> None:
    """Nobody takes over from a worker that died."""

    async def requeue_lapsed(tx: Transaction, *, margin_seconds: float) -> list[str]:
        del tx, margin_seconds
        return []

    store_attempts.requeue_lapsed = requeue_lapsed


def without_unlock() -> None:
    """Return a revision that a dead writer left locked stays locked."""

    async def unlock(client: ClusterClient, secret: Secret, *, reason: str, why: str = "") -> bool:
        del client, secret, reason, why
        return True

    attempts.unlock = unlock  # type: ignore[attr-defined]


def without_immutable() -> None:
    """Return an unlocked revision can still be changed by the writer that it was taken from."""
    replace = ClusterClient.replace_secret

    async def replace_secret(self: ClusterClient, secret: Secret) -> bool:
        return await replace(self, {key: value for key, value in secret.items() if key != "immutable"})

    ClusterClient.replace_secret = replace_secret  # type: ignore[method-assign]


def without_rest() -> None:
    """Let an operation that only waits keep its slot, so that others wait for it."""

    def release_while_waiting(self: slots.Slots, slot: slots.Slot) -> None:
        del self, slot

    slots.Slots.release_while_waiting = release_while_waiting  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "fence": without_fence,
    "sweep": without_sweep,
    "unlock": without_unlock,
    "immutable": without_immutable,
    "rest": without_rest,
}

if __name__ == "__main__":
    assert attempts.unlock is storage.unlock  # type: ignore[attr-defined]
    BUGS[sys.argv[1]]()
    del sys.argv[1]
    main()
