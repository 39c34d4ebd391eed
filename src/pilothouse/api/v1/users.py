"""Users: list, make, show, enable, give roles and passwords, delete.

For administrators of the account; everybody may look at itself and change its own password.
"""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.http.json_bodies import read_json
from pilothouse.http.openapi import takes
from pilothouse.http.requests import caller_of, json_response, request_id_of
from pilothouse.services.identity.users import User, Users
from pilothouse.store.users import UserRow


class CreateUser(BaseModel):
    """A name; without a password one is chosen and shown once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    password: str | None = None


class ChangeUser(BaseModel):
    """Whether the user may act at all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    enabled: bool


class SetPassword(BaseModel):
    """The new password, and for one's own the current one; ``end_keys``: the user's access keys are disabled too."""

    model_config = ConfigDict(extra="forbid", strict=True)

    password: str
    current_password: str | None = None
    end_keys: bool = False


class Grant(BaseModel):
    """A role, in a project or (null) in the whole account."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: str
    project_id: str | None = None


class UserSummary(BaseModel):
    """A user in a list; ``locked_until``: the last of its locks, each for an address that guessed its password."""

    id: str
    name: str
    enabled: bool
    locked_until: str | None
    created_at: str


class RoleView(BaseModel):
    """A role, in a project or (null) in the whole account."""

    role: str
    project_id: str | None


class UserView(UserSummary):
    """A user with its roles."""

    roles: list[RoleView]


class NewUserView(UserView):
    """A user just made; ``password`` is null if the caller chose it."""

    password: str | None


def routes(users: Users) -> APIRouter:
    """The user routes."""
    router = APIRouter(prefix="/api/v1/users", tags=["users"])

    @router.get("", response_model=list[UserSummary])
    async def list_users(request: Request) -> Response:
        """The account's users by name."""
        return json_response([_summary(row) for row in await users.list_users(caller_of(request))])

    @router.post("", status_code=201, response_model=NewUserView, openapi_extra=takes(CreateUser))
    async def create_user(request: Request) -> Response:
        """Makes a user; it can do nothing until it is given a role."""
        caller_of(request).require_in_account("iam:users:createUser")
        body = await read_json(request, CreateUser)
        made = await users.create(
            caller_of(request), name=body.name, password=body.password, request_id=request_id_of(request)
        )
        return json_response({**_view(made.user), "password": made.password}, status_code=201)

    @router.get("/{user_id}", response_model=UserView)
    async def show_user(request: Request, user_id: str) -> Response:
        """One user with its roles; everybody may look at itself, also under the id ``me``."""
        return json_response(_view(await users.show(caller_of(request), _meant(request, user_id))))

    @router.patch("/{user_id}", response_model=UserView, openapi_extra=takes(ChangeUser))
    async def change_user(request: Request, user_id: str) -> Response:
        """Enables or disables a user, lifts a lock, and ends its tokens."""
        caller_of(request).require_in_account("iam:users:updateUser")
        body = await read_json(request, ChangeUser)
        user = await users.set_enabled(
            caller_of(request), user_id, enabled=body.enabled, request_id=request_id_of(request)
        )
        return json_response(_view(user))

    @router.put("/{user_id}/password", status_code=204, openapi_extra=takes(SetPassword))
    async def set_password(request: Request, user_id: str) -> Response:
        """Replaces a password, which ends the user's tokens, and if wanted its keys; ``me`` is the caller."""
        if _meant(request, user_id) != caller_of(request).user_id:
            caller_of(request).require_in_account("iam:users:updateUser")
        body = await read_json(request, SetPassword)
        await users.set_password(
            caller_of(request),
            _meant(request, user_id),
            password=body.password,
            current=body.current_password,
            end_keys=body.end_keys,
            request_id=request_id_of(request),
        )
        return Response(status_code=204)

    @router.post("/{user_id}/roles", response_model=UserView, openapi_extra=takes(Grant))
    async def grant_role(request: Request, user_id: str) -> Response:
        """Gives a role, which ends the user's tokens if it is new."""
        caller_of(request).require_in_account("iam:permissions:grantRoleToUser")
        body = await read_json(request, Grant)
        user = await users.grant(
            caller_of(request), user_id, role=body.role, project_id=body.project_id, request_id=request_id_of(request)
        )
        return json_response(_view(user))

    @router.delete("/{user_id}/roles/{role}", response_model=UserView)
    async def withdraw_role(request: Request, user_id: str, role: str, project_id: str | None = None) -> Response:
        """Takes a role away, in ``project_id`` or in the whole account, which ends the user's tokens."""
        user = await users.withdraw(
            caller_of(request), user_id, role=role, project_id=project_id, request_id=request_id_of(request)
        )
        return json_response(_view(user))

    @router.delete("/{user_id}", status_code=204)
    async def delete_user(request: Request, user_id: str) -> Response:
        """Deletes a user with its keys, tokens and roles."""
        await users.remove(caller_of(request), user_id, request_id=request_id_of(request))
        return Response(status_code=204)

    return router


def _meant(request: Request, user_id: str) -> str:
    return caller_of(request).user_id if user_id == "me" else user_id


def _summary(row: UserRow) -> dict[str, object]:
    return UserSummary(
        id=row.id,
        name=row.name,
        enabled=row.enabled,
        locked_until=row.locked_until.isoformat(timespec="seconds") if row.locked_until else None,
        created_at=row.created_at.isoformat(timespec="seconds"),
    ).model_dump()


def _view(user: User) -> dict[str, object]:
    held = [RoleView(role=one.role, project_id=one.project_id).model_dump() for one in user.roles]
    return {**_summary(user.row), "roles": held}
