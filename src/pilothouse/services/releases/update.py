"""Update Release: an upgrade or a rollback, by one request."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import structlog

from pilothouse.engine.protocol import RollbackRequest, UpgradeRequest
from pilothouse.errors import AlreadyExists, InvalidRequest, NotFound
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release
from pilothouse.kubernetes.values import merge_values
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import Crds, RollbackCommand, UpgradeCommand, Wait, as_wait
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import DRY_RUN_COMPLETE, dry_run
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.locks import changed_error, is_locked, locked_error, running_error
from pilothouse.services.releases.names import is_name, is_namespace
from pilothouse.services.releases.own_namespace import own_namespace
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.read import UPGRADE_UNDERWAY
from pilothouse.services.releases.sizes import refuse_oversized
from pilothouse.services.releases.submit import OperationRequest, Submissions, base_of
from pilothouse.states import LIVING_STATES, Action, OperationState, ReleaseStatus
from pilothouse.store import archives, charts, commands, operations

log = structlog.get_logger(__name__)

_UPDATE = "cce:release:update"


@dataclass(frozen=True, kw_only=True)
class UpdateRelease:
    """A request to update a release, with checked types; ``Updates.update`` applies the rules.

    ``action``: ``upgrade`` or ``rollback``; empty, as Terraform sends it, is an upgrade. ``replace`` keeps the
    release's own values under the new ones, ``reset_values`` drops them and takes precedence.
    """

    chart_id: str = ""
    action: str = ""
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    dry_run: bool = False
    no_hooks: bool = False
    include_hooks: bool = False
    replace: bool = False
    reset_values: bool = False
    recreate: bool = False
    release_version: int = 0
    wait: Wait | None = None
    timeout_seconds: int | None = None
    crds: Crds | None = None
    skip_schema_validation: bool = False
    remove_namespace: bool = False


@dataclass(frozen=True)
class _Target:
    """The release to be updated, as it was found."""

    cluster: ClusterConnection
    namespace: str
    name: str
    stored: list[StoredRelease]
    observed_at: float
    warning: str | None

    @property
    def newest(self) -> StoredRelease:
        return self.stored[-1]

    @property
    def current(self) -> StoredRelease:
        """The revision whose values Helm keeps: the deployed one, or the newest if none is."""
        return next((one for one in reversed(self.stored) if one.status == ReleaseStatus.DEPLOYED), self.newest)


class Updates:
    """Update releases in a project's clusters."""

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._database = shared.database
        self._clusters = shared.clusters
        self._engine = shared.engine
        self._settings = shared.settings
        self._preflight = shared.preflight
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
                if chart is None:
                    return await self._roll_back(caller, target, request, request_id=request_id, key=key)
                return await self._upgrade(caller, target, chart, request, request_id=request_id, key=key)
            except AlreadyExists as error:
                await self._refuse_while_running(cluster, namespace, name)
                raise changed_error(name) from error

    async def _find_target(self, cluster: ClusterConnection, namespace: str, name: str) -> _Target:
        observed_at = time.monotonic()
        found = await self._read(cluster, namespace, name)
        if not found or is_locked(found[-1][0]):
            await self._refuse_while_running(cluster, namespace, name)
            # none runs: what was seen may be of one that ended in between
            observed_at = time.monotonic()
            found = await self._read(cluster, namespace, name)
        if not found:
            raise NotFound(f"release {name!r} does not exist in namespace {namespace!r} of cluster {cluster.name!r}")
        newest, secret = found[-1]
        if is_locked(newest):
            raise locked_error(newest, secret, cluster_id=cluster.id)
        warning = await self._managers.check(self._clusters.client(cluster), newest, secret)
        return _Target(cluster, namespace, name, [stored for stored, _ in found], observed_at, warning)

    async def _read(self, cluster: ClusterConnection, namespace: str, name: str) -> list[tuple[StoredRelease, Secret]]:
        """Return the newest revision, last, and before it those that are not superseded, including the deployed one."""
        if not (is_namespace(namespace) and is_name(name)):
            return []
        client = self._clusters.client(cluster)
        found = [
            (await read_release(secret), secret)
            async for secret in client.list_release_secrets(namespace=namespace, name=name, superseded=False)
        ]
        return sorted(found, key=lambda one: one[0].revision)

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

    async def _upgrade(
        self,
        caller: Caller,
        target: _Target,
        chart: charts.ChartRow,
        request: UpdateRelease,
        *,
        request_id: str,
        key: Key | None,
    ) -> SubmittedOperation:
        newest = target.newest
        if newest.status == ReleaseStatus.UNINSTALLED:
            raise InvalidRequest(
                f"release {target.name!r} is uninstalled and only its history is left; "
                "recreate it with parameters.replace, or roll it back"
            )
        if newest.chart_name != chart.name:
            log.warning("release_changes_chart", release=target.name, chart=chart.name, before=newest.chart_name)
        order = UpgradeCommand(
            values=request.values,
            merged_values=_merged(target.current, chart, request),
            first_deployed=newest.first_deployed,
            disable_hooks=self._disable_hooks(request),
            reset_values=request.reset_values,
            reuse_values=request.replace and not request.reset_values,
            recreate=request.recreate,
            wait=request.wait or as_wait(target.cluster.wait),
            crds=request.crds or "skip",
            skip_schema_validation=request.skip_schema_validation,
            owns_namespace=await own_namespace(target.stored),
            remove_namespace=request.remove_namespace,
        )
        if request.dry_run:
            values = await self._try_upgrade(target, chart, order)
            return _dry(target, chart.name, chart.version, order, values=values, status=ReleaseStatus.PENDING_UPGRADE)
        operation_request = OperationRequest(
            namespace=target.namespace,
            release_name=target.name,
            order=order,
            chart_digest=chart.digest,
            chart_id=chart.id,
            chart_name=chart.name,
            chart_version=chart.version,
            include_hooks=request.include_hooks,
            revision=newest.revision + 1,
            **base_of(newest),
            status_description=UPGRADE_UNDERWAY,
            timeout_seconds=request.timeout_seconds,
            warning=target.warning,
        )
        return await self._accept(caller, target, operation_request, request_id=request_id, key=key)

    async def _accept(
        self, caller: Caller, target: _Target, operation_request: OperationRequest, *, request_id: str, key: Key | None
    ) -> SubmittedOperation:
        return await self._submissions.submit(
            caller,
            target.cluster,
            operation_request,
            permission=_UPDATE,
            observed_at=target.observed_at,
            request_id=request_id,
            key=key,
        )

    async def _try_upgrade(self, target: _Target, chart: charts.ChartRow, order: UpgradeCommand) -> dict[str, Any]:
        """Return the values that the templates got, including those of subcharts and imported ones."""
        async with self._database.autocommit() as connection:
            archive = await archives.read_archive(connection, chart.digest)
        engine_request = UpgradeRequest(
            kubeconfig=target.cluster.kubeconfig,
            namespace=target.namespace,
            release_name=target.name,
            chart=archive or b"",
            values=order.values,
            dry_run="server",
            disable_hooks=order.disable_hooks,
            reset_values=order.reset_values,
            reuse_values=order.reuse_values,
            timeout_seconds=self._settings.engine.answer_seconds,
            crds=order.crds,
            skip_schema_validation=order.skip_schema_validation,
            remove_namespace=order.remove_namespace,
        )
        what = f"rendering chart {chart.name} {chart.version}"
        client = self._clusters.client(target.cluster)
        outcome = await dry_run(
            self._engine,
            engine_request,
            client=client,
            preflight=self._preflight,
            settings=self._settings,
            project_id=target.cluster.project_id,
            what=what,
            revision=target.newest.revision + 1,
            merged_values=order.merged_values,
            owns_namespace=order.owns_namespace,
        )
        return outcome.values

    async def _roll_back(
        self, caller: Caller, target: _Target, request: UpdateRelease, *, request_id: str, key: Key | None
    ) -> SubmittedOperation:
        newest = target.newest
        to_revision = request.release_version or await self._find_last_good(target)
        goal, chart_id = await asyncio.gather(
            self._find_revision(target, to_revision), self._find_chart_id(target, to_revision)
        )
        client = self._clusters.client(target.cluster)
        problem = await self._preflight.find_rollback_problem(
            client,
            goal=goal.manifest,
            namespace=target.namespace,
            owns_namespace=not request.remove_namespace and await own_namespace(target.stored),
        )
        if problem is not None:
            raise InvalidRequest(f"parameters.release_version: revision {to_revision} cannot be restored: {problem}")
        order = RollbackCommand(
            to_revision=to_revision,
            merged_values=goal.values,
            first_deployed=newest.first_deployed,
            disable_hooks=self._disable_hooks(request),
            recreate=request.recreate,
            wait=request.wait or as_wait(target.cluster.wait),
            remove_namespace=request.remove_namespace,
        )
        if request.dry_run:
            trial = RollbackRequest(
                kubeconfig=target.cluster.kubeconfig,
                namespace=target.namespace,
                release_name=target.name,
                to_revision=to_revision,
                dry_run="server",
                timeout_seconds=self._settings.engine.answer_seconds,
            )
            await dry_run(
                self._engine,
                trial,
                client=client,
                preflight=self._preflight,
                settings=self._settings,
                project_id=target.cluster.project_id,
                what="the rollback",
            )
            return _dry(
                target,
                goal.chart_name,
                goal.chart_version,
                order,
                values=goal.values,
                status=ReleaseStatus.PENDING_ROLLBACK,
            )
        operation_request = OperationRequest(
            namespace=target.namespace,
            release_name=target.name,
            order=order,
            chart_id=chart_id,
            chart_name=goal.chart_name,
            chart_version=goal.chart_version,
            include_hooks=request.include_hooks,
            revision=newest.revision + 1,
            **base_of(newest),
            status_description=f"Rollback to {to_revision}",
            timeout_seconds=request.timeout_seconds,
            warning=target.warning,
        )
        return await self._accept(caller, target, operation_request, request_id=request_id, key=key)

    async def _find_last_good(self, target: _Target) -> int:
        """Return the number of the newest revision before the present one that was deployed; 0 if none was."""
        client = self._clusters.client(target.cluster)
        found = await client.list_release_labels(namespace=target.namespace, name=target.name)
        good = (one.revision for one in found if one.status in {ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED})
        return max((one for one in good if one < target.newest.revision), default=0)

    async def _find_chart_id(self, target: _Target, revision: int) -> str:
        """Return the chart that the revision was made from; empty if it is not one of ours."""
        async with self._database.autocommit() as connection:
            origins = await operations.list_release_origins(
                connection, cluster_id=target.cluster.id, namespace=target.namespace, release_name=target.name
            )
        return next((one.chart_id for one in origins if one.revision == revision), "")

    async def _find_revision(self, target: _Target, revision: int) -> StoredRelease:
        secret = None
        if revision > 0:
            client = self._clusters.client(target.cluster)
            secret = await client.find_release_secret(namespace=target.namespace, name=target.name, revision=revision)
        if secret is None:
            before = f"revision before {target.newest.revision} that was ever deployed"
            which = f"revision {revision}" if revision > 0 else before
            raise NotFound(
                f"parameters.release_version: release {target.name!r} has no {which}; "
                "its history lists the existing revisions"
            )
        return await read_release(secret)

    def _disable_hooks(self, request: UpdateRelease) -> bool:
        """Apply the vendor's literal rule: no hooks unless they are requested, and never with ``no_hooks``."""
        return request.no_hooks or not (request.include_hooks or self._settings.hooks.on_update)


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


def _merged(current: StoredRelease, chart: charts.ChartRow, request: UpdateRelease) -> dict[str, Any]:
    """Return what Helm will make of the values (Helm ``pkg/action/upgrade.go``, ``reuseValues``)."""
    defaults: dict[str, Any] = orjson.loads(chart.values_json)
    if request.reset_values:
        return merge_values(defaults, request.values)
    if request.replace:
        return merge_values(current.values, request.values)
    return merge_values(defaults, request.values or current.config)


def _dry(
    target: _Target,
    chart_name: str,
    chart_version: str,
    order: UpgradeCommand | RollbackCommand,
    *,
    values: dict[str, Any],
    status: str,
) -> SubmittedOperation:
    release = Release(
        cluster_id=target.cluster.id,
        cluster_name=target.cluster.name,
        namespace=target.namespace,
        name=target.name,
        revision=target.newest.revision + 1,
        status=status,
        description=DRY_RUN_COMPLETE,
        status_description=DRY_RUN_COMPLETE,
        chart_name=chart_name,
        chart_version=chart_version,
        values_json=compact_json(values),
        created_at=order.first_deployed,
        updated_at=datetime.now().astimezone(),
    )
    return SubmittedOperation(release, None)
