"""Log in and out. What was typed into a form when its session had ended is kept through the log-in."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console import csrf
from pilothouse.console.faults import name_fields
from pilothouse.console.kept import NOTHING, Kept, is_of, read_carried, read_ended
from pilothouse.console.rendering import is_partial, page
from pilothouse.console.requests import base, caller_of, read_fields, read_form, root, see_other, too_long
from pilothouse.console.resumed import tell_form, tell_kept
from pilothouse.console.session import drop_session, session_of, set_session
from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.errors import (
    Busy,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PilothouseError,
)
from pilothouse.http.errors import refuse
from pilothouse.http.middleware.session import CONSOLE, is_console
from pilothouse.http.requests import request_id_of, service_of, source_of
from pilothouse.services.charts.archives import Charts
from pilothouse.services.identity.groups import Groups
from pilothouse.services.identity.passwords import Login
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.sessions import OpenedSession, Opening, Sessions
from pilothouse.services.identity.single_sign_on import SingleSignOn
from pilothouse.services.identity.users import Users

_PATH: Final = f"{CONSOLE}/login"
#: How long fields of the log-in may be, as the form says too.
_LONGEST: Final = {"name": 200, "account": 200, "password": 1000, "token": 200}
#: What has ended the session, for who is led here.
_ENDED: Final = Texts({
    "key": gettext_noop(
        "You disabled or deleted an access key of yours, which ends all your sessions and tokens."
    ),
    "password": gettext_noop("Your password was changed, which ends all your sessions and tokens."),
    "session": gettext_noop("You have ended this session."),
    "sessions": gettext_noop("You have ended all your sessions."),
})  # fmt: skip
_ENDED_BESIDE: Final = gettext_noop(
    "Your session has ended: its time was over, or somebody ended it, or a password, access key or role of yours was "
    "changed."
)


async def show_log_in(request: Request) -> Response:
    """Show the form."""
    told = _ENDED.get(request.query_params.get("ended", ""), "")
    return await _form(request, next_path=request.query_params.get("next", ""), told=told)


async def ask_to_log_in(request: Request) -> Response:
    """Lead to the log-in from any page, and back; a script's request reloads the page, a form's fields are kept."""
    path = request.scope["path"]
    query = request.scope["query_string"].decode("latin-1")
    target = f"{path}?{query}" if query else path
    if is_partial(request):
        response = Response(status_code=204, headers={"HX-Refresh": "true", "Cache-Control": "no-store"})
    elif request.method == "POST":
        kept = await read_ended(request)
        next_path = target if kept.proof else tell_form(target, {}).page
        response = await _form(request, next_path=next_path, kept=kept, problem=_tell_ended(kept), status_code=401)
    else:
        told = gettext(_ENDED_BESIDE) if session_of(request) else ""
        response = await _form(request, next_path=target, told=told, status_code=401)
    return response


def _tell_ended(kept: Kept) -> str:
    """Return what became of a form that was sent without a session."""
    if not kept.proof:
        return gettext(
            "You are not logged in, and nothing was changed. The server does not know whose form this was, and keeps "
            "nothing of it: log in, and fill it in again."
        )
    if kept.lacks:
        return gettext(
            "Your session has ended, and nothing was changed. Log in as the same user to go on with the form; its "
            "passwords are not kept."
        )
    return gettext(
        "Your session has ended. Log in as the same user, and what you sent can be sent again; nothing was changed."
    )


async def log_in(request: Request) -> Response:
    """Open a session for a password or a token."""
    csrf.check_origin(request)
    fields = await read_fields(request)
    kept = read_carried(request, fields)
    next_path = own_path(fields.get("next", ""))
    try:
        opened = await _open(request, fields)
    except (NotAuthenticated, Busy, InvalidRequest) as error:
        refused = name_fields(refuse(error), error, str)
        return await _form(
            request, next_path=next_path, kept=kept, typed=fields, problem=refused.text, status_code=refused.status
        )
    previous = request.scope["state"].get("caller")
    if previous is not None:
        await service_of(request, Sessions).end_previous(previous, request_id=request_id_of(request))
    response: Response
    if kept.proof and next_path:
        response = await _resume(request, opened, next_path, kept)
    else:
        response = see_other(f"{root()}{next_path}" if next_path else f"{base()}/")
    set_session(request, response, opened.text)
    return response


async def _resume(request: Request, opened: OpenedSession, target: str, kept: Kept) -> Response:
    """Show what was kept to the user who has sent it, and to any other that it was not."""
    is_same = is_of(request, kept, opened.caller.user_id)
    fields = kept.fields if is_same else {}
    request.scope["state"]["caller"] = opened.caller
    form = tell_form(target, fields)
    names = await _name_kept(request, opened, form.project, fields)
    said: dict[str, Any] = {"form": form, "told": tell_kept(fields, names), "kept": fields, "lacks": kept.lacks}
    proof = csrf.issue(opened.text, opened.caller.user_id)
    return await page(request, "resume.html", **said, target=target, is_same=is_same, proof=proof)


async def _name_kept(request: Request, opened: OpenedSession, project: str, kept: Mapping[str, str]) -> dict[str, str]:
    """Return what ids in the fields name, as far as the person may see it."""
    found: dict[str, str] = {}
    caller = await service_of(request, Sessions).find(opened.text, project, source_of(request), in_use=True)
    if caller is None:
        return found
    if kept.get("chart") and caller.may("cce:chart:get"):
        with suppress(NotFound):
            chart = await service_of(request, Charts).show(caller, kept["chart"])
            found["chart"] = f"{chart.name} {chart.version}"
    if kept.get("project"):
        projects = await service_of(request, Projects).list_all(caller)
        found["project"] = next((project.name for project in projects if project.id == kept["project"]), "")
    kind, _, holder = kept.get("whom", "").partition(":")
    with suppress(NotFound, NotPermitted):
        if kind == "user":
            found["whom"] = (await service_of(request, Users).show(caller, holder)).row.name
        elif kind == "group":
            found["whom"] = (await service_of(request, Groups).show(caller, holder)).name
    return found


async def show_problem(request: Request, error: PilothouseError, *, next_path: str) -> Response:
    """Show the form, and why another way to log in did not work."""
    refused = refuse(error)
    return await _form(request, next_path=next_path, problem=refused.text, status_code=refused.status)


async def log_out(request: Request) -> Response:
    """End the session, here and in every tab."""
    await read_form(request)
    caller, sessions = caller_of(request), service_of(request, Sessions)
    session_id = await sessions.find_own_id(caller)
    await sessions.end(caller, session_id, request_id=request_id_of(request))
    response = see_other(f"{base()}/login")
    drop_session(request, response)
    return response


async def _open(request: Request, fields: dict[str, str]) -> OpenedSession:
    agent = request.headers.get("user-agent", "")
    opening = Opening(source=source_of(request), agent=agent, request_id=request_id_of(request))
    sessions = service_of(request, Sessions)
    for name, most in _LONGEST.items():
        if len(fields.get(name, "")) > most:
            raise too_long(name, most)
    if fields.get("token", "").strip():
        return await sessions.open_with_token(fields["token"], opening)
    if not fields.get("name") or not fields.get("password"):
        raise InvalidRequest(gettext("Give a name and its password, or a token."))
    login = Login(password=fields["password"], name=fields["name"], domain_name=fields.get("account", ""))
    return await sessions.open_with_password(login, opening)


async def _form(
    request: Request,
    *,
    next_path: str,
    kept: Kept = NOTHING,
    typed: dict[str, str] | None = None,
    problem: str = "",
    told: str = "",
    status_code: int = 200,
) -> Response:
    account = request.app.state.settings.identity.first_domain
    fields = typed or {}
    said = {"name": fields.get("name", ""), "account": fields.get("account", account)}
    return await page(
        request,
        "login.html",
        status_code=status_code,
        next_path=own_path(next_path),
        kept=kept.sealed,
        typed=said,
        problem=problem,
        told=told,
        providers=service_of(request, SingleSignOn).links,
        caller=None,
    )


def own_path(path: str) -> str:
    """Return the path if it is one of the console's, else nothing: a link must not lead to another site."""
    return path if is_console(path.partition("?")[0]) and "\\" not in path and not path.startswith(_PATH) else ""


ROUTES: Final = [
    Route("/login", show_log_in, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]
