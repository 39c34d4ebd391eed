"""What a caller ordered, as an operation carries it: sealed, because values are secrets."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import InvalidRequest

Wait = Literal["none", "hooks", "ready"]
Action = Literal["install", "upgrade", "rollback", "uninstall"]


def as_wait(text: str) -> Wait:
    """The text as a Wait; raises InvalidRequest for any other word."""
    wait: Wait
    for wait in ("none", "hooks", "ready"):
        if text == wait:
            return wait
    raise InvalidRequest(f"{text!r} is not one of none, hooks, ready")


@dataclass(frozen=True, kw_only=True)
class InstallOrder:
    """An accepted install. ``values`` are the caller's own; ``merged_values`` lie over the chart's, for display."""

    values: dict[str, Any] = field(repr=False)
    merged_values: dict[str, Any] = field(repr=False)
    disable_hooks: bool
    replace: bool
    wait: Wait


@dataclass(frozen=True, kw_only=True)
class UpgradeOrder:
    """An accepted upgrade; ``values`` go to Helm with the two flags, ``merged_values`` are what comes of them.

    ``first_deployed`` is the release's, for display while the upgrade runs. ``recreate``: restart its workloads after.
    """

    values: dict[str, Any] = field(repr=False)
    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    reset_values: bool
    reuse_values: bool
    recreate: bool
    wait: Wait


@dataclass(frozen=True, kw_only=True)
class RollbackOrder:
    """An accepted rollback to an existing revision; ``merged_values`` are that revision's."""

    to_revision: int
    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    recreate: bool
    wait: Wait


@dataclass(frozen=True, kw_only=True)
class UninstallOrder:
    """An accepted uninstall; the rest describes the release as it was. ``hooks``: how many it has for an uninstall."""

    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    hooks: int
    wait: Wait


Order = InstallOrder | UpgradeOrder | RollbackOrder | UninstallOrder

_ORDERS: dict[Action, type[Order]] = {
    "install": InstallOrder,
    "upgrade": UpgradeOrder,
    "rollback": RollbackOrder,
    "uninstall": UninstallOrder,
}


def action_of(order: Order) -> Action:
    """What the order asks for, as the operation row names it."""
    return next(action for action, kind in _ORDERS.items() if isinstance(order, kind))


def seal_order(order: Order, *, keys: MasterKeys, operation_id: str) -> bytes:
    """The order as the operation row holds it; it opens for this operation only."""
    return keys.seal(orjson.dumps({"action": action_of(order), **vars(order)}), context=_context(operation_id))


def open_order(sealed: bytes, *, keys: MasterKeys, operation_id: str) -> Order:
    """The order of the operation; raises SealBroken for another operation's or a damaged one."""
    plain = orjson.loads(keys.unseal(sealed, context=_context(operation_id)))
    # rows of the first release carry no action: they are installs
    kind = _ORDERS[plain.pop("action", "install")]
    if "first_deployed" in plain:
        plain["first_deployed"] = datetime.fromisoformat(plain["first_deployed"])
    return kind(**plain)


def _context(operation_id: str) -> str:
    return f"operation:{operation_id}"
