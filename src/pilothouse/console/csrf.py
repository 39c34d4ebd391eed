"""Proof that a form was sent from a page of ours: a random text, and its MAC under the cookie of the session.

Nothing is stored, and no two pages show the same proof, so that compression gives none of it away (BREACH).
"""

import hashlib
import hmac
import secrets
from typing import Final

from starlette.requests import Request

from pilothouse.console.texts import gettext
from pilothouse.errors import Forbidden

FIELD: Final = "csrf"
_NONCE_BYTES: Final = 16


def issue(session: str) -> str:
    """Return a new proof for a form of that session."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    return nonce + _mac(session, nonce)


def check(request: Request, session: str, proof: str) -> None:
    """Raise Forbidden unless the form was sent from a page of this session."""
    check_origin(request)
    nonce, mac = proof[: 2 * _NONCE_BYTES], proof[2 * _NONCE_BYTES :]
    if not session or not hmac.compare_digest(mac.encode(), _mac(session, nonce).encode()):
        raise Forbidden(
            gettext("this form is of another session, or was not sent from the console; reload the page and retry")
        )


def check_origin(request: Request) -> None:
    """Raise Forbidden if the browser says that another site sent the form."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in {None, "same-origin", "none"} or (
        site is None and origin is not None and origin.partition("://")[2] != request.headers.get("host")
    ):
        raise Forbidden(gettext("this form was sent from another site; open the console itself and retry"))


def _mac(session: str, nonce: str) -> str:
    return hmac.new(session.encode(), f"csrf:{nonce}".encode(), hashlib.sha256).hexdigest()
