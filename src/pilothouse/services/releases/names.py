"""The rules for names of releases and namespaces."""

import re

from pilothouse.errors import InvalidArgument, NeverInstalled, NotFound, ReleaseMissing
from pilothouse.states import LIVING_STATES, Action
from pilothouse.store.operations import OperationRow

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME_LENGTH = 53  # Helm's limit: names of objects are made from it
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Return True if a release written by us or Helm can have this name; Helm allows dots and a leading digit."""
    return len(text) <= _NAME_LENGTH and bool(re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", text))


def is_namespace(text: str) -> bool:
    """Return True if a namespace can have this name (Kubernetes: an RFC 1123 label)."""
    return bool(_NAMESPACE.fullmatch(text))


def check_name(name: str, *, field: str) -> None:
    """Raise InvalidRequest unless the text is a valid release name.

    Lower-case letter first, then letters, digits and '-', ending in a letter or digit (vendor), at most 53 characters
    (Helm ``pkg/chart/common/validate_name.go``).
    """
    if len(name) > _NAME_LENGTH:
        raise InvalidArgument(f"{field}: {len(name)} characters; a release name has at most {_NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field}: {name!a} is not a release name: it starts with a lower-case letter, continues with "
            "lower-case letters, digits and '-', and ends with a letter or digit"
        )


def check_any_name(name: str) -> None:
    """Raise InvalidRequest unless a release written by us or Helm can have this name."""
    if not is_name(name):
        raise InvalidArgument(
            f"name: {name!a} is not a release name: at most 53 lower-case letters, digits, '-' and '.', with a "
            "letter or digit at both ends"
        )


def check_namespace(namespace: str) -> None:
    """Raise InvalidRequest unless the text is a valid namespace."""
    if not namespace:
        raise InvalidArgument("namespace: missing")
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgument(
            f"namespace: {namespace!a} is not a namespace name: at most 63 lower-case letters, digits and '-', "
            "with a letter or digit at both ends"
        )


def unknown_release(name: str, namespace: str, *, cluster_name: str) -> NotFound:
    """Return the error for a release that the cluster does not have."""
    return ReleaseMissing(f"release {name!r} does not exist in namespace {namespace!r} of cluster {cluster_name!r}")


def never_installed(name: str, operation_id: str) -> NotFound:
    """Return the error for a release of which only a failed installation is known, which the operation tells of."""
    return NeverInstalled(
        f"release {name!r} was never installed and has no revision: its installation failed and left nothing in the "
        f"cluster (operation {operation_id} says why); create it again, or delete it"
    )


def without_revision(name: str, namespace: str, *, cluster_name: str, shown: OperationRow | None) -> NotFound:
    """Return the error for a release that the cluster does not have; ``shown``: the operation that it is known by."""
    if shown is None or shown.action != Action.INSTALL:
        return unknown_release(name, namespace, cluster_name=cluster_name)
    if shown.state in LIVING_STATES:
        doing = f"its installation is {shown.state} (operation {shown.id})"
        return NotFound(f"release {name!r} has no revision yet: {doing}")
    return never_installed(name, shown.id)
