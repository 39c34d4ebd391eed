"""Reads of the release index, with the operations that overlay it.

Each answer is one statement and so one snapshot: an operation's outcome and its revision are committed together, and no
reader sees one without the other.
"""

import sys
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Row, text

from pilothouse.store.cluster_watches import Freshness
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Transaction
from pilothouse.store.operations import OperationRow
from pilothouse.store.release_index import Revision


@dataclass(frozen=True)
class RevisionRow(Revision):
    """A revision in the index, with the chart and the user's text of the operation that wrote it, if any."""

    origin_chart_id: str
    origin_description: str
    origin_operation_id: str


@dataclass(frozen=True)
class FoundIndex:
    """A cluster and the freshness of its index."""

    cluster: ClusterName
    freshness: Freshness


@dataclass(frozen=True)
class FoundRelease(FoundIndex):
    """A release of a cluster: its revisions, newest first, and the operation that overlays them.

    ``more``: the byte budget left out some of the requested revisions.
    """

    revisions: list[RevisionRow]
    more: bool
    operation: OperationRow | None


@dataclass(frozen=True)
class ListedRelease:
    """One release of a list: its newest revision, the operation that overlays it, or both."""

    namespace: str
    name: str
    revision: RevisionRow | None
    operation: OperationRow | None


@dataclass(frozen=True)
class Page:
    """A page of a list, by namespace and name; ``more``: there are releases after it."""

    releases: list[ListedRelease]
    more: bool


async def find_release(
    tx: Transaction,
    cluster_id: str,
    *,
    project_id: str,
    namespace: str,
    name: str,
    revisions: int,
    below: int | None = None,
    budget_bytes: int = 4 * 1024 * 1024,
    with_values: bool = True,
) -> FoundRelease | None:
    """Return the release with its newest revisions, optionally only those ``below`` a number; None if no such cluster.

    Returns at most ``revisions``, whose values have about ``budget_bytes`` as JSON text, but at least one; without
    values, all of them.

    A release that does not exist has neither revisions nor an operation.
    """
    params = {
        "cluster_id": cluster_id,
        "project_id": project_id,
        "namespace": namespace,
        "name": name,
        "revisions": revisions,
        "below": below,
        "budget": budget_bytes if with_values else sys.maxsize,
    }
    rows = (await tx.execute(_FIND if with_values else _FIND_WITHOUT_VALUES, params)).all()
    if not rows:
        return None
    return FoundRelease(
        **vars(_index(rows[0])),
        revisions=[revision for row in rows if (revision := _revision(row)) is not None],
        more=(rows[0].following or 0) > len(rows),
        operation=_operation(rows[0]),
    )


async def find_index(tx: Transaction, cluster_id: str, *, project_id: str) -> FoundIndex | None:
    """Return the freshness of the cluster's index; None if the project has no such cluster."""
    row = (await tx.execute(_FIND_INDEX, {"cluster_id": cluster_id, "project_id": project_id})).one_or_none()
    return _index(row) if row else None


async def list_indexes(tx: Transaction, *, project_id: str) -> list[tuple[FoundIndex, int]]:
    """Return the freshness of each of the project's clusters, with the number of its undecodable Secrets."""
    return [(_index(row), row.unreadable) for row in await tx.execute(_LIST_INDEXES, {"project_id": project_id})]


async def read_page(
    tx: Transaction,
    cluster_id: str,
    *,
    namespace: str | None,
    after: tuple[str, str],
    limit: int,
    budget_bytes: int,
    with_values: bool,
) -> Page:
    """Return the releases after ``after``, at most ``limit`` and about ``budget_bytes``, but at least one."""
    params = {
        "cluster_id": cluster_id,
        "namespace": namespace,
        "after_namespace": after[0],
        "after_name": after[1],
        "limit": limit,
        "budget": budget_bytes,
    }
    rows = (await tx.execute(_PAGE if with_values else _PAGE_WITHOUT_VALUES, params)).all()
    releases = [
        ListedRelease(row.namespace, row.name, revision=_revision(row), operation=_operation(row))
        for row in rows[:limit]
    ]
    return Page(releases, more=bool(rows) and rows[0].following > len(releases))


@dataclass(frozen=True)
class Origin:
    """The chart and the user's text of an operation's request."""

    chart_id: str
    description: str


async def find_origins(tx: Transaction, cluster_id: str, operation_ids: list[str]) -> dict[tuple[str, int], Origin]:
    """Return the origins of those operations that write a revision of an own chart, by operation and revision."""
    rows = await tx.execute(_ORIGINS, {"cluster_id": cluster_id, "ids": operation_ids})
    return {(row.id, row.revision): Origin(row.chart_id, row.description) for row in rows}


@dataclass(frozen=True)
class UnreadableSecret:
    """A Secret of Helm's type that does not contain a valid release."""

    namespace: str
    secret: str
    problem: str


@dataclass(frozen=True)
class UnreadableSecrets:
    """The number of a cluster's undecodable Secrets, and the first of them."""

    count: int
    first: list[UnreadableSecret]


async def find_unreadable(tx: Transaction, cluster_id: str, *, limit: int) -> UnreadableSecrets:
    """Return up to ``limit`` of the cluster's undecodable Secrets, last changed first, and their total."""
    rows = (await tx.execute(_UNREADABLE, {"cluster_id": cluster_id, "limit": limit})).all()
    return UnreadableSecrets(rows[0].total if rows else 0, [UnreadableSecret(*row[:3]) for row in rows])


# Every row ends with the columns of the operation and those of the revision; by position, because a list has many.
def _index(row: Row[Any]) -> FoundIndex:
    freshness = Freshness(row.listed, age_seconds=row.age, error=row.error, truncated=row.truncated)
    return FoundIndex(ClusterName(row.cluster_id, row.cluster_name), freshness)


def _revision(row: Row[Any]) -> RevisionRow | None:
    values = row[-len(_REVISION) :]
    return RevisionRow(*values) if values[0] is not None else None


def _operation(row: Row[Any]) -> OperationRow | None:
    values = row[-len(_OPERATION) - len(_REVISION) : -len(_REVISION)]
    return OperationRow(**dict(zip(_OPERATION, values, strict=True))) if values[0] is not None else None


_REVISION = [field.name for field in fields(RevisionRow)]
_OPERATION = [field.name for field in fields(OperationRow)]
_SHOWN = "gone_at IS NULL AND problem = ''"
# The two conditions are those of two partial indexes, to the letter.
_LIVING = "state IN ('queued', 'running', 'cancelling')"
_FAILED = "state = 'failed' AND NOT wrote_revision AND dismissed_at IS NULL"


def _columns(names: list[str], table: str, *, empty: str = "") -> str:
    return ", ".join(
        f"CAST(NULL AS bytea) AS {table}_{name}" if name == empty else f"{table}.{name} AS {table}_{name}"
        for name in names
    )


def _operation_columns() -> str:
    """Select only the displayed part of the order; rows of earlier versions hold the whole order there."""
    shown = "coalesce(o.shown_sealed, o.request_sealed) AS o_shown_sealed"
    return _columns(_OPERATION, "o", empty="request_sealed").replace("o.shown_sealed AS o_shown_sealed", shown)


# ruff: noqa: S608  # what is put into these statements are column names of our own
_INDEX = """c.id AS cluster_id, c.name AS cluster_name, b.listed_at IS NOT NULL AS listed,
  CAST(extract(epoch FROM clock_timestamp() - b.seen_at) AS double precision) AS age, coalesce(b.error, '') AS error,
  coalesce(b.truncated, false) AS truncated"""
_FIND_INDEX = text(f"""
SELECT {_INDEX}
FROM clusters c LEFT JOIN cluster_watches b ON b.cluster_id = c.id
WHERE c.id = :cluster_id AND c.project_id = :project_id
""")
_LIST_INDEXES = text(f"""
SELECT {_INDEX}, (
  SELECT count(*) FROM release_revisions r
  WHERE r.cluster_id = c.id AND r.gone_at IS NULL AND r.problem <> ''
) AS unreadable
FROM clusters c LEFT JOIN cluster_watches b ON b.cluster_id = c.id
WHERE c.project_id = :project_id
""")
_FIND_BY_NAME = f"""
SELECT {_INDEX}, r.following,
  {_operation_columns()}, {{revision}}
FROM clusters c
LEFT JOIN cluster_watches b ON b.cluster_id = c.id
LEFT JOIN LATERAL (
  SELECT * FROM operations
  WHERE cluster_id = :cluster_id AND namespace = :namespace AND release_name = :name
    AND ({_LIVING} OR {_FAILED})
  ORDER BY {_LIVING} DESC, created_at DESC LIMIT 1
) o ON true
LEFT JOIN LATERAL (
  SELECT newest.*, count(*) OVER () AS following,
    sum(values_text_size) OVER (ORDER BY revision DESC) - values_text_size AS before
  FROM (
    SELECT * FROM release_revisions
    WHERE cluster_id = :cluster_id AND namespace = :namespace AND name = :name AND {_SHOWN}
      AND (CAST(:below AS bigint) IS NULL OR revision < :below)
    ORDER BY revision DESC LIMIT :revisions
  ) newest
) r ON r.before < :budget
WHERE c.id = :cluster_id AND c.project_id = :project_id
ORDER BY r.revision DESC
"""
_FIND = text(_FIND_BY_NAME.format(revision=_columns(_REVISION, "r")))
_FIND_WITHOUT_VALUES = text(_FIND_BY_NAME.format(revision=_columns(_REVISION, "r", empty="values_sealed")))


def _page(*, values: bool) -> str:
    """Select the keys with their weights first, then the displayed columns of those that fit.

    The lookups by key are lateral with a limit, which leaves the planner only one way, the whole key: without
    statistics of a newly filled table it would join by the cluster alone, a thousand times slower.
    """
    revision = _columns(_REVISION, "r", empty="" if values else "values_sealed")
    operation = _operation_columns()
    by_key = f"""
    SELECT * FROM release_revisions
    WHERE cluster_id = :cluster_id AND namespace = {{key}}.namespace AND name = {{key}}.name
      AND revision = {{key}}.revision AND {_SHOWN}
    LIMIT 1
  """
    return f"""
WITH newest AS (
  SELECT namespace, name, max(revision) AS revision
  FROM release_revisions
  WHERE cluster_id = :cluster_id AND {_SHOWN}
    AND (CAST(:namespace AS text) IS NULL OR namespace = :namespace)
    AND (namespace, name) > (:after_namespace, :after_name)
  GROUP BY namespace, name ORDER BY namespace, name LIMIT :limit + 1
), laid AS (
  SELECT DISTINCT ON (1, 2)
    namespace COLLATE "C" AS namespace, release_name COLLATE "C" AS name, id,
    octet_length(coalesce(shown_sealed, request_sealed)) AS size
  FROM operations
  WHERE cluster_id = :cluster_id AND ({_LIVING} OR {_FAILED})
    AND (CAST(:namespace AS text) IS NULL OR namespace = :namespace)
    AND (namespace COLLATE "C", release_name COLLATE "C") > (:after_namespace, :after_name)
  ORDER BY 1, 2, {_LIVING} DESC, created_at DESC LIMIT :limit + 1
), keys AS (
  SELECT coalesce(n.namespace, laid.namespace) AS namespace, coalesce(n.name, laid.name) AS name,
    n.revision, laid.id, coalesce(r.values_text_size, 0) + coalesce(laid.size, 0) AS size
  FROM newest n
  LEFT JOIN LATERAL ({by_key.format(key="n")}) r ON true
  FULL JOIN laid ON laid.namespace = n.namespace AND laid.name = n.name
), weighed AS (
  SELECT keys.*, count(*) OVER () AS following, sum(size) OVER (ORDER BY namespace, name) - size AS before
  FROM keys ORDER BY namespace, name LIMIT :limit + 1
)
SELECT w.namespace, w.name, w.following, {operation}, {revision}
FROM weighed w
LEFT JOIN LATERAL ({by_key.format(key="w")}) r ON true
LEFT JOIN LATERAL (SELECT * FROM operations WHERE id = w.id LIMIT 1) o ON true
WHERE w.before < :budget
ORDER BY w.namespace, w.name
"""


_PAGE, _PAGE_WITHOUT_VALUES = text(_page(values=True)), text(_page(values=False))
_ORIGINS = text("""
SELECT id, revision, chart_id, description FROM operations
WHERE id = ANY(CAST(:ids AS text[])) AND cluster_id = :cluster_id AND action IN ('install', 'upgrade')
""")
_UNREADABLE = text("""
SELECT namespace, secret, problem, count(*) OVER () AS total FROM release_revisions
WHERE cluster_id = :cluster_id AND gone_at IS NULL AND problem <> ''
ORDER BY epoch DESC, resource_version DESC LIMIT :limit
""")
