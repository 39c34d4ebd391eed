"""Releases as they are shown: the newest revision, and the unfinished or failed operation that overlays it.

``store.release_lists`` states the same in SQL, for lists that are filtered and sorted by the status.
"""

from dataclasses import replace
from datetime import UTC, datetime

from pilothouse.auth.sealing import MasterKeys
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.releases.commands import Shown, open_shown
from pilothouse.services.releases.index import LARGEST_VALUES, ReleaseIndex
from pilothouse.services.releases.pages import Release
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus
from pilothouse.store.clusters import ClusterName
from pilothouse.store.operations import OperationRow
from pilothouse.store.releases import RevisionRow

#: Helm's status for the revision that an action is making, and Helm's own words for it.
_UNDERWAY: dict[str, ReleaseStatus] = {
    Action.INSTALL: ReleaseStatus.PENDING_INSTALL,
    Action.UPGRADE: ReleaseStatus.PENDING_UPGRADE,
    Action.ROLLBACK: ReleaseStatus.PENDING_ROLLBACK,
    Action.UNINSTALL: ReleaseStatus.UNINSTALLING,
}
#: The same for what is being cancelled, by the action and whether what was installed is kept.
_BEING_CANCELLED: dict[tuple[str, bool], ReleaseStatus] = {
    (Action.INSTALL, False): ReleaseStatus.UNINSTALLING,
    (Action.INSTALL, True): ReleaseStatus.PENDING_INSTALL,
    (Action.UPGRADE, False): ReleaseStatus.PENDING_ROLLBACK,
    (Action.ROLLBACK, False): ReleaseStatus.PENDING_ROLLBACK,
    (Action.UNINSTALL, False): ReleaseStatus.UNINSTALLING,
}
INSTALL_UNDERWAY = "Initial install underway"
UPGRADE_UNDERWAY = "Preparing upgrade"
UNINSTALL_UNDERWAY = "Deletion in progress (or silently failed)"

_NEVER = datetime.fromtimestamp(0, UTC)


class ShownReleases:
    """Build what is shown of releases from the rows of the index and of operations."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys
        self._index = ReleaseIndex(keys)

    def newest(
        self, cluster: ClusterName, newest: RevisionRow | None, operation: OperationRow | None
    ) -> Release | None:
        """Return the release for show and list."""
        underway = self.overlay(cluster, newest, operation)
        if underway is not None:
            return underway
        if newest is None:
            return None
        release = self.from_row(cluster, newest)
        if operation is not None and is_shown_as_failed(operation, newest=newest.revision):
            return failed_before_helm_wrote(release, operation)
        # Helm never leaves the newest revision superseded: somebody deleted the one after it.
        return replace(release, status=ReleaseStatus.UNKNOWN) if release.status == ReleaseStatus.SUPERSEDED else release

    def overlay(
        self, cluster: ClusterName, newest: RevisionRow | None, operation: OperationRow | None
    ) -> Release | None:
        """Return the release as an operation shows it, if one overlays the newest revision."""
        if operation is None or operation.action == Action.TEST:
            return None
        if operation.state not in LIVING_STATES and (newest is not None or operation.action != Action.INSTALL):
            return None
        release = from_operation(cluster, operation, open_shown(operation, keys=self._keys))
        if operation.revision is None and newest is not None:
            release = replace(release, revision=newest.revision + 1)
        return release

    def from_row(self, cluster: ClusterName, row: RevisionRow) -> Release:
        """Return the revision as the index has it."""
        said = row.description or row.status  # a client may rely on a text
        return Release(
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            namespace=row.namespace,
            name=row.name,
            revision=row.revision,
            status=row.status,
            description=row.origin_description or said,
            status_description=said,
            chart_name=row.chart_name,
            chart_version=row.chart_version,
            values_json=self._index.open_values(cluster.id, row),
            created_at=row.first_deployed or _NEVER,
            updated_at=row.last_deployed or _NEVER,
        )


def from_operation(cluster: ClusterName, row: OperationRow, shown: Shown) -> Release:
    """Return the release as an operation without final revision shows it: pending, or failed with the reason.

    A cancelled install is shown as a release being deleted, unless it is to be kept. A cancelled upgrade is shown as a
    rollback; an uninstall remains one until its end is known.
    """
    values = compact_json(shown.values)
    # an action that only a newer version knows is shown as unknown
    status = _UNDERWAY.get(row.action, ReleaseStatus.UNKNOWN) if row.state in LIVING_STATES else ReleaseStatus.FAILED
    if row.state in {OperationState.CANCELLING, OperationState.CANCELLED}:
        status = _BEING_CANCELLED.get((row.action, row.keep_resources), ReleaseStatus.UNKNOWN)
    return Release(
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        namespace=row.namespace,
        name=row.release_name,
        revision=row.undo_revision or row.revision or 1,
        status=status,
        description=row.description or row.status_description,
        status_description=row.status_description,
        chart_name=row.chart_name,
        chart_version=row.chart_version,
        values_json=values if len(values) <= LARGEST_VALUES else None,
        created_at=shown.first_deployed or row.created_at,
        updated_at=row.finished_at or row.created_at,
    )


def is_shown_as_failed(shown: OperationRow, *, newest: int) -> bool:
    """Return True if an operation that failed before Helm wrote anything is what is shown of the release.

    This holds until a revision is written after the one that it found: the release is unchanged, and a client that
    waits for an end must not take that for success.
    """
    return shown.state == OperationState.FAILED and not shown.wrote_revision and shown.base_revision == newest


def failed_before_helm_wrote(release: Release, shown: OperationRow) -> Release:
    """Return the current release with the failure of the operation on top."""
    return replace(
        release,
        status=ReleaseStatus.FAILED,
        description=shown.status_description,
        status_description=shown.status_description,
        updated_at=shown.finished_at or release.updated_at,
    )
