"""What an account may do and which kinds there are is asked once and remembered, but never a refusal."""

import asyncio
import json
import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pilothouse.errors import ClusterDenied
from pilothouse.kubernetes.capabilities import Capabilities, ResourceAccess
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.kind_cache import KindCache
from pilothouse.settings import ClusterSettings
from tests.support.fake_api_servers import http, kubeconfig, peer, read_request

JSON = "Content-Type: application/json"
CREATE = ResourceAccess("create", "", "configmaps", "shop")
PATCH = ResourceAccess("patch", "", "configmaps", "shop", "web-config")


class ApiServer:
    """Answers reviews by ``allowed``, lists ``kinds`` of v1, has no group, and counts what it is asked."""

    def __init__(self) -> None:
        self.allowed: list[dict[str, str]] = []
        self.kinds = ["ConfigMap"]
        self.asked: list[str] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        path = head.split()[1].decode()
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = json.loads(await reader.readexactly(int(length[1])) if length else b"{}")
        self.asked.append(path)
        writer.write(self.answer(path, body))
        await writer.drain()

    def answer(self, path: str, body: dict[str, Any]) -> bytes:
        match path:
            case "/api/v1":
                resources = [{"name": kind.lower() + "s", "kind": kind, "namespaced": True} for kind in self.kinds]
                return http("200 OK", json.dumps({"resources": resources}).encode(), JSON)
            case "/apis":
                return http(
                    "200 OK", b'{"groups": [{"name": "apps", "versions": [{"groupVersion": "apps/v1"}]}]}', JSON
                )
            case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
                allowed = body["spec"]["resourceAttributes"] in self.allowed
                return http("201 Created", json.dumps({"status": {"allowed": allowed}}).encode(), JSON)
        return http("404 Not Found", b"404 page not found\n", "Content-Type: text/plain")


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@asynccontextmanager
async def capabilities(server: ApiServer, folder: Path, *, clock: list[float]) -> AsyncIterator[Capabilities]:
    async with peer(server.handle, folder) as port:
        client = ClusterClient(kubeconfig(port), ClusterSettings(allow_loopback=True))
        try:
            yield Capabilities(client, seconds=300, clock=lambda: clock[0])
        finally:
            await client.close()


async def test_an_account_that_may_do_everything_is_asked_for_once(server: ApiServer, tmp_path: Path):
    server.allowed = [{"verb": "*", "group": "*", "resource": "*"}]
    clock = [1000.0]
    async with capabilities(server, tmp_path, clock=clock) as known:
        for number in range(50):
            assert await known.find_missing([CREATE, ResourceAccess("get", "", "secrets", f"shop-{number}")]) == []
        assert len(server.asked) == 1
        clock[0] += 301
        assert await known.find_missing([CREATE]) == []
        assert len(server.asked) == 2


async def test_a_right_is_remembered_and_a_refusal_is_not(server: ApiServer, tmp_path: Path):
    create = {"verb": "create", "resource": "configmaps", "namespace": "shop"}
    patch = {"verb": "patch", "resource": "configmaps", "namespace": "shop"}
    server.allowed = [create]
    clock = [1000.0]
    async with capabilities(server, tmp_path, clock=clock) as known:
        assert await known.find_missing([CREATE, PATCH]) == [PATCH]
        assert await known.find_missing([CREATE]) == []
        server.allowed.append(patch)
        assert await known.find_missing([CREATE, PATCH]) == []
        asked = len(server.asked)
        assert await known.find_missing([CREATE, PATCH]) == []
        assert len(server.asked) == asked
        server.allowed.clear()
        clock[0] += 301
        assert await known.find_missing([CREATE, PATCH]) == [CREATE, PATCH]


async def test_a_right_to_one_object_is_not_taken_for_a_right_to_all(server: ApiServer, tmp_path: Path):
    server.allowed = [{"verb": "patch", "resource": "configmaps", "namespace": "shop", "name": "web-config"}]
    other = ResourceAccess("patch", "", "configmaps", "shop", "other-config")
    async with capabilities(server, tmp_path, clock=[1000.0]) as known:
        assert await known.find_missing([PATCH]) == []
        assert await known.find_missing([PATCH, other]) == [other]


async def test_a_kind_that_was_missing_is_looked_for_again(server: ApiServer, tmp_path: Path):
    async with capabilities(server, tmp_path, clock=[1000.0]) as known:
        assert await known.kinds.find("v1", "Secret") is None
        server.kinds.append("Secret")
        found = await known.kinds.find("v1", "Secret")
        assert found is not None
        assert found.plural == "secrets"
        asked = len(server.asked)
        assert await known.kinds.find("v1", "ConfigMap") is not None
        assert len(server.asked) == asked


async def test_a_group_that_the_server_does_not_have_is_no_dead_server(server: ApiServer, tmp_path: Path):
    async with capabilities(server, tmp_path, clock=[1000.0]) as known:
        assert await known.kinds.find("example.com/v1", "Widget") is None


async def test_one_task_looks_a_group_up_once_whatever_the_answer(server: ApiServer, tmp_path: Path):
    async with peer(server.handle, tmp_path) as port:
        client = ClusterClient(kubeconfig(port), ClusterSettings(allow_loopback=True))
        try:
            kinds = KindCache(client)
            found = await asyncio.gather(*(kinds.find("v1", kind) for kind in ["ConfigMap", "Secret"] * 20))
            assert [one is not None for one in found] == [True, False] * 20
            assert await kinds.find("v1", "Secret") is None
            assert len(server.asked) == 1
        finally:
            await client.close()


@pytest.mark.parametrize("seconds", [None, 300])
async def test_a_lookup_that_failed_fails_for_all_who_waited_for_it(tmp_path: Path, seconds: float | None):
    asked = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(http("403 Forbidden", b'{"kind": "Status", "code": 403}', JSON))
        await writer.drain()

    async with peer(refuse, tmp_path) as port:
        client = ClusterClient(kubeconfig(port), ClusterSettings(allow_loopback=True))
        try:
            kinds = KindCache(client, seconds=seconds)
            found = await asyncio.gather(*(kinds.find("v1", "Secret") for _ in range(20)), return_exceptions=True)
            assert {type(one) for one in found} == {ClusterDenied}
            assert len(asked) == 1
            errors = [one for one in found if isinstance(one, BaseException)]
            files = {
                Path(frame.f_code.co_filename).name
                for one in errors
                for frame, _ in traceback.walk_tb(one.__traceback__)
            }
            # a frame that reads the answer would keep what it has read
            assert files == {"kind_cache.py"}
        finally:
            await client.close()
