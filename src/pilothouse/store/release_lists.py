"""Lists of the newest revisions over all clusters of a project, with the operations that overlay them.

Each page is one statement and so one snapshot. Releases under an operation are few: they are looked up one by one, and
all others come from an index that has little more than the newest revisions. The status that is shown is worked out
here too, as ``services.releases.shown`` does for one release, because lists are filtered and sorted by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from pilothouse.store.database import Transaction


@dataclass(frozen=True)
class ReleaseFilter:
    """Which releases are listed; an empty field is no condition.

    ``cluster``: id or name. ``name``: a part of it. ``chart``: its name, or name and version as ``name-version``.
    ``manager``: the beginning of the manager's name, ``none`` or ``operator`` for one of another program.
    """

    cluster: str = ""
    namespace: str = ""
    name: str = ""
    chart: str = ""
    manager: str = ""
    statuses: tuple[str, ...] = ()
    changed_since: datetime | None = None
    hide_addons: bool = False


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

    ``updated_at`` is when the last action on it began, or failed.
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
    manager: str
    operation_id: str
    age_seconds: float | None


@dataclass(frozen=True)
class ProjectIndex:
    """The clusters that a list covers: their number, and the names of those whose index lacks releases."""

    clusters: int
    incomplete: list[str]


_PLACE = ("cluster_name", "namespace", "name")
SORTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": _PLACE,
    "namespace": ("namespace", "name", "cluster_name"),
    "name": ("name", "cluster_name", "namespace"),
    "status": ("status", *_PLACE),
    "chart": ("chart_name", "chart_version", *_PLACE),
    "updated": ("updated_at", *_PLACE),
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
    statement = f"SELECT cluster_name AS name, complete IS TRUE AS complete FROM ({mine}) mine ORDER BY 1"
    params = {"project_id": project_id} | ({"cluster": cluster} if cluster else {})
    rows = (await tx.execute(text(statement), params)).all()
    return ProjectIndex(len(rows), [row.name for row in rows if not row.complete])


async def list_releases(
    tx: Transaction, *, project_id: str, wanted: ReleaseFilter, sort: ReleaseSort, limit: int
) -> list[ReleaseItem]:
    """Return at most ``limit`` releases in that order."""
    params = _parameters(project_id, wanted) | {f"after_{number}": value for number, value in enumerate(sort.after)}
    return [ReleaseItem(*row) for row in await tx.execute(text(_page(wanted, sort, limit)), params)]


async def count_statuses(tx: Transaction, *, project_id: str, wanted: ReleaseFilter) -> dict[str, int]:
    """Return how many releases have each status."""
    statement = (
        f"{_shown(wanted, _conditions(wanted))} SELECT status, count(*) FROM shown GROUP BY status ORDER BY status"
    )
    return {row[0]: row[1] for row in await tx.execute(text(statement), _parameters(project_id, wanted))}


def _parameters(project_id: str, wanted: ReleaseFilter) -> dict[str, Any]:
    conditions = {name: value for name, value in vars(wanted).items() if value and name != "manager"}
    conditions.pop("hide_addons", None)
    if wanted.statuses:
        conditions["statuses"] = list(wanted.statuses)
    return {**conditions, "project_id": project_id}


# ruff: noqa: S608  # what is put into these statements are names and conditions of our own
_LIVING = "state IN ('queued', 'running', 'cancelling')"
_FAILED = "state = 'failed' AND NOT wrote_revision AND dismissed_at IS NULL"
_CANDIDATE = "gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)"
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
# What is shown of a release under an operation: as ``ShownReleases.newest`` has it.
_UNDERWAY = """CASE
    WHEN o.state = 'cancelling' AND o.action = 'install' AND NOT o.keep_resources THEN 'uninstalling'
    WHEN o.state = 'cancelling' AND o.action = 'upgrade' AND NOT o.keep_resources THEN 'pending-rollback'
    WHEN o.state = 'cancelling' AND o.keep_resources AND o.action <> 'install' THEN 'unknown'
    WHEN o.action = 'install' THEN 'pending-install'
    WHEN o.action = 'upgrade' THEN 'pending-upgrade'
    WHEN o.action = 'rollback' THEN 'pending-rollback'
    WHEN o.action = 'uninstall' THEN 'uninstalling'
    ELSE 'unknown' END"""
_FAILED_BEFORE = "(NOT o.living AND o.base_revision = r.revision)"
_STORED_STATUS = "CASE WHEN r.status = 'superseded' THEN 'unknown' ELSE r.status END"


_OVERLAID = f"""
  SELECT o.cluster_id, o.cluster_name, o.namespace, o.name,
    CASE WHEN o.living OR r.name IS NULL
      THEN coalesce(o.undo_revision, o.revision, r.revision + 1, 1) ELSE r.revision END AS revision,
    CASE WHEN o.living THEN {_UNDERWAY} WHEN r.name IS NULL OR {_FAILED_BEFORE} THEN 'failed' ELSE {_STORED_STATUS} END
      COLLATE "C" AS status,
    CASE WHEN o.living OR r.name IS NULL THEN o.chart_name ELSE r.chart_name END COLLATE "C" AS chart_name,
    CASE WHEN o.living OR r.name IS NULL THEN o.chart_version ELSE r.chart_version END COLLATE "C" AS chart_version,
    CASE WHEN (o.living OR r.name IS NULL) AND (o.chart_name, o.chart_version)
      IS DISTINCT FROM (r.chart_name, r.chart_version) THEN '' ELSE r.app_version END AS app_version,
    CASE WHEN o.living OR r.name IS NULL THEN coalesce(o.finished_at, o.created_at)
      WHEN {_FAILED_BEFORE} THEN coalesce(o.finished_at, r.last_deployed, 'epoch')
      ELSE coalesce(r.last_deployed, 'epoch') END AS updated_at,
    coalesce(r.manager, '') AS manager, CASE WHEN o.living THEN o.id ELSE '' END AS operation_id, o.age_seconds
  FROM laid o LEFT JOIN LATERAL (
    SELECT * FROM release_revisions
    WHERE cluster_id = o.cluster_id AND namespace = o.namespace AND name = o.name AND {_CANDIDATE}
    ORDER BY revision DESC LIMIT 1
  ) r ON true
  WHERE o.living OR r.name IS NOT NULL OR o.action = 'install'"""


def _conditions(wanted: ReleaseFilter) -> list[str]:
    """Return the conditions on what is shown."""
    found = {
        "namespace": "namespace = :namespace",
        "name": "position(:name IN name) > 0",
        "chart": "(chart_name = :chart OR chart_name || '-' || chart_version = :chart)",
        "manager": MANAGERS.get(wanted.manager, "false"),
        "statuses": "status = ANY(CAST(:statuses AS text[]))",
        "changed_since": "updated_at >= :changed_since",
        "hide_addons": "name NOT LIKE 'cceaddon-%'",
    }
    return [condition for name, condition in found.items() if getattr(wanted, name)]


def _shown(
    wanted: ReleaseFilter,
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
WITH mine AS MATERIALIZED ({_MINE}{_THE_ONE if wanted.cluster else ""}), laid AS MATERIALIZED (
  SELECT DISTINCT ON (o.cluster_id, o.namespace, o.name) o.*, mine.cluster_name, mine.age_seconds
  FROM mine CROSS JOIN LATERAL ({_operations("true", _LIVING)} UNION ALL {_operations("false", _FAILED)}) o
  ORDER BY o.cluster_id, o.namespace, o.name, o.living DESC, o.created_at DESC
), overlaid AS ({_OVERLAID}
), shown AS (
  SELECT * FROM overlaid WHERE {where}
  UNION ALL
  (SELECT mine.cluster_id, mine.cluster_name, newest.*, mine.age_seconds FROM ({clusters}) mine CROSS JOIN LATERAL (
    SELECT * FROM (
      SELECT DISTINCT ON (r.namespace, r.name) r.namespace, r.name, r.revision,
        {_STORED_STATUS} COLLATE "C" AS status, r.chart_name COLLATE "C" AS chart_name,
        r.chart_version COLLATE "C" AS chart_version, r.app_version,
        coalesce(r.last_deployed, 'epoch') AS updated_at, r.manager, '' AS operation_id
      FROM release_revisions r
      WHERE r.cluster_id = mine.cluster_id AND {_CANDIDATE}
      ORDER BY r.namespace, r.name, r.revision DESC
    ) stored
    WHERE (mine.cluster_id, namespace, name) NOT IN (SELECT cluster_id, namespace, name FROM laid) AND {where}
    {each}
  ) newest {all_of_them})
)
"""


def _operations(living: str, condition: str) -> str:
    """Select the operations of one cluster by a condition that is, to the letter, that of a partial index."""
    return f"""
    SELECT id, cluster_id, namespace COLLATE "C" AS namespace, release_name COLLATE "C" AS name, action, state,
      keep_resources, undo_revision, revision, base_revision, chart_name, chart_version, created_at, finished_at,
      {living} AS living
    FROM operations WHERE cluster_id = mine.cluster_id AND {condition}
  """


def _page(wanted: ReleaseFilter, sort: ReleaseSort, limit: int) -> str:
    conditions, direction = _conditions(wanted), "DESC" if sort.descending else "ASC"
    if sort.after:
        places = ", ".join(f":after_{number}" for number in range(len(sort.columns)))
        conditions.append(f"({', '.join(sort.columns)}) {'<' if sort.descending else '>'} ({places})")
    order = ", ".join(f"{column} {direction}" for column in sort.columns)
    # within a cluster its name is the same, and PostgreSQL does not know that
    within = ", ".join(f"{column} {direction}" for column in sort.columns if column != "cluster_name")
    each = f"ORDER BY {within} LIMIT {limit:d}"
    columns = ", ".join(field.name for field in fields(ReleaseItem))
    # a number, not a parameter: a plan for any limit would read everything
    ordered = f"ORDER BY {order} LIMIT {limit:d}"
    shown = _shown(wanted, conditions, each=each)
    if sort.by == "cluster":  # clusters after the page is full are not read, nor those before the place
        further = f"WHERE cluster_name {'<=' if sort.descending else '>='} :after_0" if sort.after else ""
        clusters = f"SELECT * FROM mine {further} ORDER BY cluster_name {direction}"
        shown = _shown(wanted, conditions, clusters=clusters, each=each, all_of_them=ordered)
    return f"{shown} SELECT {columns} FROM shown {ordered}"
