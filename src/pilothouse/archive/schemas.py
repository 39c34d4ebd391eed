"""``values.schema.json``: a reference that leads out of the file would be followed by Helm, over HTTP or to any file.

Looked for before a chart is stored, and again before the library gets it.
"""

import json
import posixpath
import re
from typing import Any

from pilothouse.errors import InvalidChart

_FILE = "values.schema.json"
# what the library loads a document for; the dialects it has built in cost no request
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "$schema"})
_KNOWN_DIALECT = re.compile(
    r"https?://json-schema\.org/(draft-0[467]/schema|draft/(2019-09|2020-12)/schema|schema)(#[^?]*)?"
)
_SHOWN = 100


def is_schema(path: str) -> bool:
    """Whether Helm could take the file for a chart's or subchart's schema; the path need not be clean."""
    return posixpath.basename(posixpath.normpath(path.replace("\\", "/"))) == _FILE


def refuse_remote_references(schema: bytes, *, file: str) -> None:
    """Returns if the schema is JSON whose references all lead to itself; else InvalidChart, which names the file."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        # pairs, not a dict: of a key that occurs twice, every occurrence is looked at
        for key, value in pairs:
            if key not in _REFERENCES or not isinstance(value, str) or _KNOWN_DIALECT.fullmatch(value):
                continue
            if key == "$schema" or not value.startswith("#"):
                shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
                raise InvalidChart(f"{file}: refers to {shown!r} by {key}; only references within the file are allowed")

    try:
        json.loads(schema, object_pairs_hook=check)
    except (ValueError, RecursionError):
        raise InvalidChart(f"{file}: not a JSON document") from None
