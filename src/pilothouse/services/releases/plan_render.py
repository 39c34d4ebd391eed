"""What Helm would make of a planned operation: rendered against the cluster, after the whole preflight."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.charts import evaluates_values, uses_lookup
from pilothouse.engine.protocol import InstallRequest, UpgradeRequest
from pilothouse.errors import ChartReplaced, NotPermitted, PlanMoved
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release
from pilothouse.kubernetes.stored_hooks import StoredHook, decode_hooks
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.commands import InstallCommand, RollbackCommand, UpgradeCommand
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import dry_run
from pilothouse.services.releases.engine_options import chart_options, upgrade_options
from pilothouse.services.releases.preflight import ExpectedRevision
from pilothouse.services.releases.submit import Proposal
from pilothouse.store import archives

_UPDATE = "cce:release:update"


@dataclass(frozen=True)
class Rendering:
    """The next revision as it is planned; ``archive`` is the chart's, empty for actions without one."""

    manifest: str = field(default="", repr=False)
    notes: str = field(default="", repr=False)
    hooks: list[StoredHook] = field(default_factory=list, repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    findings: list[str] = field(default_factory=list)
    archive: bytes = field(default=b"", repr=False)


async def render(
    shared: ReleaseDependencies, caller: Caller, proposal: Proposal, newest: StoredRelease | None
) -> Rendering:
    """Return what Helm would make of the proposal; raise InvalidRequest if it would make nothing.

    Also raises Busy, and NotPermitted if the chart may read the cluster, which takes the right to update.
    """
    caller.require("cce:release:get")
    order = proposal.operation.order
    if isinstance(order, InstallCommand | UpgradeCommand):
        return await _render_chart(shared, caller, proposal, order)
    if newest is None:
        return Rendering()
    if isinstance(order, RollbackCommand):
        stored = await _read_goal(shared, proposal, order.to_revision)
        hooks = await off_loop(lambda: decode_hooks(stored.hooks_json), size=len(stored.hooks_json))
        return Rendering(manifest=stored.manifest, notes=stored.notes, hooks=hooks, values=stored.values)
    hooks = await off_loop(lambda: decode_hooks(newest.hooks_json), size=len(newest.hooks_json))
    return Rendering(hooks=hooks)


async def _render_chart(
    shared: ReleaseDependencies, caller: Caller, proposal: Proposal, order: InstallCommand | UpgradeCommand
) -> Rendering:
    operation = proposal.operation
    async with shared.database.autocommit() as connection:
        archive = await archives.read_archive(connection, operation.chart_digest or "")
    if archive is None:
        raise ChartReplaced(
            f"chart {operation.chart_name} {operation.chart_version} was deleted or replaced meanwhile; plan again"
        )
    await _refuse_look_ups(shared, caller, archive, order)
    findings: list[str] = []
    outcome = await dry_run(
        shared,
        _request(proposal, order, archive, seconds=shared.settings.engine.answer_seconds),
        proposal.cluster,
        what=f"rendering chart {operation.chart_name} {operation.chart_version}",
        expected=_expected(proposal, order),
        findings=findings,
        hides=not caller.may(READ_VALUES),
    )
    return Rendering(
        manifest=outcome.manifest,
        notes=outcome.notes,
        hooks=[msgspec.convert(hook, StoredHook) for hook in outcome.hooks],
        values=outcome.values,
        findings=findings,
        archive=archive,
    )


def _request(
    proposal: Proposal, order: InstallCommand | UpgradeCommand, archive: bytes, *, seconds: float
) -> InstallRequest | UpgradeRequest:
    place: dict[str, Any] = {
        "kubeconfig": proposal.cluster.kubeconfig,
        "namespace": proposal.operation.namespace,
        "release_name": proposal.operation.release_name,
        "chart": archive,
        "dry_run": "server",
        "timeout_seconds": seconds,
    }
    if isinstance(order, InstallCommand):
        return InstallRequest(**place, replace=order.replace, **chart_options(order))
    return UpgradeRequest(**place, **upgrade_options(order))


def _expected(proposal: Proposal, order: InstallCommand | UpgradeCommand) -> ExpectedRevision:
    owns = isinstance(order, UpgradeCommand) and order.owns_namespace
    return ExpectedRevision(proposal.operation.revision or 1, order.merged_values, owns)


async def _refuse_look_ups(
    shared: ReleaseDependencies, caller: Caller, archive: bytes, order: InstallCommand | UpgradeCommand
) -> None:
    """Refuse a chart that could show objects of the cluster to a caller who may only read releases.

    ``lookup`` finds whatever the cluster's account may read; the templates that ``tpl`` evaluates can be in values.
    """
    if caller.may(_UPDATE):
        return
    limits = shared.settings.charts

    def may_read() -> bool:
        if uses_lookup(archive, limits=limits):
            return True
        return b"{{" in orjson.dumps(order.merged_values) and evaluates_values(archive, limits=limits)

    if await asyncio.to_thread(may_read):
        raise NotPermitted(
            f"Forbidden: the templates of this chart may read objects of the cluster, so that its plan needs the "
            f"permission {_UPDATE}, which user {caller.user_name!r} lacks",
            action=_UPDATE,
        )


async def _read_goal(shared: ReleaseDependencies, proposal: Proposal, revision: int) -> StoredRelease:
    operation = proposal.operation
    secret = await shared.clusters.client(proposal.cluster).find_release_secret(
        namespace=operation.namespace, name=operation.release_name, revision=revision
    )
    if secret is None:
        raise PlanMoved(f"revision {revision} was removed meanwhile; plan again")
    return await read_release(secret)
