"""The part of IAM that clients of the CCE API call: the look-up of the project's id by the region's name."""

from fastapi import APIRouter, Request, Response

from pilothouse.services.identity import Identity
from pilothouse.store.identity import ProjectRow
from pilothouse.web.requests import caller_of, json_response


def routes(identity: Identity) -> APIRouter:
    """The identity routes."""
    router = APIRouter(prefix="/v3")

    @router.get("/projects")
    async def list_projects(request: Request) -> Response:
        base = str(request.url.replace(query=""))
        rows = await identity.list_projects(caller_of(request), name=request.query_params.get("name"))
        return json_response(
            {
                "projects": [_project(row, base) for row in rows],
                "links": {"self": str(request.url), "next": None, "previous": None},
            }
        )

    return router


def _project(row: ProjectRow, base: str) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "domain_id": row.domain_id,
        "parent_id": row.domain_id,
        "is_domain": False,
        "enabled": row.enabled,
        "description": row.description,
        "links": {"self": f"{base}/{row.id}"},
    }
