"""Groups of identity providers and their roles, for administrators of the account."""

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.faults import tell
from pilothouse.console.forms import Fields, require_typed_name, writes
from pilothouse.console.grants import ROLES, read_grant
from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of, here
from pilothouse.console.texts import gettext
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.identity.groups import Groups
from pilothouse.services.identity.policies import Policies
from pilothouse.services.identity.projects import Projects

_GROUPS: Final = "/access/groups"
_GROUP: Final = f"{_GROUPS}/{{group_id}}"


async def list_groups(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None
) -> Response:
    """List the account's groups with their roles."""
    caller, groups = caller_of(request), service_of(request, Groups)
    return await page(
        request,
        "groups.html",
        refused=refused,
        part=part,
        faults=tell(refused, "name", "provider"),
        typed=typed or {},
        groups=await groups.list_groups(caller),
        provider_of=groups.provider_of,
        providers=groups.providers,
        may_create=caller.may_in_account("iam:groups:createGroup"),
    )


async def show_group(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None
) -> Response:
    """Show one group with its roles, and the policies that are attached to it."""
    caller, groups = caller_of(request), service_of(request, Groups)
    group = await groups.show(caller, request.path_params["group_id"])
    projects = await service_of(request, Projects).list_all(caller)
    sees_policies = caller.may_in_account("iam:policies:list")
    policies = await service_of(request, Policies).list_policies(caller) if sees_policies else []
    return await page(
        request,
        "group.html",
        refused=refused,
        part=part,
        faults=tell(refused, "role", "project", "sure", "confirm"),
        typed=typed or {},
        group=group,
        at=_path(request),
        provider=groups.provider_of(group),
        projects=projects,
        project_names={project.id: project.name for project in projects},
        roles=ROLES,
        attached=[(policy, where) for policy in policies for where in policy.attachments if where.group_id == group.id],
        sees_policies=sees_policies,
    )


def _path(request: Request, group_id: str = "") -> str:
    return f"{here(caller_of(request))}{_GROUPS}/{quote(group_id or request.path_params['group_id'], safe='')}"


async def _create(request: Request, fields: Fields) -> str:
    made = await service_of(request, Groups).create(
        caller_of(request),
        name=fields.get("name", "").strip(),
        provider=fields.get("provider", "") or None,
        request_id=request_id_of(request),
    )
    return _path(request, made.id)


async def _grant(request: Request, fields: Fields) -> str:
    caller = caller_of(request)
    caller.require_in_account("iam:permissions:grantRoleToGroup")
    role, project_id = read_grant(fields)
    await service_of(request, Groups).grant(
        caller,
        request.path_params["group_id"],
        role=role,
        project_id=project_id,
        request_id=request_id_of(request),
    )
    return f"{_path(request)}#roles"


async def _withdraw(request: Request, fields: Fields) -> str:
    await service_of(request, Groups).withdraw(
        caller_of(request),
        request.path_params["group_id"],
        role=fields.get("role", ""),
        project_id=fields.get("project", "") or None,
        request_id=request_id_of(request),
    )
    return f"{_path(request)}#roles"


async def _delete(request: Request, fields: Fields) -> str:
    caller, groups, group_id = caller_of(request), service_of(request, Groups), request.path_params["group_id"]
    name = (await groups.show(caller, group_id)).name
    require_typed_name(fields, name, ask=gettext("type the group's name, %(name)s, to delete it", name=name))
    await groups.remove(caller, group_id, request_id=request_id_of(request))
    return f"{here(caller)}{_GROUPS}"


ROUTES: Final = [
    Route(_GROUPS, list_groups, methods=["GET"]),
    Route(_GROUPS, writes(list_groups, "add", _create), methods=["POST"]),
    Route(_GROUP, show_group, methods=["GET"]),
    Route(f"{_GROUP}/roles", writes(show_group, "roles", _grant), methods=["POST"]),
    Route(f"{_GROUP}/roles/withdraw", writes(show_group, "roles", _withdraw), methods=["POST"]),
    Route(f"{_GROUP}/delete", writes(show_group, "delete", _delete), methods=["POST"]),
]
