"""Tokens and cookies of sessions: opaque random text that replaces a log-in; its hash is what the database stores.

A plain hash is sufficient: 256 random bits cannot be guessed, so slow hashing would protect nothing.
"""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final

import orjson

#: Recognisable, so that scanners for leaked secrets can find one in a repository or a log.
_PREFIX: Final = "pht-"
_SESSION: Final = "phs-"
_RANDOM_BYTES: Final = 32
_FORM = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")
#: Header, claims and signature, which an unsigned one leaves empty.
_JWT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
#: Version, time, vector, at least one block and proof, as base64url; Keystone leaves out the padding.
_FERNET_FORM = re.compile(r"gAAAA[A-Za-z0-9_-]{93,}={0,2}")
_SESSION_FORM = re.compile(rf"{_SESSION}[A-Za-z0-9_-]{{43}}")


def new_token(random_text: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Return a token with 256 random bits; ``random_text`` takes a number of bytes and returns them as base64url."""
    return _PREFIX + random_text(_RANDOM_BYTES)


def token_digest(token: str) -> str | None:
    """Return the SHA-256 under which the token is stored, as lower-case hex; None for text that cannot be a token."""
    if not _FORM.fullmatch(token):
        return None
    return hashlib.sha256(token.encode("ascii")).hexdigest()


def new_session(random_text: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Return the text of a session's cookie, which is no token: it opens the console only."""
    return _SESSION + random_text(_RANDOM_BYTES)


def session_digest(session: str) -> str | None:
    """Return the SHA-256 under which the session is stored; None for text that cannot be a session."""
    if not _SESSION_FORM.fullmatch(session):
        return None
    return hashlib.sha256(session.encode("ascii")).hexdigest()


def is_jwt(token: str) -> bool:
    """Return True for text in the form of a JSON Web Token, signed or not."""
    return _JWT_FORM.fullmatch(token) is not None


def is_keystone_token(token: str) -> bool:
    """Return True for text in a form that Keystone issues: Fernet, or a JSON Web Token that names no issuer.

    Tokens and sessions of ours have another form, so that none is ever sent to Keystone.
    """
    if not is_jwt(token):
        return _FERNET_FORM.fullmatch(token) is not None
    segment = token.split(".")[1]
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(claims, dict) and "iss" not in claims
