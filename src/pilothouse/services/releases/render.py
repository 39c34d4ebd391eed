"""Render a chart as ``helm template`` does: nothing is stored, and nothing is written to any cluster."""

import asyncio
from dataclasses import dataclass, field

import msgspec

from pilothouse.auth.policy import READ_VALUES
from pilothouse.engine.protocol import RenderOutcome, RenderRequest, ValuesLayer
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidRequest, NotFound
from pilothouse.kubernetes.stored_hooks import StoredHook
from pilothouse.kubernetes.values import merge_values
from pilothouse.masking_thread import in_masking_thread
from pilothouse.redaction import Masks, masks_of
from pilothouse.services.clusters import ClusterConnection, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.layer_lines import locate_in_layers
from pilothouse.services.releases.masking import hide_in_manifest
from pilothouse.services.releases.names import check_name, check_namespace
from pilothouse.services.releases.secret_data import without_secret_data
from pilothouse.services.releases.value_layers import merge_layers
from pilothouse.store import archives, charts
from pilothouse.store.commands import require_verified


@dataclass(frozen=True, kw_only=True)
class RenderChart:
    """A request to render a chart, by Helm's names; ``cluster`` is an id or a name, empty for none."""

    chart_id: str
    chart_digest: str = ""
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    cluster: str = ""
    namespace: str = "default"
    name: str = ""
    name_template: str = ""
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()
    include_crds: bool = False
    is_upgrade: bool = False
    no_hooks: bool = False
    skip_tests: bool = False
    show_only: tuple[str, ...] = ()
    skip_schema_validation: bool = False


@dataclass(frozen=True)
class Rendered:
    """What a chart renders."""

    name: str
    namespace: str
    manifest: str = field(repr=False)
    notes: str = field(repr=False)
    hooks: list[StoredHook] = field(repr=False)


class Renders:
    """Render charts of a project."""

    def __init__(self, shared: ReleaseDependencies) -> None:
        self._shared = shared

    async def render(self, caller: Caller, request: RenderChart) -> Rendered:
        """Return what the chart renders; with a cluster, ``lookup`` and the capabilities are that cluster's.

        With a cluster it takes the right to create releases, because a chart can show what it looks up. For callers
        who may not read values, these are masked. Raises InvalidRequest with Helm's words, NotFound (chart, cluster),
        ChartReplaced, Forbidden (with a cluster, for a chart that the project does not take), ClusterUnavailable,
        ClusterDenied, or Busy if no engine is free.
        """
        caller.require("cce:chart:get")
        if request.cluster:
            caller.require("cce:release:create")
        check_namespace(request.namespace)
        if request.name:
            check_name(request.name, field="name")
        async with self._shared.database.autocommit() as connection:
            chart = await charts.find_chart(connection, request.chart_id, project_id=caller.project_id)
            if chart is not None:
                chart.check_digest(request.chart_digest)
                if request.cluster:
                    await require_verified(connection, chart)
            archive = await archives.read_archive(connection, chart.digest) if chart is not None else None
        if chart is None or archive is None:
            raise NotFound(f"chart.id: chart {request.chart_id!r} does not exist in this project")
        values = await merge_layers(self._shared, request.layers, project_id=caller.project_id)
        outcome = await self._render(request, archive, project_id=caller.project_id)
        hooks = [msgspec.convert(hook, StoredHook) for hook in outcome.hooks]
        found = Rendered(outcome.name, request.namespace, outcome.manifest, outcome.notes, hooks)
        if caller.may(READ_VALUES):
            return found
        merged = merge_values(chart.default_values(), values)
        return await in_masking_thread(lambda: _hidden(found, masks_of(values=merged).prepare()))

    async def check_layers(self, caller: Caller, layers: tuple[ValuesLayer, ...]) -> None:
        """Raise InvalidRequest with Helm's words for values that cannot be read, or Busy if no engine is free."""
        caller.require("cce:release:get")
        await merge_layers(self._shared, layers, project_id=caller.project_id)

    async def _render(self, request: RenderChart, archive: bytes, *, project_id: str) -> RenderOutcome:
        cluster = None
        if request.cluster:
            named = await self._shared.clusters.identify(request.cluster, project_id=project_id)
            cluster = await self._shared.clusters.reach(named.id, project_id=project_id)
        wanted = RenderRequest(
            kubeconfig=cluster.kubeconfig if cluster is not None else "",
            namespace=request.namespace,
            release_name=request.name,
            name_template=request.name_template,
            chart=archive,
            layers=request.layers,
            kube_version=request.kube_version,
            api_versions=request.api_versions,
            include_crds=request.include_crds,
            is_upgrade=request.is_upgrade,
            disable_hooks=request.no_hooks,
            skip_tests=request.skip_tests,
            show_only=request.show_only,
            skip_schema_validation=request.skip_schema_validation,
        )
        if cluster is None:
            return await self._ask(wanted, project_id=project_id)
        with cluster_error_context(cluster):
            return await self._ask(wanted, project_id=project_id, cluster=cluster)

    async def _ask(
        self, request: RenderRequest, *, project_id: str, cluster: ClusterConnection | None = None
    ) -> RenderOutcome:
        limits = self._shared.settings.engine
        try:
            return await self._shared.engine.run(
                request,
                deadline_seconds=limits.answer_seconds,
                queue_seconds=limits.queue_seconds,
                share=project_id,
            )
        except HelmError as error:
            if cluster is None:
                problem = await asyncio.to_thread(locate_in_layers, str(error), request.layers)
            else:
                client = self._shared.clusters.client(cluster)
                problem = await self._shared.preflight.explain(client, error, request.layers)
                problem = await without_secret_data(
                    problem, chart=request.chart, client=client, limits=self._shared.settings.charts
                )
            raise InvalidRequest(f"render: {problem}") from error
        except EngineTimeout as error:
            raise InvalidRequest(f"render: stopped after {limits.answer_seconds:g} s, the limit") from error
        except EngineCrashed as error:
            raise InvalidRequest(f"render: {error}") from error


def _hidden(found: Rendered, masks: Masks) -> Rendered:
    hooks = [msgspec.structs.replace(hook, manifest=hide_in_manifest(hook.manifest, masks)) for hook in found.hooks]
    return Rendered(
        found.name, found.namespace, hide_in_manifest(found.manifest, masks), masks.apply(found.notes), hooks
    )
