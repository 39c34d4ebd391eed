"""What ``--hide-secret`` leaves out of a plan: whole Secrets, as Helm does, and the values that they are made of."""

import re
from typing import Any, Final

_DOCUMENT: Final = re.compile(r"^---[^\n]*\n", re.MULTILINE)
_SOURCE: Final = re.compile(r"^# Source: [^\n]*\n", re.MULTILINE)
_MASK: Final = "******"
#: What Helm prints in the place of a Secret.
_HIDDEN: Final = "# HIDDEN: The Secret output has been suppressed\n"


def hide_secrets(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the plan without its Secrets, those of hooks too, and with all values masked."""
    hooks = [{**hook, "manifest": _without_secrets(hook["manifest"])} for hook in plan["hooks"]]
    return {
        **plan,
        "manifest": _without_secrets(plan["manifest"]),
        "hooks": hooks,
        "values": _masked(plan["values"]),
    }


def _without_secrets(manifest: str) -> str:
    found, end = [], 0
    for mark in [*_DOCUMENT.finditer(manifest), None]:
        begin = mark.start() if mark else len(manifest)
        found.append(_shown(manifest[end:begin]))
        if mark:
            found.append(mark[0])
        end = mark.end() if mark else begin
    return "".join(found)


def _shown(document: str) -> str:
    if "Secret" not in document or not _has_secret(document):
        return document
    source = _SOURCE.search(document)
    return f"{source[0] if source else ''}{_HIDDEN}"


def _has_secret(document: str) -> bool:
    """Return whether it is a Secret, or a list with one; what cannot be read may be one."""
    import yaml

    try:
        found = yaml.load(document, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe loaders)
    except (yaml.YAMLError, ValueError):
        return True
    items = found.get("items") if isinstance(found, dict) else None
    several = items if isinstance(items, list) else []
    return any(isinstance(obj, dict) and obj.get("kind") == "Secret" for obj in (found, *several))


def _masked(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _masked(value) for name, value in values.items()}
    return [_masked(value) for value in values] if isinstance(values, list) else _MASK
