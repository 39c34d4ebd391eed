"""``make docs``: writes docs/reference/settings.md from the settings themselves; a test compares them."""

import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pilothouse.settings import Settings
from pilothouse.settings.group import MIB

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"
_HEAD = """\
# Settings

This page is generated from `src/pilothouse/settings/` by `make docs`. Settings are environment variables, read once at
start. Durations are in seconds, sizes in bytes. `pilothouse serve` refuses a `PILOTHOUSE_` variable that it does not
know, and settings that contradict each other; what the limits protect is in [operations.md](../operations.md).
"""
_WORDS = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path", SecretStr: "secret"}


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
    return 0


def page() -> str:
    """Return the page as it belongs in docs/reference/settings.md."""
    own = {name: one for name, one in Settings.model_fields.items() if not _is_group(one.annotation)}
    parts = [_HEAD, "## Server\n", _table("PILOTHOUSE_", own)]
    for name, one in Settings.model_fields.items():
        group = one.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            parts += [f"## {name.capitalize()}\n", f"{group.__doc__}\n"]
            parts.append(_table(f"PILOTHOUSE_{name.upper()}__", group.model_fields))
    return "\n".join(parts)


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{prefix}{name.upper()}` | {_values(one)} | {_default(name, one)} | {_escaped(one.description or '')} |"
        for name, one in fields.items()
    ]
    return "\n".join(["| variable | value | default | meaning |", "|---|---|---|---|", *rows, ""])


def _values(one: FieldInfo) -> str:
    annotation: Any = one.annotation
    if get_origin(annotation) is UnionType or NoneType in get_args(annotation):
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(each, name):.12g}"
        for each in one.metadata
        for name, sign in signs.items()
        if hasattr(each, name)
    ]
    return " ".join([_WORDS[annotation], *bounds])


def _default(name: str, one: FieldInfo) -> str:
    value = one.default
    if name.endswith("bytes") and isinstance(value, int) and not value % MIB:
        return f"{value} ({value // MIB} MiB)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.12g}"
    words = {PydanticUndefined: "see the meaning", None: "unset", "": "empty"}
    return words.get(value) or f"`{value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
