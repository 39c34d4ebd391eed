"""Hides what values hold: all of it from those who may not read values, and what stands under secret names.

The second is for installations that want it: a guess by name, as the vendor's own examples look
(``"admin_password":"******"``); it protects from glances, not from those who may read the release's Secret.
"""

import re
from typing import Any

import orjson

from pilothouse.services.charts.archives import compact_json

MASK = "******"
_SECRET = re.compile(
    r"pass(word|wd|phrase|$)|secret|token|credential|private|(api|access|auth|encryption)[-_]?key", re.IGNORECASE
)


#: In JSON text: a name with its colon, or a text, a number or a word.
_NAME_OR_VALUE = re.compile(r'"(?:[^"\\]++|\\.)*+"\s*+(:)?+|[^\s{}\[\],:"]++')


def mask_values(values_json: str) -> str:
    """The JSON text with every text and number masked that stands under such a name, at any depth."""
    if not values_json:
        return values_json
    return compact_json(_masked(orjson.loads(values_json), secret=False))


def hide_values(values_json: str) -> str:
    """Return the JSON text with its names and its shape, and every value in it masked."""
    if not values_json:
        return values_json
    # Without building them: 4 MiB of text can be 100 MiB of Python's objects.
    return _NAME_OR_VALUE.sub(lambda found: found[0] if found[1] else f'"{MASK}"', values_json)


def _masked(value: Any, *, secret: bool) -> Any:
    if isinstance(value, dict):
        return {key: _masked(below, secret=secret or bool(_SECRET.search(key))) for key, below in value.items()}
    if isinstance(value, list):
        return [_masked(below, secret=secret) for below in value]
    if not secret or value is None or isinstance(value, bool) or value == "":
        return value
    return MASK
