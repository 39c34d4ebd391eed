"""Masking of values: all of them for callers who may not read values, and those under secret names.

For callers who may not read values, known values are also masked in descriptions and live objects, and fields where
charts usually put values (ConfigMaps, environments, arguments) are hidden completely.

The second is an option: a guess by name, as in the vendor's own examples (``"admin_password":"******"``); it protects
from casual readers, not from those who can read the release's Secret.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from pilothouse.chart_archive.documents import read_objects
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.errors import InvalidChart, InvalidRequest
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.resources import without_secret_data
from pilothouse.redaction import WITHHELD, Masks, masks_of
from pilothouse.services.charts.archives import compact_json

MASK = "******"
DOCUMENTS = re.compile(r"^---[^\n]*\n", re.MULTILINE)
#: So much of a manifest is masked or compared: it takes seconds, in which others wait for their turn.
LARGEST_MANIFEST = 4 * 1024 * 1024
MOST_DOCUMENTS = 5_000
_SECRET = re.compile(
    r"pass(word|wd|phrase|$)|secret|token|credential|private|(api|access|auth|encryption)[-_]?key", re.IGNORECASE
)


#: In JSON text: a name with its colon, or a text, a number or a word.
_NAME_OR_VALUE = re.compile(r'"(?:[^"\\]++|\\.)*+"\s*+(:)?+|[^\s{}\[\],:"]++')


def mask_values(values_json: str) -> str:
    """Return the JSON text with every string and number under such a name masked, at any depth."""
    if not values_json:
        return values_json
    return compact_json(_masked(orjson.loads(values_json), secret=False))


def hide_values(values_json: str) -> str:
    """Return the JSON text with its keys and shape, and every value masked."""
    if not values_json:
        return values_json
    # Without building them: 4 MiB of text can be 100 MiB of Python's objects.
    return _NAME_OR_VALUE.sub(lambda found: found[0] if found[1] else f'"{MASK}"', values_json)


def hide_in_text(text: str, values_json: str | None, *, public: Sequence[str]) -> str:
    """Return a description with the release's values masked; Helm's standard descriptions need no search."""
    if is_ordinary(text):
        return text
    if values_json is None:
        return WITHHELD
    return masks_of(values=orjson.loads(values_json or "{}"), public=public).apply(text)


def is_ordinary(text: str) -> bool:
    """Return True for an empty description, and for Helm's standard ones, which hold no values."""
    return not text or _ORDINARY.fullmatch(text) is not None


def hide_in_object(live: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """Return a live object with known values masked, and without fields that charts fill with values only.

    The object's identity stays.
    """
    hidden = {key: value if key in _IDENTITY else _without(key, value, masks) for key, value in live.items()}
    metadata = live.get("metadata")
    if isinstance(metadata, dict):
        kept = {key: value for key, value in metadata.items() if key in _IDENTITY_OF_METADATA}
        hidden["metadata"] = hidden["metadata"] | kept
    if live.get("kind") == "ConfigMap":
        for field in ("data", "binaryData"):
            if isinstance(live.get(field), dict):
                hidden[field] = dict.fromkeys(live[field], MASK)
    return hidden


def masks_of_stored(*revisions: StoredRelease) -> Masks:
    """Return masks for the values of these revisions of a release, prepared; takes a while."""
    values = {f"{number}": [entry.values, entry.config] for number, entry in enumerate(revisions)}
    public = {text for entry in revisions for text in (entry.name, entry.namespace, entry.target_namespace)}
    return masks_of(values=values, public=public).prepare()


def hide_in_notes(stored: StoredRelease) -> str:
    """Return the notes of a revision with its own values masked: those of an unfinished operation are others."""
    return masks_of_stored(stored).apply(stored.notes) if stored.notes else ""


def is_too_large(*manifests: str) -> bool:
    """Return True if these texts together are more than is masked or compared in one answer."""
    if sum(map(len, manifests)) > LARGEST_MANIFEST:
        return True
    return sum(len(DOCUMENTS.findall(text)) + 1 for text in manifests) > MOST_DOCUMENTS


def refuse_too_large(manifest: str, *, of: str) -> None:
    """Raise InvalidRequest if the manifest is more than is compared in one answer; ``of`` is whose it is."""
    if is_too_large(manifest):
        raise InvalidRequest(
            f"{of}: its manifest is too large to be compared: the limits are "
            f"{LARGEST_MANIFEST // 1024**2} MiB and {MOST_DOCUMENTS} documents"
        )


def hide_in_manifest(manifest: str, masks: Masks) -> str:
    """Return a rendered manifest with Secret data and known values masked; comments other than sources are dropped.

    One that is too large is withheld whole.
    """
    if is_too_large(manifest):
        return WITHHELD
    hidden = []
    for text in DOCUMENTS.split(manifest):
        try:
            found = read_objects(text.encode(errors="replace"), file="manifest", max_bytes=LARGEST_MANIFEST)
        except InvalidChart:
            hidden.append("# (withheld: it cannot be parsed, so its secrets cannot be masked)\n")
            continue
        source = _SOURCE.search(text)
        for parsed in found:
            shown = dump_yaml(_hide_in_document(parsed, masks))
            hidden.append((f"{source[0]}\n" if source else "") + shown)
    return "".join(f"---\n{text}" for text in hidden)


def _hide_in_document(document: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """Do what ``hide_in_object`` does, for each object of a list, and mask the data of Secrets."""
    kind, items = str(document.get("kind", "")), document.get("items")
    if not kind.endswith("List") or not isinstance(items, list):
        return hide_in_object(without_secret_data(document), masks)
    # Items may leave out what the list's kind says; so Kubernetes reads them.
    implied = {"kind": kind.removesuffix("List")} if kind != "List" else {}
    shown: list[Any] = []
    for item in items:
        if isinstance(item, dict):
            shown.append(_hide_in_document(item if item.get("kind") else item | implied, masks))
        else:
            shown.append(MASK)
    return hide_in_object(document | {"items": []}, masks) | {"items": shown}


def _without(name: str, value: Any, masks: Masks) -> Any:
    if isinstance(value, dict):
        return {key: _without(key, below, masks) for key, below in value.items()}
    if isinstance(value, list):
        return _list_without(name, value, masks)
    if name == _APPLIED:
        return MASK
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    masked = masks.apply(text) if len(text) >= _SHORTEST else text
    return value if masked == text else masked


def _list_without(name: str, values: list[Any], masks: Masks) -> list[Any]:
    if name in _ARGUMENTS:
        return [MASK] * len(values)
    if name == "env":
        return [_without_value(member, masks) for member in values]
    return [_without(name, below, masks) for below in values]


def _without_value(variable: Any, masks: Masks) -> Any:
    hidden = _without("", variable, masks)
    return hidden | {"value": MASK} if isinstance(hidden, dict) and "value" in hidden else hidden


_SOURCE = re.compile(r"^# Source: [^\n]+", re.MULTILINE)
#: Helm's and our own words for what was done, or is being done.
_ORDINARY = re.compile(
    r"(?:Install|Upgrade|Rollback|Uninstallation) complete|Rollback to [0-9]{1,10}|Initial install underway"
    r"|Preparing (?:upgrade|rollback)|Rollback in progress|Dry run complete"
    r"|Deletion in progress \(or silently failed\)"
    r"|unknown|deployed|uninstalled|superseded|failed|uninstalling|pending-(?:install|upgrade|rollback)"
)
_IDENTITY = frozenset({"apiVersion", "kind"})
_IDENTITY_OF_METADATA = frozenset(
    {"name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"}
)
#: Shorter texts are masked nowhere.
_SHORTEST = 4
_ARGUMENTS = frozenset({"args", "command"})
#: The whole object as it was applied, in one text.
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def _masked(value: Any, *, secret: bool) -> Any:
    if isinstance(value, dict):
        return {key: _masked(below, secret=secret or bool(_SECRET.search(key))) for key, below in value.items()}
    if isinstance(value, list):
        return [_masked(below, secret=secret) for below in value]
    if not secret or value is None or isinstance(value, bool) or value == "":
        return value
    return MASK
