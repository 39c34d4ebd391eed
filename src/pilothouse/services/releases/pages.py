"""Releases as callers see them, and the pages of lists and histories.

A page is measured by the JSON text of its values, not by their compressed size, because it is several times in memory.
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
    the latter '' unless requested. ``age_seconds``: how long ago the cluster last confirmed what is shown; None if that
    is not applicable.
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
    """A page of a list; ``last`` is namespace and name to continue after, None at the end."""

    releases: list[Release]
    last: tuple[str, str] | None


@dataclass(frozen=True)
class HistoryRest:
    """The rest of a history: at most ``most`` revisions, those ``below`` one.

    ``rows`` are those that were read from the cluster, if they were; ``underway`` is the revision being written by an
    operation, unless it is among the newer ones. ``shows_values``: the caller was allowed to read them.
    """

    below: int
    most: int
    rows: list[RevisionRow] | None = field(repr=False)
    underway: Release | None
    shows_values: bool


@dataclass(frozen=True)
class HistoryPage:
    """A page of a history, newest first; ``rest`` None at the end."""

    releases: list[Release]
    rest: HistoryRest | None


class ReleaseList:
    """The releases of a cluster by namespace and name, each once, read page by page on demand."""

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
        """Return at most ``limit`` releases after ``after``; fewer, or none, does not mean the end."""
        page = await self._read(after, limit)
        last = page.releases[-1] if page.more else None
        size = sum(map(weight, page.releases))
        shown = await off_loop(lambda: [self._show(listed) for listed in page.releases], size=size)
        return ReleasePage(
            [release for release in shown if release is not None],
            (last.namespace, last.name) if last is not None else None,
        )


def fitting(sizes: Sequence[int]) -> int:
    """Return how many of the first fit into a page: at least one, and more until the page has its bytes."""
    total = 0
    for number, size in enumerate(sizes):
        if total >= PAGE_BYTES:
            return number
        total += size
    return len(sizes)


def weight(listed: ListedRelease) -> int:
    """Return approximately how many bytes are handled to show the release."""
    row = listed.revision
    values = row.values_text_size if row is not None and row.values_sealed is not None else 0
    return values + shown_size(listed.operation)


def shown_size(operation: OperationRow | None) -> int:
    """Return the size of the displayed part of the operation in bytes."""
    return len(operation.shown_sealed or b"") if operation is not None else 0
