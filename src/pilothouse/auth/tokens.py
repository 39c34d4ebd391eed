"""Tokens: opaque random text that stands for a log-in; what it means lies in the database, under its hash.

A plain hash is enough to keep: 256 random bits cannot be guessed, so there is nothing that slow hashing would protect.
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
    """A token with 256 random bits; ``random_text`` takes a number of bytes and gives them as base64url."""
    return _PREFIX + random_text(_RANDOM_BYTES)


def token_digest(token: str) -> str | None:
    """The SHA-256 under which the token is kept, as lower-case hex; None for text that cannot be a token."""
    if not _FORM.fullmatch(token):
        return None
    return hashlib.sha256(token.encode("ascii")).hexdigest()
