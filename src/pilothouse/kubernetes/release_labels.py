"""Which revisions a release has, by the metadata of its Secrets; payloads are not transferred.

A list that must be current makes the API server wait until its cache has caught up with etcd, 30 to 100 ms where much
is written. What the cache has is at hand, and so is a read by name, which is always current.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from pilothouse.kubernetes.api_client import ApiClient, resource_version
from pilothouse.kubernetes.paths import checked_name, secrets_path
from pilothouse.kubernetes.readiness import mapping
from pilothouse.states import ReleaseStatus

_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_NOT_FOUND = 404
_REVISION = re.compile(r"[0-9]{1,10}", re.ASCII)
_CACHED = {"resourceVersion": "0"}


@dataclass(frozen=True)
class ReleaseLabels:
    """One revision of a release from its Secret's metadata, without its payload."""

    revision: int
    status: str
    labels: dict[str, str]
    uid: str = ""
    resource_version: str = ""


async def list_labels(api: ApiClient, namespace: str, name: str, *, allow_stale: bool) -> list[ReleaseLabels]:
    """Return every revision, unordered.

    ``allow_stale``: the newest one is current, and the older ones are as the cache has them. Two reads by name prove
    the newest: it is there, and the next one is not; otherwise the current list decides. What these miss: a cache that
    lags by two failed upgrades of another program with a history limit of 2, as the second deletes the record of the
    first. Helm reads the current list itself before it writes, so it refuses, or counts on from, what was missed.
    """
    if allow_stale:
        cached = await _list(api, namespace, name, _CACHED)
        last = max((labels.revision for labels in cached), default=0)
        newest, further = await asyncio.gather(_find(api, namespace, name, last), _find(api, namespace, name, last + 1))
        if further is None and (newest is not None) == (last > 0):
            return [labels for labels in cached if labels.revision != last] + ([newest] if newest is not None else [])
    return await _list(api, namespace, name, {})


async def find_absence(api: ApiClient, namespace: str, name: str, *, seen_at: str) -> int | None:
    """Return the resourceVersion at which the release has no Secret; None if it has one.

    With ``seen_at``, a resourceVersion at which it had one, the cache is asked first: if that has come further and has
    no Secret, they have gone since.
    """
    if seen_at.isdecimal():
        answer = await api.ask("GET", secrets_path(namespace), params=_selector(name) | _CACHED, accept=_LIST)
        absent_at = _absent_at(answer.body)
        if absent_at is not None and absent_at > int(seen_at):
            return absent_at
    answer = await api.ask("GET", secrets_path(namespace), params=_selector(name) | {"limit": "1"}, accept=_LIST)
    return _absent_at(answer.body)


def _absent_at(listed: dict[str, Any]) -> int | None:
    return None if listed.get("items") else resource_version(listed.get("metadata"))


def _selector(name: str) -> dict[str, str]:
    return {"labelSelector": f"owner=helm,name={checked_name(name)}", "fieldSelector": "type=helm.sh/release.v1"}


async def _list(api: ApiClient, namespace: str, name: str, newest: dict[str, str]) -> list[ReleaseLabels]:
    items = api.list_objects(secrets_path(namespace), _selector(name) | newest, accept=_LIST)
    return [labels async for item in items if (labels := _read(item)) is not None]


async def _find(api: ApiClient, namespace: str, name: str, revision: int) -> ReleaseLabels | None:
    path = f"{secrets_path(namespace)}/sh.helm.release.v1.{checked_name(name)}.v{revision:d}"
    answer = await api.ask("GET", path, accept=_ONE, taken={_NOT_FOUND})
    return _read(answer.body) if answer.ok else None


def _read(item: dict[str, Any]) -> ReleaseLabels | None:
    metadata = mapping(item.get("metadata"))
    labels = mapping(metadata.get("labels"))
    version = str(labels.get("version", ""))
    if not _REVISION.fullmatch(version):
        return None
    return ReleaseLabels(
        int(version),
        str(labels.get("status", ReleaseStatus.UNKNOWN)),
        labels,
        uid=str(metadata.get("uid", "")),
        resource_version=str(metadata.get("resourceVersion", "")),
    )
