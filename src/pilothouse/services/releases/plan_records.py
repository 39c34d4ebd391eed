"""What is kept of a plan: sealed, because values are secrets, and with a digest of all that must not move.

The digest begins with a secret of the plan's own: without it, whoever may not read values could guess them by it.
It has two parts: an apply needs the record only, and does not read what the plan was compared with.
"""

import hashlib
import secrets
import zlib
from dataclasses import fields
from typing import Any, Final, TypeVar

import msgspec
import orjson

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DecryptionFailed, PlanMoved
from pilothouse.kubernetes.refusals import FieldConflict
from pilothouse.kubernetes.stored_hooks import StoredHook
from pilothouse.services.releases.commands import Order, read_order, written
from pilothouse.services.releases.submit import OperationRequest
from pilothouse.states import Action

#: The newest record that this version reads; docs/decisions/0018-stored-payloads.md. The first had both parts in one.
_VERSION: Final = 2
_LEVEL: Final = 1
Object = dict[str, Any]
Part = TypeVar("Part", "PlanRecord", "Comparison")


class LiveChange(msgspec.Struct):
    """What an object's apply would change in the cluster: ``live`` and ``applied`` if they differ, or why not known."""

    api_version: str
    kind: str
    namespace: str
    name: str
    live: Object | None = None
    applied: Object | None = None
    problem: str = ""
    unchanged: bool = False
    conflicts: tuple[FieldConflict, ...] = ()
    refused: bool = False


class Base(msgspec.Struct):
    """The newest revision, over which the plan was made; ``revision`` is 0 if there was none."""

    revision: int = 0
    uid: str = ""
    version: str = ""


class Deployed(msgspec.Struct):
    """The deployed revision, which changes are against; ``deployed_revision`` is 0 if there was none."""

    deployed_revision: int = 0
    manifest: str = ""
    namespace: str = ""
    values: Object = msgspec.field(default_factory=dict)
    config: Object = msgspec.field(default_factory=dict)


class Source(msgspec.Struct):
    """Values of one origin; the later ones win."""

    name: str
    values: Object


class PlanRecord(msgspec.Struct):
    """A plan. ``operation`` has the fields of its OperationRequest, ``order`` those of its command."""

    action: Action
    cluster_id: str
    cluster_name: str
    api_server: str
    operation: dict[str, Any]
    order: dict[str, Any]
    base: Base
    manifest: str = ""
    notes: str = ""
    hooks: list[StoredHook] = msgspec.field(default_factory=list)
    values: Object = msgspec.field(default_factory=dict)
    findings: list[str] = msgspec.field(default_factory=list)
    salt: str = msgspec.field(default_factory=lambda: secrets.token_hex(16))
    version: int = _VERSION

    @property
    def namespace(self) -> str:
        """The release's namespace."""
        return str(self.operation["namespace"])

    @property
    def release_name(self) -> str:
        """The release's name."""
        return str(self.operation["release_name"])

    def digest(self) -> str:
        """Return the digest of all that must not move until the plan is applied."""
        bound = {
            "salt": self.salt,
            "action": self.action,
            "cluster": [self.cluster_id, self.api_server],
            "operation": self.operation,  # with the chart's digest
            "order": self.order,  # with values and options
            "base": [self.base.revision, self.base.uid, self.base.version],
            "values": self.values,
            "manifest": self.manifest,
            "notes": self.notes,
            "hooks": [[hook.path, hook.manifest] for hook in self.hooks],
        }
        return "sha256:" + hashlib.sha256(orjson.dumps(bound, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def as_request(self, plan_id: str) -> OperationRequest:
        """Return the operation that applies the plan."""
        planned = {
            "base_revision": self.base.revision,
            "base_uid": self.base.uid,
            "base_version": self.base.version,
        }
        if self.action is not Action.UNINSTALL:
            hooks = [{"path": hook.path, "manifest": hook.manifest} for hook in self.hooks]
            planned |= {"manifest": self.manifest, "notes": self.notes, "hooks": hooks}
        order = read_order(self.action, {**self.order, "planned": planned})
        return OperationRequest(**self.operation, order=order, plan_id=plan_id)


class Comparison(msgspec.Struct):
    """What a plan was compared with, and what that showed: for people only.

    ``base`` is what was deployed, ``sources`` are where values come from. Of the ``warnings``, ``refusals`` are those
    that the cluster itself gave, and ``chosen`` those that options of the order ask for and that destroy nothing.
    """

    base: Deployed = msgspec.field(default_factory=Deployed)
    sources: list[Source] = msgspec.field(default_factory=list)
    live: list[LiveChange] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    refusals: list[str] = msgspec.field(default_factory=list)
    chosen: list[str] = msgspec.field(default_factory=list)
    version: int = _VERSION


def has_option(record: PlanRecord, name: str) -> bool:
    """Return True if that option of Helm is set in the order."""
    return bool(record.order.get("options", {}).get(name))


def operation_fields(request: OperationRequest) -> dict[str, Any]:
    """Return the fields of the request but the order, for a record."""
    return {
        field.name: getattr(request, field.name) for field in fields(request) if field.name not in ("order", "plan_id")
    }


def order_fields(order: Order) -> dict[str, Any]:
    """Return the fields of the order as they are stored, for a record."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(written(order)))
    return plain


def seal_plan(record: PlanRecord, comparison: Comparison, *, keys: MasterKeys, plan_id: str) -> tuple[bytes, bytes]:
    """Return both parts as stored. Takes milliseconds per megabyte."""

    def seal(part: PlanRecord | Comparison, context: str) -> bytes:
        return keys.seal(zlib.compress(msgspec.json.encode(part), _LEVEL), context=context)

    return seal(record, _context(plan_id)), seal(comparison, _comparison_context(plan_id))


def open_record(sealed: bytes, *, keys: MasterKeys, plan_id: str) -> PlanRecord:
    """Return the record; raise PlanMoved if it is damaged, newer, or of another key."""
    return _open(_record_decoder, sealed, keys, plan_id, context=_context(plan_id))


def open_comparison(sealed: bytes | None, record: bytes, *, keys: MasterKeys, plan_id: str) -> Comparison:
    """Return the comparison, of a plan that has none of its own from its sealed record; raise as ``open_record``."""
    if sealed is None:
        return _open(_comparison_decoder, record, keys, plan_id, context=_context(plan_id))
    return _open(_comparison_decoder, sealed, keys, plan_id, context=_comparison_context(plan_id))


def _open(decoder: msgspec.json.Decoder[Part], sealed: bytes, keys: MasterKeys, plan_id: str, *, context: str) -> Part:
    try:
        part = decoder.decode(zlib.decompress(keys.unseal(sealed, context=context)))
    except (DecryptionFailed, zlib.error, msgspec.DecodeError) as error:
        raise PlanMoved(f"plan {plan_id} cannot be read: {error}; plan again") from error
    if part.version > _VERSION:
        raise PlanMoved(f"plan {plan_id} was written by a newer Pilothouse; plan again")
    return part


def _context(plan_id: str) -> str:
    return f"plan:{plan_id}"


def _comparison_context(plan_id: str) -> str:
    return f"plan-comparison:{plan_id}"


_record_decoder = msgspec.json.Decoder(PlanRecord)
_comparison_decoder = msgspec.json.Decoder(Comparison)
