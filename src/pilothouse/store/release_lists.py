"""Lists of the newest revisions over all clusters of a project, with the operations that overlay them.

Each page is one statement and so one snapshot. Releases under an operation are few: they are looked up one by one, and
all others come from an index that has little more than the newest revisions. The status that is shown is worked out
here too, as ``services.releases.shown`` does for one release, because lists are filtered and sorted by it. The sources
of the page's charts are read after it: a thousand releases are made from a few charts, or from none of a source.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import TextClause, text

from pilothouse.states import UNSETTLED, ReleaseStatus
from pilothouse.store.chart_origins import UPDATE_UNKNOWN, find_sources
from pilothouse.store.database import Transaction
from pilothouse.store.drift import OUTDATED
from pilothouse.store.shown_releases import (
    CANDIDATE,
    CHANGED_AT,
    FAILED,
    LIVING,
    OVERLAID,
    STORED_STATUS,
    UNINSTALLED_AT,
)


@dataclass(frozen=True)
class ReleaseFilter:
    """Which releases are listed; an empty field is no condition.

    ``cluster``: id or name. ``name``: a part of it. ``chart``: its name, or name and version as ``name-version``.
    ``manager``: the beginning of the manager's name, ``none`` or ``operator`` for one of another program. ``places``:
    clusters' ids with namespaces; None for all. ``locked``: on the way to another status, and no operation is at work,
    neither here nor ``elsewhere``: cluster, namespace and name of those. ``source``: the name of the one that the chart
    came from. ``update_unknown``: no
    update is offered, and there may be one. ``unlooked``: no look tells of its drift as it is now.
    """

    cluster: str = ""
    namespace: str = ""
    name: str = ""
    chart: str = ""
    manager: str = ""
    statuses: tuple[str, ...] = ()
    drifted: bool | None = None
    unlooked: bool = False
    locked: bool = False
    elsewhere: tuple[tuple[str, str, str], ...] = ()
    update_available: bool | None = None
    update_unknown: bool = False
    source: str = ""
    changed_since: datetime | None = None
    hide_addons: bool = False
    places: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True)
class ReleaseSort:
    """The order of a list, and the place to go on after: the values of ``columns`` of the last release seen."""

    by: str
    descending: bool = False
    after: tuple[Any, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the list is sorted by; together they are unique."""
        return SORTS[self.by]


@dataclass(frozen=True)
class ReleaseItem:
    """One release of a list; ``operation_id`` is the unfinished operation, ``age_seconds`` that of the cluster's index.

    ``revision`` is 0 for an install that has failed and left none. ``updated_at`` is when the last action on it began,
    or failed; ``uninstalled_at``: when it was uninstalled, if its history was kept. ``drifted``: by the last
    look at what is deployed now; None if there was none. ``source``: of its chart, by name; empty if that is not known,
    or not to be shown. ``source_removed_at``: when that was removed; None if it is there. ``update_available``: the
    newest version that the source has, if it is a newer one.
    """

    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    revision: int
    status: str
    chart_name: str
    chart_version: str
    app_version: str
    updated_at: datetime
    uninstalled_at: datetime | None
    manager: str
    operation_id: str
    age_seconds: float | None
    drifted: bool | None
    source: str
    source_removed_at: datetime | None
    update_available: str
    update_deprecated: bool


RELEASE_FIELDS: Final = tuple(field.name for field in fields(ReleaseItem))


@dataclass(frozen=True)
class ProjectIndex:
    """The clusters that a list covers: their number, and id and name of those whose index lacks releases."""

    clusters: int
    incomplete: list[tuple[str, str]]


_PLACE = ("cluster_name", "namespace", "name")
SORTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": _PLACE,
    "namespace": ("namespace", "name", "cluster_name"),
    "name": ("name", "cluster_name", "namespace"),
    "status": ("status", *_PLACE),
    "chart": ("chart_name", "chart_version", *_PLACE),
    "updated": ("changed_at", *_PLACE),
}
MANAGERS: Final[Mapping[str, str]] = {
    "none": "manager = ''",
    "flux": "manager LIKE 'Flux %'",
    "argocd": "manager LIKE 'Argo CD %'",
    "operator": "manager <> '' AND manager NOT LIKE 'Flux %' AND manager NOT LIKE 'Argo CD %'",
}


async def find_project_index(tx: Transaction, *, project_id: str, cluster: str) -> ProjectIndex:
    """Return which clusters of the project a list covers; ``cluster``: id or name of one, or empty for all."""
    mine = _MINE + (_THE_ONE if cluster else "")
    statement = f"SELECT cluster_name AS name, cluster_id, complete IS TRUE AS complete FROM ({mine}) mine ORDER BY 1"
    params = {"project_id": project_id} | ({"cluster": cluster} if cluster else {})
    rows = (await tx.execute(_as_text(statement), params)).all()
    return ProjectIndex(len(rows), [(row.cluster_id, row.name) for row in rows if not row.complete])


async def list_places(tx: Transaction, *, project_id: str) -> list[tuple[str, str]]:
    """Return the clusters' ids and namespaces that the project's lists have something of."""
    rows = await tx.execute(_as_text(_PLACES), {"project_id": project_id})
    return [(row.cluster_id, row.namespace) for row in rows]


async def list_releases(
    tx: Transaction,
    *,
    project_id: str,
    filters: ReleaseFilter,
    sort: ReleaseSort,
    limit: int,
    with_sources: bool = True,
) -> list[ReleaseItem]:
    """Return at most ``limit`` releases in that order; ``with_sources``: tell of the sources of their charts."""
    rows = await list_rows(
        tx,
        RELEASE_FIELDS,
        project_id=project_id,
        filters=filters,
        sort=sort,
        limit=limit,
        with_sources=with_sources,
    )
    return [ReleaseItem(*row) for row in rows]


async def list_rows(
    tx: Transaction,
    columns: Iterable[str],
    *,
    project_id: str,
    filters: ReleaseFilter,
    sort: ReleaseSort,
    limit: int,
    with_sources: bool = True,
) -> Sequence[Sequence[Any]]:
    """Return the same releases with the wanted fields of ``ReleaseItem`` only, in the order in which they are wanted.

    To make objects of a thousand rows takes longer than to find them.
    """
    names = tuple(columns)
    of_source = tuple(name for name in names if name in _UNKNOWN)
    read = [name for name in names if name not in _UNKNOWN] + (["chart_id"] if of_source else [])
    params = _parameters(project_id, filters) | {f"after_{number}": value for number, value in enumerate(sort.after)}
    rows = (await tx.execute(_as_text(_page(read, filters, sort, limit)), params)).all()
    if not of_source:
        return rows
    charts = {row[-1] for row in rows if row[-1]} if with_sources else set()
    sources = await find_sources(tx, charts, project_id=project_id) if charts else {}
    told = {chart: tuple(known[name] for name in of_source) for chart, known in sources.items()}
    unknown, found = tuple(_UNKNOWN[name] for name in of_source), [*read, *of_source]
    places = [found.index(name) for name in names]
    chosen = itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    return [chosen((*row, *told.get(row[-1], unknown))) for row in rows]


@functools.lru_cache(maxsize=128)
def _as_text(statement: str) -> TextClause:
    """Return the statement as the driver's layer takes it: to read it anew takes as long as a hundred rows."""
    return text(statement)


async def count_statuses(tx: Transaction, *, project_id: str, filters: ReleaseFilter) -> dict[str, int]:
    """Return how many releases have each status."""
    statement = (
        f"{_shown(filters, _conditions(filters))} SELECT status, count(*) FROM shown GROUP BY status ORDER BY status"
    )
    return {row[0]: row[1] for row in await tx.execute(_as_text(statement), _parameters(project_id, filters))}


def _parameters(project_id: str, filters: ReleaseFilter) -> dict[str, Any]:
    unbound = {"manager", "drifted", "unlooked", "locked", "hide_addons", "places", "elsewhere"}
    unbound |= {"update_available", "update_unknown"}
    conditions = {name: value for name, value in vars(filters).items() if value and name not in unbound}
    if filters.statuses:
        conditions["statuses"] = list(filters.statuses)
    if filters.locked and filters.elsewhere:
        for number, column in enumerate(("clusters", "namespaces", "names")):
            conditions[f"busy_{column}"] = [place[number] for place in filters.elsewhere]
    if filters.places is not None:
        conditions["place_clusters"] = [cluster_id for cluster_id, _ in filters.places]
        conditions["place_namespaces"] = [namespace for _, namespace in filters.places]
    return {**conditions, "project_id": project_id}


# ruff: noqa: S608  # what is put into these statements are names and conditions of our own
_PLACES = f"""
SELECT DISTINCT cluster_id, namespace FROM release_revisions
WHERE cluster_id IN (SELECT id FROM clusters WHERE project_id = :project_id)
UNION SELECT cluster_id, namespace FROM operations WHERE project_id = :project_id AND ({LIVING} OR {FAILED})"""
_AMONG_PLACES = """(cluster_id, namespace) IN (
    SELECT * FROM unnest(CAST(:place_clusters AS text[]), CAST(:place_namespaces AS text[])))"""
_BUSY_ELSEWHERE = """(cluster_id, namespace, name) IN (SELECT * FROM unnest(
    CAST(:busy_clusters AS text[]), CAST(:busy_namespaces AS text[]), CAST(:busy_names AS text[])))"""
_MINE = """
  SELECT c.id AS cluster_id, c.name COLLATE "C" AS cluster_name,
    b.listed_at IS NOT NULL AND NOT b.truncated AS complete,
    CAST(extract(epoch FROM clock_timestamp() - b.seen_at) AS double precision) AS age_seconds
  FROM clusters c LEFT JOIN cluster_watches b ON b.cluster_id = c.id
  WHERE c.project_id = :project_id"""
_THE_ONE = """ AND (
    c.id = :cluster
    OR (c.name = :cluster AND NOT EXISTS (SELECT FROM clusters WHERE id = :cluster AND project_id = :project_id))
  )"""
_UNSETTLED = ", ".join(f"'{status}'" for status in sorted(UNSETTLED))
# A look at an older revision does as well if the newest failed, as that one is deployed still.
_LOOKS = "drift_looks looked WHERE cluster_id IN (SELECT cluster_id FROM mine) AND problem = '' AND {found}"
_HAS_LOOK = f"""(
    (status NOT IN ('uninstalled', 'failed')
      AND (cluster_id, namespace, name, revision) IN (SELECT cluster_id, namespace, name, revision FROM {_LOOKS}))
    OR (status = 'failed' AND (cluster_id, namespace, name) IN (
      SELECT cluster_id, namespace, name FROM {_LOOKS} AND NOT {OUTDATED}))
  )"""
# Few charts come from sources, so they are found first.
_OF_SOURCES = """chart_id IN (
    SELECT o.chart_id FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
    WHERE s.project_id = :project_id AND o.newer_version {found} '')"""
_OF_ONE_SOURCE = """chart_id IN (
    SELECT o.chart_id FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
    WHERE s.project_id = :project_id AND s.name = :source)"""
# What is told of a chart that no source has, or whose source is not to be shown.
_UNKNOWN: Final[Mapping[str, object]] = {
    "source": "",
    "source_removed_at": None,
    "update_available": "",
    "update_deprecated": False,
}
_LOOKED = f"""LEFT JOIN drift_looks looked
  ON looked.cluster_id = page.cluster_id AND looked.namespace = page.namespace AND looked.name = page.name
  AND looked.problem = '' AND (looked.revision = page.revision AND page.status NOT IN ('uninstalled', 'failed')
    OR page.status = 'failed' AND NOT {OUTDATED})"""


def _conditions(filters: ReleaseFilter) -> list[str]:
    """Return the conditions on what is shown."""
    found = {
        "namespace": "namespace = :namespace",
        "name": "position(:name IN name) > 0",
        "chart": "(chart_name = :chart OR chart_name || '-' || chart_version = :chart)",
        "manager": MANAGERS.get(filters.manager, "false"),
        "statuses": "status = ANY(CAST(:statuses AS text[]))",
        "changed_since": "changed_at >= :changed_since",
        "hide_addons": "name NOT LIKE 'cceaddon-%'",
        "locked": f"operation_id = '' AND status IN ({_UNSETTLED})",
    }
    conditions = [condition for name, condition in found.items() if getattr(filters, name)]
    if filters.locked and filters.elsewhere:
        conditions.append(f"NOT {_BUSY_ELSEWHERE}")
    if filters.places is not None:
        conditions.append(_AMONG_PLACES)
    if filters.drifted is not None:
        conditions.append(_HAS_LOOK.replace("{found}", "drifted" if filters.drifted else "NOT drifted"))
    if filters.unlooked:  # what is uninstalled has nothing to be looked at
        conditions.append(f"status <> '{ReleaseStatus.UNINSTALLED}' AND NOT {_HAS_LOOK.replace('{found}', 'true')}")
    if filters.update_available is not None:
        conditions.append(_OF_SOURCES.replace("{found}", "<>" if filters.update_available else "="))
    if filters.update_unknown:
        conditions.append(UPDATE_UNKNOWN)
    if filters.source:
        conditions.append(_OF_ONE_SOURCE)
    return conditions


def _shown(
    filters: ReleaseFilter,
    conditions: list[str],
    *,
    clusters: str = "SELECT * FROM mine",
    each: str = "",
    all_of_them: str = "",
) -> str:
    """Return the beginning of a statement: ``shown`` are all releases that the conditions allow.

    Of those under no operation: ``clusters`` are read in that order, ``each`` is order and limit within a cluster.
    """
    where = " AND ".join(["true", *conditions])
    return f"""
WITH mine AS MATERIALIZED ({_MINE}{_THE_ONE if filters.cluster else ""}), laid AS MATERIALIZED (
  SELECT DISTINCT ON (o.cluster_id, o.namespace, o.name) o.*, mine.cluster_name, mine.age_seconds
  FROM mine CROSS JOIN LATERAL ({_operations("true", LIVING)} UNION ALL {_operations("false", FAILED)}) o
  ORDER BY o.cluster_id, o.namespace, o.name, o.living DESC, o.created_at DESC
), overlaid AS ({OVERLAID}
), shown AS (
  SELECT * FROM overlaid WHERE {where}
  UNION ALL
  (SELECT mine.cluster_id, mine.cluster_name, newest.*, mine.age_seconds FROM ({clusters}) mine CROSS JOIN LATERAL (
    SELECT * FROM (SELECT *, {CHANGED_AT} FROM (
      SELECT DISTINCT ON (r.namespace, r.name) r.namespace, r.name, r.revision,
        {STORED_STATUS} COLLATE "C" AS status, r.chart_name COLLATE "C" AS chart_name,
        r.chart_version COLLATE "C" AS chart_version, r.app_version,
        coalesce(r.last_deployed, 'epoch') AS updated_at, {UNINSTALLED_AT} AS uninstalled_at, r.manager,
        r.origin_chart_id AS chart_id, '' AS operation_id
      FROM release_revisions r
      WHERE r.cluster_id = mine.cluster_id AND {CANDIDATE}
      ORDER BY r.namespace, r.name, r.revision DESC
    ) newest_stored) stored
    WHERE (mine.cluster_id, namespace, name) NOT IN (SELECT cluster_id, namespace, name FROM laid) AND {where}
    {each}
  ) newest {all_of_them})
)
"""


def _operations(living: str, condition: str) -> str:
    """Select the operations of one cluster by a condition that is, to the letter, that of a partial index."""
    return f"""
    SELECT id, cluster_id, namespace COLLATE "C" AS namespace, release_name COLLATE "C" AS name, action, state,
      keep_resources, undo_revision, revision, base_revision, chart_name, chart_version, chart_id, created_at,
      finished_at, {living} AS living
    FROM operations WHERE cluster_id = mine.cluster_id AND {condition}
  """


def _page(read: Sequence[str], filters: ReleaseFilter, sort: ReleaseSort, limit: int) -> str:
    conditions, direction = _conditions(filters), "DESC" if sort.descending else "ASC"
    if sort.after:
        places = ", ".join(f":after_{number}" for number in range(len(sort.columns)))
        conditions.append(f"({', '.join(sort.columns)}) {'<' if sort.descending else '>'} ({places})")
    order = ", ".join(f"{column} {direction}" for column in sort.columns)
    # within a cluster its name is the same, and PostgreSQL does not know that
    within = ", ".join(f"{column} {direction}" for column in sort.columns if column != "cluster_name")
    each = f"ORDER BY {within} LIMIT {limit:d}"
    columns = ", ".join("looked.drifted" if column == "drifted" else f"page.{column}" for column in read)
    # a number, not a parameter: a plan for any limit would read everything
    ordered = f"ORDER BY {order} LIMIT {limit:d}"
    order_of_page = "ORDER BY " + ", ".join(f"page.{column} {direction}" for column in sort.columns)
    shown = _shown(filters, conditions, each=each)
    if sort.by == "cluster":  # clusters after the page is full are not read, nor those before the place
        further = f"WHERE cluster_name {'<=' if sort.descending else '>='} :after_0" if sort.after else ""
        clusters = f"SELECT * FROM mine {further} ORDER BY cluster_name {direction}"
        shown = _shown(filters, conditions, clusters=clusters, each=each, all_of_them=ordered)
    looked = _LOOKED if "drifted" in read else ""
    return f"{shown} SELECT {columns} FROM (SELECT * FROM shown {ordered}) page {looked} {order_of_page}"
