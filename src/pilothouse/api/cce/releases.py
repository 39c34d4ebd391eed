"""Release management of the CCE API: create, update, delete, show, list, history."""

import re
from functools import partial
from typing import TypedDict

from fastapi import APIRouter, Request, Response

from pilothouse.api.cce.models import CreateReleaseReqBody, ReleaseSerializer, UpdateReleaseReqBody
from pilothouse.api.cce.release_lists import (
    ListQuery,
    age_header,
    history_response,
    list_response,
    read_list_query,
    release_response,
)
from pilothouse.auth.policy import READ_VALUES
from pilothouse.engine.protocol import Wait
from pilothouse.errors import InvalidRequest
from pilothouse.http.audit import dry_run_noted, note_read
from pilothouse.http.json_bodies import RELEASE, read_json
from pilothouse.http.requests import caller_of, idempotency_key, request_id_of, service_of, wanted_wait
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.idempotency import Idempotency, SubmittedOperation
from pilothouse.services.releases.commands import Crds, as_crds, as_wait
from pilothouse.services.releases.create import CreateRelease, Releases
from pilothouse.services.releases.delete import DeleteRelease, Deletions
from pilothouse.services.releases.read import ReleaseView
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.services.releases.wait import ReleaseWaits
from pilothouse.settings import WorkerSettings
from pilothouse.store.operations import release_key

router = APIRouter(prefix="/clusters/{cluster_id}")
#: The autopilot twins are the same operations under a path of their own.
PREFIXES = ("/cce/cam/v3", "/autopilot/cam/v3")

#: Texts in which values can stand; to mask them takes the values.
_SAID = frozenset({"description", "status_description"})


class _Where(TypedDict):
    target: str
    target_name: str


@router.post("/releases")
async def create_release(request: Request, cluster_id: str) -> Response:
    """Accept an install."""
    caller = caller_of(request)
    caller.require_somewhere("cce:release:create")  # before a large body is looked into
    body = await read_json(request, CreateReleaseReqBody, limits=RELEASE)
    key, release_request = await idempotency_key(request), _create_request(body, request)
    caller = caller.at(cluster_id, body.namespace)
    where = _where(cluster_id, body.namespace, body.name)
    with dry_run_noted(request, "cce:release:create", **where, requested=release_request.dry_run):
        accepted = await service_of(request, Idempotency).once(
            caller,
            key,
            lambda: service_of(request, Releases).create(
                caller, cluster_id, release_request, request_id=request_id_of(request), key=key
            ),
        )
        caller = await _still_told(request, caller, accepted, "cce:release:create")
    return await _answer(request, caller, accepted, status_code=201)


@router.get("/releases")
async def list_releases(request: Request, cluster_id: str) -> Response:
    """Return the releases of a cluster."""
    caller, query = caller_of(request), read_list_query(request)
    seen = _serializer(request, caller)
    found = await service_of(request, ReleaseView).list_releases(
        caller,
        cluster_id,
        namespace=request.query_params.get("namespace") or None,
        chart_id=request.query_params.get("chart_id") or None,
        with_values="values" in query.fields or (seen.hides_values and bool(_SAID & query.fields)),
    )
    _note_list(request, cluster_id, query)
    return await list_response(found, query, form=seen)


@router.get("/namespace/{namespace}/releases/{name}")
async def show_release(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
    """Return a release; waits for its operation as long as the caller prefers."""
    caller, seconds = caller_of(request), wanted_wait(request)
    waits = service_of(request, ReleaseWaits)
    release = await waits.show(caller, cluster_id, namespace=namespace, name=name, seconds=seconds)
    if _wants_resources(request):
        release = await service_of(request, ReleaseView).add_resources(caller, release)
    caller = await service_of(request, Standing).require(caller, "cce:release:get")
    _note_values(request, caller, cluster_id, namespace, name, detail="show")
    headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
    headers |= age_header(release.age_seconds)
    return await release_response(release, _serializer(request, caller), headers=headers)


@router.put("/namespace/{namespace}/releases/{name}")
async def update_release(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
    """Accept an upgrade or a rollback."""
    caller = caller_of(request)
    caller.require("cce:release:update")  # before a large body is looked into
    body = await read_json(request, UpdateReleaseReqBody, limits=RELEASE)
    key, release_request = await idempotency_key(request), _update_request(body, request)
    where = _where(cluster_id, namespace, name)
    with dry_run_noted(request, "cce:release:update", **where, requested=release_request.dry_run):
        accepted = await service_of(request, Idempotency).once(
            caller,
            key,
            lambda: service_of(request, Updates).update(
                caller,
                cluster_id,
                namespace=namespace,
                name=name,
                request=release_request,
                request_id=request_id_of(request),
                key=key,
            ),
        )
        caller = await _still_told(request, caller, accepted, "cce:release:update")
    return await _answer(request, caller, accepted, resources=_wants_resources(request))


@router.delete("/namespace/{namespace}/releases/{name}")
async def delete_release(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
    """Accept an uninstall, or the cancel of an install."""
    caller_of(request).require("cce:release:delete")  # before anything else of the request can be wrong
    caller, key = caller_of(request), await idempotency_key(request)
    wanted = DeleteRelease(wait=_wait(request), timeout_seconds=_timeout(request))
    accepted = await service_of(request, Idempotency).once(
        caller,
        key,
        lambda: service_of(request, Deletions).delete(
            caller,
            cluster_id,
            namespace=namespace,
            name=name,
            request=wanted,
            request_id=request_id_of(request),
            key=key,
        ),
    )
    return await _answer(request, caller, accepted, resources=_wants_resources(request))


@router.get("/namespace/{namespace}/releases/{name}/history")
async def show_release_history(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
    """Return the revisions of a release."""
    caller, view = caller_of(request), service_of(request, ReleaseView)
    read = partial(view.show_history, caller, cluster_id, namespace=namespace, name=name)
    first = await read()
    caller = await service_of(request, Standing).require(caller, "cce:release:get")
    _note_values(request, caller, cluster_id, namespace, name, detail="history")
    return await history_response(first, lambda rest: read(rest=rest), form=_serializer(request, caller))


async def _answer(
    request: Request,
    caller: Caller,
    accepted: SubmittedOperation,
    *,
    status_code: int = 200,
    resources: bool = False,
) -> Response:
    headers = {"X-Operation-Id": accepted.operation_id} if accepted.operation_id else {}
    if accepted.repeated:
        headers["X-Pilothouse-Repeated"] = "true"
    release = accepted.release
    if resources:
        release = await service_of(request, ReleaseView).add_resources(caller, release)
    return await release_response(release, _serializer(request, caller), status_code=status_code, headers=headers)


def _serializer(request: Request, caller: Caller) -> ReleaseSerializer:
    return service_of(request, ReleaseSerializer).seen_by(caller)


async def _still_told(request: Request, caller: Caller, accepted: SubmittedOperation, action: str) -> Caller:
    """Return the caller, whose right to see the result of a dry run was checked again."""
    if accepted.operation_id is not None:
        return caller
    return await service_of(request, Standing).require(caller, action)


def _note_values(request: Request, caller: Caller, cluster_id: str, namespace: str, name: str, *, detail: str) -> None:
    if caller.may(READ_VALUES):  # who is shown masked ones has read none
        note_read(request, READ_VALUES, **_where(cluster_id, namespace, name), detail=detail)


def _note_list(request: Request, cluster_id: str, query: ListQuery) -> None:
    if "values" in query.fields and caller_of(request).may(READ_VALUES):
        note_read(request, READ_VALUES, target=cluster_id, target_name="", detail="list")


def _where(cluster_id: str, namespace: str, name: str) -> _Where:
    """Return the release's name in the audit log, for requests and operations alike."""
    return {"target": release_key(cluster_id, namespace, name), "target_name": name}


def _wants_resources(request: Request) -> bool:
    """Return True for ``true`` in any case; the vendor's parameter is a string."""
    return request.query_params.get("show_resources", "").lower() == "true"


def _create_request(body: CreateReleaseReqBody, request: Request) -> CreateRelease:
    """Return the validated request; flags that exist for updates only have no effect here."""
    return CreateRelease(
        chart_id=body.chart_id,
        namespace=body.namespace,
        name=body.name,
        version=body.version,
        values=body.values,
        description=body.description,
        dry_run=body.parameters.dry_run,
        name_template=body.parameters.name_template,
        no_hooks=body.parameters.no_hooks,
        replace=body.parameters.replace,
        include_hooks=body.parameters.include_hooks,
        wait=_wait(request),
        timeout_seconds=_timeout(request),
        crds=_crds(request),
        skip_schema_validation=_flag(request, "X-Pilothouse-Skip-Schema-Validation"),
    )


def _update_request(body: UpdateReleaseReqBody, request: Request) -> UpdateRelease:
    """Return the validated request; a name template, which an old example sends, has no effect here."""
    flags = body.parameters
    return UpdateRelease(
        chart_id=body.chart_id,
        action=body.action,
        values=body.values,
        dry_run=flags.dry_run,
        no_hooks=flags.no_hooks,
        include_hooks=flags.include_hooks,
        replace=flags.replace,
        reset_values=flags.reset_values,
        recreate=flags.recreate,
        release_version=flags.release_version,
        wait=_wait(request),
        timeout_seconds=_timeout(request),
        crds=_crds(request),
        skip_schema_validation=_flag(request, "X-Pilothouse-Skip-Schema-Validation"),
        remove_namespace=_flag(request, "X-Pilothouse-Remove-Namespace"),
    )


def _crds(request: Request) -> Crds | None:
    text = request.headers.get("x-pilothouse-crds", "").strip().lower()
    if not text:
        return None
    try:
        return as_crds(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"X-Pilothouse-CRDs: {error}") from error


def _flag(request: Request, name: str) -> bool:
    text = request.headers.get(name, "").strip().lower()
    if text not in {"", "true", "false"}:
        raise InvalidRequest(f"{name}: {text!r} is not one of true, false")
    return text == "true"


def _wait(request: Request) -> Wait | None:
    text = request.headers.get("x-pilothouse-wait", "").strip().lower()
    if not text:
        return None
    try:
        return as_wait(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"X-Pilothouse-Wait: {error}") from error


def _timeout(request: Request) -> int | None:
    text = request.headers.get("x-pilothouse-timeout", "").strip()
    if not text:
        return None
    longest = service_of(request, WorkerSettings).longest_timeout_seconds
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= longest:
        raise InvalidRequest(
            f"X-Pilothouse-Timeout: {text!r} is not a number of seconds from 1 to {longest}, the most that this server "
            "takes (PILOTHOUSE_WORKER__LONGEST_TIMEOUT_SECONDS)"
        )
    return int(text)
