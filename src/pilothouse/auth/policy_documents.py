"""Policies in the vendor's form: read, refused by name where they are not understood, and asked.

A document of version 1.1 or 5.0 has statements: an effect, actions with wildcards, resources, conditions. An explicit
Deny wins; what no statement allows is not allowed. A condition may ask for what is not known yet (the namespace, before
a body is read): then a statement neither applies nor does it not, and the caller says which way that counts.

Source: IAM user guide, "Policy Syntax"; IAM API reference, "Identity Policy Elements"; CCE, "Actions".
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pilothouse.errors import InvalidArgument, InvalidRequest

CLUSTER_ID: Final = "cce:ClusterId"
PROJECT_NAME: Final = "g:ProjectName"
#: Not one of the vendor's keys.
NAMESPACE: Final = "pilothouse:Namespace"
KEYS: Final = (CLUSTER_ID, PROJECT_NAME, NAMESPACE)
#: The vendor's limit for a custom policy.
LONGEST: Final = 6144
_MOST_STATEMENTS: Final = 100
_MOST_VALUES: Final = 100
_LONGEST_VALUE: Final = 256
_VERSIONS: Final = ("1.1", "5.0")
_IF_EXISTS: Final = "IfExists"
_ACTION: Final = re.compile(r"\*|[a-zA-Z*]+:(\*|[a-zA-Z*]+(:[a-zA-Z*]+)?)")
_RESOURCE: Final = re.compile(r"cce:\*?:\*?:cluster:(?P<id>[A-Za-z0-9*-]{1,64})")
_ELEMENTS: Final = {
    "1.1": frozenset({"Effect", "Action", "Resource", "Condition"}),
    "5.0": frozenset({"Sid", "Effect", "Action", "Resource", "Condition"}),
}

Values = Mapping[str, str | None]
#: True, False, or None: not known.
Truth = bool | None


def _like(pattern: str, value: str) -> bool:
    """Return whether the value has the parts between asterisks in their order; in time linear to both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == value
    *middle, last = rest
    if not value.startswith(first):
        return False
    at = len(first)
    for part in middle:
        at = value.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(value) - len(last) >= at and value.endswith(last)


_OPERATORS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringEqualsIgnoreCase": lambda pattern, value: pattern.casefold() == value.casefold(),
    "StringLike": _like,
    "StringMatch": _like,
    "StringStartWith": lambda pattern, value: value.startswith(pattern),
    "StringEndWith": lambda pattern, value: value.endswith(pattern),
}
_PATTERNS: Final = frozenset({"StringLike", "StringMatch"})
#: They hold if none of the values does, and where there is no value.
_NEGATED: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "StringNotMatch": "StringMatch",
}


@dataclass(frozen=True)
class Condition:
    """One test of a key; ``if_exists``: it holds where the key has no value."""

    key: str
    operator: str
    values: tuple[str, ...]
    if_exists: bool = False

    def holds(self, known: Values) -> Truth:
        """Return whether it holds; a key that ``known`` lacks is not known, and one that is None there has no value."""
        if self.key not in known:
            return None
        value, negated = known[self.key], self.operator in _NEGATED
        if value is None:
            return negated or self.if_exists
        test = _OPERATORS[_NEGATED.get(self.operator, self.operator)]
        return any(test(wanted, value) for wanted in self.values) != negated


@dataclass(frozen=True)
class Statement:
    """One statement: what it allows or denies, and where."""

    allows: bool
    actions: tuple[str, ...]
    clusters: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()

    def applies(self, names: Iterable[str], known: Values) -> Truth:
        """Return whether the statement is about an action of one of these names, there."""
        if not any(_covers(pattern, name) for pattern in self.actions for name in names):
            return False
        tests = [condition.holds(known) for condition in self.conditions]
        if self.clusters:
            tests.append(Condition(CLUSTER_ID, "StringLike", self.clusters).holds(known))
        return False if False in tests else None if None in tests else True


@dataclass(frozen=True)
class Document:
    """A policy."""

    version: str
    statements: tuple[Statement, ...]


def decide(documents: Iterable[Document], names: Iterable[str], known: Values, *, unknown_counts: bool) -> bool:
    """Return whether the documents together allow an action, known under these names, there.

    ``unknown_counts``: a statement about what is not known yet allows, and denies not; else it is the other way round.
    """
    listed, allowed = tuple(names), False
    for document in documents:
        for statement in document.statements:
            applies = statement.applies(listed, known)
            counts = applies is True or (applies is None and statement.allows == unknown_counts)
            if counts and not statement.allows:
                return False
            allowed = allowed or counts
    return allowed


@lru_cache(maxsize=1024)
def read(text: str) -> Document:
    """Return the document of that JSON text; raise InvalidRequest, which names what is not understood."""
    if len(text) > LONGEST:
        raise InvalidArgument(f"document: {len(text)} characters; a policy has {LONGEST} at most")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"document: no JSON: {error}") from error
    return _document(found)


def only_denials(texts: Iterable[str]) -> list[str]:
    """Return the documents with nothing but what they deny; those that deny nothing are left out."""
    return [text for text in map(_denials, texts) if text]


@lru_cache(maxsize=1024)
def _denials(text: str) -> str:
    try:
        statements = read(text).statements
    except InvalidRequest:
        return text  # a damaged one denies everything
    found = json.loads(text)
    listed = found["Statement"] if isinstance(found["Statement"], list) else [found["Statement"]]
    found["Statement"] = [said for said, statement in zip(listed, statements, strict=True) if not statement.allows]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")) if found["Statement"] else ""


def check_actions(document: Document, actions: Iterable[str]) -> None:
    """Raise InvalidRequest for a pattern that is about none of the actions: a misspelt Deny would deny nothing."""
    known = tuple(actions)
    for number, statement in enumerate(document.statements):
        for pattern in statement.actions:
            if not any(_covers(pattern, action) for action in known):
                raise InvalidArgument(f"Statement[{number}].Action: {pattern!r} matches no action of this server")


def _document(found: Any) -> Document:
    fields = _object(found, "document", ("Version", "Statement"))
    version = fields.get("Version")
    if version not in _VERSIONS:
        raise InvalidArgument(f"Version: {str(version)[:20]!r} is not one of {', '.join(_VERSIONS)}")
    listed = fields.get("Statement")
    statements = listed if isinstance(listed, list) else [listed]
    if not 0 < len(statements) <= _MOST_STATEMENTS:
        raise InvalidArgument(f"Statement: 1 to {_MOST_STATEMENTS} statements")
    return Document(
        version, tuple(_statement(statement, version, f"Statement[{i}]") for i, statement in enumerate(statements))
    )


def _statement(found: Any, version: str, at: str) -> Statement:
    fields = _object(found, at, _ELEMENTS[version])
    effect = fields.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise InvalidArgument(f"{at}.Effect: {str(effect)[:20]!r} is not Allow or Deny")
    actions = _texts(fields.get("Action"), f"{at}.Action")
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise InvalidArgument(f"{at}.Action: {action!r} is no action such as cce:release:create or cce:*:get*")
    return Statement(
        allows=effect == "Allow",
        actions=actions,
        clusters=_clusters(fields.get("Resource", "*"), f"{at}.Resource"),
        conditions=_conditions(fields.get("Condition", {}), f"{at}.Condition"),
    )


def _clusters(found: Any, at: str) -> tuple[str, ...]:
    """Return the patterns of ids that the resources name; none: everything."""
    listed = _texts(found, at)
    if "*" in listed:
        return ()
    clusters = []
    for item in listed:
        named = _RESOURCE.fullmatch(item)
        if named is None:
            raise InvalidArgument(f"{at}: {item!r} is neither * nor cce:*:*:cluster:ID")
        clusters.append(named["id"])
    return tuple(clusters)


def _conditions(found: Any, at: str) -> tuple[Condition, ...]:
    conditions = []
    for operator, tests in _object(found, at, None).items():
        name = operator.removesuffix(_IF_EXISTS)
        if name not in _OPERATORS and name not in _NEGATED:
            raise InvalidArgument(f"{at}: {operator[:60]!r} is not one of {', '.join((*_OPERATORS, *_NEGATED))}")
        for key, wanted in _object(tests, f"{at}.{operator}", None).items():
            if key not in KEYS:
                raise InvalidArgument(f"{at}.{operator}: {key[:60]!r} is not one of {', '.join(KEYS)}")
            values = _texts(wanted, f"{at}.{operator}.{key}")
            if _NEGATED.get(name, name) in _PATTERNS and any("?" in value for value in values):
                raise InvalidArgument(f"{at}.{operator}.{key}: '?' is not understood; '*' is")
            conditions.append(Condition(key, name, values, if_exists=operator != name))
    return tuple(conditions)


def _object(found: Any, at: str, fields: Iterable[str] | None) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise InvalidArgument(f"{at}: must be an object")
    known = tuple(sorted(fields)) if fields is not None else tuple(found)
    unknown = next((name for name in found if name not in known), None)
    if unknown is not None:
        raise InvalidArgument(f"{at}: {unknown[:60]!r} is not understood; there are {', '.join(known)}")
    return found


def _texts(found: Any, at: str) -> tuple[str, ...]:
    listed = found if isinstance(found, list) else [found]
    if not listed or not all(isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE for value in listed):
        raise InvalidArgument(f"{at}: must be a text or a list of texts, each of 1 to {_LONGEST_VALUE} characters")
    if len(listed) > _MOST_VALUES:
        raise InvalidArgument(f"{at}: {len(listed)} values; {_MOST_VALUES} at most")
    return tuple(listed)


@lru_cache(maxsize=4096)
def _covers(pattern: str, action: str) -> bool:
    """Return whether the pattern is about the action; ``*`` is a part, the end of one, or everything that follows."""
    if pattern == "*":
        return True
    wanted, parts = pattern.split(":"), action.split(":")
    if len(wanted) == 2 and wanted[1] == "*":  # noqa: PLR2004 - a service, and everything in it
        wanted = [wanted[0], *["*"] * (len(parts) - 1)]
    return len(wanted) == len(parts) and all(map(_like, wanted, parts))
