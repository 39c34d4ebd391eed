"""What a caller ordered, as an operation carries it: sealed, because values are secrets."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from pilothouse.auth.sealing import MasterKeys

Wait = Literal["none", "hooks", "ready"]


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


def merge_values(chart: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The caller's values laid over the chart's: maps merge, everything else replaces, null removes the key.

    What ``helm get values --all`` prints (Helm ``pkg/chart/common/util/coalesce.go``).
    """
    merged = dict(chart)
    for key, value in own.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(below, dict):
            merged[key] = merge_values(below, value)
        else:
            merged[key] = value
    return merged


def _context(operation_id: str) -> str:
    return f"operation:{operation_id}"
