"""The console's part of authentication: the cookie of a session, and the project that a path names.

Who has no session may still ask for a page, and is led to the log-in by it: the console never shows a browser JSON.
"""

import re
from typing import Final, Protocol

from starlette.types import Scope

from pilothouse.http.middleware.source import is_trusted_peer
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import Network

CONSOLE: Final = "/console"
#: Pages that update by themselves end so; they do not keep a session alive.
LIVE: Final = "/live"
#: The prefix makes browsers refuse one that another host, another path or plain HTTP has set.
_SECURE_COOKIE: Final = "__Host-pilothouse-session"
#: Below a path of a host, the cookie is for that path, which the first prefix forbids.
_SECURE_COOKIE_BELOW: Final = "__Secure-pilothouse-session"
#: Plain HTTP, which loopback and proxies that encrypt have: browsers would refuse the prefix there.
_PLAIN_COOKIE: Final = "pilothouse-session"
_PROJECT: Final = re.compile(rf"{CONSOLE}/p/([^/]+)(?:/|$)")


class SessionFinder(Protocol):
    """Looks up sessions."""

    async def find(self, text: str, project: str, source: str, /, *, in_use: bool) -> Caller | None:
        """Return the caller of a living session, in that project if it has a role there; else None."""
        ...


def is_console(path: str) -> bool:
    """Return True for a path of the console."""
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


async def find_caller(scope: Scope, sessions: SessionFinder, *, secure: bool, root: str) -> Caller | None:
    """Return the caller of the request's session; None without one."""
    text = session_text(scope, secure=secure, root=root)
    if not text:
        return None
    named = _PROJECT.match(scope["path"])
    project = named[1] if named else ""
    if "\0" in project:
        return None
    in_use = not scope["path"].endswith(LIVE)
    return await sessions.find(text, project, scope["state"]["source"], in_use=in_use)


def session_text(scope: Scope, *, secure: bool, root: str) -> str:
    """Return the content of the session's cookie; empty without one."""
    return cookie_text(scope, cookie_name(secure=secure, root=root))


def cookie_text(scope: Scope, wanted: str) -> str:
    """Return the content of the cookie of that name; empty without one."""
    text = ""
    for header, value in scope["headers"]:
        if header == b"cookie":
            # SimpleCookie would drop all cookies after the first that it takes for odd; browsers send such ones.
            for cookie in value.decode("latin-1").split(";"):
                name, _, content = cookie.strip().partition("=")
                text = content if name == wanted else text
    return text


def cookie_name(*, secure: bool, root: str) -> str:
    """Return the name of the session's cookie; ``root``: the path that a proxy serves the console below."""
    if not secure:
        return _PLAIN_COOKIE
    return _SECURE_COOKIE_BELOW if root else _SECURE_COOKIE


def is_secure(scope: Scope, trusted: tuple[Network, ...]) -> bool:
    """Return True if the browser came over HTTPS: to this server, or to a proxy of the settings, which says so."""
    if scope["scheme"] == "https":
        return True
    said = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    return bool(said) and said[-1].strip().lower() == b"https" and is_trusted_peer(scope, trusted)
