"""What a caller ordered, as an operation carries it: sealed, because values are secrets."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import InvalidRequest

Wait = Literal["none", "hooks", "ready"]


def as_wait(text: str) -> Wait:
    """The text as a Wait; raises InvalidRequest for any other word."""
    wait: Wait
    for wait in ("none", "hooks", "ready"):
        if text == wait:
            return wait
    raise InvalidRequest(f"{text!r} is not one of none, hooks, ready")


@dataclass(frozen=True)
class InstallOrder:
    """An accepted install. ``values`` are the caller's own; ``merged_values`` lie over the chart's, for display."""

    values: dict[str, Any]
    merged_values: dict[str, Any]
    disable_hooks: bool
    replace: bool
    wait: Wait


def seal_order(order: InstallOrder, *, keys: MasterKeys, operation_id: str) -> bytes:
    """The order as the operation row holds it; it opens for this operation only."""
    return keys.seal(orjson.dumps(asdict(order)), context=_context(operation_id))


def open_order(sealed: bytes, *, keys: MasterKeys, operation_id: str) -> InstallOrder:
    """The order of the operation; raises SealBroken for another operation's or a damaged one."""
    return InstallOrder(**orjson.loads(keys.unseal(sealed, context=_context(operation_id))))


def _context(operation_id: str) -> str:
    return f"operation:{operation_id}"
