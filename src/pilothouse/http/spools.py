"""Limits of disk space for bodies: of unauthenticated ones, and of each project."""

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
    """Count bytes on disk of requests whose signature is still to be verified: per address, and in total."""

    def __init__(self, most_bytes: int, most_bodies: int) -> None:
        """``most_bytes`` and ``most_bodies`` are the limits at a time; an address may use a quarter."""
        self.bytes = self._counted("bytes", most_bytes)
        self.bodies = self._counted("large uploads", most_bodies)

    @staticmethod
    def _counted(what: str, most: int) -> Counted:
        what = f"{what} under way whose signatures are still to be verified"
        return Counted(what=what, per_key=-(-most // _ADDRESSES), whose="your address", in_all=most)

    @contextmanager
    def body(self, source: str) -> Iterator["SpooledBody"]:
        """Count one body from that address until the block ends; then its space is free again."""
        spooled = SpooledBody(self, source)
        try:
            yield spooled
        finally:
            spooled.release()


@dataclass
class SpooledBody:
    """One body that may grow beyond what is kept in memory."""

    budget: SpoolBudget
    source: str
    taken: int = 0
    _is_counted: bool = False

    def take(self, count: int) -> None:
        """Count bytes that go to disk; raise GatewayError 429 if there is no room for them."""
        with _throttled("; a token needs no signature"):
            if not self._is_counted:
                self.budget.bodies.add(self.source, 1)
                self._is_counted = True
            self.budget.bytes.add(self.source, count)
        self.taken += count

    def release(self) -> None:
        """Stop counting the body."""
        if self._is_counted:
            self.budget.bodies.remove(self.source, 1)
        if self.taken:
            self.budget.bytes.remove(self.source, self.taken)


class ProjectBodies:
    """Count, by project, the bodies of authenticated callers that are arriving or being processed."""

    def __init__(self, *, uploads: int, most_bytes: int) -> None:
        """Limit a project to ``uploads`` and ``most_bytes`` at a time."""
        self.uploads = Counted(what="uploads under way", per_key=uploads, whose="this project")
        self.bytes = Counted(what="bytes of requests under way", per_key=most_bytes, whose="this project")


class ProjectBody:
    """One body, at first without a known project; every count raises GatewayError 429 over a limit."""

    def __init__(self, counts: ProjectBodies) -> None:
        self._counts = counts
        self._project = ""
        self._uploads = 0
        self._bytes = 0

    def assign_to(self, project_id: str) -> None:
        """Count for that project from now on."""
        self._project = self._project or project_id

    def count_upload(self) -> None:
        """Count it as an upload, once."""
        if not self._uploads:
            with _throttled():
                self._counts.uploads.add(self._project, 1)
            self._uploads = 1

    def take(self, count: int) -> None:
        """Count that many bytes of it."""
        with _throttled():
            self._counts.bytes.add(self._project, count)
        self._bytes += count

    def settle(self, size: int) -> None:
        """Count the rest of a body of that size."""
        self.take(max(0, size - self._bytes))

    def release(self) -> None:
        """Stop counting the body."""
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
