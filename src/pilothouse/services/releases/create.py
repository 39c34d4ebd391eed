"""Create Release: checks the request against the cluster and queues an install. Reads are in ``read``."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from pilothouse.engine.protocol import InstallRequest, RenderNameRequest, ValuesLayer, Wait
from pilothouse.errors import AlreadyExists, EngineCrashed, EngineTimeout, HelmError, InvalidRequest, NotFound
from pilothouse.kubernetes.helm_secrets import read_release
from pilothouse.kubernetes.values import merge_values
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.cluster_walls import refuse_outside
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Key, SubmittedOperation
from pilothouse.services.releases.commands import PLAIN, Crds, HelmOptions, InstallCommand, as_wait, hidden_values
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.dry_run import DRY_RUN_COMPLETE, dry_run
from pilothouse.services.releases.engine_options import chart_options
from pilothouse.services.releases.external_managers import ReleaseManagers
from pilothouse.services.releases.locks import changed_error
from pilothouse.services.releases.names import check_name, check_namespace
from pilothouse.services.releases.namespaces import Namespaces
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.shown import INSTALL_UNDERWAY
from pilothouse.services.releases.sizes import refuse_oversized
from pilothouse.services.releases.stored_charts import StoredChart
from pilothouse.services.releases.submit import OperationRequest, Proposal, Submissions
from pilothouse.states import ReleaseStatus
from pilothouse.store import archives, charts, commands

log = structlog.get_logger(__name__)

_CREATE = "cce:release:create"
_REPLACEABLE = frozenset({ReleaseStatus.UNINSTALLED, ReleaseStatus.FAILED})


@dataclass(frozen=True)
class CreateRelease:
    """A request to create a release, with checked types; ``Releases.create`` applies the rules.

    ``values`` are those that ``layers``, if there are any, make. ``chart_digest``: only with that archive.
    ``takes_options``: it came by an API that has ``options``, which an error may name.
    """

    chart_id: str
    namespace: str
    name: str = ""
    chart_digest: str = ""
    version: str = ""
    values: dict[str, Any] | None = None
    description: str = ""
    dry_run: bool = False
    name_template: str = ""
    no_hooks: bool = False
    replace: bool = False
    include_hooks: bool = False
    takes_options: bool = False
    wait: Wait | None = None
    timeout_seconds: int | None = None
    crds: Crds | None = None
    skip_schema_validation: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    options: HelmOptions = PLAIN
    stored_chart: StoredChart | None = None


@dataclass(frozen=True)
class _Replaced:
    """The revision that an install replaces, None for a free name; a warning about its manager, and its own values."""

    revision: int | None = None
    warning: str | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)


class Releases:
    """Create releases in a project's clusters."""

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._shared = shared
        self._database = shared.database
        self._clusters = shared.clusters
        self._engine = shared.engine
        self._settings = shared.settings
        self._namespaces = Namespaces()
        self._managers = ReleaseManagers(shared.preflight, shared.settings.releases)
        self._submissions = Submissions(shared.database, shared.keys, shared.settings)

    async def create(
        self, caller: Caller, cluster_id: str, request: CreateRelease, *, request_id: str, key: Key | None = None
    ) -> SubmittedOperation:
        """Accept an install, or answer a dry run; what can be refused at once is refused here.

        Raises InvalidRequest (a rule, a dry run's render error), NotFound (cluster, chart, namespace),
        AlreadyExists (name in use), ChartReplaced, Forbidden (what it replaces is another program's),
        ClusterUnavailable, ClusterDenied or Busy. After an error nothing is stored.
        """
        caller = caller.at(cluster_id, request.namespace)
        caller.require(_CREATE)
        proposal, chart = await self._propose(request, cluster_id, project_id=caller.project_id)
        if request.dry_run:
            return SubmittedOperation(await self._dry_run(proposal, chart, request), None)
        return await self._submissions.submit(
            caller,
            proposal.cluster,
            proposal.operation,
            permission=_CREATE,
            observed_at=proposal.observed_at,
            request_id=request_id,
            key=key,
        )

    async def propose(self, request: CreateRelease, cluster_id: str, *, project_id: str) -> Proposal:
        """Return the operation that ``create`` would accept; raise what it raises."""
        return (await self._propose(request, cluster_id, project_id=project_id))[0]

    async def _propose(
        self, request: CreateRelease, cluster_id: str, *, project_id: str
    ) -> tuple[Proposal, charts.ChartRow]:
        check_namespace(request.namespace)
        await refuse_oversized(request.values or {})
        async with self._database.autocommit() as connection:
            row, found = await commands.find_cluster_and_chart(
                connection, cluster_id=cluster_id, chart_id=request.chart_id, project_id=project_id
            )
        cluster = self._clusters.open(cluster_id, row)
        refuse_outside(cluster, request.namespace)
        chart = request.stored_chart.row if request.stored_chart is not None else _check_chart(found, request)
        name = await self._choose_name(request, project_id=project_id)
        observed_at = time.monotonic()
        with cluster_error_context(cluster):
            replaced = await self._check_live(cluster, name, request)
        operation = OperationRequest(
            namespace=request.namespace,
            release_name=name,
            order=_command(cluster, chart, request, replaced.config),
            chart_digest=chart.digest,
            chart_revision=request.stored_chart.revision if request.stored_chart is not None else None,
            chart_id=chart.id,
            chart_name=chart.name,
            chart_version=chart.version,
            include_hooks=request.include_hooks,
            revision=(replaced.revision or 0) + 1,
            base_revision=replaced.revision,
            description=request.description,
            status_description=INSTALL_UNDERWAY,
            timeout_seconds=request.timeout_seconds,
            warning=replaced.warning,
        )
        return Proposal(cluster, operation, observed_at), chart

    async def _choose_name(self, request: CreateRelease, *, project_id: str) -> str:
        if request.name:
            if request.name_template:
                log.info("name_template_ignored", name=request.name)
            check_name(request.name, field="name")
            return request.name
        if not request.name_template:
            raise InvalidRequest("name: missing; send a name, or parameters.name_template to generate one")
        try:
            name = await self._engine.run(
                RenderNameRequest(template=request.name_template),
                deadline_seconds=self._settings.engine.name_seconds,
                queue_seconds=self._settings.engine.queue_seconds,
                share=project_id,
            )
        except EngineTimeout as error:
            seconds = self._settings.engine.name_seconds
            raise InvalidRequest(f"parameters.name_template: stopped after {seconds:g} s, the limit") from error
        except (HelmError, EngineCrashed) as error:
            raise InvalidRequest(f"parameters.name_template: {error}") from error
        check_name(name, field="parameters.name_template")
        return name

    async def _check_live(self, cluster: ClusterConnection, name: str, request: CreateRelease) -> _Replaced:
        """Return what is to be replaced, after what would fail later is checked in the cluster.

        That is, that the namespace exists and the name is free.
        """
        client = self._clusters.client(cluster)
        exists, revisions = await asyncio.gather(
            self._namespaces.exists(client, request.namespace),
            client.list_release_labels(namespace=request.namespace, name=name),
        )
        if not exists and not (self._settings.cluster.create_namespaces or request.options.create_namespace):
            hint = ", or set options.create_namespace" if request.takes_options else ""
            raise NotFound(
                f"namespace {request.namespace!r} does not exist in cluster {cluster.name!r}; create it first{hint}"
            )
        if not revisions:
            return _Replaced()
        newest = max(revisions, key=lambda labels: labels.revision)
        if not request.replace:
            raise AlreadyExists(
                f"name: release {name!r} exists in namespace {request.namespace!r} "
                f"(revision {newest.revision}, {newest.status}); choose another name, or update the release"
            )
        if newest.status not in _REPLACEABLE:
            raise AlreadyExists(
                f"name: release {name!r} exists in namespace {request.namespace!r} (revision {newest.revision}) and is "
                f"{newest.status}; parameters.replace replaces failed and uninstalled ones only"
            )
        secret = await client.find_release_secret(namespace=request.namespace, name=name, revision=newest.revision)
        if secret is None:
            raise changed_error(name)
        stored = await read_release(secret)
        return _Replaced(newest.revision, await self._managers.check(client, stored, secret), stored.config)

    async def _dry_run(self, proposal: Proposal, chart: charts.ChartRow, request: CreateRelease) -> Release:
        cluster, name = proposal.cluster, proposal.operation.release_name
        order = _command(cluster, chart, request, {})
        async with self._database.autocommit() as connection:
            archive = await archives.read_archive(connection, chart.digest)
        engine_request = InstallRequest(
            kubeconfig=cluster.kubeconfig,
            namespace=request.namespace,
            release_name=name,
            chart=archive or b"",
            dry_run="server",
            replace=order.replace,
            wait="none",
            timeout_seconds=self._settings.engine.answer_seconds,
            **chart_options(order),
        )
        what = f"rendering chart {chart.name} {chart.version}"
        outcome = await dry_run(self._shared, engine_request, cluster, what=what)
        now = datetime.now().astimezone()
        return Release(
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            namespace=request.namespace,
            name=name,
            revision=outcome.revision,
            status=ReleaseStatus.PENDING_INSTALL,
            description=request.description or DRY_RUN_COMPLETE,
            status_description=DRY_RUN_COMPLETE,
            chart_name=chart.name,
            chart_version=chart.version,
            values_json=compact_json(outcome.values),
            created_at=now,
            updated_at=now,
        )


def _check_chart(chart: charts.ChartRow | None, request: CreateRelease) -> charts.ChartRow:
    if chart is None:
        raise NotFound(f"chart_id: chart {request.chart_id!r} does not exist in this project")
    chart.check_digest(request.chart_digest)
    if request.version and request.version != chart.version:
        raise InvalidRequest(
            f"version: {request.version!r} is not the version of chart {chart.name}, which is {chart.version!r}; "
            "send that, or omit version"
        )
    return chart


def _command(
    cluster: ClusterConnection, chart: charts.ChartRow, request: CreateRelease, replaced: dict[str, Any]
) -> InstallCommand:
    """Return the install; ``replaced`` are the user's own values of the revision that it replaces."""
    return InstallCommand(
        values={} if request.layers else request.values or {},
        merged_values=merge_values(chart.default_values(), request.values or {}),
        disable_hooks=request.no_hooks,
        replace=request.replace,
        wait=request.wait or as_wait(cluster.wait),
        crds=request.crds or "create",
        skip_schema_validation=request.skip_schema_validation,
        layers=request.layers,
        options=request.options,
        hidden_values=hidden_values((request.values or {}) if request.layers else {}, replaced),
    )
