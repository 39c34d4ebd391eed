"""Upgrades before they are queued."""

from typing import Any

import structlog

from pilothouse.engine.protocol import UpgradeRequest
from pilothouse.errors import InvalidRequest
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.values import merge_values
from pilothouse.services.releases.commands import OnlyOver, UpgradeCommand, as_wait, hidden_values
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import dry_run
from pilothouse.services.releases.engine_options import upgrade_options
from pilothouse.services.releases.own_namespace import own_namespace
from pilothouse.services.releases.preflight import ExpectedRevision
from pilothouse.services.releases.shown import UPGRADE_UNDERWAY
from pilothouse.services.releases.update_plans import UpdatePlan, UpdateRelease, UpdateTarget
from pilothouse.states import ReleaseStatus
from pilothouse.store import archives, charts

log = structlog.get_logger(__name__)


async def plan_upgrade(
    shared: ReleaseDependencies, target: UpdateTarget, chart: charts.ChartRow, request: UpdateRelease
) -> UpdatePlan:
    """Plan it, and try it if a dry run was requested; raise InvalidRequest if the release is uninstalled."""
    newest = target.newest
    if newest.status == ReleaseStatus.UNINSTALLED:
        raise InvalidRequest(
            f"release {target.name!r} is uninstalled and only its history is left; "
            "recreate it with parameters.replace, or roll it back"
        )
    if newest.chart_name != chart.name:
        log.warning("release_changes_chart", release=target.name, chart=chart.name, before=newest.chart_name)
    order = UpgradeCommand(
        values={} if request.layers else request.values,
        merged_values=_merged(target.current, chart, request),
        first_deployed=newest.first_deployed,
        disable_hooks=request.disables_hooks(on_update=shared.settings.hooks.on_update),
        reset_values=request.reset_values,
        reuse_values=request.replace and not request.reset_values,
        recreate=request.recreate,
        wait=request.wait or as_wait(target.cluster.wait),
        crds=request.crds or "skip",
        skip_schema_validation=request.skip_schema_validation,
        owns_namespace=await own_namespace(target.stored),
        remove_namespace=request.remove_namespace,
        layers=request.layers,
        reset_then_reuse_values=request.reset_then_reuse,
        options=request.options,
        only_over=_only_over(newest) if request.base_revision is not None else None,
        hidden_values=_hidden_values(target, request),
    )
    operation = target.operation(
        request,
        order,
        chart_digest=chart.digest,
        chart_id=chart.id,
        chart_name=chart.name,
        chart_version=chart.version,
        status_description=UPGRADE_UNDERWAY,
    )
    return UpdatePlan(
        operation, await _dry_run(shared, target, chart, order, hides=request.hides_values) if request.dry_run else None
    )


def _hidden_values(target: UpdateTarget, request: UpdateRelease) -> tuple[dict[str, Any], ...]:
    before = target.current.config, target.newest.config
    if request.layers:
        return hidden_values(request.values, *before)
    return hidden_values(*before, sent=request.values)


def _only_over(newest: StoredRelease) -> OnlyOver:
    return OnlyOver(revision=newest.revision, uid=newest.uid, version=newest.resource_version)


async def _dry_run(
    shared: ReleaseDependencies,
    target: UpdateTarget,
    chart: charts.ChartRow,
    order: UpgradeCommand,
    *,
    hides: bool,
) -> dict[str, Any]:
    """Return the values that the templates got, including those of subcharts and imported ones."""
    async with shared.database.autocommit() as connection:
        archive = await archives.read_archive(connection, chart.digest)
    request = UpgradeRequest(
        kubeconfig=target.cluster.kubeconfig,
        namespace=target.namespace,
        release_name=target.name,
        chart=archive or b"",
        dry_run="server",
        timeout_seconds=shared.settings.engine.answer_seconds,
        **upgrade_options(order),
    )
    what = f"rendering chart {chart.name} {chart.version}"
    expected = ExpectedRevision(target.newest.revision + 1, order.merged_values, order.owns_namespace)
    outcome = await dry_run(shared, request, target.cluster, what=what, expected=expected, hides=hides)
    return outcome.values


def _merged(current: StoredRelease, chart: charts.ChartRow, request: UpdateRelease) -> dict[str, Any]:
    """Return what Helm will make of the values (Helm ``pkg/action/upgrade.go``, ``reuseValues``)."""
    if request.reset_values:
        return merge_values(chart.default_values(), request.values)
    if request.replace:
        return merge_values(current.values, request.values)
    if request.reset_then_reuse:
        return merge_values(chart.default_values(), merge_values(current.config, request.values))
    return merge_values(chart.default_values(), request.values or current.config)
