"""The part of a Kubernetes API server that the observer talks to, with the accidents that a real one has seldom.

Secrets are listed in pages and watched. It can forget its past (410), be restored from a backup (lower
resourceVersions), fall silent, cut connections and say what no API server says.
"""

import asyncio
import copy
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

Secret = dict[str, Any]


class SecretStorage:
    """One server's Secrets; ``handle`` serves one connection."""

    def __init__(self) -> None:
        self.version = 100
        self.secrets: dict[tuple[str, str], Secret] = {}
        self.requests: list[str] = []
        self.page = 2
        self.silent = False
        self._events: list[tuple[int, bytes]] = []
        self._oldest = 0
        self._lists: dict[str, tuple[int, list[Secret]]] = {}
        self._changed = asyncio.Condition()
        self._generation = 0

    async def put(self, secret: Secret) -> None:
        """Make or change a Secret."""
        self.version += 1
        stored = copy.deepcopy(secret)
        stored["metadata"]["resourceVersion"] = str(self.version)
        known = _key(stored) in self.secrets
        self.secrets[_key(stored)] = stored
        await self.say({"type": "MODIFIED" if known else "ADDED", "object": stored})

    async def delete(self, secret: Secret) -> None:
        """Delete a Secret."""
        self.version += 1
        gone = self.secrets.pop(_key(secret))
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self.say({"type": "DELETED", "object": gone})

    async def say(self, event: dict[str, Any] | bytes) -> None:
        """One line of every watch; an error is said once."""
        line = event if isinstance(event, bytes) else json.dumps(event).encode()
        self._events.append((self.version, line + b"\n"))
        async with self._changed:
            self._changed.notify_all()

    async def forget(self) -> None:
        """As after a compaction: what happened before now is no longer known."""
        self._oldest = self.version + 1
        self.version += 1
        await self.cut()

    async def restore(self, secrets: Iterable[Secret], *, version: int) -> None:
        """As after a restored backup: other Secrets, lower versions, no past."""
        self.secrets = {_key(secret): copy.deepcopy(secret) for secret in secrets}
        self.version, self._events, self._oldest = version, [], 0
        await self.cut()

    async def cut(self) -> None:
        """End every watch that is open."""
        self._generation += 1
        async with self._changed:
            self._changed.notify_all()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers requests until the peer closes."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            self.requests.append(target)
            query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            if "watch" in query:
                await self._watch(writer, since=int(query["resourceVersion"]), seconds=float(query["timeoutSeconds"]))
                return
            await self._list(writer, query)

    async def _list(self, writer: asyncio.StreamWriter, query: dict[str, str]) -> None:
        nothing = "owner!=helm" in query["labelSelector"]
        token = query.get("continue", "")
        if token in self._lists:
            version, left = self._lists.pop(token)
            if version < self._oldest:
                await _answer(writer, 410, {"kind": "Status", "code": 410, "message": "the continue token expired"})
                return
        else:
            version = self.version
            left = [] if nothing else [self.secrets[key] for key in sorted(self.secrets)]
        items, left = left[: self.page], left[self.page :]
        metadata = {"resourceVersion": str(version)}
        if left:
            metadata["continue"] = f"{version}-{len(left)}"
            self._lists[metadata["continue"]] = (version, left)
        await _answer(writer, 200, {"kind": "SecretList", "metadata": metadata, "items": items})

    async def _watch(self, writer: asyncio.StreamWriter, *, since: int, seconds: float) -> None:
        if since < self._oldest - 1:
            status = {"kind": "Status", "code": 410, "message": "too old resource version"}
            await _answer(writer, 200, {"type": "ERROR", "object": status})
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        generation, sent = self._generation, 0
        until = asyncio.get_running_loop().time() + seconds
        while self._generation == generation:
            for version, line in self._events[sent:]:
                if version > since and not self.silent:
                    writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self._events = [one for one in self._events if b'"ERROR"' not in one[1]]
            await writer.drain()
            sent = len(self._events)
            left = until - asyncio.get_running_loop().time()
            if left <= 0 and not self.silent:
                break
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait(), max(left, 0.01))
                except TimeoutError:
                    continue
        if self._generation == generation:
            writer.write(b"0\r\n\r\n")


def _key(secret: Secret) -> tuple[str, str]:
    return secret["metadata"]["namespace"], secret["metadata"]["name"]


async def _answer(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
    await writer.drain()
