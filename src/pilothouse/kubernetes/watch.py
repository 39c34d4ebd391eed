"""Events of a watch over Helm's Secrets: one JSON object per line.

Source: Kubernetes API concepts, "Efficient detection of changes". An invalid line is skipped and counted: it must not
end the watch, because it would come again after reconnecting.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from pilothouse.errors import ClusterUnavailable
from pilothouse.kubernetes.api_client import ListExpired, resource_version
from pilothouse.kubernetes.client import ClusterClient, Secret
from pilothouse.kubernetes.json_lines import parse_line
from pilothouse.kubernetes.transport import Answer, StreamRefused


@dataclass(frozen=True)
class SecretChange:
    """A Secret that was created or changed or, with ``gone``, deleted at its resourceVersion."""

    secret: Secret = field(repr=False)
    gone: bool


@dataclass(frozen=True)
class WatchBatch:
    """Events that arrived together, ``size`` bytes. After them, everything up to ``resource_version`` is known."""

    changes: list[SecretChange]
    resource_version: int
    unreadable: int
    size: int = 0

    def followed_by(self, later: "WatchBatch") -> "WatchBatch":
        """Return both combined."""
        return WatchBatch(
            [*self.changes, *later.changes],
            later.resource_version,
            self.unreadable + later.unreadable,
            self.size + later.size,
        )


async def watch_releases(
    client: ClusterClient, *, since: int, window_seconds: int, idle_seconds: float
) -> AsyncGenerator[WatchBatch, None]:
    """Yield the changes of Helm's Secrets after ``since``, for ``window_seconds``; an empty one on acceptance.

    Of several namespaces, what is known is what is known of each. Raises ListExpired if the server no longer knows what
    happened since, and ClusterUnavailable or ClusterDenied.
    """
    watches = [
        _watch(client, place, since=since, window_seconds=window_seconds, idle_seconds=idle_seconds)
        for place in client.places
    ]
    known = [since] * len(watches)
    async with aclosing(_merge(watches)) as merged:
        async for index, batch in merged:
            known[index] = batch.resource_version
            yield replace(batch, resource_version=min(known))


async def _merge(
    watches: Sequence[AsyncGenerator[WatchBatch, None]],
) -> AsyncGenerator[tuple[int, WatchBatch], None]:
    """Yield what any of the watches yields, with its number, until the first of them ends; then close them all."""
    coming: dict[asyncio.Task[WatchBatch], int] = {}
    try:
        coming = {asyncio.ensure_future(anext(watch)): index for index, watch in enumerate(watches)}
        while True:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = coming.pop(task)
                try:
                    batch = task.result()
                except StopAsyncIteration:
                    return
                coming[asyncio.ensure_future(anext(watches[index]))] = index
                yield index, batch
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for watch in watches:
            await watch.aclose()


async def _watch(
    client: ClusterClient, place: str | None, *, since: int, window_seconds: int, idle_seconds: float
) -> AsyncGenerator[WatchBatch, None]:
    known = since
    lines = client.watch_release_secrets(place, since=since, window_seconds=window_seconds, idle_seconds=idle_seconds)
    try:
        async with aclosing(lines):
            async for some in lines:
                batch = _read(some, known)
                known = batch.resource_version
                yield batch
    except StreamRefused as error:
        if error.status == HTTPStatus.GONE:
            raise ListExpired(str(error)) from error
        raise


def _read(lines: list[bytes], known: int) -> WatchBatch:
    changes, unreadable = [], 0
    for line in lines:
        kind, item = _event(line)
        if item is None:
            unreadable += bool(line.strip()) or not line
            continue
        if kind == "ERROR":
            _give_up(item)
        try:
            known = resource_version(item.get("metadata"))
        except ClusterUnavailable:
            unreadable += 1
            continue
        if kind != "BOOKMARK":
            changes.append(SecretChange(item, gone=kind == "DELETED"))
    return WatchBatch(changes, known, unreadable, sum(map(len, lines)))


def _event(line: bytes) -> tuple[str, dict[str, Any] | None]:
    event = parse_line(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        return "", None
    kind = event.get("type")
    if kind not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"}:
        return "", None
    return kind, event["object"]


def _give_up(status: dict[str, Any]) -> None:
    code = status.get("code")
    message = Answer(code if isinstance(code, int) else 0, status).message
    if code == HTTPStatus.GONE:
        raise ListExpired(f"the watch has expired: {message}")
    raise ClusterUnavailable(f"the watch ended with {code}: {message}")
