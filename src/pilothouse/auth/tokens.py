"""Tokens: opaque random text that replaces a log-in; the database stores its meaning under its hash.

A plain hash is sufficient: 256 random bits cannot be guessed, so slow hashing would protect nothing.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final

#: Recognisable, so that scanners for leaked secrets can find one in a repository or a log.
_PREFIX: Final = "pht-"
_RANDOM_BYTES: Final = 32
_FORM = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}")


def new_token(random_text: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """Return a token with 256 random bits; ``random_text`` takes a number of bytes and returns them as base64url."""
    return _PREFIX + random_text(_RANDOM_BYTES)


def token_digest(token: str) -> str | None:
    """Return the SHA-256 under which the token is stored, as lower-case hex; None for text that cannot be a token."""
    if not _FORM.fullmatch(token):
        return None
    return hashlib.sha256(token.encode("ascii")).hexdigest()
