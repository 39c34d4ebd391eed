"""What bodies may take of the disk: before anybody has proven that it may send them, and of one project after that."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pilothouse.errors import Busy
from pilothouse.http.gateway_errors import THROTTLED, GatewayError
from pilothouse.shares import Counted

_RETRY = {"Retry-After": "5"}


#: So much of the room for unproven bodies is one address's: the part that one over this is.
_ADDRESSES: Final = 4


class SpoolBudget:
    """Counts the bytes on disk of requests whose signature is still to be verified: of an address, and of all."""

    def __init__(self, most_bytes: int, most_bodies: int) -> None:
        """``most_bytes`` and ``most_bodies`` may be there at a time; a quarter of them from one address."""
        self.bytes = self._counted("bytes", most_bytes)
        self.bodies = self._counted("large uploads", most_bodies)

    @staticmethod
    def _counted(what: str, most: int) -> Counted:
        what = f"{what} under way whose signatures are still to be verified"
        return Counted(what=what, per_key=-(-most // _ADDRESSES), whose="your address", in_all=most)

    @contextmanager
    def body(self, source: str) -> Iterator["SpooledBody"]:
        """Count one body from that address until the block ends; what it took is free again then."""
        spooled = SpooledBody(self, source)
        try:
            yield spooled
        finally:
            spooled.release()


@dataclass
class SpooledBody:
    """One body that may grow over what is kept in memory."""

    budget: SpoolBudget
    source: str
    taken: int = 0
    _is_counted: bool = False

    def take(self, count: int) -> None:
        """Count bytes that are going to lie on disk; raises GatewayError 429 if there is no room for them."""
        with _throttled("; a token needs no signature"):
            if not self._is_counted:
                self.budget.bodies.add(self.source, 1)
                self._is_counted = True
            self.budget.bytes.add(self.source, count)
        self.taken += count

    def release(self) -> None:
        """Count nothing of it any more."""
        if self._is_counted:
            self.budget.bodies.remove(self.source, 1)
        if self.taken:
            self.budget.bytes.remove(self.source, self.taken)


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
def _throttled(advice: str = "") -> Iterator[None]:
    try:
        yield
    except Busy as error:
        raise GatewayError(THROTTLED, f"{error}{advice}", headers=_RETRY) from None
