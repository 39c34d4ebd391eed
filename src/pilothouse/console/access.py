"""Who may do what: the users of the account and their roles, for its administrators."""

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth import policy
from pilothouse.console.faults import tell
from pilothouse.console.forms import Fields, require_typed_name
from pilothouse.console.grants import ROLES, read_grant
from pilothouse.console.people import FORMS, Person, show_person, writes
from pilothouse.console.rendering import page, refusal
from pilothouse.console.requests import caller_of, here, read_form, see_other, wrong
from pilothouse.console.texts import gettext
from pilothouse.errors import Checks, PilothouseError
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.users import NewUser, Users
from pilothouse.store.roles import RoleRow

_USERS: Final = "/access/users"
_USER: Final = f"{_USERS}/{{user_id}}"


async def list_users(request: Request) -> Response:
    """List the account's users, and what each role allows."""
    return await _list(request)


async def _list(request: Request, *, refused: Refusal | None = None, typed: Fields | None = None) -> Response:
    caller, users, labels = caller_of(request), service_of(request, Users), {"new_password": gettext("Password")}
    projects = await service_of(request, Projects).list_all(caller)
    shown = ("name", "new_password", "role", "project", "sure")
    return await page(
        request,
        "access.html",
        refused=refused,
        faults=tell(refused, *shown, names={"password": "new_password"}, labels=labels),
        typed=typed or {},
        users=await users.list_users(caller),
        granted=await users.list_roles(caller) if caller.may_in_account("iam:users:getUser") else None,
        projects=projects,
        project_names={project.id: project.name for project in projects},
        may_grant=caller.may_in_account("iam:permissions:grantRoleToUser"),
        roles=ROLES,
        actions={
            name: [action for each in role.statements for action in each.actions] for name, role in policy.ROLES.items()
        },
        may_create=caller.may_in_account("iam:users:createUser"),
    )


async def create(request: Request) -> Response:
    """Create a user; a password that was generated is shown once, on its page."""
    fields = await read_form(request)
    caller = caller_of(request)
    try:
        made = await _create(request, fields)
    except PilothouseError as error:
        return await _list(request, refused=refusal(request, error), typed=fields)
    if made.password is None:
        return see_other(f"{here(caller)}{_USERS}/{quote(made.user.row.id, safe='')}")
    request.path_params["user_id"] = made.user.row.id
    return await show_person(request, generated=made.password)


async def _create(request: Request, fields: Fields) -> NewUser:
    caller, users, checks = caller_of(request), service_of(request, Users), Checks()
    name, password = fields.get("name", "").strip(), fields.get("new_password") or None
    grant = None
    if fields.get("role") or fields.get("project"):
        read = checks.read(lambda: read_grant(fields))
        grant = RoleRow(*read) if read is not None else None
    if checks.found:
        checks.read(lambda: users.check_new(caller, name=name, password=password))
    checks.end()
    return await users.create(caller, name=name, password=password, grant=grant, request_id=request_id_of(request))


async def show_user(request: Request) -> Response:
    """Show one user."""
    caller_of(request).require_in_account("iam:users:getUser")
    return await show_person(request)


async def _set_state(request: Request, person: Person, fields: Fields) -> None:
    if fields.get("do") not in {"enable", "disable"}:
        raise wrong("do", gettext("choose whether to enable or to disable the user"))
    await service_of(request, Users).set_enabled(
        caller_of(request), person.id, enabled=fields["do"] == "enable", request_id=request_id_of(request)
    )


async def _grant(request: Request, person: Person, fields: Fields) -> None:
    caller = caller_of(request)
    caller.require_in_account("iam:permissions:grantRoleToUser")
    role, project_id = read_grant(fields)
    await service_of(request, Users).grant(
        caller, person.id, role=role, project_id=project_id, request_id=request_id_of(request)
    )


async def _withdraw(request: Request, person: Person, fields: Fields) -> None:
    await service_of(request, Users).withdraw(
        caller_of(request),
        person.id,
        role=fields.get("role", ""),
        project_id=fields.get("project", "") or None,
        request_id=request_id_of(request),
    )


async def _delete(request: Request, person: Person, fields: Fields) -> Response:
    caller, users = caller_of(request), service_of(request, Users)
    name = (await users.show(caller, person.id)).row.name
    require_typed_name(fields, name, ask=gettext("type the user's name, %(name)s, to delete it", name=name))
    await users.remove(caller, person.id, request_id=request_id_of(request))
    return see_other(f"{here(caller)}/access")


_OWN_FORMS: Final = {
    "state": writes("state", _set_state),
    "roles": writes("roles", _grant),
    "roles/withdraw": writes("roles", _withdraw),
    "delete": writes("delete", _delete),
}
ROUTES: Final = [
    Route("/access", list_users, methods=["GET"]),
    Route(_USERS, create, methods=["POST"]),
    Route(_USER, show_user, methods=["GET"]),
    *(Route(f"{_USER}/{name}", form, methods=["POST"]) for name, form in {**FORMS, **_OWN_FORMS}.items()),
]
