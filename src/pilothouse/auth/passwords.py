"""Passwords and access keys: generated from the system's randomness; passwords are stored as argon2id hashes only.

Hashing takes tens of milliseconds of CPU on purpose: call it in a thread if an event loop is running.
"""

import os
import secrets
import string
from collections.abc import Callable
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from pilothouse.errors import InvalidArgument

#: One of the equal-strength parameter sets of the OWASP Password Storage Cheat Sheet, the one with 12 MiB:
#: a burst of log-ins must not take the memory that engine children need.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=12 * 1024, parallelism=1, hash_len=32, salt_len=16)
_SALT_BYTES: Final = 16
_LONGEST: Final = 1024

_READABLE: Final = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lI")

Choice = Callable[[str], str]


def hash_password(password: str, *, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return an argon2id hash in PHC string form with a random salt; raise InvalidRequest for a bad password."""
    encoded = _encode(password)
    if encoded is None or not encoded:
        raise InvalidArgument(f"the password must be text of 1 to {_LONGEST} UTF-8 bytes")
    return _HASHER.hash(encoded, salt=random_bytes(_SALT_BYTES))


def verify_password(password: str, password_hash: str) -> bool:
    """Return True if the hash was made from this password; a damaged hash returns False and so denies access."""
    encoded = _encode(password)
    if encoded is None:
        return False
    try:
        return _HASHER.verify(password_hash, encoded)
    except (Argon2Error, InvalidHashError):
        return False


def needs_rehash(password_hash: str) -> bool:
    """Return True if the hash was made with outdated parameters and should be renewed at the next log-in."""
    return _HASHER.check_needs_rehash(password_hash)


def generate_password(choice: Choice = secrets.choice) -> str:
    """Return 24 letters and digits (140 bits), without those that people confuse."""
    return "".join(choice(_READABLE) for _ in range(24))


def generate_access_key(choice: Choice = secrets.choice) -> str:
    """Return exactly 20 of ``A-Z0-9``: the vendor's Java SDK derives keys from a fixed buffer of that size."""
    return "".join(choice(string.ascii_uppercase + string.digits) for _ in range(20))


def generate_secret_key(choice: Choice = secrets.choice) -> str:
    """Return exactly 40 characters of ``A-Za-z0-9``, the vendor's format (about 238 bits)."""
    return "".join(choice(string.ascii_letters + string.digits) for _ in range(40))


def _encode(password: str) -> bytes | None:
    try:
        encoded = password.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return None
    return encoded if len(encoded) <= _LONGEST else None
