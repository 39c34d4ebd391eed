"""Rules of a release about what is no drift: JSON pointers (RFC 6901), for all of its objects or some.

A pointer covers what is below it too, and the empty one a whole object. ``*`` stands for any member of an object or
item of a list; the item of a list can also be named by its ``name``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pilothouse.errors import DamagedRow, InvalidArgument
from pilothouse.kubernetes.resources import ManifestObject
from pilothouse.store import drift as store
from pilothouse.store.database import Transaction

MOST_RULES: Final = 100
_LONGEST: Final = 1000
_DEEPEST: Final = 50
_ANY: Final = "*"

Object = dict[str, Any]


@dataclass(frozen=True)
class IgnoreRule:
    """What to ignore: ``pointer``, of objects of that group, kind and name; an empty one of these is any."""

    pointer: str
    group: str = ""
    kind: str = ""
    name: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the pointer, unescaped."""
        return split_pointer(self.pointer)

    def check(self, place: str) -> None:
        """Raise InvalidRequest if it is no rule."""
        if self.pointer and not self.pointer.startswith("/"):
            raise InvalidArgument(
                f"{place}.pointer: {self.pointer[:80]!r} is no JSON pointer: begin it with /, as in /spec/replicas, or "
                "leave it empty for the whole object"
            )
        if any(len(text) > _LONGEST for text in vars(self).values()) or len(self.parts) > _DEEPEST:
            raise InvalidArgument(f"{place}: longer than {_LONGEST} characters, or deeper than {_DEEPEST} parts")
        if "\0" in self.pointer + self.group + self.kind + self.name:
            raise InvalidArgument(f"{place}: must not contain NUL characters")


async def read_rules(tx: Transaction, cluster_id: str, *, namespace: str, name: str) -> list[IgnoreRule]:
    """Return the rules of a release; DamagedRow if what is stored is none."""
    found = await store.list_rules(tx, cluster_id, namespace=namespace, name=name)
    try:
        return msgspec.convert(found, list[IgnoreRule])
    except msgspec.ValidationError as error:
        raise DamagedRow(f"the ignore rules of release {name!r} are damaged ({error}); send them again") from None


class ObjectRules:
    """The rules that are about one object."""

    def __init__(self, rules: Sequence[IgnoreRule], obj: ManifestObject) -> None:
        group, slash, _ = obj.api_version.rpartition("/")
        group = group if slash else ""
        self._rules = [
            rule.parts
            for rule in rules
            if rule.group in {"", group} and rule.kind in {"", obj.kind} and rule.name in {"", obj.name}
        ]

    @property
    def ignore_all(self) -> bool:
        """True if the object is to be ignored as a whole."""
        return () in self._rules

    def covers(self, path: tuple[str, ...], live: Any) -> bool:
        """Return True if a rule covers the field of the object; ``live`` knows the names of list items."""
        names = _names_on(path, live)
        return any(_leads_to(rule, path, names) for rule in self._rules)

    def without(self, found: Object) -> Object:
        """Return the object without the members that rules name, and without what is empty then."""
        for rule in self._rules:
            found = _without(found, rule)
        return found


def split_pointer(pointer: str) -> tuple[str, ...]:
    """Return the parts of a JSON pointer."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def _leads_to(rule: tuple[str, ...], path: tuple[str, ...], names: list[str]) -> bool:
    return len(rule) <= len(path) and all(
        part in {_ANY, here, name or here} for part, here, name in zip(rule, path, names, strict=False)
    )


def _names_on(path: tuple[str, ...], value: Any) -> list[str]:
    """Return for each part of the path the name of the list item that it leads to; '' for others."""
    names = []
    for part in path:
        name = ""
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
            name = _name_of(value)
        else:
            value = None
        names.append(name)
    return names


def _name_of(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""


def _without(value: Any, rule: tuple[str, ...]) -> Any:
    """Return the value without the members of objects that the rule names; items of lists stay, for their indexes."""
    if not rule:
        return value
    part, rest = rule[0], rule[1:]
    if isinstance(value, list):
        return [
            _without(item, rest) if part in {_ANY, str(index), _name_of(item)} else item
            for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    left = {}
    for name, member in value.items():
        if part not in {_ANY, name}:
            left[name] = member
        elif rest:
            below = _without(member, rest)
            if below or below == member:
                left[name] = below
    return left
