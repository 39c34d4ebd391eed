"""Update Release: an upgrade or a rollback, by one request."""

import time
from datetime import datetime
from typing import Any

from pilothouse.errors import AlreadyExists, InvalidRequest, NotFound
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import RollbackCommand, UpgradeCommand
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import DRY_RUN_COMPLETE
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import changed_error, is_locked, locked_error, running_error
from pilothouse.services.releases.names import unknown_release
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.rollback import plan_rollback, try_rollback
from pilothouse.services.releases.sizes import refuse_oversized
from pilothouse.services.releases.submit import OperationRequest, Submissions, base_of
from pilothouse.services.releases.update_plans import UpdatePlan, UpdateRelease, UpdateTarget
from pilothouse.services.releases.upgrade import plan_upgrade, try_upgrade
from pilothouse.states import LIVING_STATES, Action, OperationState
from pilothouse.store import charts, commands, operations

_UPDATE = "cce:release:update"
_Plan = UpdatePlan[UpgradeCommand] | UpdatePlan[RollbackCommand]


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
        Forbidden (an operation runs, or Helm's lock is held by another program), ClusterUnavailable, ClusterDenied or
        Busy. After an error nothing is stored.
        """
        caller.require(_UPDATE)
        rollback = _is_rollback(request)
        if not rollback:
            await refuse_oversized(request.values or {})
        async with self._database.autocommit() as connection:
            row, chart = await commands.find_cluster_and_chart(
                connection,
                cluster_id=cluster_id,
                chart_id="" if rollback else request.chart_id,
                project_id=caller.project_id,
            )
            cluster = self._clusters.open(cluster_id, row)
            if chart is None and not rollback:
                raise _no_chart(request)
        with cluster_error_context(cluster):
            async with self._clusters.client(cluster).within_limit():
                target = await self._find_target(cluster, namespace, name)
            try:
                plan, tried = await self._plan(target, chart, request)
                if tried is not None:
                    return _dry(target, plan, values=tried)
                return await self._submissions.submit(
                    caller,
                    cluster,
                    _operation(target, plan, request),
                    permission=_UPDATE,
                    observed_at=target.observed_at,
                    request_id=request_id,
                    key=key,
                )
            except AlreadyExists as error:
                await self._refuse_while_running(cluster, namespace, name)
                raise changed_error(name) from error

    async def _find_target(self, cluster: ClusterConnection, namespace: str, name: str) -> UpdateTarget:
        client, observed_at = self._clusters.client(cluster), time.monotonic()
        found = await read_unsuperseded(client, namespace, name)
        if not found or is_locked(found[-1][0]):
            await self._refuse_while_running(cluster, namespace, name)
            # none runs: what was seen may be of one that ended in between
            observed_at = time.monotonic()
            found = await read_unsuperseded(client, namespace, name)
        if not found:
            raise unknown_release(name, namespace, cluster_name=cluster.name)
        newest, secret = found[-1]
        if is_locked(newest):
            raise locked_error(newest, secret, cluster_id=cluster.id)
        warning = await self._managers.check(client, newest, secret)
        return UpdateTarget(cluster, namespace, name, [stored for stored, _ in found], observed_at, warning)

    async def _refuse_while_running(self, cluster: ClusterConnection, namespace: str, name: str) -> None:
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
            raise NotFound(
                f"release {name!r} was never installed: its installation failed before Helm wrote anything (operation "
                f"{shown.id}); create it again, or delete it"
            )

    async def _plan(
        self, target: UpdateTarget, chart: charts.ChartRow | None, request: UpdateRelease
    ) -> tuple[_Plan, dict[str, Any] | None]:
        """Return the plan, a rollback's without a chart, and the resulting values if only a dry run was requested."""
        if chart is None:
            rollback = await plan_rollback(self._shared, target, request)
            return rollback, await try_rollback(self._shared, target, rollback) if request.dry_run else None
        upgrade = await plan_upgrade(self._shared, target, chart, request)
        return upgrade, await try_upgrade(self._shared, target, upgrade) if request.dry_run else None


def _is_rollback(request: UpdateRelease) -> bool:
    if request.action not in {Action.UPGRADE, Action.ROLLBACK, ""}:
        raise InvalidRequest(f"action: {request.action!r} is not one of upgrade, rollback; empty means upgrade")
    if request.action != Action.ROLLBACK:
        if not request.chart_id:
            raise InvalidRequest("chart_id: missing; an upgrade needs the chart to upgrade to")
        return False
    if request.release_version < 0:
        raise InvalidRequest(
            f"parameters.release_version: {request.release_version} is not a revision; "
            "0 or absent means the last one before the newest that was deployed"
        )
    return True


def _no_chart(request: UpdateRelease) -> NotFound:
    return NotFound(f"chart_id: chart {request.chart_id!r} does not exist in this project")


def _operation(target: UpdateTarget, plan: _Plan, request: UpdateRelease) -> OperationRequest:
    return OperationRequest(
        namespace=target.namespace,
        release_name=target.name,
        order=plan.order,
        chart_digest=plan.chart_digest,
        chart_id=plan.chart_id,
        chart_name=plan.chart_name,
        chart_version=plan.chart_version,
        include_hooks=request.include_hooks,
        revision=target.newest.revision + 1,
        **base_of(target.newest),
        status_description=plan.status_description,
        timeout_seconds=request.timeout_seconds,
        warning=target.warning,
    )


def _dry(target: UpdateTarget, plan: _Plan, *, values: dict[str, Any]) -> SubmittedOperation:
    release = Release(
        cluster_id=target.cluster.id,
        cluster_name=target.cluster.name,
        namespace=target.namespace,
        name=target.name,
        revision=target.newest.revision + 1,
        status=plan.pending,
        description=DRY_RUN_COMPLETE,
        status_description=DRY_RUN_COMPLETE,
        chart_name=plan.chart_name,
        chart_version=plan.chart_version,
        values_json=compact_json(values),
        created_at=plan.order.first_deployed,
        updated_at=datetime.now().astimezone(),
    )
    return SubmittedOperation(release, None)
