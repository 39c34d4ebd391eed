"""One release and its parts."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Query, Request, Response

from pilothouse.api.v1.dependencies import CurrentCaller, allowed, service
from pilothouse.api.v1.models import OptionalBlank, View
from pilothouse.api.v1.release_models import (
    HistoryView,
    HooksView,
    LogView,
    ManifestView,
    NotesView,
    ReleaseDetailView,
    ReleasePodView,
    ResourcesView,
    RevisionDiffView,
    ValuesView,
)
from pilothouse.api.v1.routing import native_router
from pilothouse.auth.policy import READ_LOGS, READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.http.audit import note_read
from pilothouse.http.requests import caller_of, service_of
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.details import HistoryItem, ReleaseDetails, ReleaseRef
from pilothouse.services.releases.differences import ReleaseDifferences
from pilothouse.services.releases.drift_reads import ReleaseDrifts
from pilothouse.services.releases.parts import Layer, ReleaseParts
from pilothouse.services.releases.pod_logs import MOST_LINES, LogQuery, ReleasePods
from pilothouse.services.releases.tree import ReleaseTrees
from pilothouse.store.operations import release_key

_YAML: Final = "application/yaml"
_TEXT: Final = "text/plain"
_SIZE_OF_HOOK: Final = 1024

router = native_router("/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}", tag="releases")


def _place(cluster: str, namespace: str, name: str) -> ReleaseRef:
    return ReleaseRef(cluster, namespace, name)


def _is_in(media_type: str, accept: str) -> bool:
    return media_type in accept.lower()


def _or(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


Found = TypeVar("Found")
#: A read of a service: what it finds of a release, whose cluster is given by its id, for that caller.
Look = Callable[[Caller, ReleaseRef], Awaitable[Found]]
OfRelease = Annotated[ReleaseRef, Depends(_place)]


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
        return await self._recheck_and_note(place, part), stored

    async def read_two(
        self, from_revision: int | None, to_revision: int | None, *, part: str
    ) -> tuple[Caller, StoredRelease, StoredRelease]:
        """Do the same for two revisions that are to be compared."""
        caller = caller_of(self._request)
        place = await service_of(self._request, ReleaseDetails).locate(caller, self._place)
        differences = service_of(self._request, ReleaseDifferences)
        old, new = await differences.read(caller, place, from_revision=from_revision, to_revision=to_revision)
        return await self._recheck_and_note(place, part), old, new

    async def look(self, at: Look[Found], *, part: str, right: str = READ_VALUES) -> Found:
        """Return what was found of the release for the caller; raise NotPermitted if it may not see that any more."""
        before = caller_of(self._request)
        place = await service_of(self._request, ReleaseDetails).locate(before, self._place)
        found = await at(before, place)
        caller = await self._recheck_and_note(place, part, right)
        for each in {right, READ_VALUES}:
            if before.may(each):
                caller.require(each)
        return found

    async def _recheck_and_note(self, place: ReleaseRef, part: str, right: str = READ_VALUES) -> Caller:
        caller = await service_of(self._request, Standing).require(caller_of(self._request), "cce:release:get")
        if caller.may(right):  # who is shown masked values has read none
            key = release_key(place.cluster, place.namespace, place.name)
            note_read(self._request, right, target=key, target_name=place.name, detail=part)
        return caller


OfReading = Annotated[Reading, Depends()]
DetailsService = Annotated[ReleaseDetails, service(ReleaseDetails)]
PartsService = Annotated[ReleaseParts, service(ReleaseParts)]
Revision = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="of this revision; without it, of the newest"), OptionalBlank
]
Accept = Annotated[str, Header(include_in_schema=False)]


@router.get("", response_model=ReleaseDetailView)
async def show_release(reading: OfReading, details: DetailsService, revision: Revision = None) -> dict[str, object]:
    """Show a release as it is now, or one of its revisions. `cluster` is an id or a name."""
    detail = await reading.look(partial(details.show, revision=revision), part="release")
    origin = detail.origin
    updates = {
        "source": origin.source,
        "source_url": origin.url,
        "source_removed_at": origin.removed_at,
        "update_available": origin.newer_version,
        "update_deprecated": origin.newer_deprecated,
        "update_refused": origin.refused_version,
        "update_unchecked": origin.unchecked_version,
        "source_problem": origin.problem,
        "source_failed_at": origin.failed_at,
        "source_synced_at": origin.synced_at,
    }
    return {**vars(detail.release), **vars(detail), **updates, "operation": detail.underway}


@router.get("/history", response_model=list[HistoryView], responses=_or(_YAML))
async def show_release_history(reading: OfReading, details: DetailsService, accept: Accept = "") -> Any:
    """List the revisions that Helm keeps, newest first, with who wrote each, by which operation, and why."""
    items = [_history(item) for item in await reading.look(details.show_history, part="history")]
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


@router.get("/resources", response_model=ResourcesView)
async def show_release_resources(reading: OfReading, trees: Annotated[ReleaseTrees, service(ReleaseTrees)]) -> Response:
    """Show the live objects of the newest revision, and what was made for each, down to pods, by owner references.

    Read from the cluster now, in 10 s at most: an object that is gone is `missing`, one that could not be read
    `unknown` with the reason, and `problems` says which lists are incomplete. The release is as well as the worst of
    its own objects. For callers without `pilothouse:values:read`, values are masked in texts.
    """
    found = await reading.look(trees.read, part="resources")
    return await _as_json(
        ResourcesView, {**vars(found), **vars(found.tree), "health": found.tree.health, "summary": found.tree.summary}
    )


PodsService = Annotated[ReleasePods, service(ReleasePods)]
Pod = Annotated[str, Query(description="a pod of the release, as `resources` names it")]
PodNamespace = Annotated[str, Query(description="the pod's namespace, if it is not the release's")]


@router.get("/pod", response_model=ReleasePodView)
async def show_release_pod(
    reading: OfReading, pods: PodsService, pod: Pod, pod_namespace: PodNamespace = ""
) -> Response:
    """Show a pod of the release: its containers, and the events of Kubernetes about it, oldest first.

    A pod is the release's if its owner references lead to an object of the newest revision, or of the deployed one,
    that bears the release's `meta.helm.sh` annotations, or to one of its hooks in its namespace. Secrets are
    masked in texts, and values for callers without `pilothouse:values:read`.
    """
    found = await reading.look(partial(pods.show, pod=pod, namespace=pod_namespace), part="pod")
    return await _as_json(ReleasePodView, found)


@router.get("/logs", response_model=LogView, dependencies=[allowed(READ_LOGS)], responses=_or(_TEXT))
async def show_release_logs(
    *,
    reading: OfReading,
    pods: PodsService,
    pod: Pod,
    pod_namespace: PodNamespace = "",
    container: Annotated[str, Query(description="a container of the pod; else its first one")] = "",
    tail: Annotated[int, Query(ge=1, le=MOST_LINES, description="how many lines at most"), OptionalBlank] = 200,
    previous: Annotated[bool, Query(description="of the run before the last restart"), OptionalBlank] = False,
    accept: Accept = "",
) -> Response:
    """Show the last lines of a container's log; with `Accept: text/plain` only them. Needs `pilothouse:logs:read`.

    At most 192 KiB and lines of 4,000 characters, in 10 s at most: `cut` says whether lines were left out for that. The
    release's values, data of its Secrets and what looks like a secret are masked; a secret that a program writes in
    another form is not recognised. 404 if the pod is none of the release, or the container has no such log now.
    """
    query = LogQuery(pod, pod_namespace, container, tail, previous)
    found = await reading.look(partial(pods.read_log, query=query), part="logs", right=READ_LOGS)
    if _is_in(_TEXT, accept):
        return Response("".join(f"{line}\n" for line in found.lines), media_type=_TEXT)
    return await _as_json(LogView, found)


@router.get("/diff", response_model=RevisionDiffView)
async def diff_release(
    *,
    reading: OfReading,
    differences: Annotated[ReleaseDifferences, service(ReleaseDifferences)],
    drifts: Annotated[ReleaseDrifts, service(ReleaseDrifts)],
    from_revision: Annotated[
        int | None,
        Query(
            alias="from",
            ge=1,
            le=2**31 - 1,
            description="if not given, the revision before; with `to=live` the deployed one, or the newest if none is",
        ),
        OptionalBlank,
    ] = None,
    to: Annotated[
        str, Query(pattern=r"^(live|[1-9][0-9]{0,8})?$", description="a revision, the newest if not given; or `live`")
    ] = "",
) -> Response:
    """Compare the manifests of two revisions object by object and field by field, without hooks.

    With `to=live` the objects in the cluster with what the revision says: drift. `added` is then an object that bears
    the release's mark and is not in the revision, or a field that somebody set beside it; `removed` what is missing,
    `unknown` what could not be compared, with the reason in `problem`. What the API server defaults or a controller
    owns is no drift, nor what the release's ignore rules cover. Takes 30 s at most.

    Fields are named by JSON pointers. Data of Secrets is masked: what differs is told, and not what it holds. For
    callers without `pilothouse:values:read`, all values are masked.
    """
    if to == "live":
        found = await reading.look(partial(drifts.read, revision=from_revision), part="drift")
        answer = {"from_revision": found.revision, "to_revision": None, "summary": found.summary, **vars(found)}
        answer["uncreated"] = found.missing
        return await _as_json(RevisionDiffView, answer)
    caller, old, new = await reading.read_two(from_revision, int(to) if to else None, part="diff")
    return await _as_json(RevisionDiffView, await differences.compare(caller, old, new))


def _history(item: HistoryItem) -> dict[str, object]:
    row = item.revision
    times = {"updated_at": row.last_deployed}
    return {
        **vars(row),
        **times,
        "description": item.description,
        "changed_by": item.cause,
        "chart_digest": item.chart_digest,
    }


async def _as_json(view: type[View], found: Any) -> Response:
    text = await asyncio.to_thread(lambda: view.model_validate(found).model_dump_json())
    return Response(text, media_type="application/json")


async def _as_yaml(value: Any, *, size: int) -> Response:
    return Response(await off_loop(lambda: dump_yaml(value), size=size), media_type=_YAML)
