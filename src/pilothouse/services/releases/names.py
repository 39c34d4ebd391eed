"""The rules for names of releases and namespaces."""

import re

from pilothouse.errors import InvalidRequest, NotFound

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
        raise InvalidRequest(f"{field}: {len(name)} characters; a release name has at most {_NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{field}: {name!r} is not a release name: it starts with a lower-case letter, continues with "
            "lower-case letters, digits and '-', and ends with a letter or digit"
        )


def check_namespace(namespace: str) -> None:
    """Raise InvalidRequest unless the text is a valid namespace."""
    if not namespace:
        raise InvalidRequest("namespace: missing")
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidRequest(
            f"namespace: {namespace!r} is not a namespace name: at most 63 lower-case letters, digits and '-', "
            "with a letter or digit at both ends"
        )


def unknown_release(name: str, namespace: str, *, cluster_name: str) -> NotFound:
    """Return the error for a release that the cluster does not have."""
    return NotFound(f"release {name!r} does not exist in namespace {namespace!r} of cluster {cluster_name!r}")
