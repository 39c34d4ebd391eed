"""Paths of an API server from checked names: no name can lead to another path."""

import re
from urllib.parse import quote

from pilothouse.errors import InvalidRequest

LONGEST_NAME = 253
#: Kubernetes' subdomain names; it also keeps what has a meaning in URLs and selectors out of them.
NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


def checked_name(name: str) -> str:
    """Return the name; InvalidRequest if it is not a valid Kubernetes subdomain name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest(f"{str(name)[:80]!r} is not a valid Kubernetes object name")
    return name


def escaped_name(name: str) -> str:
    """Return any object's name escaped for a path: some kinds allow colons and capitals. InvalidRequest if invalid."""
    if not name or len(name) > LONGEST_NAME or name in {".", ".."} or "/" in name or "%" in name:
        raise InvalidRequest(f"{name[:80]!r} is not a valid Kubernetes object name")
    return quote(name, safe="")


def group_path(group_version: str) -> str:
    """Return the path of ``v1`` or ``group/version``."""
    return f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"


def secrets_path(namespace: str | None) -> str:
    """Return the path of the namespace's Secrets; None: of all namespaces."""
    return "/api/v1/secrets" if namespace is None else f"/api/v1/namespaces/{checked_name(namespace)}/secrets"
