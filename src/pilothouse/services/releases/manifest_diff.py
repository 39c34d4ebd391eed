"""Compares two sets of Kubernetes objects field by field. Pure functions.

Fields are named by JSON pointers (RFC 6901). Items of a list are matched by their names where all have one, as
Kubernetes matches containers, ports and variables; then an index in a pointer is that of the new list, or of the old
one for an item that is gone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from pilothouse.errors import InvalidRequest
from pilothouse.kubernetes.resources import ManifestObject

Change = Literal["added", "changed", "removed", "unchanged", "unknown"]
CHANGES: Final[tuple[Change, ...]] = get_args(Change)
Object = dict[str, Any]
Part = tuple[ManifestObject, Object]
_ABSENT: Final = object()
#: Of the pointers of one comparison together: each has the keys above it whole.
_LARGEST_POINTERS: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class FieldDifference:
    """A field that differs; ``old`` or ``new`` is None where there is none."""

    path: str
    change: Change
    old: Any = field(repr=False)
    new: Any = field(repr=False)


@dataclass(frozen=True)
class ObjectDifference:
    """An object of either set; ``fields`` are those that differ, for a changed object only.

    ``problem``: why it could not be compared, or not as a whole.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    change: Change
    fields: list[FieldDifference]
    problem: str = ""


def compare_objects(
    old: Sequence[Part], new: Sequence[Part], *, show: Callable[[Object], Object] = lambda document: document
) -> list[ObjectDifference]:
    """Return every object, those of the new set first, in its order.

    ``show`` returns an object as its values may be shown: with the same fields and some values replaced. The originals
    are compared, so that a hidden value that changed is told from one that did not. Raises InvalidRequest for more text
    in pointers than an answer takes.
    """
    before = {identity(obj): (obj, document) for obj, document in old}
    found, room = [], _LARGEST_POINTERS
    for obj, document in new:
        known = before.pop(identity(obj), None)
        if known is None:
            found.append(_difference(obj, "added"))
        else:
            fields = compare_fields(obj, known[1], document, show=show, room=room)
            room -= sum(len(difference.path) for difference in fields)
            found.append(_difference(obj, "changed" if fields else "unchanged", fields))
    return [*found, *(_difference(obj, "removed") for obj, _ in before.values())]


def compare_fields(
    obj: ManifestObject,
    old: Object,
    new: Object,
    *,
    show: Callable[[Object], Object],
    room: int = _LARGEST_POINTERS,
) -> list[FieldDifference]:
    """Return what differs between two states of an object; see ``compare_objects``. ``room``: for pointers."""
    if _is_same(old, new):
        return []
    fields = []
    for difference in _walk((old, show(old)), (new, show(new)), ""):
        room -= len(difference.path)
        if room < 0:
            raise InvalidRequest(
                f"the revisions cannot be compared: the names of the fields that differ are together longer than "
                f"{_LARGEST_POINTERS // 1024**2} MiB, at {obj.kind} {obj.name[:253]!r}; compare revisions that differ "
                "less, or read the manifest of each"
            )
        fields.append(difference)
    return fields


def _difference(obj: ManifestObject, change: Change, fields: list[FieldDifference] | None = None) -> ObjectDifference:
    return ObjectDifference(obj.api_version, obj.kind, obj.namespace, obj.name, change, fields or [])


def identity(one: ManifestObject | ObjectDifference) -> tuple[str, str, str, str]:
    """Return what stays the same when the version of the API changes."""
    group, slash, _ = one.api_version.rpartition("/")
    return (group if slash else "", one.kind, one.namespace, one.name)


#: A value, and the same as it may be shown.
_Shown = tuple[Any, Any]


def _walk(old: _Shown, new: _Shown, path: str) -> Iterator[FieldDifference]:
    """Compare two values that are not the same."""
    if _are(dict, *old, *new):
        yield from _walk_mapping(old, new, path)
    elif _are(list, *old, *new) and len(old[0]) == len(old[1]) and len(new[0]) == len(new[1]):
        yield from _walk_list(old, new, path)
    elif old[0] is _ABSENT:
        yield FieldDifference(path, "added", None, new[1])
    elif new[0] is _ABSENT:
        yield FieldDifference(path, "removed", old[1], None)
    else:
        yield FieldDifference(path, "changed", old[1], new[1])


def _walk_mapping(old: _Shown, new: _Shown, path: str) -> Iterator[FieldDifference]:
    for key in [*old[0], *(key for key in new[0] if key not in old[0])]:
        was, now = _member(old, key), _member(new, key)
        if not _is_same(was[0], now[0]):  # before the pointer is built, which can be long
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            yield from _walk(was, now, f"{path}/{escaped}")


def _member(mapping: _Shown, key: str) -> _Shown:
    return mapping[0].get(key, _ABSENT), mapping[1].get(key)


def _walk_list(old: _Shown, new: _Shown, path: str) -> Iterator[FieldDifference]:
    before, after = _names(old[0]), _names(new[0])
    if before is None or after is None:
        pairs = [(index, index) for index in range(max(len(old[0]), len(new[0])))]
    else:
        pairs = [(before.get(name, len(old[0])), index) for name, index in after.items()]
        pairs += [(index, len(new[0])) for name, index in before.items() if name not in after]
    differs = False
    for was, now in pairs:
        place = now if now < len(new[0]) else was
        before_it, after_it = _item(old, was), _item(new, now)
        if not _is_same(before_it[0], after_it[0]):
            differs = True
            yield from _walk(before_it, after_it, f"{path}/{place}")
    if not differs:  # the same items in another order
        yield FieldDifference(path, "changed", old[1], new[1])


def _item(items: _Shown, index: int) -> _Shown:
    return (items[0][index], items[1][index]) if index < len(items[0]) else (_ABSENT, None)


def _names(items: list[Any]) -> dict[str, int] | None:
    """Return the index of each item by its name; None if not all have one of their own."""
    if not items or not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items):
        return None
    names = {item["name"]: index for index, item in enumerate(items)}
    return names if len(names) == len(items) else None


def _is_same(old: Any, new: Any) -> bool:
    """Return True if both are the same as JSON: for Python, 1 is also true."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_is_same(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return bool(old == new)


def _are(kind: type, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)
