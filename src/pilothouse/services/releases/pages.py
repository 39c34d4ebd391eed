"""Releases as callers see them, and the pages in which lists and histories of them are read.

A page is as large as the JSON text of its values is, whatever that takes packed: it is in memory some times over.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pilothouse.off_loop import off_loop
from pilothouse.store.operations import OperationRow
from pilothouse.store.releases import ListedRelease, Page, RevisionRow

PAGE_RELEASES = 100
#: Of values as JSON text: what is in memory of a list at a time, some times over.
PAGE_BYTES = 4 * 1024 * 1024
START = ("", "")
ReadPage = Callable[[tuple[str, str], int], Awaitable[Page]]


@dataclass(frozen=True)
class Release:
    """A release as callers see it; ``status`` is Helm's own word, ``revision`` Helm's number.

    ``values_json`` and ``resources_json`` are JSON text; the former is None if the values are too large to be shown,
    the latter '' unless it was asked for. ``age_seconds``: how long ago the cluster last confirmed what is shown; None
    where that says nothing.
    """

    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    revision: int
    status: str
    description: str
    status_description: str
    chart_name: str
    chart_version: str
    values_json: str | None = field(repr=False)
    created_at: datetime
    updated_at: datetime
    resources_json: str = field(default="", repr=False)
    resources_hide_values: bool = False
    age_seconds: float | None = None


@dataclass(frozen=True)
class ReleasePage:
    """A part of a list; ``last`` is namespace and name to go on after, None at the end."""

    releases: list[Release]
    last: tuple[str, str] | None


@dataclass(frozen=True)
class HistoryRest:
    """What is left of a history: at most ``most`` revisions, those ``below`` one.

    ``rows`` are those that were read from the cluster, if they were; ``underway`` is what an operation is making, where
    that is not among the newer ones. ``shows_values``: the caller was allowed to read them.
    """

    below: int
    most: int
    rows: list[RevisionRow] | None = field(repr=False)
    underway: Release | None
    shows_values: bool


@dataclass(frozen=True)
class HistoryPage:
    """A part of a history, newest first; ``rest`` None at the end."""

    releases: list[Release]
    rest: HistoryRest | None


class ReleaseList:
    """The releases of a cluster by namespace and name, each once, read page by page as they are asked for."""

    def __init__(
        self,
        read: ReadPage,
        show: Callable[[ListedRelease], Release | None],
        *,
        age_seconds: float | None,
    ) -> None:
        self._read = read
        self._show = show
        self.age_seconds = age_seconds

    async def read_page(self, after: tuple[str, str] = START, *, limit: int = PAGE_RELEASES) -> ReleasePage:
        """At most ``limit`` of those that follow ``after``: fewer, or none, does not mean the end."""
        page = await self._read(after, limit)
        last = page.releases[-1] if page.more else None
        shown = await off_loop(lambda: [self._show(one) for one in page.releases], size=sum(map(weight, page.releases)))
        return ReleasePage(
            [release for release in shown if release is not None],
            (last.namespace, last.name) if last is not None else None,
        )


def fitting(sizes: Sequence[int]) -> int:
    """Return how many of the first make a page: at least one, and others until the page has its bytes."""
    total = 0
    for number, size in enumerate(sizes):
        if total >= PAGE_BYTES:
            return number
        total += size
    return len(sizes)


def weight(one: ListedRelease) -> int:
    """Return about how many bytes are handled to show the release."""
    row = one.revision
    values = row.values_text_size if row is not None and row.values_sealed is not None else 0
    return values + shown_size(one.operation)


def shown_size(operation: OperationRow | None) -> int:
    """Return how many bytes the operation has that are shown of it."""
    return len(operation.shown_sealed or b"") if operation is not None else 0
