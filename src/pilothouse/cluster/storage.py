"""Helm's release Secrets: type ``helm.sh/release.v1``, payload base64(base64(gzip(JSON))) under ``release``.

Namespace, name and revision come from the Secret's own metadata, because that is what the API server vouches for; a
payload that disagrees was not written by Helm. Inflating is bounded: 500 KB can claim to be 500 MB.
Source: Helm ``pkg/storage/driver/secrets.go``, ``pkg/release/v1``.
"""

import base64
import binascii
import gzip
import json
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from pilothouse.cluster.client import ClusterClient, Secret
from pilothouse.errors import CorruptRelease

_LARGEST_PAYLOAD = 32 * 1024 * 1024
_PREFIX = "sh.helm.release.v1."
_NANOSECONDS = 6


@dataclass(frozen=True)
class ReleaseKey:
    """Which revision a Secret says it is."""

    namespace: str
    name: str
    revision: int


@dataclass(frozen=True)
class StoredRelease:
    """One revision as Helm stored it; ``values`` are the chart's with the user's laid over them."""

    namespace: str
    name: str
    revision: int
    status: str
    description: str
    chart_name: str
    chart_version: str
    values: dict[str, Any] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    manifest: str = field(repr=False)
    first_deployed: datetime
    last_deployed: datetime
    labels: dict[str, str]
    uid: str
    resource_version: str


def release_key(secret: Secret) -> ReleaseKey | None:
    """Namespace, name and revision by the Secret's metadata; None for a Secret that is no release."""
    metadata = secret.get("metadata", {})
    labels = metadata.get("labels") or {}
    name, version = labels.get("name"), str(labels.get("version", ""))
    if not name or not version.isdigit() or metadata.get("name") != f"{_PREFIX}{name}.v{version}":
        return None
    return ReleaseKey(str(metadata.get("namespace", "")), str(name), int(version))


def decode_release(secret: Secret) -> StoredRelease:
    """The release in the Secret; raises CorruptRelease, naming the Secret, for anything that Helm would not write."""
    key = release_key(secret)
    if key is None:
        raise CorruptRelease(f"Secret {_where(secret)} is not a Helm release")
    payload = _decode_payload(secret)
    info, chart = _map(payload, "info"), _map(payload, "chart")
    metadata = _map(chart, "metadata")
    if (payload.get("name"), payload.get("version"), payload.get("namespace") or key.namespace) != (
        key.name,
        key.revision,
        key.namespace,
    ):
        raise CorruptRelease(f"Secret {_where(secret)} holds the payload of another release")
    config = _map(payload, "config")
    own = secret["metadata"]
    last = _moment(info.get("last_deployed"), own)
    return StoredRelease(
        namespace=key.namespace,
        name=key.name,
        revision=key.revision,
        status=str(info.get("status", "unknown")),
        description=str(info.get("description", "")),
        chart_name=str(metadata.get("name", "")),
        chart_version=str(metadata.get("version", "")),
        values=merge_values(_map(chart, "values"), config),
        config=config,
        manifest=str(payload.get("manifest", "")),
        first_deployed=_moment(info.get("first_deployed"), own),
        last_deployed=last,
        labels=dict(own.get("labels") or {}),
        uid=str(own.get("uid", "")),
        resource_version=str(own.get("resourceVersion", "")),
    )


def merge_values(chart: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The user's values laid over the chart's: maps merge, everything else replaces, null removes the key.

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


async def unlock(client: ClusterClient, secret: Secret, *, reason: str) -> bool:
    """Turns a revision that a dead writer left pending into a failed one that nobody can change any more.

    The Secret becomes immutable, so that a writer which was only frozen cannot turn it to ``deployed`` later. False
    when the Secret changed since it was read. Raises CorruptRelease if it is no release.
    """
    payload = _inflate(secret)
    document = json.loads(payload)  # Python's own numbers keep every digit
    document["info"]["status"] = "failed"
    document["info"]["description"] = f"The operation was interrupted; unlocked by Pilothouse ({reason})"
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    encoded = base64.b64encode(base64.b64encode(gzip.compress(text, 9, mtime=0))).decode()
    unlocked = {
        **secret,
        "metadata": {**secret["metadata"], "labels": {**secret["metadata"]["labels"], "status": "failed"}},
        "data": {**secret["data"], "release": encoded},
        "immutable": True,
    }
    return await client.replace_secret(unlocked)


def _decode_payload(secret: Secret) -> dict[str, Any]:
    try:
        payload = orjson.loads(_inflate(secret))
    except orjson.JSONDecodeError as error:
        raise CorruptRelease(f"Secret {_where(secret)}: its payload is not JSON") from error
    if not isinstance(payload, dict):
        raise CorruptRelease(f"Secret {_where(secret)}: its payload is no object")
    return payload


def _inflate(secret: Secret) -> bytes:
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        if packed[:2] != b"\x1f\x8b":
            return packed  # Helm's oldest releases are not compressed
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(packed, _LARGEST_PAYLOAD)
    except (KeyError, TypeError, binascii.Error, ValueError, zlib.error) as error:
        raise CorruptRelease(f"Secret {_where(secret)}: its payload cannot be unpacked") from error
    if inflater.unconsumed_tail:
        raise CorruptRelease(f"Secret {_where(secret)}: its payload is over {_LARGEST_PAYLOAD >> 20} MiB")
    return text


def _map(holder: dict[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key) or {}
    if not isinstance(value, dict):
        raise CorruptRelease(f"a release's {key} is no map")
    return value


def _moment(text: object, metadata: dict[str, Any]) -> datetime:
    """Go's time, which has up to nine digits of a second; without one, when the Secret was made."""
    for candidate in (text, metadata.get("creationTimestamp")):
        if not isinstance(candidate, str) or candidate.startswith("0001-"):
            continue
        head, dot, rest = candidate.partition(".")
        if dot:
            digits = len(rest) - len(rest.lstrip("0123456789"))
            candidate = f"{head}.{rest[: min(digits, _NANOSECONDS)].ljust(_NANOSECONDS, '0')}{rest[digits:]}"  # noqa: PLW2901
        try:
            moment = datetime.fromisoformat(candidate)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)


def _where(secret: Secret) -> str:
    metadata = secret.get("metadata", {})
    return f"{metadata.get('namespace')}/{metadata.get('name')}"
