"""What bodies may take of the disk: before anybody has proven that it may send them, and of one project after that."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pilothouse.errors import Busy
from pilothouse.http.gateway_errors import THROTTLED, GatewayError
from pilothouse.shares import Counted

_RETRY = {"Retry-After": "5"}


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
                headers=_RETRY,
            )
        budget.bodies += is_new
        budget.taken_bytes += count
        self.taken += count


class ProjectBodies:
    """Counts, by project, the bodies of proven callers that are on their way or being worked on."""

    def __init__(self, *, uploads: int, most_bytes: int) -> None:
        """``uploads`` and ``most_bytes`` are what a project may have at a time."""
        self.uploads = Counted(what="uploads under way", per_key=uploads, whose="this project")
        self.bytes = Counted(what="bytes of requests under way", per_key=most_bytes, whose="this project")


class ProjectBody:
    """One body of a project, which nobody is known to own yet; every count raises GatewayError 429 over a limit."""

    def __init__(self, counts: ProjectBodies) -> None:
        self._counts = counts
        self._project = ""
        self._uploads = 0
        self._bytes = 0

    def belongs_to(self, project_id: str) -> None:
        """Counts for that project from now on."""
        self._project = self._project or project_id

    def count_upload(self) -> None:
        """Count it as an upload, once."""
        if not self._uploads:
            with _throttled():
                self._counts.uploads.add(self._project, 1)
            self._uploads = 1

    def take(self, count: int) -> None:
        """Count so many bytes of it."""
        with _throttled():
            self._counts.bytes.add(self._project, count)
        self._bytes += count

    def settle(self, size: int) -> None:
        """Count what is not counted yet of a body of that size."""
        self.take(max(0, size - self._bytes))

    def release(self) -> None:
        """Count nothing of it any more."""
        if self._uploads:
            self._counts.uploads.remove(self._project, 1)
        if self._bytes:
            self._counts.bytes.remove(self._project, self._bytes)
        self._uploads = self._bytes = 0


@contextmanager
def _throttled() -> Iterator[None]:
    try:
        yield
    except Busy as error:
        raise GatewayError(THROTTLED, str(error), headers=_RETRY) from None
