"""``values.schema.json``: a reference that leads out of the file would be followed by Helm, over HTTP or to any file.

Looked for before a chart is stored, and again before the library gets it. What must stay true: each reference that is
let through is one that Helm's validator (``santhosh-tekuri/jsonschema``) finds inside the document. An ``$id`` names a
part of the document only where that validator looks for one; where it might or might not, a reference must lead inside
under both readings.
"""

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

from pilothouse.errors import InvalidChart

_FILE = "values.schema.json"
#: What Helm calls the document; an ``$id`` at its root gives it a second name.
_ROOT: Final = "file:///values.schema.json"
# what the library loads a document for; the dialects it has built in cost no request
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "$schema"})
_KNOWN_DIALECT = re.compile(
    r"https?://json-schema\.org/(draft-0[467]/schema|draft/(2019-09|2020-12)/schema|schema)(#[^?]*)?"
)
_OLD_DIALECT = re.compile(r"https?://json-schema\.org/draft-0(?P<number>[467])/schema#?")
#: What Python and Go resolve to the same URL.
_PLAIN = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9:/._~=-]{1,500}")
_SCHEMAS = frozenset(
    {
        *("not", "additionalProperties", "items", "additionalItems", "propertyNames", "contains", "if", "then", "else"),
        *("unevaluatedProperties", "unevaluatedItems", "contentSchema", "allOf", "anyOf", "oneOf", "prefixItems"),
    }
)
_MAPS_OF_SCHEMAS = frozenset({"definitions", "properties", "patternProperties", "dependencies"})
_NEWER_MAPS_OF_SCHEMAS = frozenset({"$defs", "dependentSchemas"})
_READINGS = 8
_SHOWN = 100


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs: of a key that occurs twice, every occurrence is looked at."""


def is_schema(path: str) -> bool:
    """Whether Helm could take the file for a chart's or subchart's schema; the path need not be clean."""
    return posixpath.basename(posixpath.normpath(path.replace("\\", "/"))) == _FILE


def refuse_remote_references(schema: bytes, *, file: str) -> None:
    """Return if the schema is JSON whose references all lead to itself; else raise InvalidChart, which names the file.

    A ``urn:`` that nothing in the document is called is let through: Helm takes it for a schema that allows everything.
    """
    try:
        document = json.loads(schema, object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise InvalidChart(f"{file}: not a JSON document") from None
    walk = _Walk.of(document)
    for key, value, bases in walk.references:
        if not all(walk.leads_inside(key, value, base) for base in bases):
            shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
            raise InvalidChart(f"{file}: refers to {shown!r} by {key}; only references within the file are allowed")


@dataclass
class _Walk:
    """The references of a document with the URLs that they may be relative to, and the names that its parts have."""

    id_key: str
    maps: frozenset[str]
    ref_hides_id: bool
    known: set[str] = field(default_factory=lambda: {_ROOT})
    references: list[tuple[str, str, frozenset[str]]] = field(default_factory=list)

    @classmethod
    def of(cls, document: Any) -> "_Walk":
        """Walk the whole document."""
        pairs = document if isinstance(document, _Object) else _Object()
        dialects = [value for key, value in pairs if key == "$schema" and isinstance(value, str)]
        old = _OLD_DIALECT.fullmatch(dialects[0]) if len(dialects) == 1 else None
        walk = cls(
            id_key="id" if old and old["number"] == "4" else "$id",
            maps=_MAPS_OF_SCHEMAS if old else _MAPS_OF_SCHEMAS | _NEWER_MAPS_OF_SCHEMAS,
            ref_hides_id=old is not None,
        )
        waiting = [(document, frozenset({_ROOT}), "schema")]
        while waiting:
            value, bases, place = waiting.pop()
            if isinstance(value, _Object):
                # A part in a dialect of its own may be read by other rules.
                if value is not document and any(key == "$schema" for key, _ in value):
                    place = "map" if place == "map" else "data"
                waiting += walk._enter(value, bases, place)
            elif isinstance(value, list):
                waiting += [(one, bases, place if place == "schema" else "data") for one in value]
        return walk

    def leads_inside(self, key: str, reference: str, base: str) -> bool:
        """Return True if the validator finds the reference, relative to ``base``, in the document."""
        if _KNOWN_DIALECT.fullmatch(reference):
            return True
        if key == "$schema":
            return False
        url = reference.split("#", 1)[0]
        if url.startswith("urn:"):
            return True
        if not url:
            return base in self.known
        return _PLAIN.fullmatch(url) is not None and urljoin(base, url) in self.known

    def _enter(self, pairs: _Object, bases: frozenset[str], place: str) -> list[tuple[Any, frozenset[str], str]]:
        if place != "map":
            bases = self._bases_in(pairs, bases, is_schema=place == "schema")
            self.references += [
                (key, value, bases) for key, value in pairs if key in _REFERENCES and isinstance(value, str)
            ]
        return [(value, bases, self._place_of(key, place)) for key, value in pairs]

    def _bases_in(self, pairs: _Object, bases: frozenset[str], *, is_schema: bool) -> frozenset[str]:
        ids = [(key, value.split("#", 1)[0]) for key, value in pairs if key in {"id", "$id"} and isinstance(value, str)]
        ids = [(key, url) for key, url in ids if url]
        if not ids:
            return bases
        joined = frozenset(urljoin(base, url) for base in bases for _, url in ids)
        is_certain = is_schema and len(ids) == 1 and ids[0][0] == self.id_key and _PLAIN.fullmatch(ids[0][1])
        if is_certain and not (self.ref_hides_id and any(key == "$ref" for key, _ in pairs)):
            if len(joined) == 1:
                self.known |= joined
            return joined
        # Past some readings, one that leads nowhere: every reference below is refused.
        return bases | joined if len(bases | joined) <= _READINGS else frozenset({""})

    def _place_of(self, key: str, place: str) -> str:
        if place == "map":
            return "schema"
        if place == "schema" and key in self.maps:
            return "map"
        return "schema" if place == "schema" and key in _SCHEMAS else "data"
