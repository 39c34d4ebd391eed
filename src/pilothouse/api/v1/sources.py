"""Chart sources: OCI registries and HTTP repositories of a project, their charts and versions."""

from typing import Annotated, Any, ClassVar, Final

from fastapi import Query, Request, Response
from pydantic import Field

from pilothouse import errors
from pilothouse.api.v1.chart_references import Choosing
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import PAGED, Body, Limit, Seconds, View
from pilothouse.api.v1.release_bodies import Chart
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.api.v1.verification import VerificationView
from pilothouse.http.json_bodies import KUBECONFIG, JsonLimits
from pilothouse.http.multipart import read_form
from pilothouse.http.release_queries import MARKER
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.sources import records as requests
from pilothouse.services.sources.pull import SourceReference
from pilothouse.services.sources.push import ChartPushes, PushArchive, PushChart, PushedChart
from pilothouse.services.sources.records import AddSource, Credentials, Kind, Source, VerificationKind
from pilothouse.services.sources.sources import Sources
from pilothouse.store.source_charts import SourceVersion

router = native_router("/api/v1/sources", tag="sources", kinds=[errors.SourceUnavailable])
SourcesService = Annotated[Sources, service(Sources)]
_LONGEST = 256


class SourceCredentials(Body):
    """A user name, and a password or token; they are stored encrypted, sent to the source's own host, never shown."""

    username: Annotated[str, Field(max_length=_LONGEST)]
    password: Annotated[str, Field(max_length=16 * 1024)]


class SourceVerification(Body):
    """How its charts are verified, and the public `keys` by one of which each must be signed.

    `pgp`: by the provenance file that `helm package --sign` makes, with armored keys. `cosign`: by the signature that
    `cosign sign --key` leaves beside a chart in a registry (a bundle, or the form before version 3), with keys in PEM
    form.
    """

    kind: VerificationKind
    keys: Annotated[str, Field(max_length=MOST_BYTES)] = ""


class CreateSource(Body):
    """A registry (`oci://host/folder`) or a repository (`https://host/folder` with an index.yaml).

    `ca`: PEM of authorities that are trusted beside the system's. `sync_seconds`: how often it is synchronised by
    itself; 0: only when asked to. Without `verification`, charts are taken whoever signed them; with
    keys it takes the right to change what is trusted (`cce:verification:update`), too.
    """

    limits: ClassVar[JsonLimits] = KUBECONFIG

    name: str
    kind: Kind
    url: Annotated[str, Field(max_length=2000)]
    credentials: SourceCredentials | None = None
    ca: Annotated[str, Field(max_length=256 * 1024)] = ""
    verification: SourceVerification = SourceVerification(kind="none")
    sync_seconds: Annotated[int, Field(ge=0, le=10**7)] = 3600

    def as_request(self) -> AddSource:
        """Return the request that it is."""
        given = self.credentials
        return AddSource(
            name=self.name,
            kind=self.kind,
            url=self.url,
            credentials=Credentials(given.username, given.password) if given is not None else None,
            ca=self.ca,
            sync_seconds=self.sync_seconds,
            verification=self.verification.kind,
            verification_keys=self.verification.keys,
        )


class ChangeSource(Body):
    """What a source is to have from now on; what is absent or null stays as it is.

    `credentials` with an empty user name and password: none. `ca`: empty: the system's authorities only; one with a
    certificate that was not trusted before takes the credentials again, if there are any. With
    `verification`, which takes the right to change what is trusted (`cce:verification:update`), too, pulled charts
    that none of the keys has signed are pulled and verified again when they are needed. Name, kind and address cannot
    be changed: releases know a source by them.
    """

    limits: ClassVar[JsonLimits] = KUBECONFIG

    credentials: SourceCredentials | None = None
    ca: Annotated[str, Field(max_length=256 * 1024)] | None = None
    verification: SourceVerification | None = None
    sync_seconds: Annotated[int, Field(ge=0, le=10**7)] | None = None

    def as_request(self) -> requests.ChangeSource:
        """Return the request that it is."""
        given, verification = self.credentials, self.verification
        return requests.ChangeSource(
            credentials=Credentials(given.username, given.password) if given is not None else None,
            ca=self.ca,
            sync_seconds=self.sync_seconds,
            verification=verification.kind if verification is not None else None,
            verification_keys=verification.keys if verification is not None else "",
        )


class SourceView(View):
    """A source; its password is never shown. `problem`: why it could not be synchronised last; empty if it could.

    `failed_at`: when that was; null if it could.

    `trusted`: the fingerprints of the keys by one of which its charts must be signed, subkeys included. `unusable`: of
    the given keys that cannot sign any more, each with the reason.
    """

    id: str
    name: str
    kind: Kind
    url: str
    username: str
    has_ca: bool
    verification: VerificationKind
    trusted: list[str]
    unusable: list[str]
    sync_seconds: int
    created_at: Seconds
    synced_at: Seconds | None
    problem: str
    failed_at: Seconds | None


class SourceDetailView(SourceView):
    """A source, and of the certificates in its `ca` the first 20: subject, SHA-256 and end."""

    authorities: list[str]


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


@router.post(
    "",
    status_code=201,
    response_model=SourceView,
    dependencies=[allowed("cce:source:create")],
    responses=error_responses(errors.AlreadyExists),
)
async def add_source(
    body: CreateSource, caller: CurrentCaller, sources: SourcesService, request_id: RequestId
) -> Source:
    """Add a source, after it answered and was synchronised."""
    return await sources.add(caller, body.as_request(), request_id=request_id)


@router.get("", response_model=list[SourceView])
async def list_sources(caller: CurrentCaller, sources: SourcesService) -> list[Source]:
    """List the project's sources by name."""
    return await sources.list_sources(caller)


@router.post("/{source}/sync", response_model=SourceView, dependencies=[allowed("cce:source:sync")])
async def sync_source(source: str, caller: CurrentCaller, sources: SourcesService, request_id: RequestId) -> Source:
    """Synchronise a source now: its index, or the tags of the charts that are known of a registry."""
    return await sources.sync(caller, source, request_id=request_id)


@router.get("/{source}/charts", response_model=list[FoundChartView], responses=PAGED)
async def search_charts(
    *,
    source: str,
    response: Response,
    caller: CurrentCaller,
    sources: SourcesService,
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
    found = await sources.search(caller, named, words=q, prereleases=devel, after=marker, limit=limit)
    if len(found) == limit:
        response.headers[MARKER] = found[-1].marker
    return [{**_fields(one.version), "source": one.source} for one in found]


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


@router.get("/{source}/charts/{chart_name}", response_model=list[SourceVersionView])
async def list_chart_versions(
    source: str, chart_name: str, caller: CurrentCaller, sources: SourcesService
) -> list[dict[str, object]]:
    """List the versions of a chart, the newest first."""
    return [_fields(one) for one in await sources.list_versions(caller, source, chart_name)]


@router.get("/{source}/charts/{chart_name}/{version}", response_model=ChartDetailsView)
async def show_chart_version(
    source: str, chart_name: str, version: str, caller: CurrentCaller, sources: SourcesService
) -> dict[str, object]:
    """Show a version (or the newest one in a range) with README, values and schema; it is pulled if it was not yet."""
    found = await sources.show_version(caller, SourceReference(source=source, name=chart_name, version=version))
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


@router.get("/{source}", response_model=SourceDetailView)
async def show_source(source: str, caller: CurrentCaller, sources: SourcesService) -> Source:
    """Show a source, by its id or name."""
    return await sources.show(caller, source)


@router.patch("/{source}", response_model=SourceView, dependencies=[allowed("cce:source:update")])
async def change_source(
    source: str, body: ChangeSource, caller: CurrentCaller, sources: SourcesService, request_id: RequestId
) -> Source:
    """Change a source; with new credentials or authorities, after it answered and was synchronised."""
    return await sources.change(caller, source, body.as_request(), request_id=request_id)


@router.delete("/{source}", status_code=204)
async def remove_source(source: str, caller: CurrentCaller, sources: SourcesService, request_id: RequestId) -> None:
    """Remove a source and what was pulled from it; releases of its charts run on, without a source."""
    await sources.remove(caller, source, request_id=request_id)


def _fields(version: SourceVersion) -> dict[str, object]:
    return {
        **vars(version),
        "is_prerelease": version.is_prerelease,
        "is_pulled": version.chart_id is not None,
        "shown_digest": version.pulled_digest or version.digest.removeprefix("sha256:"),
    }
