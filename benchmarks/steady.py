"""A steady mixed life of a server: everything that its users do, each thing again and again at its own pace."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmarks.http import connections
from benchmarks.lives import ReleaseByApi
from benchmarks.place import Place
from tests.support.chart_sources import Registry, Repository
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.fleet_load import Balanced, signed_request
from tests.support.tokens import login

Life = Callable[[int], Awaitable[None]]
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
_PARTS_OF_A_RELEASE = ("", "/values", "/manifest", "/notes", "/hooks", "/history", "/resources", "/ignore-rules")
_LISTS = (
    "/api/v1/releases?limit=50",
    "/api/v1/operations?limit=50",
    "/api/v1/charts",
    "/api/v1/clusters",
    "/api/v1/sources",
    "/api/v1/webhooks",
    "/api/v1/plans",
    "/api/v1/audit?limit=50",
    "/api/v1/status",
    "/v2/charts",
    "/v3/projects",
)
_PAGES = ("releases", "operations", "charts", "clusters", "sources", "audit", "install", "access")
_STREAM_SECONDS = 4.0


@dataclass
class Steady:
    """What is done to the place; ``done`` and ``problems`` count by the name of the life."""

    place: Place
    namespace: str
    charts: dict[str, str]
    project: str
    repository: Repository
    registry: Registry
    sources: dict[str, str]
    monitoring: dict[str, int]
    client: Balanced
    done: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)

    async def run(self, stop: asyncio.Event) -> None:
        """Lead all lives until ``stop``; each of them ends what it has begun."""
        async with asyncio.TaskGroup() as group:
            for life, every in self.lives().items():
                group.create_task(self._again_and_again(life, every, stop))

    def lives(self) -> dict[Life, float]:
        """Return every life, and after how many seconds it begins again; it is told how often it was led before."""
        return {
            self.by_the_vendors_api: 3.0,
            self.by_the_native_api: 6.0,
            self.failing: 10.0,
            self.cancelled: 15.0,
            self.reading: 0.2,
            self.in_the_console: 6.0,
            self.logging_in: 8.0,
            self.of_strangers: 5.0,
            self.from_sources: 15.0,
            self.uploading: 20.0,
            self.watching: 15.0,
        }

    async def _again_and_again(self, life: Life, every: float, stop: asyncio.Event) -> None:
        name, number, due = getattr(life, "__name__", "life"), 0, time.monotonic()
        while not stop.is_set():
            try:
                async with asyncio.timeout(120):
                    await life(number)
                self.done[name] += 1
            except Exception as error:  # noqa: BLE001 - the others go on, and it is told in the end
                self.problems[f"{name}: {type(error).__name__} {error}"[:400]] += 1
            number += 1
            due = max(due + every, time.monotonic())
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await stop.wait()

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.client.send(
            method, path, content, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    async def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self.send(method, path, body, **headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        return answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.text

    async def ended(self, method: str, path: str, body: Any = None, *, state: str = "succeeded") -> dict[str, Any]:
        operation: dict[str, Any] = await self.ok(method, path, body, Prefer="wait=60")
        assert operation["state"] == state, operation
        return operation

    def own(self, name: str) -> str:
        return f"/api/v1/clusters/{self.place.server.cluster_id}/namespaces/{self.namespace}/releases/{name}"

    async def by_the_vendors_api(self, number: int) -> None:
        """Install, upgrade, roll back and uninstall."""
        path, chart = (
            self.place.release(self.namespace, f"vendor-{number}"),
            self.charts["web" if number % 4 == 0 else "small"],
        )
        async with connections(self.place.server, warm=1) as http:
            life = ReleaseByApi(http, self.place.releases, path, self.namespace, chart, polls=number % 2 == 0)
            await life.install()
            await life.upgrade()
            await life.rollback()
            await self.ok("GET", f"{path}/history")
            await life.uninstall()

    async def by_the_native_api(self, number: int) -> None:
        """Install, read all that there is, plan and apply, try without doing, roll back and uninstall."""
        path = self.own(f"native-{number}")
        chart = {"chart": {"id": self.charts["web" if number % 3 == 0 else "small"]}}
        await self.ended("PUT", path, chart)
        for part in _PARTS_OF_A_RELEASE:
            await self.ok("GET", f"{path}{part}")
        layers = [{"object": {"message": f"planned {number}", "text": f"planned {number}"}}]
        plan = await self.ok("POST", f"{path}/plan", {"deploy": {**chart, "values": layers}})
        await self.ended("POST", f"/api/v1/plans/{plan['id']}/apply", {"digest": plan["digest"]})
        await self.ok("GET", f"{path}/diff")
        await self.ok("POST", f"{path}/plan", {"deploy": {**chart, "values": []}})  # nobody applies it
        tried = {"chart_id": chart["chart"]["id"], "namespace": self.namespace, "name": f"tried-{number}", "values": {}}
        await self.ok("POST", self.place.releases, {**tried, "parameters": {"dry_run": True}})
        await self.ok("POST", "/api/v1/render", {**chart, "cluster": self.place.server.cluster_id})
        await self.ended("POST", f"{path}/rollback", {})
        await self.ended("DELETE", path)

    async def failing(self, number: int) -> None:
        """Install with a hook that fails, read why, and uninstall; what no cluster takes is refused."""
        path = self.own(f"failing-{number}")
        operation = await self.ended("PUT", path, {"chart": {"id": self.charts["failing"]}}, state="failed")
        await self.ok("GET", f"/api/v1/operations/{operation['id']}/evidence")
        await self.ended("DELETE", path)
        refused = await self.send("PUT", path, {"chart": {"id": self.charts["small"]}, "values": [{"object": 7}]})
        assert refused.status_code == 400, refused.text

    async def cancelled(self, number: int) -> None:
        """Install what never becomes ready, follow it for a while, and cancel it."""
        path = self.own(f"stuck-{number}")
        body = {"chart": {"id": self.charts["stuck"]}, "options": {"wait": "ready", "timeout_seconds": 100}}
        operation = (await self.send("PUT", path, body)).json()
        one = f"/api/v1/operations/{operation['id']}"
        following = asyncio.create_task(self._follow(f"{one}/events"))
        await asyncio.sleep(2 + number % 3)
        if number % 2:
            following.cancel()  # as a client that goes away
        await self.ok("POST", f"{one}/cancel", {})
        while (await self.ok("GET", one))["state"] not in {"cancelled", "failed", "succeeded"}:  # noqa: ASYNC110 - polls as a client
            await asyncio.sleep(0.3)
        if not number % 2:
            await following
        await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, path: str) -> None:
        request = signed_request(self.place.server, "GET", path, b"", {"Accept": "text/event-stream"})
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.send(request, stream=True)
            async for line in answer.aiter_lines():
                if line == "event: end":
                    break
            await answer.aclose()

    async def reading(self, number: int) -> None:
        """Read one list after the other."""
        await self.ok("GET", _LISTS[number % len(_LISTS)])
        if number % 5 == 0:
            await self.ok("GET", self.place.releases)

    async def in_the_console(self, number: int) -> None:
        """Log in, look at pages, follow one for a moment, and log out; every third goes without a word."""
        server = self.place.server
        url = server.tls_url if number % 4 == 0 else server.url
        async with httpx2.AsyncClient(base_url=url, verify=False, trust_env=False, timeout=30) as http:
            form = {"name": "admin", "password": server.password, "account": "pilothouse"}
            answer = await http.post("/console/login", data=form, headers=SAME_SITE)
            assert answer.status_code == 303, answer.text
            (cookie,) = answer.cookies.items()
            session = {"Cookie": "=".join(cookie)}
            for page in _PAGES:
                answer = await http.get(f"/console/p/{self.project}/{page}", headers=session)
                assert answer.status_code == 200, f"{page}: {answer.status_code}"
            stays = f"/console/p/{self.project}/releases/{server.cluster_id}/{self.namespace}/stays"
            for page in ("", "/values", "/manifest", "/history", "/resources"):
                answer = await http.get(f"{stays}{page}", headers=session)
                assert answer.status_code == 200, f"{page}: {answer.status_code}"
            with suppress(TimeoutError):
                async with (
                    asyncio.timeout(_STREAM_SECONDS),
                    http.stream("GET", f"{stays}/live", headers=session) as live,
                ):
                    assert live.status_code == 200, live.status_code
                    async for _ in live.aiter_lines():
                        pass
            if number % 3:
                proof = re.search(r'name="csrf" value="([^"]+)"', answer.text)
                form = {"csrf": proof[1] if proof else ""}
                answer = await http.post("/console/logout", data=form, headers={**SAME_SITE, **session})
                assert answer.status_code == 303, answer.text

    async def logging_in(self, number: int) -> None:
        """Get a token and use it; every second is withdrawn, and the others end by themselves."""
        server = self.place.server
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
            body = login(server.password, scope={"project": {"id": server.project_id}})
            answer = await http.post("/v3/auth/tokens", json=body)
            assert answer.status_code == 201, answer.text
            token = {"X-Auth-Token": answer.headers["x-subject-token"]}
            for path in ("/api/v1/releases", "/v3/projects"):
                assert (await http.get(path, headers=token)).status_code == 200
            if number % 2:
                own = {"X-Subject-Token": token["X-Auth-Token"]}
                assert (await http.delete("/v3/auth/tokens", headers={**token, **own})).status_code == 204

    async def of_strangers(self, number: int) -> None:
        """Give wrong passwords and signatures, and go away in the middle of a request."""
        server = self.place.server
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
            answer = await http.post("/v3/auth/tokens", json=login("wrong", name=f"stranger-{number % 7}"))
            assert answer.status_code == 401, answer.text
            request = signed_request(server, "GET", "/api/v1/releases", b"", {})
            request.headers["authorization"] = request.headers["authorization"][:-4] + "0000"
            assert (await http.send(request)).status_code == 401
        address = urlsplit(server.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /v2/charts HTTP/1.1\r\nHost: here\r\nContent-Length: 5000000\r\n\r\n" + bytes(100_000))
        await asyncio.sleep(0.5)
        writer.transport.abort()

    async def from_sources(self, number: int) -> None:
        """Read a source again, which has changed, and install from it by name."""
        kind = "oci" if number % 3 == 0 else "http"
        if kind == "http":
            version = f"1.0.{number % 20}"
            self.repository.files = {
                "index.yaml": index_of("offered", version),
                "offered.tgz": config_map_chart("offered", version),
            }
        source = self.sources[kind]
        await self.ok("POST", f"/api/v1/sources/{source}/sync")
        await self.ok("GET", f"/api/v1/sources/{source}/charts?q=offered")
        path = self.own(f"named-{number}")
        await self.ended("PUT", path, {"chart": {"source": source, "name": "offered", "version": "*"}})
        await self.ended("DELETE", path)

    async def uploading(self, number: int) -> None:
        """Upload a chart that goes to disk for its size, read it and delete it; a broken one is refused."""
        server, noise = self.place.server, random.Random(number)
        archive = build_chart(
            "uploaded",
            f"1.0.{number}",
            templates={"config.yaml": config_map_template()},
            values={"text": "x"},
            files={"noise.bin": noise.randbytes(1_500_000)},
        )
        answer = await asyncio.to_thread(server.upload, archive)
        assert answer.status_code == 201, answer.text
        chart = answer.json()["id"]
        await self.ok("GET", f"/v2/charts/{chart}/values")
        got = await self.send("GET", f"/v2/charts/{chart}/archive")
        assert got.content == archive
        assert (await self.send("DELETE", f"/v2/charts/{chart}")).is_success
        assert (await asyncio.to_thread(server.upload, archive[:-1000])).status_code == 400

    async def watching(self, _: int) -> None:
        """Scrape metrics and ask the probes of every part."""
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
            for port in self.monitoring.values():
                for path in ("/metrics", "/livez", "/readyz"):
                    answer = await http.get(f"http://127.0.0.1:{port}{path}")
                    assert answer.status_code == 200, f"{port}{path}: {answer.text}"


def index_of(name: str, version: str) -> bytes:
    """Return a repository's index of one chart and a hundred others that nobody installs."""
    others = "".join(
        f"  other-{number}:\n  - {{apiVersion: v2, name: other-{number}, version: {version}, urls: [none.tgz]}}\n"
        for number in range(100)
    )
    one = f"  {name}:\n  - {{apiVersion: v2, name: {name}, version: {version}, urls: [{name}.tgz]}}\n"
    return f"apiVersion: v1\nentries:\n{one}{others}".encode()
