"""The part of IAM about projects, domains and regions, with which clients find their project.

The vendor's SDKs look up the project by the region's name and expect exactly one; names are unique in an account.

Source: IAM API reference, "Querying Projects", "Querying Accounts Accessible", "Querying a Region List".
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from pilothouse.api.cce.iam_errors import IamRoute
from pilothouse.api.cce.models import Text
from pilothouse.errors import InvalidRequest
from pilothouse.http.json_bodies import read_json
from pilothouse.http.requests import caller_of, json_response, request_id_of, service_of
from pilothouse.services.identity.projects import Page, Projects
from pilothouse.store.projects import ProjectRow

router = APIRouter(prefix="/v3", route_class=IamRoute)
_MOST_PER_PAGE = 5000

T = TypeVar("T")


class NewProject(BaseModel):
    """The name of the project; its domain is always the caller's."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[StrictStr, Field(min_length=1)]
    description: Text = ""


class CreateProject(BaseModel):
    """The body of a project's creation."""

    model_config = ConfigDict(extra="ignore")

    project: NewProject


@router.get("/projects")
async def list_projects(request: Request) -> Response:
    """Return a page of the domain's projects."""
    page = await _page(request)
    number = _read(request, "page", _whole_number(1, None), 1)
    return json_response(_list(request, "projects", page.rows, page=number, more=page.more))


@router.post("/projects")
async def create_project(request: Request) -> Response:
    """Create a project in this region."""
    projects = service_of(request, Projects)
    projects.check_create_in_region(caller_of(request))
    body = await read_json(request, CreateProject)
    row = await projects.create_in_region(
        caller_of(request),
        name=body.project.name,
        description=body.project.description,
        request_id=request_id_of(request),
    )
    return json_response({"project": _project(row, _base(request))}, status_code=201)


@router.get("/projects/{project_id}")
async def show_project(request: Request, project_id: str) -> Response:
    """Return a project."""
    row = await service_of(request, Projects).show(caller_of(request), project_id)
    return json_response({"project": _project(row, _base(request))})


@router.get("/auth/projects")
async def list_own_projects(request: Request) -> Response:
    """Return the projects in which the caller has roles."""
    rows = await service_of(request, Projects).list_usable(caller_of(request))
    return json_response(_list(request, "projects", rows))


@router.get("/auth/domains")
async def list_domains(request: Request) -> Response:
    """Return the caller's domain."""
    caller = caller_of(request)
    domain = {
        "id": caller.domain_id,
        "name": caller.domain_name,
        "enabled": True,
        "description": "",
        "links": {"self": f"{_base(request)}/domains/{caller.domain_id}"},
    }
    return json_response({"domains": [domain], "links": _links(request)})


@router.get("/regions")
async def list_regions(request: Request) -> Response:
    """Return the one region."""
    name = service_of(request, Projects).region
    region = {
        "id": name,
        "type": "public",
        "description": "",
        "parent_region_id": None,
        "locales": {},
        "links": {"self": f"{_base(request)}/regions/{name}"},
    }
    return json_response({"regions": [region], "links": _links(request)})


async def _page(request: Request) -> Page:
    """Return the requested page; a domain that is not the caller's has no projects for it."""
    caller = caller_of(request)
    enabled = _read(request, "enabled", _flag, None)
    is_domain = _read(request, "is_domain", _flag, None)
    page = _read(request, "page", _whole_number(1, None), 1)
    per_page = _read(request, "per_page", _whole_number(1, _MOST_PER_PAGE), _MOST_PER_PAGE)
    owners = {request.query_params.get(name) or caller.domain_id for name in ("domain_id", "parent_id")}
    if is_domain or owners != {caller.domain_id}:
        return Page([], more=False)
    name = request.query_params.get("name")
    return await service_of(request, Projects).list_page(
        caller, name=name, enabled=enabled, page=page, per_page=per_page
    )


def _read(request: Request, name: str, parse: Callable[[str, str], T], default: T) -> T:
    text = request.query_params.get(name)
    return default if text is None else parse(name, text)


def _flag(name: str, text: str) -> bool | None:
    if text.lower() not in {"true", "false"}:
        raise InvalidRequest(f"{name}: must be true or false, not {text[:100]!r}")
    return text.lower() == "true"


def _whole_number(least: int, most: int | None) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - fits a query
        if number < least or (most is not None and number > most):
            raise InvalidRequest(
                f"{name}: must be a whole number from {least}{f' to {most}' if most else ''}, and is {text[:100]!r}"
            )
        return number

    return parse


def _list(
    request: Request, key: str, rows: list[ProjectRow], *, page: int = 1, more: bool = False
) -> dict[str, object]:
    links = _links(request)
    if page > 1:
        links["previous"] = str(request.url.include_query_params(page=page - 1))
    if more:
        links["next"] = str(request.url.include_query_params(page=page + 1))
    return {key: [_project(row, _base(request)) for row in rows], "links": links}


def _links(request: Request) -> dict[str, str | None]:
    return {"self": str(request.url), "next": None, "previous": None}


def _base(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/v3"


def _project(row: ProjectRow, base: str) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "parent_id": row.domain_id,
        "is_domain": False,
        "enabled": row.enabled,
        "description": row.description,
        "links": {"self": f"{base}/projects/{row.id}", "next": None, "previous": None},
    }
