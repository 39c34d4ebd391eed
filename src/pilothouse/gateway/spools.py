"""What bodies may take of the disk before anybody has proven that it may send them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pilothouse.gateway.errors import THROTTLED, GatewayError


@dataclass
class SpoolBudget:
    """Counts the bytes on disk of requests whose signature is still to be verified, over all of them."""

    most_bytes: int
    most_bodies: int
    taken_bytes: int = 0
    bodies: int = 0

    @contextmanager
    def body(self) -> Iterator["SpooledBody"]:
        """Count one body until the block ends; what it took is free again then."""
        spooled = SpooledBody(self)
        try:
            yield spooled
        finally:
            self.taken_bytes -= spooled.taken
            self.bodies -= spooled.taken > 0


@dataclass
class SpooledBody:
    """One body that may grow over what is kept in memory."""

    budget: SpoolBudget
    taken: int = field(default=0)

    def take(self, count: int) -> None:
        """Count bytes that are going to lie on disk; raises GatewayError 429 if there is no room for them."""
        budget = self.budget
        is_new = self.taken == 0
        if budget.bodies + is_new > budget.most_bodies or budget.taken_bytes + count > budget.most_bytes:
            raise GatewayError(
                THROTTLED,
                "too many large uploads are under way whose signatures are still to be verified; send it again later, "
                "or with a token",
                headers={"Retry-After": "5"},
            )
        budget.bodies += is_new
        budget.taken_bytes += count
        self.taken += count
