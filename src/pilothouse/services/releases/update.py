"""Update Release: an upgrade or a rollback, by one request."""

import time
from dataclasses import replace
from datetime import datetime
from typing import Any

from pilothouse.auth.policy import READ_VALUES
from pilothouse.errors import AlreadyExists, InvalidRequest, NotFound
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import UpgradeCommand
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import DRY_RUN_COMPLETE
from pilothouse.services.releases.elsewhere import lock_refusal
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import (
    changed_error,
    is_locked,
    refuse_other_base,
    running_error,
)
from pilothouse.services.releases.names import never_installed, unknown_release
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.rollback import plan_rollback
from pilothouse.services.releases.sizes import refuse_oversized
from pilothouse.services.releases.submit import OperationRequest, Proposal, Submissions
from pilothouse.services.releases.update_plans import UpdatePlan, UpdateRelease, UpdateTarget
from pilothouse.services.releases.upgrade import plan_upgrade
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus
from pilothouse.store import charts, commands, operations

_UPDATE = "cce:release:update"


class Updates:
    """Update releases in a project's clusters."""

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._shared = shared
        self._database = shared.database
        self._clusters = shared.clusters
        self._managers = ReleaseManagers(shared.preflight, shared.settings.releases)
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def update(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str,
        name: str,
        request: UpdateRelease,
        request_id: str,
        key: Key | None = None,
    ) -> SubmittedOperation:
        """Accept an upgrade or a rollback, or answer a dry run; what can be refused at once is refused here.

        Raises InvalidRequest (a rule, a dry run's render error), NotFound (cluster, chart, release, revision),
        ChartReplaced, Forbidden (an operation runs, or Helm's lock is held by another program), ClusterUnavailable,
        ClusterDenied or Busy. After an error nothing is stored.
        """
        caller.require(_UPDATE)
        request = replace(request, hides_values=not caller.may(READ_VALUES))
        target, plan = await self._propose(request, cluster_id, namespace, name, project_id=caller.project_id)
        if plan.values is not None:
            return _dry_run_answer(target, plan.operation, values=plan.values)
        try:
            return await self._submissions.submit(
                caller,
                target.cluster,
                plan.operation,
                permission=_UPDATE,
                observed_at=target.observed_at,
                request_id=request_id,
                key=key,
            )
        except AlreadyExists as error:
            await self.refuse_while_running(target.cluster, namespace, name)
            raise changed_error(name) from error

    async def propose(
        self, request: UpdateRelease, cluster_id: str, *, namespace: str, name: str, project_id: str
    ) -> Proposal:
        """Return the operation that ``update`` would accept; raise what it raises."""
        target, plan = await self._propose(request, cluster_id, namespace, name, project_id=project_id)
        return Proposal(target.cluster, plan.operation, target.observed_at)

    async def _propose(
        self, request: UpdateRelease, cluster_id: str, namespace: str, name: str, *, project_id: str
    ) -> tuple[UpdateTarget, UpdatePlan]:
        rollback = _is_rollback(request)
        if not rollback:
            await refuse_oversized(request.values or {})
        async with self._database.autocommit() as connection:
            row, chart = await commands.find_cluster_and_chart(
                connection,
                cluster_id=cluster_id,
                chart_id="" if rollback else request.chart_id,
                project_id=project_id,
            )
            cluster = self._clusters.open(cluster_id, row)
            if request.stored_chart is not None:
                chart = request.stored_chart.row
            elif chart is not None:
                chart.check_digest(request.chart_digest)
            elif not rollback:
                raise NotFound(f"chart_id: chart {request.chart_id!r} does not exist in this project")
        with cluster_error_context(cluster):
            async with self._clusters.client(cluster).within_limit():
                target = await self._find_target(cluster, namespace, name)
            if request.seen is not None:
                request.seen.refuse_moved(target.newest.revision, target.newest.first_deployed)
            refuse_other_base(name, target.newest.revision, expected=request.base_revision)
            return target, await self._plan(target, chart, request)

    async def _plan(self, target: UpdateTarget, chart: charts.ChartRow | None, request: UpdateRelease) -> UpdatePlan:
        if chart is None:
            return await plan_rollback(self._shared, target, request)
        return await plan_upgrade(self._shared, target, chart, request)

    async def _find_target(self, cluster: ClusterConnection, namespace: str, name: str) -> UpdateTarget:
        client, observed_at = self._clusters.client(cluster), time.monotonic()
        found = await read_unsuperseded(client, namespace, name)
        if not found or is_locked(found[-1][0]):
            await self.refuse_while_running(cluster, namespace, name)
            # none runs: what was seen may be of one that ended in between
            observed_at = time.monotonic()
            found = await read_unsuperseded(client, namespace, name)
        if not found:
            raise unknown_release(name, namespace, cluster_name=cluster.name)
        newest, secret = found[-1]
        if is_locked(newest):
            raise await lock_refusal(self._database, cluster.id, newest, secret)
        warning = await self._managers.check(client, newest, secret)
        return UpdateTarget(cluster, namespace, name, [stored for stored, _ in found], observed_at, warning)

    async def refuse_while_running(self, cluster: ClusterConnection, namespace: str, name: str) -> None:
        """Raise Forbidden if an operation of ours is in the way.

        Checked only after a failure: the acceptance refuses a second writer, and most requests are the only one.
        """
        async with self._database.autocommit() as connection:
            shown = await operations.find_shown(
                connection, cluster_id=cluster.id, namespace=namespace, release_name=name
            )
        if shown is not None and shown.state in LIVING_STATES:
            raise running_error(shown)
        if shown is not None and (shown.action, shown.state) == (Action.INSTALL, OperationState.FAILED):
            raise never_installed(name, shown.id)


def _is_rollback(request: UpdateRelease) -> bool:
    if request.action not in {Action.UPGRADE, Action.ROLLBACK, ""}:
        raise InvalidRequest(f"action: {request.action!r} is not one of upgrade, rollback; empty means upgrade")
    if request.action != Action.ROLLBACK:
        if not request.chart_id and request.stored_chart is None:
            raise InvalidRequest("chart_id: missing; an upgrade needs the chart to upgrade to")
        return False
    if request.release_version < 0:
        raise InvalidRequest(
            f"parameters.release_version: {request.release_version} is not a revision; "
            "0 or absent means the last one before the newest that was deployed"
        )
    return True


def _dry_run_answer(target: UpdateTarget, operation: OperationRequest, *, values: dict[str, Any]) -> SubmittedOperation:
    is_upgrade = isinstance(operation.order, UpgradeCommand)
    release = Release(
        cluster_id=target.cluster.id,
        cluster_name=target.cluster.name,
        namespace=target.namespace,
        name=target.name,
        revision=target.newest.revision + 1,
        status=ReleaseStatus.PENDING_UPGRADE if is_upgrade else ReleaseStatus.PENDING_ROLLBACK,
        description=DRY_RUN_COMPLETE,
        status_description=DRY_RUN_COMPLETE,
        chart_name=operation.chart_name,
        chart_version=operation.chart_version,
        values_json=compact_json(values),
        created_at=target.newest.first_deployed,
        updated_at=datetime.now().astimezone(),
    )
    return SubmittedOperation(release, None)
