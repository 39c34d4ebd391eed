"""Projects: list, make, show, enable, delete. Users see those in which they have a role, administrators change them."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.http.json_bodies import read_json
from pilothouse.http.openapi import takes
from pilothouse.http.requests import caller_of, json_response, request_id_of
from pilothouse.services.identity.projects import Projects
from pilothouse.store.projects import ProjectRow


class CreateProject(BaseModel):
    """A name that the account has not used yet; clients find a project by the name of their region."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    description: str = ""


class ChangeProject(BaseModel):
    """Whether anybody may act in the project."""

    model_config = ConfigDict(extra="forbid", strict=True)

    enabled: bool


class ProjectView(BaseModel):
    """A project."""

    id: str
    name: str
    description: str
    enabled: bool


def routes(projects: Projects) -> APIRouter:
    """The project routes."""
    router = APIRouter(prefix="/api/v1/projects", tags=["projects"])

    @router.get("", response_model=list[ProjectView])
    async def list_projects(request: Request) -> Response:
        """The account's projects in which the caller has a role, by name."""
        return json_response([_view(row) for row in await projects.list_all(caller_of(request))])

    @router.post("", status_code=201, response_model=ProjectView, openapi_extra=takes(CreateProject))
    async def create_project(request: Request) -> Response:
        """Makes a project."""
        caller_of(request).require_in_account("iam:projects:createProject")
        body = await read_json(request, CreateProject)
        row = await projects.create(
            caller_of(request), name=body.name, description=body.description, request_id=request_id_of(request)
        )
        return json_response(_view(row), status_code=201)

    @router.get("/{project_id}", response_model=ProjectView)
    async def show_project(request: Request, project_id: str) -> Response:
        """One project."""
        return json_response(_view(await projects.show(caller_of(request), project_id)))

    @router.patch("/{project_id}", response_model=ProjectView, openapi_extra=takes(ChangeProject))
    async def change_project(request: Request, project_id: str) -> Response:
        """Enables or disables a project; either way its tokens are dead."""
        caller_of(request).require_in_account("iam:projects:updateProject")
        body = await read_json(request, ChangeProject)
        row = await projects.set_enabled(
            caller_of(request), project_id, enabled=body.enabled, request_id=request_id_of(request)
        )
        return json_response(_view(row))

    @router.delete("/{project_id}", status_code=204)
    async def delete_project(request: Request, project_id: str) -> Response:
        """Deletes a project that is empty."""
        await projects.remove(caller_of(request), project_id, request_id=request_id_of(request))
        return Response(status_code=204)

    return router


def _view(row: ProjectRow) -> dict[str, object]:
    return ProjectView(id=row.id, name=row.name, description=row.description, enabled=row.enabled).model_dump()
