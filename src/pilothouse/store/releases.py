"""Reads of the release index, with the operations that lie over it.

Each answer comes from one statement and so from one moment: an operation's outcome and the revision that it made are
committed together, and no reader sees one without the other.
"""

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
    """A revision in the index, with the chart and the user's text of the operation that wrote it, if one did."""

    origin_chart_id: str
    origin_description: str


@dataclass(frozen=True)
class FoundIndex:
    """A cluster and how fresh the index of it is."""

    cluster: ClusterName
    freshness: Freshness


@dataclass(frozen=True)
class FoundRelease(FoundIndex):
    """A release of a cluster: its revisions, newest first, and the operation that lies over them.

    ``more``: there are further revisions among those that were asked for, over the bytes that these may have.
    """

    revisions: list[RevisionRow]
    more: bool
    operation: OperationRow | None


@dataclass(frozen=True)
class ListedRelease:
    """One release of a list: its newest revision, the operation that lies over it, or both."""

    namespace: str
    name: str
    revision: RevisionRow | None
    operation: OperationRow | None


@dataclass(frozen=True)
class Page:
    """A part of a list, by namespace and name; ``more``: something follows its last release."""

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
) -> FoundRelease | None:
    """The release with at most that many of its revisions, ``below`` one of them; None for no such cluster.

    Their values have about ``budget_bytes`` as JSON text, but there is at least one.

    A release that does not exist has neither revisions nor an operation.
    """
    given = {
        "cluster_id": cluster_id,
        "project_id": project_id,
        "namespace": namespace,
        "name": name,
        "revisions": revisions,
        "below": below,
        "budget": budget_bytes,
    }
    rows = (await tx.execute(_FIND, given)).all()
    if not rows:
        return None
    return FoundRelease(
        **vars(_index(rows[0])),
        revisions=[revision for row in rows if (revision := _revision(row)) is not None],
        more=(rows[0].following or 0) > len(rows),
        operation=_operation(rows[0]),
    )


async def find_index(tx: Transaction, cluster_id: str, *, project_id: str) -> FoundIndex | None:
    """How fresh the index of the cluster is; None if the project has no such cluster."""
    row = (await tx.execute(_FIND_INDEX, {"cluster_id": cluster_id, "project_id": project_id})).one_or_none()
    return _index(row) if row else None


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
    """The releases that follow ``after``, at most ``limit`` and about ``budget_bytes``, but at least one."""
    given = {
        "cluster_id": cluster_id,
        "namespace": namespace,
        "after_namespace": after[0],
        "after_name": after[1],
        "limit": limit,
        "budget": budget_bytes,
    }
    rows = (await tx.execute(_PAGE if with_values else _PAGE_WITHOUT_VALUES, given)).all()
    releases = [
        ListedRelease(row.namespace, row.name, revision=_revision(row), operation=_operation(row))
        for row in rows[:limit]
    ]
    return Page(releases, more=bool(rows) and rows[0].following > len(releases))


@dataclass(frozen=True)
class Origin:
    """The chart and the user's text that an operation ordered."""

    chart_id: str
    description: str


async def find_origins(tx: Transaction, cluster_id: str, operation_ids: list[str]) -> dict[tuple[str, int], Origin]:
    """What those of the operations ordered that write a revision of an own chart, by operation and revision."""
    rows = await tx.execute(_ORIGINS, {"cluster_id": cluster_id, "ids": operation_ids})
    return {(row.id, row.revision): Origin(row.chart_id, row.description) for row in rows}


@dataclass(frozen=True)
class UnreadableSecret:
    """A Secret that says it holds a release and does not."""

    namespace: str
    secret: str
    problem: str


@dataclass(frozen=True)
class UnreadableSecrets:
    """How many of a cluster's Secrets cannot be read, and the first of them."""

    count: int
    first: list[UnreadableSecret]


async def find_unreadable(tx: Transaction, cluster_id: str, *, limit: int) -> UnreadableSecrets:
    """The cluster's Secrets that cannot be read; by name as many as ``limit``, what changed last first."""
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
    return OperationRow(*values) if values[0] is not None else None


_REVISION = [field.name for field in fields(RevisionRow)]
_OPERATION = [field.name for field in fields(OperationRow)]
_SHOWN = "gone_at IS NULL AND problem = ''"
# The two conditions are those of two partial indexes, to the letter.
_LIVING = "state IN ('queued', 'running', 'cancelling')"
_FAILED = "state = 'failed' AND NOT wrote_release AND dismissed_at IS NULL"


def _columns(names: list[str], table: str, *, empty: str = "") -> str:
    return ", ".join(
        f"CAST(NULL AS bytea) AS {table}_{name}" if name == empty else f"{table}.{name} AS {table}_{name}"
        for name in names
    )


def _operation_columns() -> str:
    """Of the order only what is shown; rows of earlier releases hold both in one."""
    shown = "coalesce(o.shown_sealed, o.request_sealed) AS o_shown_sealed"
    return _columns(_OPERATION, "o", empty="request_sealed").replace("o.shown_sealed AS o_shown_sealed", shown)


# ruff: noqa: S608  # what is put into these statements are column names of our own
_INDEX = """c.id AS cluster_id, c.name AS cluster_name, b.listed_at IS NOT NULL AS listed,
  CAST(extract(epoch FROM clock_timestamp() - b.seen_at) AS double precision) AS age, coalesce(b.error, '') AS error,
  coalesce(b.truncated, false) AS truncated"""
_FIND_INDEX = text(f"""
SELECT {_INDEX}
FROM clusters c LEFT JOIN observations b ON b.cluster_id = c.id
WHERE c.id = :cluster_id AND c.project_id = :project_id
""")
_FIND = text(f"""
SELECT {_INDEX}, r.following,
  {_operation_columns()}, {_columns(_REVISION, "r")}
FROM clusters c
LEFT JOIN observations b ON b.cluster_id = c.id
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
""")


def _page(*, values: bool) -> str:
    """First the keys with what each weighs, then what is shown of those that fit.

    The look-ups by key are lateral with a limit, which leaves the planner one way to make them, by the whole key: with
    no statistics yet of a table that was just filled it would join by the cluster alone, a thousand times slower.
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
