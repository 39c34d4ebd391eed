"""Rollbacks before they are queued."""

import asyncio

from pilothouse.engine.protocol import RollbackRequest
from pilothouse.errors import InvalidRequest, NotFound
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release
from pilothouse.services.releases.commands import RollbackCommand, as_wait
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import dry_run
from pilothouse.services.releases.own_namespace import own_namespace
from pilothouse.services.releases.update_plans import UpdatePlan, UpdateRelease, UpdateTarget
from pilothouse.states import ReleaseStatus
from pilothouse.store import operations


async def plan_rollback(shared: ReleaseDependencies, target: UpdateTarget, request: UpdateRelease) -> UpdatePlan:
    """Plan it, and try it if a dry run was requested; raise NotFound without a revision to go back to."""
    to_revision = request.release_version or await _find_last_good(shared, target)
    goal, chart_id = await asyncio.gather(
        _find_revision(shared, target, to_revision), _find_chart_id(shared, target, to_revision)
    )
    problem = await shared.preflight.find_rollback_problem(
        shared.clusters.client(target.cluster),
        goal=goal.manifest,
        namespace=target.namespace,
        owns_namespace=not request.remove_namespace and await own_namespace(target.stored),
    )
    if problem is not None:
        raise InvalidRequest(f"parameters.release_version: revision {to_revision} cannot be restored: {problem}")
    order = RollbackCommand(
        to_revision=to_revision,
        merged_values=goal.values,
        first_deployed=target.newest.first_deployed,
        disable_hooks=request.disables_hooks(on_update=shared.settings.hooks.on_update),
        recreate=request.recreate,
        wait=request.wait or as_wait(target.cluster.wait),
        remove_namespace=request.remove_namespace,
    )
    if request.dry_run:
        await _try(shared, target, to_revision)
    operation = target.operation(
        request,
        order,
        chart_id=chart_id,
        chart_name=goal.chart_name,
        chart_version=goal.chart_version,
        status_description=f"Rollback to {to_revision}",
    )
    return UpdatePlan(operation, goal.values if request.dry_run else None)


async def _try(shared: ReleaseDependencies, target: UpdateTarget, to_revision: int) -> None:
    trial = RollbackRequest(
        kubeconfig=target.cluster.kubeconfig,
        namespace=target.namespace,
        release_name=target.name,
        to_revision=to_revision,
        dry_run="server",
        timeout_seconds=shared.settings.engine.answer_seconds,
    )
    await dry_run(shared, trial, target.cluster, what="the rollback")


async def _find_last_good(shared: ReleaseDependencies, target: UpdateTarget) -> int:
    """Return the number of the newest revision before the present one that was deployed; 0 if none was."""
    client = shared.clusters.client(target.cluster)
    found = await client.list_release_labels(namespace=target.namespace, name=target.name)
    good = (one.revision for one in found if one.status in {ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED})
    return max((one for one in good if one < target.newest.revision), default=0)


async def _find_chart_id(shared: ReleaseDependencies, target: UpdateTarget, revision: int) -> str:
    """Return the chart that the revision was made from; empty if it is not one of ours."""
    async with shared.database.autocommit() as connection:
        origins = await operations.list_release_origins(
            connection, cluster_id=target.cluster.id, namespace=target.namespace, release_name=target.name
        )
    return next((one.chart_id for one in origins if one.revision == revision), "")


async def _find_revision(shared: ReleaseDependencies, target: UpdateTarget, revision: int) -> StoredRelease:
    secret = None
    if revision > 0:
        client = shared.clusters.client(target.cluster)
        secret = await client.find_release_secret(namespace=target.namespace, name=target.name, revision=revision)
    if secret is None:
        before = f"revision before {target.newest.revision} that was ever deployed"
        which = f"revision {revision}" if revision > 0 else before
        raise NotFound(
            f"parameters.release_version: release {target.name!r} has no {which}; "
            "its history lists the existing revisions"
        )
    return await read_release(secret)
