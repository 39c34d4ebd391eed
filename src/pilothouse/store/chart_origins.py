"""Queries about where releases' charts came from: the source of each pulled chart, and what is newer there.

A release names the chart that it was made from, by its id. That outlives the pulled archive, which may be dropped, so
the source of an id is kept in a table of its own, with the newest version as it was when the source was synchronised:
a list of releases reads one row for each chart. Another table has those whose source was removed.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, TextClause, select, text

from pilothouse.store.database import Transaction
from pilothouse.store.signed_versions import IS_SIGNED
from pilothouse.store.tables import cluster_watches, release_revisions

#: So long it is not looked whether something is made still from a chart whose source was removed.
_CHECK_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True)
class ChartOrigin:
    """The source of a chart by its name, and the newest version that it has; empty if it is no newer one.

    ``refused_version``: a newer one still, if it was refused, or would be. ``unchecked_version``: a newer one still of
    which it is not known yet whether a key of the source has signed it. ``problem``: why the source could not be
    synchronised last, and ``failed_at`` when. ``removed_at``: when the source was removed, of which no version is known
    then.
    """

    source: str = ""
    newer_version: str = ""
    newer_deprecated: bool = False
    refused_version: str = ""
    unchecked_version: str = ""
    url: str = ""
    problem: str = ""
    failed_at: datetime | None = None
    synced_at: datetime | None = None
    removed_at: datetime | None = None


async def renew(tx: Transaction, source_id: str, *, name: str = "") -> None:
    """Note the pulled charts of the source, or those of one name, and what is newer there now."""
    params = {"of_source": source_id, "of_name": name}
    await tx.execute(_NOTE, params)
    await tx.execute(_RENEW, params)


async def renew_all(tx: Transaction, project_id: str) -> None:
    """Note what is newer now in the project's sources, which the caller holds: other charts may count as verified."""
    await tx.execute(_RENEW_ALL, {"of_project": project_id})


async def find_origin(tx: Transaction, chart_id: str, *, project_id: str) -> ChartOrigin:
    """Return where the chart came from; without a source if it was uploaded."""
    row = (await tx.execute(_FIND, {"of_chart": chart_id, "of_project": project_id})).one_or_none()
    return ChartOrigin(*row) if row is not None else ChartOrigin()


async def find_sources(tx: Transaction, chart_ids: Collection[str], *, project_id: str) -> dict[str, dict[str, object]]:
    """Return for each of the charts that came from a source what lists tell of it, by the names of their fields."""
    rows = await tx.execute(_FIND_SOURCES, {"of_charts": list(chart_ids), "of_project": project_id})
    return {row["chart_id"]: {**row} for row in rows.mappings()}


async def keep_removed(tx: Transaction, source_id: str) -> None:
    """Keep where the source's charts came from; it is about to be removed by the transaction, which holds it."""
    await tx.execute(_KEEP_REMOVED, {"of_source": source_id})


async def sweep(tx: Transaction, *, limit: int) -> int:
    """Forget at most ``limit`` charts that are no longer kept, and of which nothing was made that is there still.

    And as many whose source was removed, each of which is looked at once a day.
    """
    kept = (await tx.execute(_SWEEP, {"most": limit})).rowcount
    return kept + (await tx.execute(_SWEEP_REMOVED, {"most": limit, "seconds": _CHECK_SECONDS})).rowcount


async def inherit(tx: Transaction, cluster_id: str, written: Iterable[Mapping[str, str]]) -> None:
    """Write to revisions that one statement wrote what ``inherited_chart`` finds for one: none of them saw another.

    ``written`` names them by namespace, release and Secret; the transaction holds them locked.
    """
    await tx.execute(_INHERIT, {"of_cluster": cluster_id, "written": orjson.dumps(list(written)).decode()})


def inherited_chart(revision: dict[str, Any]) -> ColumnElement[str]:
    """Return the chart of the newest revision below the given one, in ``cluster_watches``, that has the same chart.

    A rollback, or an upgrade with the chart that the release has, names none, and takes over what is known of it.
    """
    below = release_revisions.alias("below")
    is_same = (below.c[column] == revision[column] for column in ("namespace", "name", "chart_name", "chart_version"))
    return (
        select(below.c.origin_chart_id)
        .where(
            below.c.cluster_id == cluster_watches.c.cluster_id,
            *is_same,
            below.c.revision < revision["revision"],
            text("below.gone_at IS NULL AND below.problem = '' AND below.origin_chart_id <> ''"),
        )
        .order_by(below.c.revision.desc())
        .limit(1)
        .scalar_subquery()
        .correlate(cluster_watches)
    )


# Few releases have an origin, and none of a cluster that is indexed from nothing: the others end with the second part.
_INHERIT = text("""
WITH written AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:written AS json))
    AS one (namespace text COLLATE "C", name text COLLATE "C", secret text COLLATE "C")
), origins AS MATERIALIZED (
  SELECT below.* FROM (SELECT DISTINCT namespace, name FROM written) release CROSS JOIN LATERAL (
    SELECT namespace, name, chart_name, chart_version, revision, origin_chart_id FROM release_revisions
    WHERE cluster_id = :of_cluster AND namespace = release.namespace AND name = release.name
      AND gone_at IS NULL AND problem = '' AND origin_chart_id <> ''
    OFFSET 0
  ) below
), heirs AS MATERIALIZED (
  SELECT own.namespace, own.secret, (
    SELECT below.origin_chart_id FROM origins below
    WHERE (below.namespace, below.name, below.chart_name, below.chart_version)
        = (own.namespace, own.name, own.chart_name, own.chart_version) AND below.revision < own.revision
    ORDER BY below.revision DESC LIMIT 1
  ) AS chart_id
  FROM written JOIN release_revisions own
    ON own.cluster_id = :of_cluster AND own.namespace = written.namespace AND own.secret = written.secret
  WHERE EXISTS (SELECT FROM origins) AND own.origin_chart_id = '' AND own.gone_at IS NULL AND own.problem = ''
)
UPDATE release_revisions own SET origin_chart_id = heirs.chart_id
FROM heirs
WHERE own.cluster_id = :of_cluster AND own.namespace = heirs.namespace AND own.secret = heirs.secret
  AND heirs.chart_id IS NOT NULL
""")
_NOTE = text("""
INSERT INTO chart_origins (chart_id, source_id, name, version, order_key)
SELECT c.id, c.source_id, c.name, c.version, v.order_key
FROM charts c JOIN source_versions v ON v.source_id = c.source_id AND v.name = c.name AND v.version = c.version
WHERE c.source_id = :of_source AND (:of_name = '' OR c.name = :of_name)
ON CONFLICT (chart_id) DO NOTHING
""")
# A version ``v`` of the source ``s`` that its project would refuse: it takes verified charts only, the source verifies
# none, and no trusted key has signed the archive, as far as it is known.
_UNVERIFIED = """(
  EXISTS (SELECT FROM project_trust rule WHERE rule.project_id = s.project_id AND rule.verified_only)
  AND (s.verification = 'none' OR s.trusted = '{}')
  AND NOT EXISTS (
    SELECT FROM chart_verifications signed
    WHERE signed.project_id = s.project_id AND NOT signed.of_revision
      AND signed.digest = CASE WHEN v.digest <> '' THEN lower(replace(v.digest, 'sha256:', '')) ELSE (
        SELECT c.digest FROM charts c WHERE (c.source_id, c.name, c.version) = (v.source_id, v.name, v.version)
      ) END
      AND (EXISTS (SELECT FROM project_trust own
             WHERE own.project_id = s.project_id AND signed.signing_key = ANY(own.trusted))
        OR EXISTS (SELECT FROM chart_sources other
             WHERE other.project_id = s.project_id AND signed.signing_key = ANY(other.trusted)))
  )
)"""


def _renewing(which: str) -> TextClause:
    """Build the statement: the newest stable one, as Helm takes it, whether it is deprecated or not.

    One that was refused, or would be, hides none before it, nor does one that is not known to be signed, where keys are
    to. The newest is the same for all that is older, so it is looked for once for each chart, and not for each version
    that was pulled.
    """
    return text(f"""
WITH pulled AS MATERIALIZED (
  SELECT known.source_id, known.name, min(known.order_key) AS oldest
  FROM chart_origins known JOIN chart_sources s ON s.id = known.source_id WHERE {which}
  GROUP BY known.source_id, known.name
), now AS MATERIALIZED (
  SELECT pulled.*, newest.order_key, newest.version, newest.deprecated
  FROM pulled JOIN chart_sources s ON s.id = pulled.source_id LEFT JOIN LATERAL (
    SELECT v.order_key, v.version, v.deprecated FROM source_versions v
    WHERE v.source_id = pulled.source_id AND v.name = pulled.name AND v.order_key > pulled.oldest AND NOT v.is_gone
      AND right(v.order_key, 1) = '~' AND NOT EXISTS (
        SELECT FROM refused_versions r
        WHERE (r.source_id, r.name, r.version, r.digest) = (v.source_id, v.name, v.version, v.digest)
      ) AND NOT {_UNVERIFIED} AND {IS_SIGNED}
    ORDER BY v.order_key DESC, v.version LIMIT 1
  ) newest ON true
), renewed AS (
  SELECT o.chart_id, CASE WHEN now.order_key > o.order_key THEN now.version ELSE '' END AS version,
    coalesce(now.order_key > o.order_key AND now.deprecated, false) AS deprecated
  FROM chart_origins o JOIN now ON (now.source_id, now.name) = (o.source_id, o.name)
)
UPDATE chart_origins o SET newer_version = renewed.version, newer_deprecated = renewed.deprecated FROM renewed
WHERE o.chart_id = renewed.chart_id AND (o.newer_version, o.newer_deprecated) <> (renewed.version, renewed.deprecated)
""")  # noqa: S608  # what is put in are conditions of our own


_RENEW = _renewing("known.source_id = :of_source AND (:of_name = '' OR known.name = :of_name)")
_RENEW_ALL = _renewing("s.project_id = :of_project")
_FIND = text(f"""
SELECT s.name, o.newer_version, o.newer_deprecated, coalesce(newest.version, ''), coalesce(unchecked.version, ''),
  s.url, s.problem, s.failed_at, s.synced_at, CAST(NULL AS timestamptz) AS removed_at
FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
LEFT JOIN LATERAL (
  SELECT v.version, r.reason IS NOT NULL OR {_UNVERIFIED} AS refused FROM source_versions v
  LEFT JOIN refused_versions r
    ON (r.source_id, r.name, r.version, r.digest) = (v.source_id, v.name, v.version, v.digest)
  WHERE v.source_id = o.source_id AND v.name = o.name AND v.order_key > o.order_key AND NOT v.is_gone
    AND right(v.order_key, 1) = '~'
  ORDER BY v.order_key DESC, v.version LIMIT 1
) newest ON newest.refused
LEFT JOIN LATERAL (
  SELECT v.version, {IS_SIGNED} AS signed FROM source_versions v
  WHERE v.source_id = o.source_id AND v.name = o.name AND v.order_key > o.order_key AND NOT v.is_gone
    AND right(v.order_key, 1) = '~' AND NOT EXISTS (
      SELECT FROM refused_versions r
      WHERE (r.source_id, r.name, r.version, r.digest) = (v.source_id, v.name, v.version, v.digest)
    )
  ORDER BY v.order_key DESC, v.version LIMIT 1
) unchecked ON NOT unchecked.signed
WHERE o.chart_id = :of_chart AND s.project_id = :of_project
UNION ALL
SELECT source, '', false, '', '', url, '', NULL, NULL, removed_at FROM removed_origins
WHERE chart_id = :of_chart AND project_id = :of_project
""")  # noqa: S608  # the condition that is put in is our own
_FIND_SOURCES = text("""
SELECT chart_id, source, removed_at AS source_removed_at, '' AS update_available, false AS update_deprecated
FROM removed_origins WHERE chart_id = ANY(CAST(:of_charts AS text[])) AND project_id = :of_project
UNION ALL
SELECT o.chart_id, s.name, NULL, o.newer_version, o.newer_deprecated
FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
WHERE o.chart_id = ANY(CAST(:of_charts AS text[])) AND s.project_id = :of_project
""")
_KEEP_REMOVED = text("""
INSERT INTO removed_origins (chart_id, project_id, source, url)
SELECT o.chart_id, s.project_id, s.name, s.url FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
WHERE s.id = :of_source
ON CONFLICT (chart_id) DO NOTHING
""")
#: A release is made from the chart ``chart_id``, of which no update is offered, and there may be one: its source was
#: removed, or could not be synchronised last, or has a newer version that was refused, or was not looked at yet.
UPDATE_UNKNOWN: Final = """chart_id IN (
    SELECT gone.chart_id FROM removed_origins gone
    WHERE gone.project_id = :project_id AND NOT EXISTS (SELECT FROM chart_origins o WHERE o.chart_id = gone.chart_id)
    UNION ALL
    SELECT o.chart_id FROM chart_origins o JOIN chart_sources s ON s.id = o.source_id
    WHERE s.project_id = :project_id AND o.newer_version = '' AND (s.problem <> '' OR EXISTS (
      SELECT FROM source_versions v
      WHERE v.source_id = o.source_id AND v.name = o.name AND v.order_key > o.order_key AND NOT v.is_gone
        AND right(v.order_key, 1) = '~'
    )))"""
# Few are not kept: revisions and operations, which are many, are read only if there is one.
_SWEEP = text("""
WITH loose AS MATERIALIZED (
  SELECT chart_id FROM chart_origins o WHERE NOT EXISTS (SELECT FROM charts c WHERE c.id = o.chart_id)
)
DELETE FROM chart_origins WHERE chart_id IN (
  SELECT chart_id FROM loose
  WHERE NOT EXISTS (SELECT FROM release_revisions r WHERE r.origin_chart_id = loose.chart_id)
    AND NOT EXISTS (SELECT FROM operations o WHERE o.chart_id = loose.chart_id)
  LIMIT :most
)
""")
_SWEEP_REMOVED = text("""
WITH old AS MATERIALIZED (
  SELECT chart_id FROM removed_origins WHERE checked_at < clock_timestamp() - make_interval(secs => :seconds)
  ORDER BY checked_at LIMIT :most FOR UPDATE
), used AS MATERIALIZED (
  SELECT chart_id FROM old
  WHERE EXISTS (SELECT FROM release_revisions r WHERE r.origin_chart_id = old.chart_id)
    OR EXISTS (SELECT FROM operations o WHERE o.chart_id = old.chart_id)
), kept AS (
  UPDATE removed_origins SET checked_at = clock_timestamp() WHERE chart_id IN (SELECT chart_id FROM used)
)
DELETE FROM removed_origins
WHERE chart_id IN (SELECT chart_id FROM old) AND chart_id NOT IN (SELECT chart_id FROM used)
""")
