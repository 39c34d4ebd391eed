"""Who owns which field of an object, by its ``managedFields``. Pure functions; they may contain anything.

A path is the tuple of a JSON pointer's parts. ``fieldsV1`` names the items of a list by their keys or values; here they
have the index that they have in the object. Source: Kubernetes, "Server-Side Apply".
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pilothouse.kubernetes.readiness import mapping

HELM: Final = "helm"
_DEEPEST: Final = 50
_LONGEST_KEY: Final = 4096
#: By so many sets of keys are the items of one list named at most; a real one has one.
_MOST_KEYS: Final = 4
_SCALARS: Final = (str, int, float, bool)
#: Who writes as Helm does, or keeps what was there before managed fields were.
_NOT_FOREIGN: Final = frozenset({HELM, "pilothouse", "before-first-apply", "kubectl-last-applied"})
_CONTROLLERS: Final = frozenset({"kube-scheduler", "kubelet"})
_CONTROLLER_WORDS: Final = ("controller", "operator", "autoscaler", "injector", "webhook")

Path = tuple[str, ...]
Object = dict[str, Any]
Fields = dict[str, Any]


def is_controller(manager: str) -> bool:
    """Return True if the manager's name is that of a program that works without people."""
    word = manager.lower()
    return word in _CONTROLLERS or (not word.startswith("kubectl") and any(part in word for part in _CONTROLLER_WORDS))


@dataclass(frozen=True)
class _Entry:
    manager: str
    fields: Fields
    is_creator: bool
    is_status: bool


class FieldOwners:
    """The owners of the fields of one live object."""

    def __init__(self, live: Object) -> None:
        self._live = live
        self._entries = list(_entries(live))
        #: By the place of the fields and the value: what each part of a path leads to.
        self._below: dict[tuple[int, int], dict[str, Any]] = {}

    def belongs_to_controllers(self, path: Path) -> bool:
        """Return True if the field has owners, all of them controllers."""
        owners = {entry.manager for entry in self._entries if self._owns(entry, path)}
        return bool(owners) and all(map(is_controller, owners))

    def foreign(self, stated: Fields) -> Iterator[Path]:
        """Yield what others than Helm and controllers have set beside the ``stated`` fields.

        Not what the one who made the object set: defaults are among that.
        """
        for entry in self._entries:
            if entry.manager in _NOT_FOREIGN or entry.is_creator or entry.is_status or is_controller(entry.manager):
                continue
            yield from self._beside(entry.fields, stated, self._live, ())

    def _owns(self, entry: _Entry, path: Path) -> bool:
        fields, value = entry.fields, self._live
        for part in path:
            if not fields:
                return True  # a whole, which has no owners below
            below = self._parts(fields, value)
            if part not in below:
                return False
            fields, value = below[part], _member(value, part)
        return True

    def _beside(self, fields: Fields, stated: Fields, value: Any, path: Path) -> Iterator[Path]:
        known = self._parts(stated, value)
        for part, below in self._parts(fields, value).items():
            here = (*path, part)
            if here[0] == "status" or here in _BOOKKEEPING:
                continue
            if below and here in _HOLD_BOOKKEEPING and not known.get(part):
                yield from self._beside(below, {}, _member(value, part), here)
            elif part not in known:
                yield here
            elif below and known[part] and len(here) < _DEEPEST:
                yield from self._beside(below, known[part], _member(value, part), here)

    def _parts(self, fields: Fields, value: Any) -> dict[str, Fields]:
        """Return the fields below, by the part of a path that leads to each in the value."""
        place = id(fields), id(value)
        if place not in self._below:
            self._below[place] = dict(_resolved(fields, value))
        return self._below[place]


#: Of the metadata: what controllers and the API server keep there.
_BOOKKEEPING: Final = frozenset(
    {
        ("metadata", "finalizers"),
        ("metadata", "ownerReferences"),
        ("metadata", "generation"),
        ("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"),
    }
)


_HOLD_BOOKKEEPING: Final = frozenset({("metadata",), ("metadata", "annotations")})


def applied_fields(applied: Object) -> Fields:
    """Return the fields that Helm's own apply states; those of a Secret's texts as the data that they became."""
    found = mapping(applied.get("metadata")).get("managedFields")
    for listed in found if isinstance(found, list) else ():
        entry = mapping(listed)
        if (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (HELM, "Apply", ""):
            fields = mapping(entry.get("fieldsV1"))
            texts = mapping(fields.get("f:stringData"))
            return fields | {"f:data": mapping(fields.get("f:data")) | texts} if texts else fields
    return {}


def _entries(live: Object) -> Iterator[_Entry]:
    metadata = mapping(live.get("metadata"))
    found, created = metadata.get("managedFields"), metadata.get("creationTimestamp")
    entries = [mapping(entry) for entry in found] if isinstance(found, list) else []
    first = {str(entry.get("manager")) for entry in entries if entry.get("time") == created}
    if HELM in first:
        first = {HELM}  # whoever wrote in the same second came later
    for entry in entries:
        manager, operation = entry.get("manager"), entry.get("operation")
        if isinstance(manager, str):
            yield _Entry(
                manager,
                mapping(entry.get("fieldsV1")),
                is_creator=operation == "Update" and manager in first,
                is_status=entry.get("subresource") == "status",
            )


def _resolved(fields: Fields, value: Any) -> Iterator[tuple[str, Fields]]:
    if isinstance(value, dict):
        for name, below in fields.items():
            if name.startswith("f:") and name[2:] in value:
                yield name[2:], mapping(below)
    elif isinstance(value, list):
        places = _ListIndex(value)
        for name, below in fields.items():
            index = places.find(name)
            if index is not None:
                yield str(index), mapping(below)


class _ListIndex:
    """Find the items of a list by what ``fieldsV1`` calls them."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items
        self._by_keys: dict[tuple[str, ...], dict[str, int]] = {}

    def find(self, name: str) -> int | None:
        """Return the index of the item; None for none."""
        kind, _, said = name.partition(":")
        if kind not in {"k", "v", "i"} or len(said) > _LONGEST_KEY:
            return None
        try:
            key = json.loads(said)
        except (ValueError, RecursionError):
            return None
        if kind == "i":
            return key if isinstance(key, int) and 0 <= key < len(self._items) else None
        if kind == "v":
            return self._index(()).get(_word(key))
        return self._index(tuple(sorted(key))).get(_word(key)) if isinstance(key, dict) and key else None

    def _index(self, names: tuple[str, ...]) -> dict[str, int]:
        """Return the index of each item by these of its fields; without names, by the item itself."""
        if names not in self._by_keys and len(self._by_keys) < _MOST_KEYS:
            found: dict[str, int] = {}
            for index, item in enumerate(self._items):
                if not names and isinstance(item, _SCALARS):
                    found.setdefault(_word(item), index)
                elif names and isinstance(item, dict):
                    key = {name: item[name] for name in names if isinstance(item.get(name), _SCALARS)}
                    found.setdefault(_word(key), index)
            self._by_keys[names] = found
        return self._by_keys.get(names, {})


def _word(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _member(value: Any, part: str) -> Any:
    return value[int(part)] if isinstance(value, list) else value[part]
