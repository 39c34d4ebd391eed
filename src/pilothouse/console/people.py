"""One person: roles, password, access keys, tokens, sessions. One's own account, and for administrators that of others.

A write's refusal is shown in the part of the page that its form is in, and nothing that was typed there is lost but
passwords.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console import forms
from pilothouse.console.faults import Faults, tell
from pilothouse.console.forms import Endpoint, Fields
from pilothouse.console.grants import ROLES
from pilothouse.console.rendering import page
from pilothouse.console.requests import base, caller_of, find_menu, here, not_a_day, see_other, wrong
from pilothouse.console.session import drop_session
from pilothouse.console.texts import gettext
from pilothouse.errors import Checks, NotPermitted
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.identity.access_keys import AccessKeyRequest, AccessKeys
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.sessions import Sessions
from pilothouse.services.identity.tokens import Tokens
from pilothouse.services.identity.users import Users

Found = TypeVar("Found")
#: The fields of the forms, by the part that they are in.
_SHOWN: Final = {
    "keys": ("project", "description", "expires", "own_password"),
    "roles": ("role", "project", "sure"),
    "password": ("current_password", "new_password", "again_password"),
    "delete": ("confirm",),
}


@dataclass(frozen=True)
class Person:
    """Whose page it is, and where; ``own``: the caller's."""

    id: str
    path: str
    own: bool


def person_of(request: Request) -> Person:
    """Return the person that the path names; without one it is the caller."""
    caller = caller_of(request)
    named = request.path_params.get("user_id")
    if named is None:
        return Person(caller.user_id, f"{base()}/account", own=True)
    return Person(named, f"{here(caller)}/access/users/{quote(named, safe='')}", own=named == caller.user_id)


async def show_person(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None, **more: Any
) -> Response:
    """Show the person; ``refused`` is told in that part of the page."""
    caller, person = caller_of(request), person_of(request)
    user = await service_of(request, Users).show(caller, person.id)
    sessions, projects = service_of(request, Sessions), await service_of(request, Projects).list_all(caller)
    menu = {} if caller.project_id else await find_menu(request)
    return await page(
        request,
        "person.html",
        refused=refused,
        part=part,
        faults=_tell(refused, part),
        typed=typed or {},
        person=person,
        user=user.row,
        granted=user.roles,
        keys=await _if_allowed(service_of(request, AccessKeys).list_keys(caller, user_id=person.id)),
        tokens=await _if_allowed(service_of(request, Tokens).list_living(caller, user_id=person.id)),
        sessions=await _if_allowed(sessions.list_open(caller, user_id=person.id)),
        here_session=await sessions.find_own_id(caller),
        projects=projects,
        project_names={project.id: project.name for project in projects},
        roles=ROLES,
        **{"made": None, "generated": "", **menu, **more},
    )


def _tell(refused: Refusal | None, part: str) -> Faults:
    """Return what is wrong in a form of that part; each asks for another password."""
    names = {"keys": {"password": "own_password"}, "password": {"password": "new_password"}}.get(part)
    return tell(refused, *_SHOWN.get(part, ()), names=names)


async def _if_allowed(found: Awaitable[Found]) -> Found | None:
    try:
        return await found
    except NotPermitted:
        return None


Order = Callable[[Request, Person, Fields], Awaitable[Response | None]]


def writes(part: str, order: Order) -> Endpoint:
    """Return what carries out a form of that part: back to the page, or the page with the refusal."""

    async def carry_out(request: Request, fields: Fields) -> Response | str:
        person = person_of(request)
        return await order(request, person, fields) or f"{person.path}#{part}"

    return forms.writes(show_person, part, carry_out)


async def _create_key(request: Request, person: Person, fields: Fields) -> Response:
    wanted = AccessKeyRequest(
        user_id=person.id,
        project_id=fields.get("project", "") or None,
        description=fields.get("description", "").strip(),
        expires_at=_read_end_of(fields.get("expires", "")),
        password=fields.get("own_password") or None,
    )
    made = await service_of(request, AccessKeys).create(caller_of(request), wanted, request_id=request_id_of(request))
    return await show_person(request, part="keys", made=made)


def _read_end_of(day: str) -> datetime | None:
    """Return the end of that day; None for no day."""
    if not day.strip():
        return None
    try:
        return datetime.combine(date.fromisoformat(day.strip()) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise not_a_day("expires", day) from None


async def _change_key(request: Request, person: Person, fields: Fields) -> Response | None:
    caller, keys, key = caller_of(request), service_of(request, AccessKeys), fields.get("key", "")
    if fields.get("do") == "delete":
        await keys.remove(caller, key, request_id=request_id_of(request))
    elif fields.get("do") in {"enable", "disable"}:
        await keys.change(caller, key, enabled=fields["do"] == "enable", request_id=request_id_of(request))
    else:
        raise wrong("do", gettext("choose what to do with the key: enable, disable or delete"))
    return _logged_out(request, "key") if person.own and fields["do"] != "enable" else None


async def _end_token(request: Request, person: Person, fields: Fields) -> None:
    await service_of(request, Tokens).end(
        caller_of(request), fields.get("token", ""), user_id=person.id, request_id=request_id_of(request)
    )


async def _end_session(request: Request, person: Person, fields: Fields) -> Response | None:
    caller, sessions = caller_of(request), service_of(request, Sessions)
    is_this_one = fields.get("session", "") == await sessions.find_own_id(caller)
    await sessions.end(caller, fields.get("session", ""), user_id=person.id, request_id=request_id_of(request))
    return _logged_out(request, "session") if is_this_one else None


async def _end_sessions(request: Request, person: Person, _: Fields) -> Response | None:
    await service_of(request, Sessions).end_all(
        caller_of(request), user_id=person.id, request_id=request_id_of(request)
    )
    return _logged_out(request, "sessions") if person.own else None


async def _set_password(request: Request, person: Person, fields: Fields) -> Response | None:
    new, users, caller = fields.get("new_password", ""), service_of(request, Users), caller_of(request)
    current = fields.get("current_password") or None
    if new != fields.get("again_password", ""):
        checks = Checks()
        await checks.wait(users.check_password(caller, person.id, password=new, current=current))
        checks.note(wrong("again_password", gettext("the two are not the same; type the new one twice")))
        checks.end()
    await users.set_password(
        caller,
        person.id,
        password=new,
        current=current,
        end_keys="end_keys" in fields,
        request_id=request_id_of(request),
    )
    return _logged_out(request, "password") if person.own else None


def _logged_out(request: Request, why: str) -> Response:
    """Lead to the log-in, which says why; ``why`` is one of its words."""
    response = see_other(f"{base()}/login?ended={why}")
    drop_session(request, response)
    return response


#: Below the path of a person.
FORMS: Final[dict[str, Endpoint]] = {
    "keys": writes("keys", _create_key),
    "keys/change": writes("keys", _change_key),
    "tokens/end": writes("tokens", _end_token),
    "sessions/end": writes("sessions", _end_session),
    "sessions/end-all": writes("sessions", _end_sessions),
    "password": writes("password", _set_password),
}


async def show_account(request: Request) -> Response:
    """Show the person's own account."""
    return await show_person(request)


ROUTES: Final = [
    Route("/account", show_account, methods=["GET"]),
    *(Route(f"/account/{name}", form, methods=["POST"]) for name, form in FORMS.items()),
]
