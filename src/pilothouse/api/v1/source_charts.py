"""Charts of sources: searches, versions and one of them; pushes of charts to registries."""

from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from pydantic import Field

from pilothouse import errors
from pilothouse.api.v1.chart_references import Choosing
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import GOES_ON, PAGED, Body, Limit, Seconds, View
from pilothouse.api.v1.release_bodies import Chart
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.api.v1.verification import VerificationView
from pilothouse.http.multipart import read_form
from pilothouse.http.release_queries import MARKER
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.sources.charts import SourceCharts
from pilothouse.services.sources.pull import SourceReference
from pilothouse.services.sources.push import ChartPushes, PushArchive, PushChart, PushedChart
from pilothouse.store.source_versions import SourceVersion

router = native_router("/api/v1/sources", tag="sources", kinds=[errors.SourceUnavailable])
ChartsService = Annotated[SourceCharts, service(SourceCharts)]
_LONGEST = 256


class SourceVersionView(View):
    """A version of a chart. `gone`: the source lists it no more, but it was pulled. `digest`: SHA-256 of its archive.

    `digest` is empty if neither an index says it nor it was pulled. `signature`, of a source with keys: `verified` if
    one of them has signed it, `refused` if none has, `unchecked` if nobody looked; else empty. `refused`: why not; it
    is not offered as an update then, until it has another digest or something else signs it, which each synchronisation
    looks for, or the source has other keys. Whoever asks for it has it pulled and verified again.
    `moved_at`: when a synchronisation found another archive under the version than was pulled,
    null: never; `moved_from` and `moved_to` are the digests, the latter empty if it was no chart.
    """

    name: str
    version: str
    app_version: str
    description: str
    icon_url: str
    deprecated: bool
    prerelease: Annotated[bool, Field(validation_alias="is_prerelease")]
    gone: Annotated[bool, Field(validation_alias="is_gone")]
    released_at: Seconds | None
    digest: Annotated[str, Field(validation_alias="shown_digest")]
    pulled: Annotated[bool, Field(validation_alias="is_pulled")]
    refused: str
    signature: str
    moved_at: Seconds | None
    moved_from: str
    moved_to: str


class FoundChartView(SourceVersionView):
    """The newest version of a chart, and the name of its source."""

    source: str


class ChartDetailsView(SourceVersionView):
    """A version with the texts in its archive, as they are; `chart_id`: of the chart that was pulled.

    `verification`: who signed it; null if nobody is known to. `provenance`: what was signed, with the signature.
    """

    source: str
    chart_id: str
    verification: VerificationView | None
    provenance: str
    readme: str
    values: str
    schema_text: Annotated[str, Field(serialization_alias="schema")]


class PushToSource(Body):
    """The chart to push. `replace`: put it in the place of another chart that has its version there.

    `provenance`: the provenance file (`.prov`) that goes with it, as `helm push` sends it; without one, that by which
    the project's chart was verified, if it was.
    """

    chart: Chart
    replace: bool = False
    provenance: Annotated[str, Field(max_length=MOST_BYTES)] = ""


#: A form, as uploads of the compatible API are, because an archive is no JSON.
_ARCHIVE_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["content"],
                    "properties": {
                        "content": {
                            "type": "string",
                            "format": "binary",
                            "description": "what `helm package` makes; name and version come from its Chart.yaml",
                        },
                        "provenance": {
                            "type": "string",
                            "description": "the provenance file (`.prov`) that goes with it, as `helm push` sends it",
                        },
                    },
                }
            }
        },
    }
}


class PushedChartView(View):
    """A chart that the registry has. `created`: false if it had the same before; then nothing was sent.

    `digest`: SHA-256 of the archive; `manifest_digest`: of what `reference` leads to.
    """

    source: str
    name: str
    version: str
    digest: str
    reference: str
    manifest_digest: str
    created: bool


@router.get("/{source}/charts", response_model=list[FoundChartView], responses=PAGED)
async def search_charts(
    *,
    source: str,
    response: Response,
    caller: CurrentCaller,
    charts: ChartsService,
    q: Annotated[
        str,
        Query(
            max_length=_LONGEST, description="part of the name, of SOURCE/NAME, of the description or of the keywords"
        ),
    ] = "",
    devel: Annotated[bool, Query(description="prereleases too, as the flag --devel of helm")] = False,
    marker: Annotated[str, Query(max_length=1000, description="goes on behind it")] = "",
    limit: Limit = 100,
) -> list[dict[str, object]]:
    """List charts of a source by name, each with its newest version; `-` as the source: of all sources."""
    named = "" if source == "-" else source
    found = await charts.search(caller, named, words=q, prereleases=devel, after=marker, limit=limit)
    if len(found) == limit:
        response.headers[MARKER] = found[-1].marker
    return [{**_fields(chart.version), "source": chart.source} for chart in found]


@router.post(
    "/{source}/charts",
    status_code=201,
    response_model=PushedChartView,
    dependencies=[allowed("cce:source:push")],
    responses=error_responses(errors.AlreadyExists, errors.ChartReplaced),
)
async def push_chart(
    *,
    source: str,
    body: PushToSource,
    caller: CurrentCaller,
    pushes: Annotated[ChartPushes, service(ChartPushes)],
    charts: Choosing,
    request_id: RequestId,
) -> PushedChart:
    """Push a chart of the project to a registry, under its name and version, with the credentials of the source."""
    chart = await charts.choose(body.chart)
    request = PushChart(chart_id=chart.id, digest=chart.digest, replace=body.replace, provenance=body.provenance)
    return await pushes.push(caller, source, request, request_id=request_id)


@router.post(
    "/{source}/archives",
    status_code=201,
    response_model=PushedChartView,
    dependencies=[allowed("cce:source:push")],
    responses=error_responses(errors.AlreadyExists, errors.UnsupportedContentType),
    openapi_extra=_ARCHIVE_FORM,
)
async def push_archive(
    *,
    request: Request,
    source: str,
    caller: CurrentCaller,
    pushes: Annotated[ChartPushes, service(ChartPushes)],
    request_id: RequestId,
    replace: Annotated[bool, Query(description="put it in the place of another chart of that version")] = False,
) -> PushedChart:
    """Push an archive to a registry as it is sent, checked like an upload and stored nowhere here."""
    async with read_form(request, file="content", texts={"provenance": MOST_BYTES}) as form:
        wanted = PushArchive(archive=form.file, replace=replace, provenance=form.texts.get("provenance", ""))
        return await pushes.push_archive(caller, source, wanted, request_id=request_id)


@router.get("/{source}/charts/{chart_name}", response_model=list[SourceVersionView], responses=PAGED)
async def list_chart_versions(
    *,
    source: str,
    chart_name: str,
    response: Response,
    caller: CurrentCaller,
    charts: ChartsService,
    marker: Annotated[str, Query(max_length=1000, description=GOES_ON)] = "",
    limit: Limit = 100,
) -> list[dict[str, object]]:
    """List the versions of a chart, the newest first."""
    page = await charts.list_versions(caller, source, chart_name, after=marker, limit=limit)
    if page.next:
        response.headers[MARKER] = page.next
    return [_fields(version) for version in page.versions]


@router.get("/{source}/charts/{chart_name}/{version}", response_model=ChartDetailsView)
async def show_chart_version(
    source: str, chart_name: str, version: str, caller: CurrentCaller, charts: ChartsService
) -> dict[str, object]:
    """Show a version (or the newest one in a range) with README, values and schema; it is pulled if it was not yet."""
    found = await charts.show_version(caller, SourceReference(source=source, name=chart_name, version=version))
    texts = {"readme": found.readme, "values": found.values, "schema_text": found.schema}
    verified = found.verification
    return {
        **_fields(found.version),
        **texts,
        "source": found.source,
        "chart_id": found.chart.id,
        "verification": verified,
        "provenance": verified.provenance if verified is not None else "",
    }


def _fields(version: SourceVersion) -> dict[str, object]:
    return {
        **vars(version),
        "is_prerelease": version.is_prerelease,
        "is_pulled": version.chart_id is not None,
        "shown_digest": version.pulled_digest or version.digest.removeprefix("sha256:"),
    }
