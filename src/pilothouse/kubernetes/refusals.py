"""Why an API server would not take an apply, and whose the fields are that it would have changed.

Source: Kubernetes, "Server-Side Apply", conflicts: 409 with a cause for each field.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.readiness import mapping

_REASON: Final = "FieldManagerConflict"
_MANAGER: Final = re.compile(r'conflict with "([^"]{1,200})"(?: with subresource "([a-z]{1,50})")?')
#: Nobody reads more; an object with more fields of somebody else is told by these.
_MOST: Final = 50
_LONGEST_FIELD: Final = 200


@dataclass(frozen=True)
class FieldConflict:
    """A field that another manager has set to another value; ``field`` as the API server writes it."""

    field: str
    manager: str


class Refused(PilothouseError):
    """The API server would not take what was tried.

    ``conflicts``: fields that others manage, if that is why; ``missing_namespace``: the namespace, if there is none.
    """

    def __init__(self, message: str, conflicts: tuple[FieldConflict, ...] = (), *, missing_namespace: str = "") -> None:
        super().__init__(message)
        self.conflicts = conflicts
        self.missing_namespace = missing_namespace


def read_conflicts(status: dict[str, Any]) -> tuple[FieldConflict, ...]:
    """Return the conflicts that a Status names, at most fifty of them; none for any other."""
    return tuple(conflict for conflict, _ in zip(_conflicts(status), range(_MOST), strict=False))


def read_missing_namespace(status: dict[str, Any]) -> str:
    """Return the namespace that a Status says is not there; nothing for any other."""
    details = mapping(status.get("details"))
    missing = status.get("reason") == "NotFound" and details.get("kind") == "namespaces"
    return str(details.get("name", "")) if missing else ""


def _conflicts(status: dict[str, Any]) -> Iterator[FieldConflict]:
    causes = mapping(status.get("details")).get("causes")
    for cause in causes if isinstance(causes, list) else []:
        if mapping(cause).get("reason") != _REASON:
            continue
        found = _MANAGER.match(str(cause.get("message")))
        manager = found[1] + (f" (subresource {found[2]})" if found[2] else "") if found else "another manager"
        yield FieldConflict(_printable(str(cause.get("field", "")))[:_LONGEST_FIELD], _printable(manager))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
