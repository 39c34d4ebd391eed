"""Secrets of ours at a provider, each in a file of its own that is read whenever it is needed."""

from pathlib import Path
from typing import Final

from pilothouse.errors import InvalidSettings

_LONGEST: Final = 4096


def read_secret(file: Path, named: str) -> str:
    """Return the secret in the file; raise InvalidSettings. ``named``: the setting and the file, for the message."""
    try:
        with file.open("rb") as opened:
            secret = opened.read(_LONGEST + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{named} cannot be read: {error}") from error
    if not secret or len(secret) > _LONGEST:
        raise InvalidSettings(f"{named} must hold the secret, 1 to {_LONGEST} characters")
    return secret
