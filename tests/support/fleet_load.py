"""Clients of a fleet, as behind a balancer: what one API does not answer goes to another; writes have a key to repeat.

Writers lead releases through installs and upgrades, and remember what was accepted; readers ask for them at a fixed
rate, and remember how long each answer took. Afterwards everything accepted must have happened, and happened once.
"""

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
from psycopg.rows import dict_row

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

#: How long a client tries, over all APIs.
_PATIENCE_SECONDS = 60.0
_RETRY_SECONDS = 0.1
_READ_SECONDS = 30.0


@dataclass
class Accepted:
    """What an API accepted for one release, in order: operation ids, and the text that the last one set."""

    name: str
    operations: list[str] = field(default_factory=list)
    text: str = ""


@dataclass
class Read:
    """One answer: when it was asked for, by the monotonic clock, and how long it took with all its tries."""

    at: float
    seconds: float


class Balanced:
    """One client of all APIs that there are at the time."""

    def __init__(self, apis: Callable[[], list[RunningServer]]) -> None:
        self._apis = apis
        self._turns = itertools.count()
        self._http = httpx2.AsyncClient(trust_env=False, timeout=_READ_SECONDS)
        self.failures: Counter[str] = Counter()

    async def send(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """Return the first answer that is no failure of the server: 5xx, 429 and broken connections are tried again."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                answer = await self._http.send(signed_request(self._next(), method, path, body, headers or {}))
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                problem = str(answer.status_code)
            except httpx2.HTTPError as error:
                problem = type(error).__name__
            self.failures[problem] += 1
            assert time.monotonic() < until, f"{method} {path}: {problem} for {_PATIENCE_SECONDS:g} s"
            await asyncio.sleep(_RETRY_SECONDS)

    def _next(self) -> RunningServer:
        apis = self._apis()
        return apis[next(self._turns) % len(apis)]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def signed_request(
    server: RunningServer, method: str, path: str, body: bytes, headers: dict[str, str]
) -> httpx2.Request:
    request = httpx2.Request(
        method, server.url + path, content=body, headers={"Content-Type": "application/json", **headers}
    )
    request.headers.update(
        sign(
            SignedRequest(
                method=method,
                raw_path=request.url.raw_path.split(b"?")[0],
                query_string=request.url.query,
                headers=[(b"host", request.headers["host"].encode())],
                body_digest=body_digest(body),
                body_empty=not body,
            ),
            access_key=server.access_key,
            secret_key=server.secret_key,
            now=datetime.now(UTC),
        )
    )
    return request


class Load:
    """Writers and readers, until they are told to stop."""

    def __init__(self, apis: Callable[[], list[RunningServer]], *, chart_id: str, namespace: str) -> None:
        self._client = Balanced(apis)
        self._cluster_id = apis()[0].cluster_id
        self._chart_id = chart_id
        self._namespace = namespace
        self._over = asyncio.Event()
        self.accepted: list[Accepted] = []
        self.reads: list[Read] = []

    @property
    def failures(self) -> Counter[str]:
        """Tries that did not succeed, by status or kind."""
        return self._client.failures

    async def run(self, stop: asyncio.Event, *, writers: int, reads_per_second: float) -> None:
        """Write and read until ``stop``; then let what is under way end."""
        reading = asyncio.create_task(self._read(1 / reads_per_second))
        writing = [asyncio.create_task(self._write(f"web-{number}", stop)) for number in range(writers)]
        try:
            await asyncio.gather(*writing)
        finally:
            self._over.set()
            for task in writing:
                task.cancel()
            await asyncio.gather(reading, *writing, return_exceptions=True)
            await self._client.close()
        reading.result()

    async def _write(self, name: str, stop: asyncio.Event) -> None:
        one = Accepted(name)
        self.accepted.append(one)
        while not stop.is_set():
            text = uuid.uuid4().hex
            if not one.operations:
                body = {
                    "chart_id": self._chart_id,
                    "name": name,
                    "namespace": self._namespace,
                    "values": {"text": text},
                }
                path, method = f"/cce/cam/v3/clusters/{self._cluster_id}/releases", "POST"
            else:
                body = {"chart_id": self._chart_id, "action": "upgrade", "parameters": {}}
                path, method = self._path(name), "PUT"
            content = json.dumps(body | {"values": {"text": text}}).encode()
            answer = await self._client.send(method, path, content, headers={"Idempotency-Key": text})
            assert answer.status_code in {200, 201}, answer.text
            one.operations.append(answer.headers["x-operation-id"])
            one.text = text
            await self._wait(one.operations[-1])

    async def _wait(self, operation_id: str) -> None:
        until = time.monotonic() + 2 * _PATIENCE_SECONDS
        while True:
            answer = await self._client.send("GET", f"/api/v1/operations/{operation_id}")
            assert answer.status_code == 200, answer.text
            if answer.json()["state"] not in {"queued", "running", "cancelling"}:
                return
            assert time.monotonic() < until, answer.text
            await asyncio.sleep(0.1)

    async def _read(self, every: float) -> None:
        """Ask at fixed times, however long answers take: who waits must not hide that others would wait too."""
        asking: set[asyncio.Task[None]] = set()
        due, turns = time.monotonic(), itertools.count()
        while not self._over.is_set():
            if ready := [one.name for one in self.accepted if one.operations]:
                asking.add(asyncio.create_task(self._ask(ready[next(turns) % len(ready)])))
            asking = {task for task in asking if not task.done() or task.result()}
            due += every
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*asking)

    async def _ask(self, name: str) -> None:
        began = time.monotonic()
        answer = await self._client.send("GET", self._path(name))
        assert answer.status_code == 200, answer.text
        self.reads.append(Read(began, time.monotonic() - began))

    def _path(self, name: str) -> str:
        return f"/cce/cam/v3/clusters/{self._cluster_id}/namespace/{self._namespace}/releases/{name}"


@dataclass(frozen=True)
class Verdict:
    """What became of everything that was accepted; the lists are empty if all is well."""

    accepted: int
    lost: list[str]
    doubled: list[str]
    again: int


def judge(database_url: str, accepted: list[Accepted], helm: HelmCommand, *, namespace: str) -> Verdict:
    """Compare what was accepted with the database, and with what helm and the cluster say.

    Lost is an operation that has not succeeded, or whose effect is not there. Doubled is one that no client sent, and a
    release with two deployed revisions. An attempt that died is done again by the next one: that makes a further
    revision of the same operation, and is counted apart.
    """
    lost, doubled, again, number = [], [], 0, 0
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as rows:
        for one in accepted:
            found = rows.execute(
                "SELECT id, state, attempt FROM operations WHERE namespace = %s AND release_name = %s",
                [namespace, one.name],
            ).fetchall()
            states = {row["id"]: row["state"] for row in found}
            number += len(one.operations)
            again += sum(row["attempt"] - 1 for row in found)
            lost += [
                f"{one.name}: {each} is {states.get(each)}"
                for each in one.operations
                if states.get(each) != "succeeded"
            ]
            doubled += [f"{one.name}: nobody sent {each}" for each in states.keys() - set(one.operations)]
            lost_here, doubled_here = _judge_release(one, helm, namespace)
            lost += lost_here
            doubled += doubled_here
    return Verdict(number, lost, doubled, again)


def _judge_release(one: Accepted, helm: HelmCommand, namespace: str) -> tuple[list[str], list[str]]:
    manifest = helm("get", "manifest", one.name, "-n", namespace)
    lost = [] if one.text in manifest else [f"{one.name}: the last upgrade is not deployed"]
    history = _loads(helm("history", one.name, "-n", namespace, "-o", "json", "--max", "1000"))
    deployed = [each["revision"] for each in history if each["status"] == "deployed"]
    stuck = [each["revision"] for each in history if each["status"].startswith(("pending", "uninstalling"))]
    lost += [f"{one.name}: revision {revision} is locked" for revision in stuck]
    return lost, [f"{one.name}: revisions {deployed} are deployed"] if len(deployed) != 1 else []


def _loads(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)
    return found
