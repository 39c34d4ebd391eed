"""What queries of release lists have in common: words with a hint, and markers bound to their list."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

import orjson

from pilothouse.errors import InvalidArgument
from pilothouse.store.release_lists import ReleaseFilter, ReleaseSort

MARKER: Final = "X-Pilothouse-Marker"
_LONGEST: Final = 253


def words(text: str) -> list[str]:
    """Return the words of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def known(parameter: str, word: str, choices: Iterable[str]) -> str:
    """Return the word if it is known, else raise InvalidRequest with the nearest known one, or all."""
    there = [str(choice) for choice in choices]
    if word in there:
        return word
    near = get_close_matches(word[:_LONGEST], there, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(there)}"
    raise InvalidArgument(f"{parameter}: {word[:100]!r} is unknown; {hint}")


def list_digest(filters: ReleaseFilter, sort: ReleaseSort) -> str:
    """Return what a marker is bound to: the filters and the order of its list."""
    said = [asdict(filters), sort.by, sort.descending]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def write_marker(place: tuple[Any, ...], digest: str) -> str:
    """Return the marker of a place in the list of that digest."""
    return base64.urlsafe_b64encode(orjson.dumps([digest, *place])).decode()


def read_marker(marker: str, sort: ReleaseSort, digest: str) -> tuple[Any, ...]:
    """Return the place of a marker; InvalidRequest for one of another list."""
    refused = InvalidArgument(f"marker: {marker[:100]!r} is not a value of {MARKER}")
    try:
        bound_to, *place = orjson.loads(base64.b64decode(marker, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise refused from None
    if bound_to != digest:
        raise InvalidArgument(
            "marker: it belongs to a list with other filters or another order; begin without a marker"
        )
    try:
        values = dict(zip(sort.columns, place, strict=True))
        if "changed_at" in values:
            values["changed_at"] = datetime.fromisoformat(values["changed_at"])
    except (ValueError, TypeError):
        raise refused from None
    if not all(_is_comparable(value) for value in values.values()):
        raise refused
    return tuple(values.values())


def _is_comparable(value: Any) -> bool:
    """Return True for what PostgreSQL can compare with a column: the digest is no secret, so anybody can write one."""
    if isinstance(value, datetime):
        return value.tzinfo is not None and value.year in range(1970, 9999)
    return isinstance(value, str) and "\0" not in value
