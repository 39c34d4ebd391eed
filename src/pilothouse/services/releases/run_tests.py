"""Run the tests of a release, as ``helm test`` does; an operation of its own."""

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pilothouse.errors import AlreadyExists, InvalidArgument, InvalidRequest
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.stored_hooks import decode_hooks
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import RunTestsCommand, hidden_values
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.elsewhere import lock_refusal
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.locks import changed_error, is_locked
from pilothouse.services.releases.names import unknown_release
from pilothouse.services.releases.submit import OperationRequest, Submissions, base_of
from pilothouse.services.releases.update import Updates
from pilothouse.states import ReleaseStatus

_UPDATE: Final = "cce:release:update"
#: Helm's words: ``name=TEST``, and ``!name=TEST`` or ``! name=TEST`` for all others.
_FILTER: Final = re.compile(r"(?P<without>!\s?)?name=(?P<name>.+)")
_MOST_NAMED: Final = 20


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tests are run: those named, or all, without those that are excluded."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class ReleaseTests:
    """Run tests of releases in a project's clusters."""

    def __init__(self, shared: ReleaseDependencies, updates: Updates) -> None:
        self._database = shared.database
        self._clusters = shared.clusters
        self._updates = updates
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def run(  # what is named is the release, how it is tested, and the request
        self,
        caller: Caller,
        place: ReleaseRef,
        *,
        filters: Sequence[str],
        timeout_seconds: int | None,
        request_id: str,
        key: Key | None = None,
    ) -> SubmittedOperation:
        """Accept a run of the tests of the release's newest revision; ``place`` has its cluster's id.

        Raises InvalidRequest (filters, a release without objects), NotFound, Forbidden (an operation runs, or Helm's
        lock is held by another program), ClusterUnavailable, ClusterDenied or Busy.
        """
        caller.require(_UPDATE)
        wanted = read_filters(filters)
        cluster = await self._clusters.reach(place.cluster, project_id=caller.project_id)
        observed_at = time.monotonic()
        newest = await self._find(cluster, place.namespace, place.name)
        check_names(newest, wanted)
        operation = _request(newest, wanted, timeout_seconds=timeout_seconds)
        try:
            return await self._submissions.submit(
                caller,
                cluster,
                operation,
                permission=_UPDATE,
                observed_at=observed_at,
                request_id=request_id,
                key=key,
            )
        except AlreadyExists as error:
            await self._updates.refuse_while_running(cluster, place.namespace, place.name)
            raise changed_error(place.name) from error

    async def _find(self, cluster: ClusterConnection, namespace: str, name: str) -> StoredRelease:
        """Return the newest revision, whose tests can be run."""
        with cluster_error_context(cluster):
            client = self._clusters.client(cluster)
            async with client.within_limit():
                found = await read_unsuperseded(client, namespace, name)
        if not found or is_locked(found[-1][0]):
            await self._updates.refuse_while_running(cluster, namespace, name)
        if not found:
            raise unknown_release(name, namespace, cluster_name=cluster.name)
        newest, secret = found[-1]
        if is_locked(newest):
            raise await lock_refusal(self._database, cluster.id, newest, secret)
        if newest.status == ReleaseStatus.UNINSTALLED:
            raise InvalidRequest(f"release {name!r} is uninstalled and only its history is left; install it again")
        if newest.unlocked:
            raise InvalidRequest(
                f"revision {newest.revision} of release {name!r} was interrupted, and its record takes no results of "
                "tests; upgrade the release or roll it back first"
            )
        return newest


def _request(newest: StoredRelease, filters: Filters, *, timeout_seconds: int | None) -> OperationRequest:
    order = RunTestsCommand(
        merged_values=newest.values,
        first_deployed=newest.first_deployed,
        include=filters.include,
        exclude=filters.exclude,
        hidden_values=hidden_values(newest.config),
    )
    return OperationRequest(
        namespace=newest.namespace,
        release_name=newest.name,
        order=order,
        chart_name=newest.chart_name,
        chart_version=newest.chart_version,
        revision=newest.revision,
        **base_of(newest),
        status_description="Tests underway",
        timeout_seconds=timeout_seconds,
    )


def read_filters(filters: Sequence[str]) -> Filters:
    """Return Helm's filters by what they say; raise InvalidRequest for one that Helm would pass over."""
    chosen: dict[bool, list[str]] = {False: [], True: []}
    for index, text in enumerate(filters):
        found = _FILTER.fullmatch(text)
        if found is None:
            raise InvalidArgument(f"filters[{index}]: {text[:80]!r} is neither name=TEST nor !name=TEST")
        chosen[found["without"] is not None].append(found["name"])
    return Filters(include=tuple(chosen[False]), exclude=tuple(chosen[True]))


def check_names(stored: StoredRelease, filters: Filters) -> None:
    """Raise InvalidRequest for a test that the revision lacks: Helm would run none, and call it a success."""
    tests = {hook.name for hook in decode_hooks(stored.hooks_json) if hook.is_test}
    for name in (*filters.include, *filters.exclude):
        if name not in tests:
            raise InvalidRequest(
                f"filters: revision {stored.revision} of release {stored.name!r} has no test {name[:80]!r}; "
                + _describe(tests)
            )


def _describe(tests: Collection[str]) -> str:
    if not tests:
        return "it has none at all"
    more = f", and {len(tests) - _MOST_NAMED} more" if len(tests) > _MOST_NAMED else ""
    return f"its tests are {', '.join(sorted(tests)[:_MOST_NAMED])}{more}"
