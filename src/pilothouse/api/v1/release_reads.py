"""One release and its parts."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Response

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import OptionalBlank, View
from pilothouse.api.v1.release_models import (
    HistoryView,
    HooksView,
    ManifestView,
    NotesView,
    ReleaseDetailView,
    RevisionDiffView,
    ValuesView,
)
from pilothouse.api.v1.routing import native_router
from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.http.audit import note_read
from pilothouse.http.requests import caller_of, service_of
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.details import HistoryItem, Place, ReleaseDetails
from pilothouse.services.releases.differences import ReleaseDifferences
from pilothouse.services.releases.parts import Layer, ReleaseParts
from pilothouse.store.operations import release_key

_YAML: Final = "application/yaml"
_TEXT: Final = "text/plain"
_SIZE_OF_HOOK: Final = 1024

router = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", tag="releases")


def _place(cluster: str, namespace: str, name: str) -> Place:
    return Place(cluster, namespace, name)


def _is_in(media_type: str, accept: str) -> bool:
    return media_type in accept.lower()


def _or(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


OfRelease = Annotated[Place, Depends(_place)]


class Reading:
    """One reading of what a release's Secrets hold.

    After the cluster's answer, which can take long, the caller's rights are asked for again, and the audit notes it if
    values are shown.
    """

    def __init__(self, request: Request, place: OfRelease, _caller: CurrentCaller) -> None:
        self._request = request
        self._place = place

    async def read(self, revision: int | None, *, part: str) -> tuple[Caller, StoredRelease]:
        """Return the caller to show the part to, and the revision (None: the newest)."""
        details = service_of(self._request, ReleaseDetails)
        place = await details.locate(caller_of(self._request), self._place)
        stored = await details.read_stored(place, revision)
        return await self._told(place, part), stored

    async def read_two(
        self, from_revision: int | None, to_revision: int | None, *, part: str
    ) -> tuple[Caller, StoredRelease, StoredRelease]:
        """Do the same for two revisions that are to be compared."""
        caller = caller_of(self._request)
        place = await service_of(self._request, ReleaseDetails).locate(caller, self._place)
        differences = service_of(self._request, ReleaseDifferences)
        old, new = await differences.read(caller, place, from_revision=from_revision, to_revision=to_revision)
        return await self._told(place, part), old, new

    async def _told(self, place: Place, part: str) -> Caller:
        caller = await service_of(self._request, Standing).require(caller_of(self._request), "cce:release:get")
        if caller.may(READ_VALUES):  # who is shown masked ones has read none
            key = release_key(place.cluster, place.namespace, place.name)
            note_read(self._request, READ_VALUES, target=key, target_name=place.name, detail=part)
        return caller


OfReading = Annotated[Reading, Depends()]
DetailsService = Annotated[ReleaseDetails, service(ReleaseDetails)]
PartsService = Annotated[ReleaseParts, service(ReleaseParts)]
Revision = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="of this revision; without it, of the newest"), OptionalBlank
]
Accept = Annotated[str, Header(include_in_schema=False)]


@router.get("", response_model=ReleaseDetailView)
async def show_release(
    place: OfRelease, caller: CurrentCaller, details: DetailsService, revision: Revision = None
) -> dict[str, object]:
    """Show a release as it is now, or one of its revisions. `cluster` is an id or a name."""
    detail = await details.show(caller, place, revision=revision)
    return {**vars(detail.release), **vars(detail), "operation": detail.underway}


@router.get("/history", response_model=list[HistoryView], responses=_or(_YAML))
async def show_release_history(
    place: OfRelease, caller: CurrentCaller, details: DetailsService, accept: Accept = ""
) -> Any:
    """List the revisions that Helm keeps, newest first, with who wrote each, by which operation, and why."""
    items = [_history(item) for item in await details.show_history(caller, place)]
    if not _is_in(_YAML, accept):
        return items
    plain = [HistoryView.model_validate(item).model_dump(mode="json") for item in items]
    return await _as_yaml(plain, size=len(items) * _SIZE_OF_HOOK)


@router.get("/values", response_model=ValuesView, responses=_or(_YAML))
async def show_release_values(
    *,
    reading: OfReading,
    parts: PartsService,
    layer: Annotated[Layer, Query(description="the user's own, the chart's, or both merged")] = "user",
    revision: Revision = None,
    accept: Accept = "",
) -> Response:
    """Show the values of a revision; as YAML only the values themselves, like `helm get values`.

    Callers without `pilothouse:values:read` see the names, and not the values.
    """
    caller, stored = await reading.read(revision, part="values")
    found = await parts.show_values(caller, stored, layer)
    if _is_in(_YAML, accept):
        return await _as_yaml(found.values, size=2**20)
    return await _as_json(ValuesView, found)


@router.get("/manifest", response_model=ManifestView, responses=_or(_YAML))
async def show_release_manifest(
    reading: OfReading, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> Response:
    """Show the rendered objects of a revision; as YAML the documents themselves, like `helm get manifest`.

    For callers without `pilothouse:values:read`, Secret data and values are masked.
    """
    caller, stored = await reading.read(revision, part="manifest")
    found = await parts.show_manifest(caller, stored)
    return Response(found.text, media_type=_YAML) if _is_in(_YAML, accept) else await _as_json(ManifestView, found)


@router.get("/notes", response_model=NotesView, responses=_or(_TEXT))
async def show_release_notes(
    reading: OfReading, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> Response:
    """Show the notes of a revision; with `Accept: text/plain` only their text."""
    caller, stored = await reading.read(revision, part="notes")
    found = await parts.show_notes(caller, stored)
    return Response(found.text, media_type=_TEXT) if _is_in(_TEXT, accept) else await _as_json(NotesView, found)


@router.get("/hooks", response_model=HooksView, responses=_or(_YAML))
async def show_release_hooks(
    reading: OfReading, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> Response:
    """Show the hooks of a revision; as YAML their documents, like `helm get hooks`."""
    caller, stored = await reading.read(revision, part="hooks")
    found = await parts.show_hooks(caller, stored)
    if not _is_in(_YAML, accept):
        return await _as_json(HooksView, found)
    texts = [f"---\n# Source: {hook.path}\n{hook.manifest}\n" for hook in found.hooks]
    return Response("".join(texts), media_type=_YAML)


@router.get("/diff", response_model=RevisionDiffView)
async def diff_release(
    *,
    reading: OfReading,
    differences: Annotated[ReleaseDifferences, service(ReleaseDifferences)],
    from_revision: Annotated[
        int | None,
        Query(alias="from", ge=1, le=2**31 - 1, description="the revision before, if not given"),
        OptionalBlank,
    ] = None,
    to_revision: Annotated[
        int | None, Query(alias="to", ge=1, le=2**31 - 1, description="the newest, if not given"), OptionalBlank
    ] = None,
) -> Response:
    """Compare the manifests of two revisions object by object and field by field, without hooks.

    Fields are named by JSON pointers. Data of Secrets is masked: what differs is told, and not what it holds. For
    callers without `pilothouse:values:read`, all values are masked.
    """
    caller, old, new = await reading.read_two(from_revision, to_revision, part="diff")
    return await _as_json(RevisionDiffView, await differences.compare(caller, old, new))


def _history(item: HistoryItem) -> dict[str, object]:
    row = item.revision
    times = {"updated_at": row.last_deployed}
    return {**vars(row), **times, "description": item.description, "changed_by": item.cause}


async def _as_json(view: type[View], found: Any) -> Response:
    text = await asyncio.to_thread(lambda: view.model_validate(found).model_dump_json())
    return Response(text, media_type="application/json")


async def _as_yaml(value: Any, *, size: int) -> Response:
    return Response(await off_loop(lambda: dump_yaml(value), size=size), media_type=_YAML)
