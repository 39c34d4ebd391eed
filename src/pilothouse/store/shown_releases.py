"""What lists show of a release, as SQL: of one under an operation ``o``, and of its newest revision ``r``."""

from typing import Final

from pilothouse.states import Action, OperationState, ReleaseStatus

# ruff: noqa: S608  # what is put into these statements are names and conditions of our own
LIVING: Final = "state IN ('queued', 'running', 'cancelling')"
FAILED: Final = "state = 'failed' AND NOT wrote_revision AND dismissed_at IS NULL"
CANDIDATE: Final = "gone_at IS NULL AND problem = '' AND (status <> 'superseded' OR exposed)"
# What is shown of a release under an operation: as ``ShownReleases.newest`` has it.
UNDERWAY: Final = """CASE
    WHEN o.state = 'cancelling' AND o.action = 'install' AND NOT o.keep_resources THEN 'uninstalling'
    WHEN o.state = 'cancelling' AND o.action = 'upgrade' AND NOT o.keep_resources THEN 'pending-rollback'
    WHEN o.state = 'cancelling' AND o.keep_resources AND o.action <> 'install' THEN 'unknown'
    WHEN o.action = 'install' THEN 'pending-install'
    WHEN o.action = 'upgrade' THEN 'pending-upgrade'
    WHEN o.action = 'rollback' THEN 'pending-rollback'
    WHEN o.action = 'uninstall' THEN 'uninstalling'
    ELSE 'unknown' END"""
IS_SHOWN: Final = "(o.living AND o.action <> 'test')"
FAILED_BEFORE: Final = "(NOT o.living AND o.base_revision = r.revision)"
STORED_STATUS: Final = "CASE WHEN r.status = 'superseded' THEN 'unknown' ELSE r.status END"

# Helm itself says when it began; an operation, when that was over.
UNINSTALLED_AT: Final = f"""CASE WHEN r.status IN ('{ReleaseStatus.UNINSTALLED}', '{ReleaseStatus.UNINSTALLING}')
    THEN greatest(r.deleted_at, (
      SELECT max(u.finished_at) FROM operations u
      WHERE u.cluster_id = r.cluster_id AND u.namespace = r.namespace AND u.release_name = r.name
        AND u.action = '{Action.UNINSTALL}' AND u.state = '{OperationState.SUCCEEDED}'
        AND u.finished_at >= coalesce(r.last_deployed, 'epoch')
    )) END"""

CHANGED_AT: Final = "coalesce(uninstalled_at, updated_at) AS changed_at"


OVERLAID: Final = f"""
  SELECT cluster_id, cluster_name, namespace, name, revision, status, chart_name, chart_version, app_version,
    updated_at, uninstalled_at, manager, chart_id, operation_id, {CHANGED_AT}, age_seconds
  FROM (SELECT o.cluster_id, o.cluster_name, o.namespace, o.name,
    CASE WHEN {IS_SHOWN} THEN coalesce(o.undo_revision, o.revision, r.revision + 1, 1)
      ELSE coalesce(r.revision, 0) END AS revision,
    CASE WHEN {IS_SHOWN} THEN {UNDERWAY} WHEN r.name IS NULL OR {FAILED_BEFORE} THEN 'failed'
      ELSE {STORED_STATUS} END COLLATE "C" AS status,
    CASE WHEN {IS_SHOWN} OR r.name IS NULL THEN o.chart_name ELSE r.chart_name END COLLATE "C" AS chart_name,
    CASE WHEN {IS_SHOWN} OR r.name IS NULL THEN o.chart_version ELSE r.chart_version END COLLATE "C" AS chart_version,
    CASE WHEN ({IS_SHOWN} OR r.name IS NULL) AND (o.chart_name, o.chart_version)
      IS DISTINCT FROM (r.chart_name, r.chart_version) THEN '' ELSE r.app_version END AS app_version,
    CASE WHEN {IS_SHOWN} OR r.name IS NULL THEN coalesce(o.finished_at, o.created_at)
      WHEN {FAILED_BEFORE} THEN coalesce(o.finished_at, r.last_deployed, 'epoch')
      ELSE coalesce(r.last_deployed, 'epoch') END AS updated_at,
    CASE WHEN NOT {IS_SHOWN} AND NOT {FAILED_BEFORE} THEN {UNINSTALLED_AT} END AS uninstalled_at,
    coalesce(r.manager, '') AS manager,
    CASE WHEN r.name IS NULL THEN o.chart_id
      WHEN NOT {IS_SHOWN} OR (o.chart_name, o.chart_version) = (r.chart_name, r.chart_version) THEN r.origin_chart_id
      ELSE o.chart_id END AS chart_id,
    CASE WHEN o.living THEN o.id ELSE '' END AS operation_id, o.age_seconds
  FROM laid o LEFT JOIN LATERAL (
    SELECT * FROM release_revisions
    WHERE cluster_id = o.cluster_id AND namespace = o.namespace AND name = o.name AND {CANDIDATE}
    ORDER BY revision DESC LIMIT 1
  ) r ON true
  WHERE {IS_SHOWN} OR r.name IS NOT NULL OR o.action = 'install') each_one"""
