"""Rendering of charts, as ``helm template`` does."""

import asyncio
from typing import Annotated, ClassVar, Final

from fastapi import Header, Request, Response
from pydantic import FailFast, Field

from pilothouse import errors
from pilothouse.api.v1.chart_references import Choosing
from pilothouse.api.v1.dependencies import CurrentCaller, allowed, service
from pilothouse.api.v1.models import Body, View
from pilothouse.api.v1.release_bodies import Chart, Layers
from pilothouse.api.v1.release_models import HookView
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.auth.policy import READ_VALUES
from pilothouse.http.audit import note_read
from pilothouse.http.json_bodies import RELEASE, JsonLimits
from pilothouse.services.releases.render import RenderChart, Rendered, Renders
from pilothouse.store.operations import release_key

_YAML: Final = "application/yaml"
_MOST: Final = 500

router = native_router("/api/v1/render", tag="releases")


class RenderOptions(Body):
    """Options of `helm template`, by the names of its flags.

    `kube_version` and `api_versions` are for rendering without a cluster. `show_only`: patterns of template paths
    within the chart, such as `templates/*.yaml`.
    """

    kube_version: Annotated[str, Field(max_length=100)] = ""
    api_versions: Annotated[list[Annotated[str, Field(max_length=300)]], FailFast()] = Field(
        default_factory=list, max_length=_MOST
    )
    include_crds: bool = False
    is_upgrade: bool = False
    no_hooks: bool = False
    skip_tests: bool = False
    show_only: Annotated[list[Annotated[str, Field(max_length=1000)]], FailFast()] = Field(
        default_factory=list, max_length=_MOST
    )
    skip_schema_validation: bool = False


class RenderBody(Body):
    """The chart, the values in layers, and where the release would be.

    `cluster`: an id or a name; without one nothing is asked of any cluster, and `lookup` finds nothing. Without `name`
    and `name_template` the release is called as Helm calls it.
    """

    limits: ClassVar[JsonLimits] = RELEASE

    chart: Chart
    values: Layers = Field(default_factory=list)
    cluster: Annotated[str, Field(max_length=255)] = ""
    namespace: str = "default"
    name: str = ""
    name_template: Annotated[str, Field(max_length=1000)] = ""
    options: RenderOptions = RenderOptions()

    def as_request(self, chart: Chart) -> RenderChart:
        """Return the request that it is, with the chart by id."""
        options = self.options
        return RenderChart(
            chart_id=chart.id,
            chart_digest=chart.digest or "",
            layers=tuple(value.as_layer(index) for index, value in enumerate(self.values)),
            cluster=self.cluster,
            namespace=self.namespace,
            name=self.name,
            name_template=self.name_template,
            kube_version=options.kube_version,
            api_versions=tuple(options.api_versions),
            include_crds=options.include_crds,
            is_upgrade=options.is_upgrade,
            no_hooks=options.no_hooks,
            skip_tests=options.skip_tests,
            show_only=tuple(options.show_only),
            skip_schema_validation=options.skip_schema_validation,
        )


class RenderedView(View):
    """What the chart renders: the manifest without hooks, the notes, and the hooks."""

    name: str
    namespace: str
    manifest: str
    notes: str
    hooks: list[HookView]


@router.post(
    "",
    response_model=RenderedView,
    dependencies=[allowed("cce:chart:get")],
    responses={
        200: {"content": {_YAML: {"schema": {"type": "string"}}}},
        **error_responses(errors.SourceUnavailable),
    },
)
async def render_chart(
    *,
    request: Request,
    body: RenderBody,
    caller: CurrentCaller,
    renders: Annotated[Renders, service(Renders)],
    charts: Choosing,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Render a chart as `helm template` does; as YAML (`Accept: application/yaml`) what that prints.

    With a cluster it needs the right to create releases too. For callers without `pilothouse:values:read`, Secret data
    and values are masked.
    """
    found = await renders.render(caller, body.as_request(await charts.choose(body.chart)))
    if body.cluster and caller.may(READ_VALUES):
        target = release_key(body.cluster, found.namespace, found.name)
        note_read(request, READ_VALUES, target=target, target_name=found.name, detail="render")
    if _YAML in accept.lower():
        return Response(_printed(found), media_type=_YAML)
    text = await asyncio.to_thread(lambda: RenderedView.model_validate(found).model_dump_json())
    return Response(text, media_type="application/json")


def _printed(found: Rendered) -> str:
    hooks = (f"---\n# Source: {hook.path}\n{hook.manifest}\n" for hook in found.hooks)
    return "".join((found.manifest.strip() + "\n" if found.manifest.strip() else "", *hooks))
