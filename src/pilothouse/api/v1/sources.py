"""Chart sources: OCI registries and HTTP repositories of a project, their charts and versions."""

from typing import Annotated, ClassVar

from pydantic import Field

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.json_bodies import KUBECONFIG, JsonLimits
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.sources import records as requests
from pilothouse.services.sources.records import AddSource, Credentials, Kind, Source, VerificationKind
from pilothouse.services.sources.sources import Sources

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
        credentials = self.credentials
        return AddSource(
            name=self.name,
            kind=self.kind,
            url=self.url,
            credentials=Credentials(credentials.username, credentials.password) if credentials is not None else None,
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
        credentials, verification = self.credentials, self.verification
        return requests.ChangeSource(
            credentials=Credentials(credentials.username, credentials.password) if credentials is not None else None,
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
