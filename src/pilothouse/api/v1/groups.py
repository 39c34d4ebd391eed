"""Groups of identity providers: list, create, show, manage roles, delete. For administrators of the account."""

from typing import Annotated

from fastapi import Query

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed_in_account, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.api.v1.users import GrantRole, RoleView
from pilothouse.services.identity.groups import Groups
from pilothouse.store.groups import GroupRow

router = native_router("/api/v1/groups", tag="groups")
GroupsService = Annotated[Groups, service(Groups)]


class CreateGroup(Body):
    """A group as its provider names it; ``provider`` may be absent if there is only one."""

    name: str
    provider: str | None = None


class GroupView(View):
    """A group with the roles of its members; ``provider`` is empty if it is not set up any more."""

    id: str
    name: str
    provider: str
    issuer: str
    created_at: Seconds
    roles: list[RoleView]


@router.get("", response_model=list[GroupView])
async def list_groups(caller: CurrentCaller, groups: GroupsService) -> list[dict[str, object]]:
    """List the account's groups by name."""
    return [_view(groups, group) for group in await groups.list_groups(caller)]


@router.post(
    "",
    status_code=201,
    response_model=GroupView,
    dependencies=[allowed_in_account("iam:groups:createGroup")],
    responses=error_responses(errors.AlreadyExists),
)
async def create_group(
    body: CreateGroup, caller: CurrentCaller, groups: GroupsService, request_id: RequestId
) -> dict[str, object]:
    """Create a group; its members have no rights by it until it gets a role."""
    return _view(groups, await groups.create(caller, name=body.name, provider=body.provider, request_id=request_id))


@router.get("/{group_id}", response_model=GroupView)
async def show_group(group_id: str, caller: CurrentCaller, groups: GroupsService) -> dict[str, object]:
    """Show one group with its roles."""
    return _view(groups, await groups.show(caller, group_id))


@router.post(
    "/{group_id}/roles",
    response_model=GroupView,
    dependencies=[allowed_in_account("iam:permissions:grantRoleToGroup")],
)
async def grant_group_role(
    group_id: str, body: GrantRole, caller: CurrentCaller, groups: GroupsService, request_id: RequestId
) -> dict[str, object]:
    """Grant a role to the members of a group, which have it at once."""
    found = await groups.grant(caller, group_id, role=body.role, project_id=body.project_id, request_id=request_id)
    return _view(groups, found)


@router.delete("/{group_id}/roles/{role}", response_model=GroupView)
async def withdraw_group_role(
    *,
    group_id: str,
    role: str,
    caller: CurrentCaller,
    groups: GroupsService,
    request_id: RequestId,
    project_id: Annotated[str | None, Query(description="the project; else in the whole account")] = None,
) -> dict[str, object]:
    """Revoke a role of a group, in ``project_id`` or in the whole account."""
    return _view(
        groups, await groups.withdraw(caller, group_id, role=role, project_id=project_id, request_id=request_id)
    )


@router.delete("/{group_id}", status_code=204)
async def delete_group(group_id: str, caller: CurrentCaller, groups: GroupsService, request_id: RequestId) -> None:
    """Delete a group; its members lose its roles at once."""
    await groups.remove(caller, group_id, request_id=request_id)


def _view(groups: Groups, row: GroupRow) -> dict[str, object]:
    return {**vars(row), "provider": groups.provider_of(row)}
