"""Proof that a form was sent from a page of ours: a random text, whose page it was, and their MAC under the session.

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
_MAC_DIGITS: Final = 2 * hashlib.sha256().digest_size


def issue(session: str, user_id: str) -> str:
    """Return a new proof for a form of that session, which is the user's."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    text = nonce + _mac(session, f"user:{nonce}:{user_id}")
    return text + _mac(session, f"csrf:{text}")


def check(request: Request, session: str, proof: str) -> None:
    """Raise Forbidden unless the form was sent from a page of this session."""
    check_origin(request)
    if not _is_of_session(session, proof):
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


def is_of(session: str, proof: str, user_id: str) -> bool:
    """Return True if the proof was issued for that session, which may have ended, to that user."""
    nonce, owner = proof[: 2 * _NONCE_BYTES], proof[2 * _NONCE_BYTES : -_MAC_DIGITS]
    wanted = _mac(session, f"user:{nonce}:{user_id}")
    return _is_of_session(session, proof) and hmac.compare_digest(owner.encode(), wanted.encode())


def _is_of_session(session: str, proof: str) -> bool:
    text, mac = proof[:-_MAC_DIGITS], proof[-_MAC_DIGITS:]
    return bool(session) and hmac.compare_digest(mac.encode(), _mac(session, f"csrf:{text}").encode())


def _mac(session: str, text: str) -> str:
    return hmac.new(session.encode(), text.encode(), hashlib.sha256).hexdigest()
