"""The engine reaches its cluster at the addresses that were judged, under its own name, and nothing else."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest
from pilothouse.errors import ClusterUnavailable, HelmError
from pilothouse.kubernetes.addresses import Addresses, resolve_server
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.settings import ClusterSettings, EngineSettings
from tests.support.charts import config_map_chart
from tests.support.fake_api_servers import Handler, certificate, http, peer, read_request, saying
from tests.support.fake_api_servers import kubeconfig as kubeconfig_of_peer
from tests.support.forwarder import forward

#: In every API server's certificate, and in nobody's DNS.
CLUSTER_NAME = "kubernetes.default.svc"
PEER_NAME = "api.example.test"


@asynccontextmanager
async def engine(folder: Path, *addresses: str) -> AsyncIterator[EnginePool]:
    """Yield an engine whose every cluster is said to be at ``addresses``."""

    async def route(kubeconfig: str, _project: str) -> Sequence[tuple[str, int]]:
        port = urlsplit(json.loads(kubeconfig)["clusters"][0]["cluster"]["server"]).port
        assert port
        return [(one, port) for one in addresses]

    pool = EnginePool(EngineSettings(children=1), state_dir=folder / "engine", route=route)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def install(pool: EnginePool, kubeconfig: str, namespace: str = "default", *, name: str = "demo") -> Any:
    request = InstallRequest(
        kubeconfig=kubeconfig, namespace=namespace, release_name=name, chart=config_map_chart(), timeout_seconds=20
    )
    return await pool.run(request, deadline_seconds=30)


@pytest.fixture
def named(kubeconfig: str) -> tuple[str, str]:
    """Return the cluster's kubeconfig with a name in place of its address, and that address."""
    document = json.loads(sanitise(kubeconfig, addresses=Addresses(allow_loopback=True)).text)
    cluster = document["clusters"][0]["cluster"]
    url = urlsplit(cluster["server"])
    cluster["server"] = f"https://{CLUSTER_NAME}:{url.port}{url.path}"
    assert url.hostname
    return json.dumps(document), str(socket.getaddrinfo(url.hostname, None, type=socket.SOCK_STREAM)[0][4][0])


async def test_a_name_is_not_resolved_again(
    named: tuple[str, str], namespace: str, tmp_path: Path, helm_cli: Callable[..., str]
):
    """Whatever the name leads to meanwhile: here it leads nowhere, and the install succeeds."""
    text, address = named
    async with engine(tmp_path, address) as pool:
        for name in ("first", "second"):
            assert (await install(pool, text, namespace, name=name)).status == "deployed"
    assert "deployed" in helm_cli("status", "second", "-n", namespace)


async def test_an_address_that_is_dead_is_passed_over(named: tuple[str, str], namespace: str, tmp_path: Path):
    text, address = named
    async with engine(tmp_path, "127.255.255.254", address) as pool:
        assert (await install(pool, text, namespace)).status == "deployed"


async def test_an_unreachable_cluster_is_named_as_it_was_registered(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with engine(tmp_path, "127.0.0.1") as pool:
        with pytest.raises(HelmError) as refused:
            await install(pool, kubeconfig_of_peer(port, host=PEER_NAME))
    assert refused.value.kind == "HelmKubeError"
    assert f"dial tcp {PEER_NAME}:{port}: connect: connection refused" in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


async def test_the_server_sees_its_own_name(tmp_path: Path):
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(http("404 Not Found", b"{}"))

    async with named_peer(handler, tmp_path) as (port, text), engine(tmp_path, "127.0.0.1") as pool:
        with pytest.raises(HelmError):
            await install(pool, text)
    assert f"host: {PEER_NAME}:{port}".encode() in seen[0].lower().split(b"\r\n")


async def test_the_certificate_must_bear_the_name_and_not_the_address(tmp_path: Path):
    async with peer(saying(http("200 OK", b"{}")), tmp_path) as port, engine(tmp_path, "127.0.0.1") as pool:
        with pytest.raises(HelmError, match="certificate is valid for localhost, not other"):
            await install(pool, kubeconfig_of_peer(port, host="other"))


async def test_a_server_on_this_machine_is_named_as_it_was_registered(tmp_path: Path):
    async with peer(saying(http("200 OK", b"{}")), tmp_path, cert=certificate("other")) as port:
        text = kubeconfig_of_peer(port, authority=certificate("other")[0], host="localhost")
        async with engine(tmp_path, "127.0.0.1") as pool:
            with pytest.raises(HelmError, match=f"https://localhost:{port}/.*valid for other, not localhost"):
                await install(pool, text)


@asynccontextmanager
async def named_peer(handler: Handler, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """Yield a peer with a certificate for PEER_NAME: its port and its kubeconfig."""
    made = certificate(PEER_NAME)
    async with peer(handler, folder, cert=made) as port:
        yield port, kubeconfig_of_peer(port, authority=made[0], host=PEER_NAME)


@asynccontextmanager
async def bystander() -> AsyncIterator[tuple[int, list[object]]]:
    """Yield a server of somebody else on this machine: its port, and the connections that it got."""
    connections: list[object] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.write(http("200 OK", b'{"major":"1","minor":"36","gitVersion":"v1.36.0"}'))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()


REDIRECTS = ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_is_not_followed(status: str, scheme: str, tmp_path: Path):
    """The other name would lead to the very same address, were it asked."""
    async with bystander() as (other, connections):
        location = f"Location: {scheme}://elsewhere.example.test:{other}/latest/meta-data"
        async with (
            named_peer(saying(http(status, b"", location)), tmp_path) as (_, text),
            engine(tmp_path, "127.0.0.1") as pool,
        ):
            with pytest.raises(HelmError, match="sends us to another address, which is not followed"):
                await install(pool, text)
    assert connections == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_to_this_machine_is_not_followed(status: str, host: str, tmp_path: Path):
    async with bystander() as (other, connections):
        location = f"Location: http://{host}:{other}/admin"
        async with (
            named_peer(saying(http(status, b"", location)), tmp_path) as (_, text),
            engine(tmp_path, "127.0.0.1") as pool,
        ):
            with pytest.raises(HelmError, match="sends us to another address, which is not followed"):
                await install(pool, text)
    assert connections == []


async def test_one_engine_goes_from_cluster_to_cluster_and_back(named: tuple[str, str], namespace: str, tmp_path: Path):
    """What is known of one cluster, and its connections, stay apart from the other's."""
    text, address = named
    async with (
        named_peer(saying(http("404 Not Found", b"{}")), tmp_path) as (_, other),
        engine(tmp_path, address) as pool,
    ):
        for number in range(3):
            assert (await install(pool, text, namespace, name=f"demo-{number}")).status == "deployed"
            with pytest.raises(HelmError):
                await install(pool, other)


def _open_files(process: str | int) -> int:
    return len([*Path(f"/proc/{process}/fd").iterdir()])


async def test_connections_last_while_clusters_alternate(kubeconfig: str, namespace: str, tmp_path: Path):
    """Under the name that the kubeconfig gives to TLS; nothing more is open afterwards, here or in the child."""
    ways = [forward(kubeconfig) for _ in range(2)]
    seen = []
    try:
        async with engine(tmp_path, "127.0.0.1") as pool:
            for number in range(4):
                for which, (_, text) in enumerate(ways):
                    assert (await install(pool, text, namespace, name=f"way-{which}-{number}")).status == "deployed"
                child = next(iter(pool._children)).pid
                seen.append((*(way.connections for way, _ in ways), _open_files("self"), _open_files(child)))
    finally:
        for way, _ in ways:
            await asyncio.to_thread(way.stop)
    assert all(last <= first for first, last in zip(seen[0], seen[-1], strict=True)), seen


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("https://169.254.169.254:6443", "link-local"),
        ("https://localhost:6443", "this machine"),
        ("https://no-such-host.invalid:6443", "cannot be resolved"),
    ],
)
async def test_the_server_of_a_kubeconfig_is_judged_by_what_its_name_leads_to(server: str, said: str):
    text = json.dumps({"clusters": [{"cluster": {"server": server}}]})
    settings = ClusterSettings(allow_loopback=False)
    with pytest.raises(ClusterUnavailable, match=said):
        await resolve_server(text, settings, look_up=Resolver(settings).of("project"))
