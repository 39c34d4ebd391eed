"""The order of charts' versions, as semantic versioning has it."""

import re
from typing import Final

_VERSION: Final = re.compile(
    r"v?([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:\.([0-9]{1,18}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_Key = tuple[list[int], bool, list[tuple[bool, int, str]]]


def is_older(version: str, than: str) -> bool:
    """Return True if the first version comes before the other one; False too for what is no version."""
    one, other = _key(version), _key(than)
    return one is not None and other is not None and one < other


def _key(version: str) -> _Key | None:
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    numbers, prerelease = [int(part or 0) for part in found.groups()[:3]], found[4] or ""
    parts = [_part(part) for part in prerelease.split(".")] if prerelease else []
    return numbers, not prerelease, parts  # a prerelease comes before its release


def _part(text: str) -> tuple[bool, int, str]:
    """Return the key of a part of a prerelease: numbers, of any length, come before words."""
    digits = text.lstrip("0")
    return (False, len(digits), digits) if text.isdigit() else (True, 0, text)
