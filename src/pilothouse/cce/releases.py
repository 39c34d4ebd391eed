"""Release management of the CCE API: create, show, list, history."""

import re
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response

from pilothouse.cce.models import CreateReleaseReqBody, release_resp
from pilothouse.cce.release_lists import age_header, list_response, wanted_list
from pilothouse.errors import InvalidRequest
from pilothouse.services.endings import Endings
from pilothouse.services.orders import Wait, as_wait
from pilothouse.services.release_view import UNSETTLED, ReleaseView
from pilothouse.services.releases import CreateRelease, Releases
from pilothouse.web.requests import caller_of, json_response, read_json, request_id_of, wanted_wait

_LONGEST_TIMEOUT = 24 * 3600


def routes(releases: Releases, view: ReleaseView, endings: Endings, *, zone: ZoneInfo) -> APIRouter:
    """The release routes; ``zone`` gives the offset that times carry."""
    router = APIRouter(prefix="/cce/cam/v3/clusters/{cluster_id}")

    @router.post("/releases")
    async def create_release(request: Request, cluster_id: str) -> Response:
        body = await read_json(request, CreateReleaseReqBody)
        accepted = await releases.create(
            caller_of(request), cluster_id, _wanted(body, request), request_id=request_id_of(request)
        )
        headers = {"X-Operation-Id": accepted.operation_id} if accepted.operation_id else None
        return json_response(release_resp(accepted.release, zone=zone), status_code=201, headers=headers)

    @router.get("/releases")
    async def list_releases(request: Request, cluster_id: str) -> Response:
        wanted = wanted_list(request)
        found = await view.list_releases(
            caller_of(request),
            cluster_id,
            namespace=request.query_params.get("namespace") or None,
            chart_id=request.query_params.get("chart_id") or None,
            with_values="values" in wanted.fields,
        )
        return await list_response(found, wanted, zone=zone)

    @router.get("/namespace/{namespace}/releases/{name}")
    async def show_release(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
        seconds = wanted_wait(request)
        release = await endings.settled(
            lambda: view.show(caller_of(request), cluster_id, namespace=namespace, name=name),
            is_settled=lambda found: found.status not in UNSETTLED,
            cluster_id=cluster_id,
            namespace=namespace,
            name=name,
            seconds=seconds,
        )
        if wants_resources(request):
            release = await view.add_resources(release)
        headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
        return json_response(release_resp(release, zone=zone), headers=headers | age_header(release.age_seconds))

    @router.get("/namespace/{namespace}/releases/{name}/history")
    async def show_release_history(request: Request, cluster_id: str, namespace: str, name: str) -> Response:
        revisions = await view.show_history(caller_of(request), cluster_id, namespace=namespace, name=name)
        return json_response(
            [release_resp(revision, zone=zone) for revision in revisions],
            headers=age_header(revisions[0].age_seconds),
        )

    return router


def wants_resources(request: Request) -> bool:
    """Only ``true`` in any spelling asks for the live objects; the vendor's parameter is a string."""
    return request.query_params.get("show_resources", "").lower() == "true"


def _wanted(body: CreateReleaseReqBody, request: Request) -> CreateRelease:
    """The request as the rules see it; flags that exist for updates only have no effect here."""
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
        wait=_wait(request),
        timeout_seconds=_timeout(request),
    )


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
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= _LONGEST_TIMEOUT:
        raise InvalidRequest(f"X-Pilothouse-Timeout: {text!r} is not a number of seconds from 1 to {_LONGEST_TIMEOUT}")
    return int(text)
