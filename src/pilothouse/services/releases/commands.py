"""The command of an operation, as requested by a caller: sealed, because values are secrets.

It has two parts. What only an attempt needs is dropped when the operation has ended; what is displayed is kept as long
as it can be displayed.
"""

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec
import orjson
import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.protocol import MAX_HISTORY, Cascade, PlannedHook, PlannedRelease, ValuesLayer, Wait
from pilothouse.errors import DecryptionFailed, InvalidRequest, UnreadableCommand
from pilothouse.states import Action
from pilothouse.store.operations import OperationRow

log = structlog.get_logger(__name__)

Crds = Literal["skip", "create", "replace"]
#: What a new revision can be checked by: its chart's tests.
Check = Literal["test"]


def as_wait(text: str) -> Wait:
    """Return the text as a Wait; raise InvalidRequest for any other word."""
    wait: Wait
    for wait in get_args(Wait):
        if text == wait:
            return wait
    raise InvalidRequest(f"{text!r} is not one of {', '.join(get_args(Wait))}")


def as_crds(text: str) -> Crds:
    """Return the text as the handling of a chart's ``crds/``; raise InvalidRequest for any other word."""
    crds: Crds
    for crds in ("skip", "create", "replace"):
        if text == crds:
            return crds
    raise InvalidRequest(f"{text!r} is not one of skip, create, replace")


@dataclass(frozen=True, kw_only=True)
class HelmOptions:
    """Options of Helm that the vendor's API lacks, by Helm's names; the defaults are what that API does.

    ``description`` is the one that Helm stores. A label that is "null" removes the one of the revision before.
    ``rollback_on_failure``: a failure is undone. ``cleanup_on_fail``: what a failed upgrade created is deleted.
    ``checks``: what has to succeed after it, as a part of it.
    """

    take_ownership: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""
    history_max: int = MAX_HISTORY
    create_namespace: bool = False
    rollback_on_failure: bool = False
    cleanup_on_fail: bool = False
    checks: tuple[Check, ...] = ()


PLAIN: Final = HelmOptions()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What an order must find and make, as it was planned: the newest revision, and the texts of the next one.

    ``base_revision`` is 0 if there was none. An uninstall has no texts.
    """

    base_revision: int
    base_uid: str
    base_version: str
    manifest: str = field(default="", repr=False)
    notes: str = field(default="", repr=False)
    hooks: tuple[PlannedHook, ...] = field(default=(), repr=False)

    def as_release(self, revision: int) -> PlannedRelease:
        """Return the texts for the engine, as those of that revision."""
        return PlannedRelease(revision=revision, manifest=self.manifest, notes=self.notes, hooks=self.hooks)


@dataclass(frozen=True, kw_only=True)
class OnlyOver:
    """The revision over which an order is carried out, or not at all."""

    revision: int
    uid: str
    version: str


@dataclass(frozen=True, kw_only=True)
class InstallCommand:
    """An accepted install. ``values`` are the caller's; ``merged_values`` are merged over the chart's, for display.

    ``layers`` are values that Helm's own parsers read; there are no others then. ``hidden_values``, of every order:
    what no text may tell besides ``values``, which is what the layers make, and the user's own of the revisions that it
    replaces or restores.
    """

    values: dict[str, Any] = field(repr=False)
    merged_values: dict[str, Any] = field(repr=False)
    disable_hooks: bool
    replace: bool
    wait: Wait
    crds: Crds = "create"
    skip_schema_validation: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    options: HelmOptions = PLAIN
    planned: Planned | None = None
    hidden_values: tuple[dict[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class UpgradeCommand:
    """An accepted upgrade; ``values`` or ``layers`` go to Helm with the flags, ``merged_values`` are their result.

    ``first_deployed`` is the release's, for display while the upgrade runs. ``recreate``: restart its workloads after.
    ``owns_namespace``: the release's objects include the Namespace that it is in. ``only_over``: None for any revision.
    """

    values: dict[str, Any] = field(repr=False)
    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    reset_values: bool
    reuse_values: bool
    recreate: bool
    wait: Wait
    crds: Crds = "skip"
    skip_schema_validation: bool = False
    owns_namespace: bool = False
    remove_namespace: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    reset_then_reuse_values: bool = False
    options: HelmOptions = PLAIN
    planned: Planned | None = None
    only_over: OnlyOver | None = None
    hidden_values: tuple[dict[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class RollbackCommand:
    """An accepted rollback to an existing revision; ``merged_values`` are that revision's."""

    to_revision: int
    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    recreate: bool
    wait: Wait
    remove_namespace: bool = False
    options: HelmOptions = PLAIN
    planned: Planned | None = None
    hidden_values: tuple[dict[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class UninstallCommand:
    """An accepted uninstall; the rest describes the release before it. ``hooks``: number of its uninstall hooks."""

    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    disable_hooks: bool
    hooks: int
    wait: Wait
    keep_history: bool = False
    cascade: Cascade = "background"
    description: str = ""
    planned: Planned | None = None
    hidden_values: tuple[dict[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class RunTestsCommand:
    """An accepted run of a release's tests; the rest describes the release. Both are names, as Helm's filters take."""

    merged_values: dict[str, Any] = field(repr=False)
    first_deployed: datetime
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden_values: tuple[dict[str, Any], ...] = field(default=(), repr=False)


#: What can be planned.
PlannableOrder = InstallCommand | UpgradeCommand | RollbackCommand | UninstallCommand
Order = PlannableOrder | RunTestsCommand

_ORDERS: dict[Action, type[Order]] = {
    Action.INSTALL: InstallCommand,
    Action.UPGRADE: UpgradeCommand,
    Action.ROLLBACK: RollbackCommand,
    Action.UNINSTALL: UninstallCommand,
    Action.TEST: RunTestsCommand,
}
#: Options that may destroy what was there, and how the audit names them; ``crds`` does as ``replace`` only.
_DESTRUCTIVE = {
    "replace": "replace",
    "crds": "crds replace",
    "remove_namespace": "remove_namespace",
    "take_ownership": "take_ownership",
    "force_replace": "force_replace",
}
#: What an older worker must not pass over, by the first version that reads it: an order that sets one of these says the
#: version, and a worker that reads less ends it as failed (docs/decisions/0018-stored-payloads.md). ``options.NAME`` is
#: a member of HelmOptions.
_FIRST_READ_BY: Final[dict[int, frozenset[str]]] = {
    2: frozenset({"layers", "reset_then_reuse_values", "options", "keep_history", "cascade", "description", "planned"}),
    3: frozenset({"only_over"}),
}
#: The newest order that this version can carry out.
_VERSION: Final = max(_FIRST_READ_BY)
#: Values repeat themselves; from here on an order is packed before it is sealed. The fastest level is enough.
_SHORTEST_PACKED: Final = 512
_LEVEL: Final = 1
#: How zlib's format begins; no JSON does.
_PACKED: Final = b"\x78"
_LARGE: Final = 64 * 1024
#: What is shown of an order while, and after, it is carried out.
_SHOWN = ("merged_values", "first_deployed")


@dataclass(frozen=True)
class SealedCommand:
    """An order as stored in the operation row: the part for attempts, and the displayed part."""

    request: bytes = field(repr=False)
    shown: bytes = field(repr=False)


@dataclass(frozen=True)
class Shown:
    """The displayed part of an order; ``first_deployed`` is the release's, None during an install."""

    values: dict[str, Any] = field(repr=False)
    first_deployed: datetime | None


def action_of(order: Order) -> Action:
    """Return the action of the order, as named in the operation row."""
    return next(action for action, kind in _ORDERS.items() if isinstance(order, kind))


def destructive_options(order: Order) -> str:
    """Return the options of the order that may destroy what was there, for the audit; "" if it has none."""
    options = {**vars(order), **vars(getattr(order, "options", PLAIN))}
    asked = (name for name in _DESTRUCTIVE if options.get(name) in (True, "replace"))
    return ", ".join(_DESTRUCTIVE[name] for name in asked)


def told_in_audit(order: Order) -> str:
    """Return what is done, which the permission alone does not say, and the options that may destroy something."""
    back = f" to revision {order.to_revision}" if isinstance(order, RollbackCommand) else ""
    destroying = destructive_options(order)
    return f"{action_of(order)}{back}{': ' if destroying else ''}{destroying}"


def hidden_values(*found: Mapping[str, Any], sent: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], ...]:
    """Return these values once each, but for the ``sent`` ones; an order has none only of an older version."""
    distinct: list[dict[str, Any]] = []
    for values in found:
        if values not in distinct and values != sent:
            distinct.append(dict(values))
    return tuple(distinct) or ({},)


def shown_of(order: Order) -> Shown:
    """Return the displayed part of the order."""
    return Shown(order.merged_values, None if isinstance(order, InstallCommand) else order.first_deployed)


async def seal_command(order: Order, *, keys: MasterKeys, operation_id: str) -> SealedCommand:
    """Return the order as stored in the operation row; it can be opened for this operation only.

    Runs in a thread if it is large: compressing 4 MB takes a tenth of a second.
    """
    plain = {"action": action_of(order), **written(order)}
    shown = {name: plain.pop(name) for name in _SHOWN if name in plain}
    context = _context(operation_id)

    def seal(text: bytes) -> bytes:
        packed = zlib.compress(text, _LEVEL) if len(text) >= _SHORTEST_PACKED else text
        return keys.seal(packed, context=context)

    texts = orjson.dumps(plain), orjson.dumps(shown)
    if sum(map(len, texts)) < _LARGE:
        return SealedCommand(*map(seal, texts))
    return SealedCommand(*await asyncio.to_thread(lambda: [seal(text) for text in texts]))


def open_order(row: OperationRow, *, keys: MasterKeys) -> Order:
    """Return the order of the operation; raise UnreadableCommand if it is damaged, newer, or of another key.

    Unknown fields are ignored, and fields that an earlier version did not write have their defaults.
    """
    if row.request_sealed is None:
        raise UnreadableCommand("the request data of the operation is gone: it had ended")
    try:
        plain = _open(row.request_sealed, keys, row.id)
        if row.shown_sealed is not None:
            plain |= _open(row.shown_sealed, keys, row.id)
        # rows of the first release carry no action: they are installs
        return read_order(Action(plain.get("action", Action.INSTALL)), plain)
    except (DecryptionFailed, ValueError, TypeError) as error:
        raise UnreadableCommand(f"the request data of the operation cannot be read: {error}") from error


def read_order(action: Action, plain: dict[str, Any]) -> Order:
    """Return the order of these fields; raise ValueError or TypeError for others."""
    return msgspec.convert(plain, _ORDERS[action])


def open_shown(row: OperationRow, *, keys: MasterKeys) -> Shown:
    """Return the displayed part of the order; empty if it is gone or unreadable: the worker says why."""
    # rows of earlier releases hold both in one
    sealed = row.shown_sealed if row.shown_sealed is not None else row.request_sealed
    if sealed is None:
        return Shown({}, None)
    try:
        plain = _open(sealed, keys, row.id)
        first_deployed = plain.get("first_deployed")
        return Shown(
            dict(plain["merged_values"]), datetime.fromisoformat(first_deployed) if first_deployed is not None else None
        )
    except (DecryptionFailed, ValueError, TypeError, KeyError) as error:
        log.warning("order_unreadable", operation_id=row.id, error=type(error).__name__)
        return Shown({}, None)


def stand_in(action: str) -> Order:
    """Return an order of that action without effect, for work after the end, or in place of an unreadable one."""
    nothing: dict[str, Any] = {"merged_values": {}, "disable_hooks": True, "wait": "none"}
    released: dict[str, Any] = {"first_deployed": datetime.now(UTC), **nothing}
    match action:
        case Action.UPGRADE:
            return UpgradeCommand(values={}, reset_values=False, reuse_values=False, recreate=False, **released)
        case Action.ROLLBACK:
            return RollbackCommand(to_revision=0, recreate=False, **released)
        case Action.UNINSTALL:
            return UninstallCommand(hooks=0, **released)
        case Action.TEST:
            return RunTestsCommand(merged_values={}, first_deployed=released["first_deployed"])
    return InstallCommand(values={}, replace=False, **nothing)


def target_of(order: Order) -> int | None:
    """Return the revision that a rollback goes back to; None for another order, and for one that cannot be read."""
    return (order.to_revision or None) if isinstance(order, RollbackCommand) else None


def written(order: Order) -> dict[str, Any]:
    """Return the fields of the order but those that have their default, which older versions need not know."""
    found = _not_default(order)
    version = needed_version(found)
    return {**found, "version": version} if version else found


def needed_version(found: Mapping[str, Any], first_read_by: Mapping[int, frozenset[str]] = _FIRST_READ_BY) -> int:
    """Return the least version that reads all of these fields; 0 if every worker does what they say."""
    named = {*found, *(f"options.{name}" for name in _not_default(found.get("options", PLAIN)))}
    return max((version for version, names in first_read_by.items() if not names.isdisjoint(named)), default=0)


def _not_default(command: Order | HelmOptions) -> dict[str, Any]:
    defaults = {
        member.name: member.default if member.default_factory is MISSING else member.default_factory()
        for member in fields(command)
    }
    return {name: getattr(command, name) for name, default in defaults.items() if getattr(command, name) != default}


def _open(sealed: bytes, keys: MasterKeys, operation_id: str) -> dict[str, Any]:
    text = keys.unseal(sealed, context=_context(operation_id))
    try:
        plain = orjson.loads(zlib.decompress(text) if text[:1] == _PACKED else text)
    except zlib.error as error:
        raise ValueError("it cannot be decompressed") from error
    if not isinstance(plain, dict):
        raise TypeError("it is not a JSON object")
    if plain.get("version", _VERSION) > _VERSION:
        raise ValueError(
            f"a newer Pilothouse wrote it (version {plain['version']}, this one reads {_VERSION}); "
            "upgrade the workers, then send the request again"
        )
    return plain


def _context(operation_id: str) -> str:
    return f"operation:{operation_id}"
