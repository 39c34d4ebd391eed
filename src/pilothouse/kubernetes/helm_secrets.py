"""Helm's release Secrets: type ``helm.sh/release.v1``, payload base64(base64(gzip(JSON))) under ``release``.

Namespace, name and revision come from the Secret's own metadata, because the API server guarantees those; a payload
with another name or revision was not written by Helm. A different namespace in the payload is where the objects are:
Flux stores a release with a ``targetNamespace`` like this, and Helm lists it where its Secret is. Anyone who can write
Secrets in a namespace controls what is read here, so inflating is bounded (500 KB can claim to be 500 MB), and only the
JSON fields named below are built. Source: Helm ``pkg/storage/driver``, ``pkg/release/v1``.
"""

import asyncio
import base64
import gzip
import json
import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.budget import keep
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.json_lines import MOST_VALUES, count_values
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.values import merge_values
from pilothouse.redaction import masks_of
from pilothouse.states import ReleaseStatus

#: On every revision that an operation installs or upgrades to: with its number, a proof of who wrote it.
OPERATION_LABEL = "pilothouse.dev/operation"

#: What is read of a release at most, unpacked: anybody who may write Secrets can make one that never ends.
LARGEST_PAYLOAD = 32 * 1024 * 1024
_LARGEST_VALUES = 4 * 1024 * 1024
_LARGEST_HOOKS = 2 * 1024 * 1024
#: What Kubernetes allows for a Secret's data.
_LARGEST_SECRET = 1024 * 1024
_PREFIX = "sh.helm.release.v1."
_REVISION = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
#: The statuses that a writer leaves while it acts; Helm refuses to write over a pending one.
PENDING = frozenset({ReleaseStatus.PENDING_INSTALL, ReleaseStatus.PENDING_UPGRADE, ReleaseStatus.PENDING_ROLLBACK})
UNINSTALLING = ReleaseStatus.UNINSTALLING
LOCKED = PENDING | {UNINSTALLING}
_LAST_YEAR = 9999
_NEVER = datetime.fromtimestamp(0, UTC)
_BLANKS = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class ReleaseKey:
    """The revision that a Secret claims to be."""

    namespace: str
    name: str
    revision: int


@dataclass(frozen=True)
class StoredRelease:
    """One revision as Helm stored it.

    ``values`` are the chart's with ``config``, the user's own, merged over them. A time that Helm left empty is
    replaced by the creation time of the Secret, ``created_at``. ``target_namespace``: where its objects are.
    ``acted_at``: when the last action on it began. ``deleted_at``: when an uninstall of it began that has kept its
    history; None without one. ``unlocked``: its last writer died, and ``unlock`` made it
    immutable. ``apply_method``: who applied it, by Helm's words: the server (``ssa``) or the client.
    ``chart_deprecated``: its chart says that nobody maintains it any more.
    ``rollback_revision``: what it was rolled back to; 0 for another action, and if an older Helm wrote it.
    """

    namespace: str
    name: str
    revision: int
    status: str
    description: str
    chart_name: str
    chart_version: str
    values: dict[str, Any] = field(repr=False)
    chart_values: dict[str, Any] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    manifest: str = field(repr=False)
    first_deployed: datetime
    last_deployed: datetime
    labels: dict[str, str]
    uid: str
    resource_version: str
    target_namespace: str
    created_at: datetime
    acted_at: datetime
    deleted_at: datetime | None = None
    hooks_json: bytes = field(default=b"", repr=False)
    unlocked: bool = False
    app_version: str = ""
    notes: str = field(default="", repr=False)
    apply_method: str = ""
    rollback_revision: int = 0
    chart_deprecated: bool = False

    def count_hooks(self, *events: str) -> int:
        """Return how many hooks run at one of the events; 0 if the hooks are unreadable or too many."""
        if len(self.hooks_json) > _LARGEST_HOOKS:
            return 0
        try:
            hooks = _hooks_decoder.decode(self.hooks_json or b"[]")
        except _UNREADABLE:
            return 0
        return sum(1 for hook in hooks or () if not set(events).isdisjoint(hook.events or ()))

    def hook_manifests(self, *, broken: bool = False) -> list[str]:
        """Return the hooks' manifests, optionally only those that started and did not succeed; none if unreadable."""
        runs = self._hook_runs()
        return [run.manifest for run in runs if not broken or (run.last_run and run.last_run.phase in _BROKEN)]

    def begun_hooks(self) -> list[str]:
        """Return the manifests of the hooks that the last action started, in order; earlier runs do not count."""
        begun = [(_moment(run.last_run.started_at, {}), run.manifest) for run in self._hook_runs() if run.last_run]
        return [manifest for moment, manifest in sorted(begun) if moment >= self.acted_at]

    def _hook_runs(self) -> list["_HookRun"]:
        if len(self.hooks_json) > _LARGEST_HOOKS:
            return []
        try:
            return _hook_runs_decoder.decode(self.hooks_json or b"[]") or []
        except _UNREADABLE:
            return []


class _Info(msgspec.Struct):
    status: str = ""
    description: str = ""
    first_deployed: str | None = None
    last_deployed: str | None = None
    deleted: str | None = None
    notes: str = ""
    rollback_revision: int = 0


class _Metadata(msgspec.Struct):
    name: str = ""
    version: str = ""
    app_version: str = msgspec.field(default="", name="appVersion")
    deprecated: msgspec.Raw = msgspec.Raw(b"false")


class _Chart(msgspec.Struct):
    metadata: _Metadata
    values: msgspec.Raw = msgspec.Raw(b"{}")


class _Hook(msgspec.Struct):
    events: list[str] | None = None


class _LastRun(msgspec.Struct):
    phase: str = ""
    started_at: str | None = None


class _HookRun(msgspec.Struct):
    manifest: str = ""
    last_run: _LastRun | None = None


class _Payload(msgspec.Struct):
    name: str
    version: int
    info: _Info
    chart: _Chart
    namespace: str = ""
    config: msgspec.Raw = msgspec.Raw(b"{}")
    manifest: str = ""
    hooks: msgspec.Raw = msgspec.Raw(b"")
    apply_method: str = ""


_TELLS_OF_ERROR = re.compile(r"(?i)fail|error|invalid|forbidden|refused|denied|cannot")
#: What msgspec raises: for text that is not UTF-8 nothing of its own.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_payload_decoder = msgspec.json.Decoder(_Payload)
_hooks_decoder = msgspec.json.Decoder(list[_Hook] | None)
_hook_runs_decoder = msgspec.json.Decoder(list[_HookRun] | None)
#: Helm's phases of a hook that runs, or ended badly, or whose end nobody wrote down.
_BROKEN = frozenset({"Running", "Failed", "Unknown"})


def release_key(secret: Secret) -> ReleaseKey | None:
    """Return namespace, name and revision from the Secret's metadata; None for a Secret that is not a release."""
    metadata = mapping(secret.get("metadata"))
    labels = mapping(metadata.get("labels"))
    name, version = str(labels.get("name", "")), str(labels.get("version", ""))
    if not name or not _REVISION.fullmatch(version) or metadata.get("name") != f"{_PREFIX}{name}.v{version}":
        return None
    return ReleaseKey(str(metadata.get("namespace", "")), name, int(version))


def decode_release(secret: Secret, *, max_bytes: int = LARGEST_PAYLOAD) -> StoredRelease:
    """Decode the release in the Secret, which unpacks to at most ``max_bytes``.

    Raises CorruptRelease, naming the Secret, for anything that Helm would not write.
    """
    key = release_key(secret)
    if key is None:
        raise _corrupt(secret, "is not a Helm release")
    try:
        payload = _payload_decoder.decode(inflate_payload(secret, max_bytes=max_bytes))
    except _UNREADABLE:
        raise _corrupt(secret, "does not contain what Helm writes") from None
    if (payload.name, payload.version) != (key.name, key.revision):
        raise _corrupt(secret, "contains the payload of another release")
    chart_values, config = _values(secret, payload.chart.values), _values(secret, payload.config)
    own = secret["metadata"]
    deleted_at = _moment(payload.info.deleted, {})
    return StoredRelease(
        namespace=key.namespace,
        name=key.name,
        revision=key.revision,
        status=payload.info.status or ReleaseStatus.UNKNOWN,
        description=_without_values(payload.info.description, key, config),
        chart_name=payload.chart.metadata.name,
        chart_version=payload.chart.metadata.version,
        values=_merged(secret, chart_values, config),
        chart_values=chart_values,
        config=config,
        manifest=payload.manifest,
        first_deployed=_moment(payload.info.first_deployed, own),
        last_deployed=_moment(payload.info.last_deployed, own),
        labels=dict(own["labels"]),
        uid=str(own.get("uid", "")),
        resource_version=str(own.get("resourceVersion", "")),
        target_namespace=payload.namespace or key.namespace,
        created_at=_moment(None, own),
        acted_at=max(_moment(payload.info.last_deployed, own), deleted_at),
        deleted_at=deleted_at if deleted_at > _NEVER else None,
        hooks_json=bytes(payload.hooks),
        unlocked=bool(secret.get("immutable")),
        app_version=payload.chart.metadata.app_version,
        chart_deprecated=bytes(payload.chart.metadata.deprecated) == b"true",
        notes=payload.info.notes,
        apply_method=payload.apply_method,
        rollback_revision=payload.info.rollback_revision,
    )


async def read_release(secret: Secret) -> StoredRelease:
    """Decode in a thread and count the unpacked bytes in the request's budget; raise what both raise."""
    stored = await asyncio.to_thread(decode_release, secret)
    size = len(stored.manifest) + len(stored.hooks_json)
    keep(size, unpacked=size)
    return stored


def _without_values(description: str, key: ReleaseKey, config: dict[str, Any]) -> str:
    """Return Helm's description; error details are dropped because they can quote values, which are secret."""
    if not config or not _TELLS_OF_ERROR.search(description):
        return description
    return masks_of(values=config, public=(key.namespace, key.name)).apply(description)


def newest(releases: list[StoredRelease]) -> StoredRelease | None:
    """Return the release with the highest revision."""
    return max(releases, key=lambda release: release.revision, default=None)


async def unlock(
    client: ClusterClient, secret: Secret, *, reason: str, why: str = "The operation was interrupted"
) -> bool:
    """Turn a revision that a dead writer left pending into a failed, immutable one.

    The Secret becomes immutable, so that a writer that was only frozen cannot turn it to ``deployed`` later; ``why`` it
    failed becomes its description, with the ``reason`` of the unlock. Returns False if there is nothing to unlock, or
    if the Secret changed since it was read. Raises CorruptRelease if it is not a release.
    """
    description = {"description": f"{why}; marked as failed by Pilothouse ({reason})"}
    unlocked = await asyncio.to_thread(_turned, secret, LOCKED, ReleaseStatus.FAILED, description)
    if unlocked is not None and len(unlocked["data"]["release"]) * 3 // 4 > _LARGEST_SECRET:
        unlocked = await asyncio.to_thread(_turned, secret, LOCKED, ReleaseStatus.FAILED, {})
    return unlocked is not None and await client.replace_secret({**unlocked, "immutable": True})


async def supersede(client: ClusterClient, secret: Secret) -> bool:
    """Turn a deployed revision into a superseded one, as Helm does when it deploys the next.

    Returns False if it is not deployed, or if the Secret changed since it was read. Raises CorruptRelease if it is not
    a release.
    """
    superseded = await asyncio.to_thread(
        _turned, secret, frozenset({ReleaseStatus.DEPLOYED}), ReleaseStatus.SUPERSEDED, {}
    )
    return superseded is not None and await client.replace_secret(superseded)


def _turned(secret: Secret, before: frozenset[str], status: str, info: dict[str, str]) -> Secret | None:
    """Return the Secret with another status, if it has one of ``before``; repacking a large one takes a second."""
    return _with_status(secret, status, info) if decode_release(secret).status in before else None


def _with_status(secret: Secret, status: str, info: dict[str, str]) -> Secret:
    """Return the Secret with that status in payload and label, and with more fields of the payload's ``info``."""
    text = inflate_payload(secret, max_bytes=LARGEST_PAYLOAD).decode()
    metadata = secret["metadata"]
    changed = {
        **secret,
        "metadata": {**metadata, "labels": {**metadata["labels"], "status": status}},
        "data": {**secret["data"], "release": encode_payload(_with_info(text, {"status": status} | info))},
    }
    if decode_release(changed).status != status:
        raise _corrupt(secret, "names its status twice")
    return changed


def encode_payload(text: str) -> str:
    """Encode a payload's JSON for the Secret's ``data.release``."""
    return base64.b64encode(base64.b64encode(gzip.compress(text.encode(), 9, mtime=0))).decode()


def _with_info(text: str, changes: dict[str, str]) -> str:
    """Set fields of ``info`` in the payload; all other bytes are unchanged, so that no number is reformatted."""
    decoder = json.JSONDecoder()
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        key, end = decoder.raw_decode(text, position)
        start = _skip(text, _skip(text, end) + 1)
        value, end = decoder.raw_decode(text, start)
        if key == "info":
            info = json.dumps({**value, **changes}, ensure_ascii=False, separators=(",", ":"))
            return text[:start] + info + text[end:]
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    raise ValueError("no info")  # decode_release has seen it


def _skip(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def inflate_payload(secret: Secret, *, max_bytes: int) -> bytes:
    """Return the JSON text of the payload, of at most ``max_bytes``; raise CorruptRelease for anything else."""
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"], validate=True), validate=True)
        if packed[:3] != b"\x1f\x8b\x08":
            return packed[:max_bytes]  # Helm's oldest releases are not compressed
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(packed, max_bytes + 1)
    except (KeyError, TypeError, ValueError, zlib.error):
        raise _corrupt(secret, "has a payload that cannot be unpacked") from None
    if len(text) > max_bytes:
        raise _corrupt(secret, f"has a payload that unpacks to more than {max_bytes} bytes")
    if not inflater.eof:
        raise _corrupt(secret, "has a payload that is cut off")
    return text


def _values(secret: Secret, raw: msgspec.Raw) -> dict[str, Any]:
    text = bytes(raw)
    if len(text) > _LARGEST_VALUES:
        raise _corrupt(secret, f"holds values of more than {_LARGEST_VALUES} bytes")
    if count_values(text) > MOST_VALUES:
        raise _corrupt(secret, f"holds more than {MOST_VALUES} values")
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise _corrupt(secret, "holds values that are not JSON") from None
    if values is not None and not isinstance(values, dict):
        raise _corrupt(secret, "contains values that are not a map")
    return values or {}


def _merged(secret: Secret, chart: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    try:
        merged = merge_values(chart, config)
        orjson.dumps(merged)
    except (RecursionError, orjson.JSONEncodeError):
        raise _corrupt(secret, "holds values that are nested too deep") from None
    return merged


def _moment(text: str | None, metadata: dict[str, Any]) -> datetime:
    """Parse Go's time as an aware one; an empty or zero time is replaced by the Secret's creation time."""
    for candidate in (text, metadata.get("creationTimestamp")):
        if not isinstance(candidate, str) or candidate.startswith("0001-"):
            continue
        try:
            moment = datetime.fromisoformat(candidate)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
        if moment.year < _LAST_YEAR:  # beyond it other zones and the database cannot follow
            return moment
    return _NEVER


def _corrupt(secret: Secret, problem: str) -> CorruptRelease:
    metadata = mapping(secret.get("metadata"))
    return CorruptRelease(f"Secret {metadata.get('namespace')}/{metadata.get('name')} {problem}")
