"""How identity providers of any kind are reached."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field

from pilothouse.settings.group import MIB, Group

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class ProviderSettings(Group):
    """Which addresses may be identity providers, and what an answer of theirs may cost."""

    allowed: str = Field(
        "",
        description="allowed networks, addresses and names of providers, as CLUSTER__ALLOWED; unset: all but this "
        "machine, link-local and metadata addresses",
    )
    allow_loopback: bool = Field(False, description="accept providers on this machine")
    ca: Path | None = Field(None, description="certificates (PEM) to trust for providers, instead of the system's")
    answer_seconds: float = Field(5.0, gt=0, description="time limit of one answer of a provider")
    answer_bytes: int = Field(256 * 1024, ge=1024, le=16 * MIB, description="byte limit of the same")


def check_provider_address(text: str) -> str:
    """Return the address of a provider; raise ValueError unless it is HTTPS, or plain HTTP to this machine.

    One with a user or password in it is not repeated: addresses are shown, in messages and to everybody who logs in.
    """
    parts = urlsplit(text)
    if "@" in parts.netloc or "\\" in text:
        raise ValueError("an address of a provider has no user, no password and no backslash in it")
    if not parts.hostname or parts.query or parts.fragment or parts.scheme not in {"http", "https"}:
        raise ValueError(f"{text!r} is not an address such as https://sso.example.com")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{text!r} must begin with https://; plain HTTP is for this machine only")
    return text
