"""What pages read of a request: the caller, and forms that were sent from a page of ours."""

import secrets
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pilothouse.console import csrf
from pilothouse.console.session import session_of
from pilothouse.console.texts import gettext, ngettext
from pilothouse.errors import InvalidRequest, NotAuthenticated, NotFound
from pilothouse.http.json_bodies import FORM, RELEASE
from pilothouse.http.middleware.session import CONSOLE
from pilothouse.http.requests import service_of
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.projects import Projects
from pilothouse.services.operations.idempotency import Key

_MOST_FIELDS: Final = 50
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_root: ContextVar[str] = ContextVar("root", default="")
#: A form that is sent twice is carried out once.
ONCE: Final = "once"


def wrong(name: str, text: str) -> InvalidRequest:
    """Return the error for a field: its name in front, by which pages find it, and what is wrong with it."""
    return InvalidRequest(f"{name}: {text}")


def not_one_of(name: str, given: str, choices: Iterable[str]) -> InvalidRequest:
    """Return the error for a field that takes only those words."""
    shown, listed = repr(given[:40]), ", ".join(choices)
    return wrong(name, gettext("%(given)s is not one of %(choices)s", given=shown, choices=listed))


def not_a_day(name: str, given: str) -> InvalidRequest:
    """Return the error for a field that takes a day."""
    return wrong(name, gettext("%(given)s is not a day, as %(example)s", given=repr(given[:40]), example="2027-01-31"))


def too_long(name: str, most: int) -> InvalidRequest:
    """Return the error for a field that takes only so many characters."""
    return wrong(name, ngettext("more than %(num)s character", "more than %(num)s characters", most))


def largest_body(path: str) -> int:
    """Return how many bytes a page reads at most."""
    if path == f"{CONSOLE}/login":
        return FORM.size
    return sys.maxsize if path.endswith("/charts") else RELEASE.size


def caller_of(request: Request) -> Caller:
    """Return the caller; raise NotAuthenticated without a session, and NotFound in a project that it has no role in.

    Raises InvalidRequest for an address with a NUL character, which the database does not take.
    """
    caller: Caller | None = request.scope["state"].get("caller")
    if caller is None:
        raise NotAuthenticated(gettext("Log in to see this page."))
    if any("\0" in str(given) for given in (*request.path_params.values(), *request.query_params.values())):
        raise InvalidRequest(gettext("the address contains a NUL character"))
    if "project" in request.path_params and not caller.project_id:
        raise NotFound(
            gettext(
                "project %(project)s does not exist, is disabled, or %(user)s has no role in it; an administrator of "
                "the account can grant one",
                project=repr(request.path_params["project"]),
                user=caller.user_name,
            )
        )
    return caller


class AtRoot:
    """Tell the pages below which path a proxy serves them; the server itself sees none of it."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        token = _root.set(self._root)
        try:
            await self._app(scope, receive, send)
        finally:
            _root.reset(token)


def root() -> str:
    """Return the path that browsers have in front of each of ours; empty if none."""
    return _root.get()


def base() -> str:
    """Return the path of the console, as browsers see it."""
    return f"{_root.get()}{CONSOLE}"


def here(caller: Caller) -> str:
    """Return the path of the caller's project."""
    return f"{base()}/p/{quote(caller.project_name, safe='')}"


async def find_menu(request: Request) -> dict[str, Any]:
    """Return what a page of no project needs for its menu: that of the project that the root leads to."""
    projects = service_of(request, Projects)
    usable = await projects.list_usable(caller_of(request))
    if not usable:
        return {}
    first = next((project for project in usable if project.name == projects.region), usable[0])
    return {"menu": True, "here": f"{base()}/p/{quote(first.name, safe='')}"}


async def read_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form, whoever sent it; raise InvalidRequest if it is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != _FORM_TYPE:
        raise wrong("Content-Type", gettext("a form is %(type)s", type=_FORM_TYPE))
    try:
        sent = await request.body()
        fields = await off_loop(lambda: _parse(sent), size=len(sent))
    except ValueError as error:
        raise InvalidRequest(gettext("the form cannot be read: %(problem)s", problem=error)) from None
    if any("\0" in value for value in fields.values()):
        raise InvalidRequest(gettext("the form contains a NUL character"))
    return fields


def _parse(form: bytes) -> dict[str, str]:
    return dict(parse_qsl(form.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form of this session; raise Forbidden for one of another."""
    caller_of(request)
    fields = await read_fields(request)
    csrf.check(request, session_of(request), fields.pop(csrf.FIELD, ""))
    return fields


def new_once() -> str:
    """Return the key of a form's one sending."""
    return secrets.token_urlsafe(24)


def key_of(request: Request, fields: Mapping[str, str]) -> Key | None:
    """Return the idempotency key of the form; None if it has none."""
    text = fields.get(ONCE, "")
    if not text:
        return None
    said = "\n".join([request.scope["path"], *(f"{name}={fields[name]}" for name in sorted(fields))])
    return Key(f"console-{text}"[:255], sha256(said.encode()).hexdigest())


def see_other(path: str) -> RedirectResponse:
    """Return the answer to a write that was accepted: reloading or going back repeats nothing."""
    return RedirectResponse(path, status_code=303)
