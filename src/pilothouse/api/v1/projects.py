"""Projects: list, create, show, enable, delete. Users see those they have a role in; administrators change them."""

from typing import Annotated

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed_in_account, service
from pilothouse.api.v1.models import Body, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.services.identity.projects import Projects
from pilothouse.store.projects import ProjectRow

router = native_router("/api/v1/projects", tag="projects")
ProjectsService = Annotated[Projects, service(Projects)]


class CreateProject(Body):
    """A name that is unused in the account; clients look up a project by the name of their region."""

    name: str
    description: str = ""


class ChangeProject(Body):
    """Whether the project is enabled."""

    enabled: bool


class ProjectView(View):
    """A project."""

    id: str
    name: str
    description: str
    enabled: bool


@router.get("", response_model=list[ProjectView])
async def list_projects(caller: CurrentCaller, projects: ProjectsService) -> list[ProjectRow]:
    """List the account's projects in which the caller has a role, by name."""
    return await projects.list_all(caller)


@router.post(
    "",
    status_code=201,
    response_model=ProjectView,
    dependencies=[allowed_in_account("iam:projects:createProject")],
    responses=error_responses(errors.AlreadyExists),
)
async def create_project(
    body: CreateProject, caller: CurrentCaller, projects: ProjectsService, request_id: RequestId
) -> ProjectRow:
    """Create a project."""
    return await projects.create(caller, name=body.name, description=body.description, request_id=request_id)


@router.get("/{project_id}", response_model=ProjectView)
async def show_project(project_id: str, caller: CurrentCaller, projects: ProjectsService) -> ProjectRow:
    """Show one project."""
    return await projects.show(caller, project_id)


@router.patch(
    "/{project_id}",
    response_model=ProjectView,
    dependencies=[allowed_in_account("iam:projects:updateProject")],
)
async def change_project(
    project_id: str, body: ChangeProject, caller: CurrentCaller, projects: ProjectsService, request_id: RequestId
) -> ProjectRow:
    """Enable or disable a project; either way its tokens are revoked."""
    return await projects.set_enabled(caller, project_id, enabled=body.enabled, request_id=request_id)


@router.delete("/{project_id}", status_code=204)
async def delete_project(
    project_id: str, caller: CurrentCaller, projects: ProjectsService, request_id: RequestId
) -> None:
    """Delete an empty project."""
    await projects.remove(caller, project_id, request_id=request_id)
