"""Make a release so: an install if there is none, else an upgrade, with all options of Helm."""

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pilothouse.engine.protocol import ValuesLayer, Wait
from pilothouse.errors import AlreadyExists, ArchiveGone, Checks, InvalidArgument, ReleaseMoved
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import PLAIN, Crds, HelmOptions
from pilothouse.services.releases.create import CreateRelease, Releases
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.locks import changed_error, refuse_other_base
from pilothouse.services.releases.names import check_any_name, check_namespace
from pilothouse.services.releases.stored_charts import StoredChart, keep_stored_chart
from pilothouse.services.releases.submit import Proposal
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.services.releases.value_layers import merge_layers
from pilothouse.states import ReleaseStatus

#: A release, or the archive of a chart, can come or go between the look at it and the acceptance.
_ROUNDS = 3
_CREATE, _UPDATE = "cce:release:create", "cce:release:update"
#: The value with which Helm removes a label of the revision before.
REMOVED: Final = "null"
#: Helm's own labels of a revision, and the one by which an operation knows its revisions.
_RESERVED: Final = frozenset({"name", "owner", "status", "version", "createdAt", "modifiedAt", OPERATION_LABEL})
_LABEL_NAME: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
ValuesMode = Literal["replace", "reuse", "reset_then_reuse"]


@dataclass(frozen=True)
class Prepared:
    """The cluster, the values that the layers make, and the chart if it is one that a revision stores."""

    cluster: ClusterConnection
    values: dict[str, Any] = field(repr=False)
    chart: StoredChart | None


@dataclass(frozen=True, kw_only=True)
class DeployRelease:
    """What a release is to become, with checked types; by Helm's names.

    ``values_mode``: which values are below the layers. ``replace``: the chart's, ``reuse``: all that the release has
    now, ``reset_then_reuse``: the chart's with the user's own of now over them. ``chart_digest``: only with that
    archive. ``chart_revision``: the chart that is stored in that revision, in place of one by its id.
    ``base_revision``: only while that is the newest revision.
    """

    chart_id: str = ""
    chart_revision: int | None = None
    chart_digest: str = ""
    base_revision: int | None = None
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    values_mode: ValuesMode = "replace"
    wait: Wait | None = None
    timeout_seconds: int | None = None
    no_hooks: bool = False
    crds: Crds | None = None
    skip_schema_validation: bool = False
    options: HelmOptions = PLAIN

    def _wait(self) -> Wait | None:
        """Return until what it waits: as in Helm, to roll a failure back takes a wait that can fail; so do checks."""
        waits = self.options.rollback_on_failure or self.options.checks
        return at_least_ready(self.wait) if waits else self.wait

    def as_install(self, place: ReleaseRef, prepared: Prepared, *, replace: bool) -> CreateRelease:
        """Return it as an install; labels that remove others have nothing to remove."""
        labels = {name: value for name, value in self.options.labels.items() if value != REMOVED}
        return CreateRelease(
            chart_id=self.chart_id,
            chart_digest=self.chart_digest,
            namespace=place.namespace,
            name=place.name,
            values=dict(prepared.values),
            layers=self.layers,
            description=self.options.description,
            no_hooks=self.no_hooks,
            include_hooks=not self.no_hooks,
            replace=replace,
            takes_options=True,
            wait=self._wait(),
            timeout_seconds=self.timeout_seconds,
            crds=self.crds,
            skip_schema_validation=self.skip_schema_validation,
            options=HelmOptions(**{**vars(self.options), "labels": labels}),
            stored_chart=prepared.chart,
        )

    def as_upgrade(self, prepared: Prepared) -> UpdateRelease:
        """Return it as an upgrade."""
        return UpdateRelease(
            chart_id=self.chart_id,
            chart_digest=self.chart_digest,
            values=dict(prepared.values),
            layers=self.layers,
            no_hooks=self.no_hooks,
            include_hooks=not self.no_hooks,
            reset_values=self.values_mode == "replace",
            replace=self.values_mode == "reuse",
            reset_then_reuse=self.values_mode == "reset_then_reuse",
            wait=self._wait(),
            timeout_seconds=self.timeout_seconds,
            crds=self.crds,
            skip_schema_validation=self.skip_schema_validation,
            options=self.options,
            stored_chart=prepared.chart,
            base_revision=self.base_revision,
        )


def at_least_ready(wait: Wait | None) -> Wait:
    """Return the wait, but for one that ends before the objects are ready."""
    return "jobs" if wait == "jobs" else "ready"


class Deployments:
    """Make releases in a project's clusters what they are to be."""

    def __init__(self, shared: ReleaseDependencies, releases: Releases, updates: Updates) -> None:
        self._shared = shared
        self._clusters = shared.clusters
        self._releases = releases
        self._updates = updates

    async def deploy(
        self, caller: Caller, place: ReleaseRef, request: DeployRelease, *, request_id: str, key: Key | None = None
    ) -> SubmittedOperation:
        """Accept an install or an upgrade, whichever it takes; what can be refused at once is refused here.

        An uninstalled release whose history was kept is installed anew. Raises what both raise, and NotPermitted for
        an install by a caller who may only update.
        """
        caller.require(_UPDATE)
        prepared = await self._prepare(place, request, project_id=caller.project_id)
        cluster = prepared.cluster
        for _ in range(_ROUNDS):
            status = await self._find_status(cluster, place, request)
            try:
                if status is not None and status != ReleaseStatus.UNINSTALLED:
                    return await self._updates.update(
                        caller,
                        cluster.id,
                        namespace=place.namespace,
                        name=place.name,
                        request=request.as_upgrade(prepared),
                        request_id=request_id,
                        key=key,
                    )
                caller.require(_CREATE)
                return await self._releases.create(
                    caller,
                    cluster.id,
                    request.as_install(place, prepared, replace=status is not None),
                    request_id=request_id,
                    key=key,
                )
            except ArchiveGone:
                continue  # the next look tells whether the chart is gone, or has another archive
            except AlreadyExists:
                await self._updates.refuse_while_running(cluster, place.namespace, place.name)
        raise changed_error(place.name)

    async def propose(self, place: ReleaseRef, request: DeployRelease, *, project_id: str) -> Proposal:
        """Return the operation that ``deploy`` would accept; raise what it raises."""
        prepared = await self._prepare(place, request, project_id=project_id)
        cluster = prepared.cluster
        status = await self._find_status(cluster, place, request)
        if status is not None and status != ReleaseStatus.UNINSTALLED:
            return await self._updates.propose(
                request.as_upgrade(prepared),
                cluster.id,
                namespace=place.namespace,
                name=place.name,
                project_id=project_id,
            )
        install = request.as_install(place, prepared, replace=status is not None)
        return await self._releases.propose(install, cluster.id, project_id=project_id)

    async def _prepare(self, place: ReleaseRef, request: DeployRelease, *, project_id: str) -> Prepared:
        checks = Checks()
        checks.read(lambda: check_namespace(place.namespace))
        checks.read(lambda: check_any_name(place.name))
        checks.read(lambda: _check(request.options))
        values = await checks.wait(merge_layers(self._shared, request.layers, project_id=project_id)) or {}
        checks.end()
        named = await self._clusters.identify(place.cluster, project_id=project_id)
        cluster = await self._clusters.reach(named.id, project_id=project_id)
        chart = None
        if request.chart_revision is not None:
            chart = await keep_stored_chart(
                self._shared,
                cluster,
                namespace=place.namespace,
                name=place.name,
                revision=request.chart_revision,
                project_id=project_id,
            )
        return Prepared(cluster, values, chart)

    async def _find_status(self, cluster: ClusterConnection, place: ReleaseRef, request: DeployRelease) -> str | None:
        """Return the status of the newest revision, None if there is none.

        Raises ReleaseMoved if it is another than is wanted, or is uninstalled, which leaves it its number.
        """
        with cluster_error_context(cluster):
            found = await self._clusters.client(cluster).list_release_labels(namespace=place.namespace, name=place.name)
        newest = max(found, key=lambda labels: labels.revision, default=None)
        now = newest.revision if newest is not None else None
        refuse_other_base(place.name, now, expected=request.base_revision)
        if request.base_revision is not None and newest is not None and newest.status == ReleaseStatus.UNINSTALLED:
            raise ReleaseMoved(
                f"base_revision: release {place.name!r} was uninstalled; nothing was done: send the request without "
                "base_revision to install it anew"
            )
        return newest.status if newest is not None else None


def _check(options: HelmOptions) -> None:
    if options.force_conflicts and options.force_replace:
        raise InvalidArgument("options: force_conflicts and force_replace cannot be used together; Helm knows either")
    for name, value in options.labels.items():
        if name in _RESERVED:
            raise InvalidArgument(f"options.labels: {name} is a label that Helm or Pilothouse sets itself; omit it")
        if not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidArgument(
                f"options.labels: {name[:80]!r} is not a label of Kubernetes: name and value have at most 63 letters, "
                "digits, '-', '_' and '.', with a letter or digit at both ends"
            )
