"""Rollbacks before they are queued."""

import asyncio
from collections.abc import Iterable

from pilothouse.engine.protocol import RollbackRequest
from pilothouse.errors import InvalidRequest, NotFound
from pilothouse.kubernetes.helm_secrets import StoredRelease, read_release
from pilothouse.kubernetes.release_labels import ReleaseLabels
from pilothouse.services.releases.commands import RollbackCommand, as_wait, hidden_values
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.deployed import find_last_deployed, was_deployed
from pilothouse.services.releases.dry_run import dry_run
from pilothouse.services.releases.own_namespace import own_namespace
from pilothouse.services.releases.update_plans import UpdatePlan, UpdateRelease, UpdateTarget
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store import operations
from pilothouse.store.release_changes import list_changes

_WRITES_REVISION = frozenset({Action.INSTALL, Action.UPGRADE, Action.ROLLBACK})


async def plan_rollback(shared: ReleaseDependencies, target: UpdateTarget, request: UpdateRelease) -> UpdatePlan:
    """Plan it, and try it if a dry run was requested; raise NotFound without a revision to go back to."""
    to_revision, field = request.release_version or await _find_last_good(shared, target), request.revision_field
    goal, chart_id = await asyncio.gather(
        _find_revision(shared, target, to_revision, field=field), _find_chart_id(shared, target, to_revision)
    )
    # what was uninstalled with its history kept was deployed, as far as its own record tells; Helm brings it back
    if request.only_succeeded and not was_deployed(target.name, goal.status, goal.description):
        raise InvalidRequest(
            f"{field}: revision {to_revision} is {goal.status} and was never deployed; its history lists others"
        )
    problem = await shared.preflight.find_rollback_problem(
        shared.clusters.client(target.cluster),
        goal=goal.manifest,
        namespace=target.namespace,
        owns_namespace=not request.remove_namespace and await own_namespace(target.stored),
    )
    if problem is not None:
        raise InvalidRequest(f"{field}: revision {to_revision} cannot be restored: {problem}")
    order = RollbackCommand(
        to_revision=to_revision,
        merged_values=goal.values,
        first_deployed=target.newest.first_deployed,
        disable_hooks=request.disables_hooks(on_update=shared.settings.hooks.on_update),
        recreate=request.recreate,
        wait=request.wait or as_wait(target.cluster.wait),
        remove_namespace=request.remove_namespace,
        options=request.options,
        hidden_values=hidden_values(goal.config, target.current.config, target.newest.config),
    )
    if request.dry_run:
        await _dry_run(shared, target, to_revision, hides=request.hides_values)
    operation = target.operation(
        request,
        order,
        chart_id=chart_id,
        chart_name=goal.chart_name,
        chart_version=goal.chart_version,
        status_description=f"Rollback to {to_revision}",
    )
    return UpdatePlan(operation, goal.values if request.dry_run else None)


async def _dry_run(shared: ReleaseDependencies, target: UpdateTarget, to_revision: int, *, hides: bool) -> None:
    trial = RollbackRequest(
        kubeconfig=target.cluster.kubeconfig,
        namespace=target.namespace,
        release_name=target.name,
        to_revision=to_revision,
        dry_run="server",
        timeout_seconds=shared.settings.engine.answer_seconds,
    )
    await dry_run(shared, trial, target.cluster, what="the rollback", hides=hides)


async def _find_last_good(shared: ReleaseDependencies, target: UpdateTarget) -> int:
    """Return the number of the revision before the present one that was deployed last; 0 if none was."""
    client = shared.clusters.client(target.cluster)

    async def read(revision: int) -> StoredRelease | None:
        secret = await client.find_release_secret(namespace=target.namespace, name=target.name, revision=revision)
        return await read_release(secret) if secret is not None else None

    found = await client.list_release_labels(namespace=target.namespace, name=target.name)
    earlier = [labels for labels in found if labels.revision < target.newest.revision]
    failed = await _list_failed(shared, target, earlier)
    return await find_last_deployed(target.name, earlier, read, failed=failed) or 0


async def _list_failed(shared: ReleaseDependencies, target: UpdateTarget, earlier: Iterable[ReleaseLabels]) -> set[int]:
    """Return which uninstalled revisions never were deployed: their status does not tell, the operations do."""
    uninstalled = {labels.revision for labels in earlier if labels.status == ReleaseStatus.UNINSTALLED}
    if not uninstalled:
        return set()
    async with shared.database.autocommit() as connection:
        changes = await list_changes(connection, target.cluster.id, namespace=target.namespace, name=target.name)
    # newest first: a number can have been written before, by a release of the same name that is gone
    written = {change.revision: change.state for change in reversed(changes) if change.action in _WRITES_REVISION}
    return {
        revision
        for revision in uninstalled
        if written.get(revision, OperationState.SUCCEEDED) != OperationState.SUCCEEDED
    }


async def _find_chart_id(shared: ReleaseDependencies, target: UpdateTarget, revision: int) -> str:
    """Return the chart that the revision was made from; empty if it is not one of ours."""
    async with shared.database.autocommit() as connection:
        origins = await operations.list_release_origins(
            connection, cluster_id=target.cluster.id, namespace=target.namespace, release_name=target.name
        )
    return next((candidate.chart_id for candidate in origins if candidate.revision == revision), "")


async def _find_revision(
    shared: ReleaseDependencies, target: UpdateTarget, revision: int, *, field: str
) -> StoredRelease:
    secret = None
    if revision > 0:
        client = shared.clusters.client(target.cluster)
        secret = await client.find_release_secret(namespace=target.namespace, name=target.name, revision=revision)
    if secret is None:
        newest, hint = target.newest, "its history lists the existing revisions"
        which = f"revision {revision}" if revision > 0 else f"revision before {newest.revision} that was ever deployed"
        if revision <= 0 and newest.status == ReleaseStatus.UNINSTALLED:
            hint = f"to bring back what was uninstalled, name revision {newest.revision}"
        raise NotFound(f"{field}: release {target.name!r} has no {which}; {hint}")
    return await read_release(secret)
