"""Plans: what a change of a release would do, kept until somebody applies exactly that.

A plan is made by who may read releases; it is applied by who may make the change.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pilothouse.auth.policy import READ_VALUES
from pilothouse.errors import AlreadyExists, InvalidRequest, NotFound, PlanMoved, PlannedReleaseMoved
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.kubeconfig import api_server
from pilothouse.masking_thread import in_masking_thread
from pilothouse.off_loop import off_loop
from pilothouse.services.charts.trust import NamedChart, explain_gone, without_source
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import InstallCommand, UpgradeCommand, action_of
from pilothouse.services.releases.delete import DeleteRelease, Deletions
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.deploy import Deployments, DeployRelease
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.differences import Parsed
from pilothouse.services.releases.drift import deployed_or_newest
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import changed_error
from pilothouse.services.releases.manifest_diff import FieldDifference
from pilothouse.services.releases.plan_changes import PlannedChanges, PlannedChart, compare_values, describe_changes
from pilothouse.services.releases.plan_live import note_conflicts, note_older, note_warnings, read_live
from pilothouse.services.releases.plan_records import (
    Base,
    Comparison,
    Deployed,
    PlanRecord,
    Source,
    has_option,
    open_comparison,
    open_record,
    operation_fields,
    order_fields,
    seal_plan,
)
from pilothouse.services.releases.plan_render import Rendering, render
from pilothouse.services.releases.stored_charts import keep_stored_chart
from pilothouse.services.releases.submit import Proposal, Submissions
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.services.releases.value_layers import merge_layers
from pilothouse.states import Action, ReleaseStatus
from pilothouse.store import commands, verifications
from pilothouse.store import plans as store
from pilothouse.store.chart_origins import ChartOrigin, find_origin
from pilothouse.store.charts import ChartRow

PERMISSIONS: Final = {
    Action.INSTALL: "cce:release:create",
    Action.UPGRADE: "cce:release:update",
    Action.ROLLBACK: "cce:release:update",
    Action.UNINSTALL: "cce:release:delete",
}
_LIST: Final = "cce:release:list"
Change = DeployRelease | UpdateRelease | DeleteRelease


@dataclass(frozen=True)
class Plan:
    """A plan as it is kept; ``parsed`` is what has been read of its manifests."""

    row: store.PlanRow
    record: PlanRecord = field(repr=False)
    comparison: Comparison = field(repr=False)
    parsed: Parsed = field(default_factory=dict, repr=False)


class Plans:
    """Make, show and apply plans."""

    def __init__(
        self, shared: ReleaseDependencies, deployments: Deployments, updates: Updates, deletions: Deletions
    ) -> None:
        self._shared = shared
        self._database = shared.database
        self._deployments = deployments
        self._updates = updates
        self._deletions = deletions
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def make(self, caller: Caller, place: ReleaseRef, change: Change) -> Plan:
        """Plan an install or upgrade, a rollback, or an uninstall, and keep the plan.

        Raises what the change itself raises, and QuotaExceeded. Nothing is written to the cluster.
        """
        caller.require("cce:release:get")
        proposal = await self._propose(place, change, project_id=caller.project_id)
        with cluster_error_context(proposal.cluster):
            client = self._shared.clusters.client(proposal.cluster)
            async with client.within_limit():
                found = await read_unsuperseded(client, proposal.operation.namespace, proposal.operation.release_name)
            revisions = [stored for stored, _ in found]
            newest = revisions[-1] if revisions else None
            if (newest.revision if newest is not None else None) != proposal.operation.base_revision:
                raise changed_error(place.name)
            rendering = await render(self._shared, caller, proposal, newest)
            record = self._record(proposal, newest, rendering)
            deployed = deployed_or_newest(revisions) if revisions else None
            comparison = Comparison(base=_as_deployed(deployed))
            parsed: Parsed = {}
            creates = await self._creates_namespace(client, record)
            comparison.live = await read_live(
                client,
                record,
                namespace=comparison.base.namespace or record.namespace,
                parsed=parsed,
                creates_namespace=creates,
            )
        comparison.sources = await self._sources(change, record, comparison, proposal, project_id=caller.project_id)
        await asyncio.to_thread(
            note_warnings,
            record,
            comparison,
            parsed=parsed,
            archive=rendering.archive,
            limits=self._shared.settings.charts,
            creates_namespace=creates,
        )
        note_older(record, comparison, newest)
        note_conflicts(record, comparison, apply_method=deployed.apply_method if deployed is not None else "")
        return Plan(await self._keep(caller, record, comparison), record, comparison, parsed)

    async def list_open(self, caller: Caller, *, limit: int) -> list[store.ListedPlanRow]:
        """Return those of the project's newest plans that can still be applied and that the caller may see."""
        caller.require_somewhere(_LIST)
        async with self._database.autocommit() as connection:
            every = partial(store.list_places, connection, project_id=caller.project_id)
            places = await caller.limited_to(_LIST, every)
            return await store.list_open(connection, project_id=caller.project_id, places=places, limit=limit)

    async def require_apply(self, caller: Caller, plan_id: str) -> None:
        """Return if the caller may apply the plan; raise NotFound if there is none."""
        caller.require("cce:release:get")
        async with self._database.autocommit() as connection:
            found = await store.find_action(connection, plan_id, project_id=caller.project_id)
        if found is None:
            raise _unknown(plan_id)
        where = {"cluster_id": found.cluster_id, "namespace": found.namespace, "name": found.name}
        caller.require_of(PERMISSIONS[Action(found.action)], **where)

    async def is_kept(self, caller: Caller, plan_id: str) -> bool:
        """Return True if the project has the plan still: operations outlive what they apply."""
        caller.require("cce:release:get")
        async with self._database.autocommit() as connection:
            return await store.find_action(connection, plan_id, project_id=caller.project_id) is not None

    async def read(self, caller: Caller, plan_id: str) -> Plan:
        """Return a plan of the project; raise NotFound if there is none, PlanMoved if it cannot be read."""
        caller.require("cce:release:get")
        row, keys = await self._find(plan_id, project_id=caller.project_id, whole=True), self._shared.keys

        def open_both() -> Plan:
            record = open_record(row.plan_sealed, keys=keys, plan_id=row.id)
            return Plan(row, record, open_comparison(row.comparison_sealed, row.plan_sealed, keys=keys, plan_id=row.id))

        return await off_loop(open_both, size=len(row.plan_sealed) + len(row.comparison_sealed or b""))

    async def show(self, caller: Caller, plan: Plan) -> PlannedChanges:
        """Return the plan as the caller may see it."""
        caller.require("cce:release:get")
        hides, masks_values = not caller.may(READ_VALUES), self._shared.settings.releases.mask_values
        run = in_masking_thread if hides else asyncio.to_thread
        describe = partial(describe_changes, plan.record, plan.comparison, parsed=plan.parsed)
        return await run(partial(describe, hides=hides, masks_values=masks_values))

    async def find_chart(self, caller: Caller, plan: Plan) -> PlannedChart:
        """Return which archive the plan has, and of its source what the caller may see."""
        caller.require("cce:release:get")
        operation, project_id = plan.record.operation, caller.project_id
        if not (digest := operation["chart_digest"] or ""):
            return PlannedChart()
        sees_sources, origin = caller.may("cce:source:get"), ChartOrigin()
        async with self._database.autocommit() as connection:
            verified = await verifications.find(connection, project_id=project_id, digest=digest)
            if operation["chart_id"] and sees_sources:
                origin = await find_origin(connection, operation["chart_id"], project_id=project_id)
        source = origin.source if origin.removed_at is None else ""
        return PlannedChart(digest, source, verified if sees_sources else without_source(verified))

    async def compare_values(self, caller: Caller, plan: Plan) -> list[FieldDifference]:
        """Return which computed values the plan changes, as the caller may see them."""
        caller.require("cce:release:get")
        hides, masks_values = not caller.may(READ_VALUES), self._shared.settings.releases.mask_values
        compare = partial(compare_values, plan.record, plan.comparison.base.values)
        return await asyncio.to_thread(compare, hides=hides, masks_values=masks_values)

    async def apply(
        self, caller: Caller, plan_id: str, *, digest: str, request_id: str, key: Key | None = None
    ) -> SubmittedOperation:
        """Accept the planned operation; PlanMoved says what is not as it was when the plan was made.

        Raises NotFound, NotPermitted, InvalidRequest for a plan with findings, and what the change itself raises.
        """
        caller.require("cce:release:get")
        row, keys = await self._find(plan_id, project_id=caller.project_id, whole=False), self._shared.keys
        record = await off_loop(
            lambda: open_record(row.plan_sealed, keys=keys, plan_id=row.id), size=len(row.plan_sealed)
        )
        permission = PERMISSIONS[record.action]
        caller.require(permission)
        _check_digest(row, record, digest)
        if record.findings:
            found = "; ".join(record.findings) if caller.may(READ_VALUES) else "look at its findings"
            raise InvalidRequest(f"plan {plan_id} cannot be applied: {found}")
        cluster = await self._check_stored(record, project_id=caller.project_id)
        observed_at = time.monotonic()
        with cluster_error_context(cluster):
            await self._check_base(cluster, record)
        try:
            return await self._submissions.submit(
                caller,
                cluster,
                record.as_request(plan_id),
                permission=permission,
                observed_at=observed_at,
                request_id=request_id,
                key=key,
            )
        except AlreadyExists as error:
            await self._updates.refuse_while_running(cluster, record.namespace, record.release_name)
            raise changed_error(record.release_name) from error

    async def _find(self, plan_id: str, *, project_id: str, whole: bool) -> store.PlanRow:
        async with self._database.autocommit() as connection:
            row = await store.find(connection, plan_id, project_id=project_id, whole=whole)
        if row is None:
            raise _unknown(plan_id)
        return row

    async def _propose(self, place: ReleaseRef, change: Change, *, project_id: str) -> Proposal:
        if isinstance(change, DeployRelease):
            return await self._deployments.propose(place, change, project_id=project_id)
        if isinstance(change, DeleteRelease):
            return await self._deletions.propose(place, change, project_id=project_id)
        cluster = await self._shared.clusters.identify(place.cluster, project_id=project_id)
        return await self._updates.propose(
            change, cluster.id, namespace=place.namespace, name=place.name, project_id=project_id
        )

    async def _creates_namespace(self, client: ClusterClient, record: PlanRecord) -> bool:
        """Return whether the install makes the release's namespace first, because it is not there."""
        may = has_option(record, "create_namespace") or self._shared.settings.cluster.create_namespaces
        return record.action is Action.INSTALL and may and not await client.namespace_exists(record.namespace)

    def _record(self, proposal: Proposal, newest: StoredRelease | None, rendering: Rendering) -> PlanRecord:
        operation, cluster = proposal.operation, proposal.cluster
        return PlanRecord(
            action=action_of(operation.order),
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            api_server=api_server(cluster.server),
            operation=operation_fields(operation),
            order=order_fields(operation.order),
            base=Base(newest.revision, newest.uid, newest.resource_version) if newest is not None else Base(),
            manifest=rendering.manifest,
            notes=rendering.notes,
            hooks=rendering.hooks,
            values=rendering.values,
            findings=rendering.findings,
        )

    async def _sources(
        self, change: Change, record: PlanRecord, comparison: Comparison, proposal: Proposal, *, project_id: str
    ) -> list[Source]:
        """Return where values come from, besides the chart: what the release had, and the layers."""
        order = proposal.operation.order
        if isinstance(change, UpdateRelease):
            return [Source(f"revision {change.release_version}", record.values)] if change.release_version else []
        if not isinstance(change, DeployRelease) or not isinstance(order, InstallCommand | UpgradeCommand):
            return []
        sources = []
        if isinstance(order, UpgradeCommand) and not order.reset_values and record.base.revision:
            sources.append(Source("previous", comparison.base.config))
        for layer in change.layers:
            values = await merge_layers(self._shared, [layer], project_id=project_id)
            sources.append(Source(layer.name, values))
        return sources

    async def _keep(self, caller: Caller, record: PlanRecord, comparison: Comparison) -> store.PlanRow:
        plan_id, limits = str(uuid.uuid4()), self._shared.settings.plans
        (plan_sealed, comparison_sealed), digest = await asyncio.to_thread(
            lambda: (seal_plan(record, comparison, keys=self._shared.keys, plan_id=plan_id), record.digest())
        )
        new = store.NewPlan(
            id=plan_id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            cluster_id=record.cluster_id,
            namespace=record.namespace,
            release_name=record.release_name,
            action=record.action,
            digest=digest,
            plan_sealed=plan_sealed,
            comparison_sealed=comparison_sealed,
        )
        async with self._database.autocommit() as connection:
            return await store.keep(
                connection,
                new,
                life_seconds=limits.seconds,
                most=limits.per_project,
                most_bytes=limits.bytes_per_project,
            )

    async def _check_stored(self, record: PlanRecord, *, project_id: str) -> ClusterConnection:
        """Return the cluster, if it and the chart are those that were planned with."""
        operation = record.operation
        async with self._database.autocommit() as connection:
            row, chart = await commands.find_cluster_and_chart(
                connection,
                cluster_id=record.cluster_id,
                chart_id=operation["chart_id"] if operation["chart_digest"] else "",
                project_id=project_id,
            )
        if row is None:
            raise PlanMoved(f"cluster {record.cluster_name!r} was removed since the plan was made")
        cluster = self._shared.clusters.open(record.cluster_id, row)
        if api_server(cluster.server) != record.api_server:
            raise PlanMoved(f"cluster {record.cluster_name!r} leads to another API server since the plan was made")
        if operation.get("chart_revision") is not None:
            chart = await self._keep_stored_chart(cluster, record, project_id=project_id)
        if operation["chart_digest"] and (chart is None or chart.digest != operation["chart_digest"]):
            what = f"{operation['chart_name']} {operation['chart_version']}"
            planned, is_there = NamedChart(operation["chart_id"], what, operation["chart_digest"]), chart is not None
            async with self._database.autocommit() as connection:
                why = await explain_gone(connection, planned, is_there=is_there, project_id=project_id)
            raise PlanMoved(f"{why}; plan again")
        return cluster

    async def _keep_stored_chart(self, cluster: ClusterConnection, record: PlanRecord, *, project_id: str) -> ChartRow:
        """Return the chart of the planned revision: nothing has kept its archive since."""
        try:
            stored = await keep_stored_chart(
                self._shared,
                cluster,
                namespace=record.namespace,
                name=record.release_name,
                revision=record.operation["chart_revision"],
                project_id=project_id,
            )
        except NotFound as error:
            raise PlanMoved(f"{error}; plan again") from error
        return stored.row

    async def _check_base(self, cluster: ClusterConnection, record: PlanRecord) -> None:
        """Return if the release's newest revision is the one that was planned over."""
        client, base = self._shared.clusters.client(cluster), record.base
        found = await client.list_release_labels(namespace=record.namespace, name=record.release_name)
        newest = max(found, key=lambda labels: labels.revision, default=None)
        if newest is None:
            moved = f"release {record.release_name!r} is gone" if base.revision else ""
        elif newest.revision != base.revision:
            moved = f"revision {newest.revision} was written, and the plan is over {base.revision or 'none'}"
        else:
            moved = f"revision {newest.revision} was changed" if base.version != newest.resource_version else ""
            moved = f"revision {newest.revision} was made anew" if base.uid != newest.uid else moved
        if moved:
            raise PlannedReleaseMoved(f"the release moved since the plan was made: {moved}; plan again")


def _as_deployed(stored: StoredRelease | None) -> Deployed:
    """Return what changes are against; what is uninstalled has nothing in the cluster."""
    if stored is None:
        return Deployed()
    return Deployed(
        deployed_revision=stored.revision,
        manifest=stored.manifest if stored.status != ReleaseStatus.UNINSTALLED else "",
        namespace=stored.target_namespace,
        values=stored.values,
        config=stored.config,
    )


def _unknown(plan_id: str) -> NotFound:
    return NotFound(f"plan {plan_id!r} does not exist in this project, or expired long ago")


def _check_digest(row: store.PlanRow, record: PlanRecord, digest: str) -> None:
    if row.operation_id is not None:
        raise PlanMoved(f"plan {row.id} has been applied already, by operation {row.operation_id}; plan again")
    if row.is_expired:
        raise PlanMoved(f"plan {row.id} expired at {row.expires_at.isoformat(timespec='seconds')}; plan again")
    if digest != row.digest or record.digest() != row.digest:
        raise PlanMoved(f"digest: it is not that of plan {row.id}; send the digest of the plan that you reviewed")
