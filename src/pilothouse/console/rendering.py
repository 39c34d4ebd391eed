"""Pages from templates: everything that is put into one is escaped, and nothing in one runs."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from pilothouse import __version__
from pilothouse.console import csrf, plan_words, script_texts, texts, words
from pilothouse.console.faults import LABELS, Faults, name_fields
from pilothouse.console.requests import base, root
from pilothouse.console.session import session_of
from pilothouse.console.texts import gettext, gettext_noop
from pilothouse.console.translated import TranslatedEnvironment
from pilothouse.errors import NotAuthenticated, PilothouseError
from pilothouse.http.audit import note_denial
from pilothouse.http.errors import Refusal, refuse
from pilothouse.services.releases.details import ReleaseRef
from pilothouse.services.releases.locks import REFUSED

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
#: No script, style, frame or connection but our own files; htmx needs no inline script or style.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language, Cookie, HX-Request",
}
#: Of a comparison; a browser is slow with more.
_MOST_OBJECTS: Final = 200
_STEPS: Final = (
    (86400.0, gettext_noop("%(number)s d")),
    (3600.0, gettext_noop("%(number)s h")),
    (60.0, gettext_noop("%(number)s min")),
    (1.0, gettext_noop("%(number)s s")),
)

#: Clocks of several machines differ by as much.
_SAME_TIME_SECONDS: Final = 60.0

#: What each template knows.
_GLOBALS: Final[dict[str, Any]] = {
    "page_texts": script_texts.of_page,
    "editor_texts": script_texts.of_editor,
    "version": __version__,
    "clock": lambda: datetime.now(UTC).isoformat(timespec="milliseconds"),
    "most_objects": _MOST_OBJECTS,
    "status_word": words.status,
    "state_word": words.state,
    "action_word": words.action,
    "change_word": words.change,
    "health_word": words.health,
    "cancel_question": words.CANCEL_QUESTIONS.__getitem__,
    "cancel_order": words.CANCEL_ORDERS.__getitem__,
    "outcome_word": words.outcome,
    "drift_word": words.drift,
    "ordered_word": words.ordered,
    "user_word": words.user,
    "key_word": words.key,
    "source_word": words.source,
    "index_word": words.INDEXES.__getitem__,
    "plan_word": words.PLANS.__getitem__,
    "field_labels": LABELS,
    "option_names": plan_words.OPTIONS,
    "wait_names": plan_words.WAITS,
    "crds_names": plan_words.CRDS,
}


async def page(
    request: Request,
    template: str,
    *,
    status_code: int = 200,
    refused: Refusal | None = None,
    asked_by: str = "",
    **context: Any,
) -> HTMLResponse:
    """Return a page; ``refused``: its status and ``problem``.

    ``asked_by``: the address that the browser has for reloads and the way back instead of that of a form's answer; the
    page with the form if nothing is said.
    """
    problem, again = refused.text if refused is not None else "", asked_by or _asked_by(request)
    told = {"problem": problem, "unsure": problem if refused is not None and refused.unsure else ""}
    values = {**_shared(request), **told, "faults": Faults(problem), "asked_by": again, **context}
    text = await _render(template, values)
    if refused is None:
        return HTMLResponse(text, status_code=status_code, headers=HEADERS)
    return HTMLResponse(text, status_code=refused.status, headers=HEADERS | refused.headers)


def refusal(request: Request, error: PilothouseError, *, place: ReleaseRef | None = None) -> Refusal:
    """Return what a page tells of the error, logged and audited as the API's; who has no session logs in instead.

    ``place``: the release that it is about, on a page that is about several.
    """
    if isinstance(error, NotAuthenticated):
        raise error
    note_denial(request, error, place=(place.cluster, place.namespace, place.name) if place is not None else None)
    refused = replace(refuse(error), unsure=request.method == "POST" and words.may_be_done(error))
    return name_fields(refused, error, lambda text: plan_words.name_options(text.removeprefix(f"{REFUSED}: ")))


async def fragment(request: Request, template: str, **context: Any) -> str:
    """Return a part of a page, for an event stream."""
    return await _render(template, {**_shared(request), **context})


async def _render(template: str, values: dict[str, Any]) -> str:
    """Render in a thread: how long it takes depends on texts that others wrote."""
    return await asyncio.to_thread(lambda: environment().get_template(template).render(values))


def is_partial(request: Request) -> bool:
    """Return True if a script asks for a part of the page."""
    return "hx-request" in request.headers


def _asked_by(request: Request) -> str:
    """Return the address of the page that a form was sent from, as the browser names it; empty if it does not."""
    return came_from(request) if request.method == "POST" and "caller" in request.scope["state"] else ""


def came_from(request: Request) -> str:
    """Return the address of the page of ours that led here, as the browser names it; empty if none did."""
    try:
        sent = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    ours = sent.netloc == request.headers.get("host") and sent.path.startswith(f"{base()}/")
    return (f"{sent.path}?{sent.query}" if sent.query else sent.path) if ours else ""


def here_again(request: Request) -> str:
    """Return the address of the page, to be read once more; empty for what a form has sent."""
    query = request.scope["query_string"].decode("latin-1")
    return f"{root()}{request.scope['path']}{'?' + query if query else ''}" if request.method == "GET" else ""


def _shared(request: Request) -> dict[str, Any]:
    caller = request.scope["state"].get("caller")
    project = quote(caller.project_name, safe="") if caller is not None and caller.project_id else ""
    session = session_of(request)
    return {
        "caller": caller,
        "may_audit": caller is not None and caller.may_in_account("pilothouse:audit:read"),
        "may_access": caller is not None and caller.may_in_account("iam:users:listUsers"),
        "may": caller.may if caller is not None else lambda _action: False,
        "may_in_account": caller.may_in_account if caller is not None else lambda _action: False,
        "root": root(),
        "base": base(),
        "here": f"{base()}/p/{project}" if project else base(),
        "menu": bool(project),
        "path": request.scope["path"],
        "new_csrf": lambda: csrf.issue(session, caller.user_id if caller is not None else "") if session else "",
        "request_id": request.scope["state"].get("request_id", ""),
        "asked_by": "",
        "unsure": "",
    }


def environment() -> Environment:
    """Return the templates in the language of the page, compiled when first used."""
    return _environment(texts.spoken())


@cache
def _environment(language: texts.Language) -> Environment:
    made = TranslatedEnvironment(
        language,
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {
        "language_tag": language.tag,
        "stamp": _stamp(),
        **_GLOBALS,
    }
    made.filters |= {
        "ago": _ago,
        "agent": words.agent,
        "bdi": Markup("<bdi>{}</bdi>").format,
        "code": Markup("<code>{}</code>").format,
        "number": Markup('<span class="number">{}</span>').format,
        "strong": Markup("<strong>{}</strong>").format,
        "lasting": _lasting,
        "plain": words.plain,
        "ago_text": _ago_text,
        "moment": _moment,
        "named": plan_words.name_options,
        "minute": _minute,
        "segment": _segment,
        "seconds": _seconds,
        "seen": words.seen,
        "tojson_text": _json,
        "value": _value,
    }
    return made


def _stamp() -> str:
    """Return what the names of static files carry, so that browsers may keep them for ever."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _segment(text: str) -> str:
    return quote(str(text), safe="")


def _ago(moment: datetime) -> Markup:
    """Return how long ago it was, with the exact time for whoever looks closer; a script puts it in their zone."""
    exact = moment.astimezone(UTC)
    past = (datetime.now(UTC) - exact).total_seconds()
    said = gettext("%(duration)s ago", duration=_seconds(past)) if past >= 1 else gettext("now")
    if past < -_SAME_TIME_SECONDS:  # another clock is wrong
        said = f"{_date_before(exact)}{exact:%H:%M} UTC"
    return _time(exact, said, "data-ago")


def _lasting(since: datetime) -> str:
    """Return how long it has lasted."""
    return _seconds((datetime.now(UTC) - since).total_seconds())


def _ago_text(text: str) -> Markup | str:
    """Return the same for a time as Kubernetes writes it, and what is none as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return _ago(moment) if moment.tzinfo is not None else text


def _moment(moment: datetime) -> Markup:
    """Return the time to the second, with its date unless that is today's; a script puts it in the reader's zone."""
    exact = moment.astimezone(UTC)
    return _time(exact, f"{_date_before(exact)}{exact:%H:%M:%S} UTC", "data-moment")


def _minute(moment: datetime) -> Markup:
    """Return the time to the minute, otherwise as ``_moment``."""
    exact = moment.astimezone(UTC)
    return _time(exact, f"{_date_before(exact)}{exact:%H:%M} UTC", "data-minute")


def _date_before(exact: datetime) -> str:
    return "" if exact.date() == datetime.now(UTC).date() else f"{exact:%Y-%m-%d} "


def _time(exact: datetime, said: str, kind: str) -> Markup:
    """Return what was said of a time, with the exact one; a list has hundreds, for which Markup.format is slow."""
    iso, title = exact.isoformat(timespec="milliseconds"), f"{exact:%Y-%m-%d %H:%M:%S} UTC"
    return Markup(f'<time datetime="{iso}" title="{title}" {kind}>{escape(said)}</time>')  # noqa: S704 (dates, and a text that is escaped)


def _seconds(seconds: float) -> str:
    """Return a duration in its largest unit, as people say it."""
    for length, message in _STEPS:
        if seconds >= length:
            number = f"{seconds / length:.0f}"
            return gettext(message, number=number)
    return gettext(_STEPS[-1][1], number=0)


def _json(value: Any) -> str:
    """Return a value as people read it in YAML and JSON alike."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _value(value: Any) -> str:
    """Return a value as people read it: a text as it is, unless nothing of it can be seen."""
    return value if isinstance(value, str) and value.strip() else _json(value)
