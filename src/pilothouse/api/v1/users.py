"""Users: list, create, show, enable, manage roles and passwords, delete.

For administrators of the account; users can read themselves and change their own password.
"""

from typing import Annotated

from fastapi import Query, Request

from pilothouse import errors
from pilothouse.api.v1.dependencies import Check, CurrentCaller, RequestId, allowed_in_account, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.requests import caller_of
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.users import User, Users
from pilothouse.store.users import UserRow

router = native_router("/api/v1/users", tag="users")
UsersService = Annotated[Users, service(Users)]


class CreateUser(Body):
    """A name; without a password one is generated and shown once."""

    name: str
    password: str | None = None


class ChangeUser(Body):
    """Whether the user is enabled."""

    enabled: bool


class SetPassword(Body):
    """The new password, and for one's own the current one; ``end_keys``: also disable the user's access keys."""

    password: str
    current_password: str | None = None
    end_keys: bool = False


class GrantRole(Body):
    """A role, in a project or (null) in the whole account."""

    role: str
    project_id: str | None = None


class UserSummary(View):
    """A user in a list; ``locked_until``: the last of its locks, each for an address that guessed its password.

    ``issuer``: the identity provider that it comes from; empty for a user with a password.
    """

    id: str
    name: str
    enabled: bool
    locked_until: Seconds | None
    created_at: Seconds
    issuer: str


class RoleView(View):
    """A role, in a project or (null) in the whole account."""

    role: str
    project_id: str | None


class UserView(UserSummary):
    """A user with its roles."""

    roles: list[RoleView]


class NewUserView(UserView):
    """A new user; ``password`` is null if the caller chose it."""

    password: str | None


@router.get("", response_model=list[UserSummary])
async def list_users(caller: CurrentCaller, users: UsersService) -> list[UserRow]:
    """List the account's users by name."""
    return await users.list_users(caller)


@router.post(
    "",
    status_code=201,
    response_model=NewUserView,
    dependencies=[allowed_in_account("iam:users:createUser")],
    responses=error_responses(errors.AlreadyExists),
)
async def create_user(
    body: CreateUser, caller: CurrentCaller, users: UsersService, request_id: RequestId
) -> dict[str, object]:
    """Create a user; it has no rights until it gets a role."""
    made = await users.create(caller, name=body.name, password=body.password, request_id=request_id)
    return {**_view(made.user), "password": made.password}


@router.get("/{user_id}", response_model=UserView)
async def show_user(user_id: str, caller: CurrentCaller, users: UsersService) -> dict[str, object]:
    """Show one user with its roles; users can read themselves, also under the id ``me``."""
    return _view(await users.show(caller, _meant(caller, user_id)))


@router.patch("/{user_id}", response_model=UserView, dependencies=[allowed_in_account("iam:users:updateUser")])
async def change_user(
    user_id: str, body: ChangeUser, caller: CurrentCaller, users: UsersService, request_id: RequestId
) -> dict[str, object]:
    """Enable or disable a user, lift its locks, and revoke its tokens."""
    return _view(await users.set_enabled(caller, user_id, enabled=body.enabled, request_id=request_id))


async def _may_set_password(request: Request) -> None:
    caller = caller_of(request)
    if _meant(caller, request.path_params["user_id"]) != caller.user_id:
        caller.require_in_account("iam:users:updateUser")


@router.put("/{user_id}/password", status_code=204, dependencies=[Check(_may_set_password)])
async def set_password(
    user_id: str, body: SetPassword, caller: CurrentCaller, users: UsersService, request_id: RequestId
) -> None:
    """Replace a password, which revokes the user's tokens and optionally disables its keys; ``me`` is the caller."""
    await users.set_password(
        caller,
        _meant(caller, user_id),
        password=body.password,
        current=body.current_password,
        end_keys=body.end_keys,
        request_id=request_id,
    )


@router.post(
    "/{user_id}/roles",
    response_model=UserView,
    dependencies=[allowed_in_account("iam:permissions:grantRoleToUser")],
)
async def grant_role(
    user_id: str, body: GrantRole, caller: CurrentCaller, users: UsersService, request_id: RequestId
) -> dict[str, object]:
    """Grant a role; a new role revokes the user's tokens."""
    return _view(await users.grant(caller, user_id, role=body.role, project_id=body.project_id, request_id=request_id))


@router.delete("/{user_id}/roles/{role}", response_model=UserView)
async def withdraw_role(
    *,
    user_id: str,
    role: str,
    caller: CurrentCaller,
    users: UsersService,
    request_id: RequestId,
    project_id: Annotated[str | None, Query(description="the project; else in the whole account")] = None,
) -> dict[str, object]:
    """Revoke a role, in ``project_id`` or in the whole account, and the user's tokens."""
    return _view(await users.withdraw(caller, user_id, role=role, project_id=project_id, request_id=request_id))


@router.delete("/{user_id}", status_code=204)
async def delete_user(user_id: str, caller: CurrentCaller, users: UsersService, request_id: RequestId) -> None:
    """Delete a user with its keys, tokens and roles."""
    await users.remove(caller, user_id, request_id=request_id)


def _meant(caller: Caller, user_id: str) -> str:
    return caller.user_id if user_id == "me" else user_id


def _view(user: User) -> dict[str, object]:
    return {**vars(user.row), "roles": user.roles}
