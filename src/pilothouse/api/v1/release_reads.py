"""One release and its parts."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Response

from pilothouse.api.v1.dependencies import CurrentCaller, service
from pilothouse.api.v1.models import OptionalBlank
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
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.off_loop import off_loop
from pilothouse.services.releases.details import HistoryItem, Place, ReleaseDetails
from pilothouse.services.releases.differences import ReleaseDifferences
from pilothouse.services.releases.parts import Layer, ReleaseParts, StoredHooks, StoredText, Values

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
    place: OfRelease,
    caller: CurrentCaller,
    parts: PartsService,
    layer: Annotated[Layer, Query(description="the user's own, the chart's, or both merged")] = "user",
    revision: Revision = None,
    accept: Accept = "",
) -> Values | Response:
    """Show the values of a revision; as YAML only the values themselves, like `helm get values`.

    Callers without `pilothouse:values:read` see the names, and not the values.
    """
    found = await parts.show_values(caller, place, layer, revision=revision)
    return await _as_yaml(found.values, size=2**20) if _is_in(_YAML, accept) else found


@router.get("/manifest", response_model=ManifestView, responses=_or(_YAML))
async def show_release_manifest(
    place: OfRelease, caller: CurrentCaller, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> StoredText | Response:
    """Show the rendered objects of a revision; as YAML the documents themselves, like `helm get manifest`.

    For callers without `pilothouse:values:read`, Secret data and values are masked.
    """
    found = await parts.show_manifest(caller, place, revision=revision)
    return Response(found.text, media_type=_YAML) if _is_in(_YAML, accept) else found


@router.get("/notes", response_model=NotesView, responses=_or(_TEXT))
async def show_release_notes(
    place: OfRelease, caller: CurrentCaller, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> StoredText | Response:
    """Show the notes of a revision; with `Accept: text/plain` only their text."""
    found = await parts.show_notes(caller, place, revision=revision)
    return Response(found.text, media_type=_TEXT) if _is_in(_TEXT, accept) else found


@router.get("/hooks", response_model=HooksView, responses=_or(_YAML))
async def show_release_hooks(
    place: OfRelease, caller: CurrentCaller, parts: PartsService, revision: Revision = None, accept: Accept = ""
) -> StoredHooks | Response:
    """Show the hooks of a revision; as YAML their documents, like `helm get hooks`."""
    found = await parts.show_hooks(caller, place, revision=revision)
    if not _is_in(_YAML, accept):
        return found
    texts = [f"---\n# Source: {hook.path}\n{hook.manifest}\n" for hook in found.hooks]
    return Response("".join(texts), media_type=_YAML)


@router.get("/diff", response_model=RevisionDiffView)
async def diff_release(
    *,
    place: OfRelease,
    caller: CurrentCaller,
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
    found = await differences.compare(caller, place, from_revision=from_revision, to_revision=to_revision)
    text = await asyncio.to_thread(lambda: RevisionDiffView.model_validate(found).model_dump_json())
    return Response(text, media_type="application/json")


def _history(item: HistoryItem) -> dict[str, object]:
    row = item.revision
    times = {"updated_at": row.last_deployed}
    return {**vars(row), **times, "description": item.description, "changed_by": item.cause}


async def _as_yaml(value: Any, *, size: int) -> Response:
    return Response(await off_loop(lambda: dump_yaml(value), size=size), media_type=_YAML)
