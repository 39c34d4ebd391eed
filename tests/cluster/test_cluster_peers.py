"""What a peer may do to us that is no API server, or a sick one: an error in time, and no word of it repeated."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilothouse.errors import ClusterDenied, ClusterUnavailable, InvalidRequest
from pilothouse.kubernetes import api_client, client_cache
from pilothouse.kubernetes.client import ClusterClient
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.settings import ClusterSettings
from tests.support.fake_api_servers import Handler, certificate, http, kubeconfig, peer, read_request, saying

SECONDS = 0.5
SETTINGS = ClusterSettings(allow_loopback=True, answer_seconds=SECONDS)
#: For peers that answer: a busy machine takes its time for dozens of pages.
PATIENT = ClusterSettings(allow_loopback=True, answer_seconds=20)


@asynccontextmanager
async def asking(text: str, settings: ClusterSettings = SETTINGS) -> AsyncIterator[ClusterClient]:
    client = ClusterClient(text, settings)
    try:
        yield client
    finally:
        await client.close()


def status(code: int, message: str) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return http(f"{code} X", json.dumps(body).encode(), "Content-Type: application/json")


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def closing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100000\r\n" + bytes(0x100000) + b"\r\n")
        await writer.drain()


SLY = b"SLY-WORDS"
PEERS: dict[str, tuple[Handler, type[Exception], str]] = {
    "silent": (silent, ClusterUnavailable, "did not answer within 0.5 s"),
    "closing": (closing, ClusterUnavailable, "cannot be reached"),
    "dripping": (dripping, ClusterUnavailable, "did not answer within"),
    "flooding": (flooding, ClusterUnavailable, "more than .* bytes in one answer|did not answer within"),
    "garbage": (saying(SLY * 10), ClusterUnavailable, "does not speak HTTP"),
    "ssh": (saying(b"SSH-2.0-" + SLY + b"\r\n"), ClusterUnavailable, "does not speak HTTP"),
    "huge header": (saying(b"HTTP/1.1 200 OK\r\nX: " + SLY * 50_000), ClusterUnavailable, "does not speak HTTP"),
    "cut off": (saying(http("200 OK", b"{}" * 10)[:-5]), ClusterUnavailable, "cannot be reached"),
    "page": (saying(http("200 OK", b"<html>" + SLY)), ClusterUnavailable, "200, but not as a Kubernetes"),
    "other JSON": (saying(http("200 OK", b'{"message":"SLY-WORDS"}')), ClusterUnavailable, "not as a Kubernetes"),
    "list": (saying(http("200 OK", b'["SLY-WORDS"]')), ClusterUnavailable, "200, but not as a Kubernetes"),
    "redirect": (
        saying(http("302 Found", SLY, "Location: http://169.254.169.254/SLY-WORDS")),
        ClusterUnavailable,
        r"redirect \(302\), which is not followed",
    ),
    "compressed": (
        saying(http("200 OK", gzip.compress(b'{"gitVersion":"v1"}'), "Content-Encoding: gzip")),
        ClusterUnavailable,
        "compresses answers",
    ),
    "login page": (saying(http("401 Unauthorized", SLY)), ClusterDenied, r"refuses the registered account \(401\)$"),
    "forbidden": (saying(status(403, "alice may not")), ClusterDenied, r"\(403\): alice may not"),
    "missing page": (saying(http("404 Not Found", SLY)), ClusterUnavailable, "404, but not as a Kubernetes"),
    "other 404": (saying(http("404 X", b'{"message":"SLY-WORDS"}')), ClusterUnavailable, "404, but not as a Kub"),
    "busy": (saying(status(429, "too many requests")), ClusterUnavailable, "429: too many requests"),
    "sick": (saying(status(500, "etcd is\n ill \x1b[31m")), ClusterUnavailable, r"500: etcd is  ill  \[31m$"),
    "wordy": (saying(status(500, "x" * 100_000)), ClusterUnavailable, "x{500}…$"),
    "gateway": (saying(http("502 Bad Gateway", SLY)), ClusterUnavailable, "502, but not as a Kubernetes"),
}


@pytest.mark.parametrize("name", PEERS)
async def test_a_peer_that_is_no_api_server_is_told_apart_in_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(api_client, "_LARGEST_ANSWER", 2 * 1024 * 1024)
    handler, kind, said = PEERS[name]
    async with peer(handler, tmp_path) as port, asking(kubeconfig(port)) as client:
        started = time.monotonic()
        with pytest.raises(kind, match=said) as caught:
            await client.probe()
        assert time.monotonic() - started < SECONDS + 2
        assert "SLY" not in str(caught.value)
        assert "secret-token" not in str(caught.value)


async def test_a_port_where_nobody_listens_is_refused_at_once(tmp_path: Path):
    async with peer(silent, tmp_path) as port:
        pass
    async with asking(kubeconfig(port), PATIENT) as client:
        started = time.monotonic()
        with pytest.raises(ClusterUnavailable, match="cannot be reached: Connection refused"):
            await client.probe()
        assert time.monotonic() - started < PATIENT.answer_seconds / 2


async def test_a_peer_that_never_shakes_hands_costs_the_limit(tmp_path: Path):
    async with peer(silent, tmp_path, tls=False) as port, asking(kubeconfig(port)) as client:
        with pytest.raises(ClusterUnavailable, match="did not answer within"):
            await client.probe()


async def test_a_peer_without_tls_is_told(tmp_path: Path):
    handler = saying(http("200 OK", SLY))
    async with peer(handler, tmp_path, tls=False) as port, asking(kubeconfig(port)) as client:
        with pytest.raises(ClusterUnavailable, match=r"TLS failed|did not answer") as caught:
            await client.probe()
        assert "SLY" not in str(caught.value)


async def test_a_certificate_of_somebody_else_is_not_trusted(tmp_path: Path):
    other = certificate("other.example.test", "127.0.0.9")
    async with peer(saying(status(200, "x")), tmp_path, cert=other) as port:
        for authority in (other[0], certificate()[0]):
            async with asking(kubeconfig(port, authority=authority)) as client:
                with pytest.raises(ClusterUnavailable, match="its certificate is not trusted"):
                    await client.probe()


async def test_tls_server_name_is_what_the_certificate_must_say(tmp_path: Path):
    other = certificate("other.example.test", "127.0.0.9")
    answer = http("200 OK", b'{"gitVersion": "v9.9.9"}')
    async with (
        peer(saying(answer), tmp_path, cert=other) as port,
        asking(kubeconfig(port, authority=other[0], cluster={"tls-server-name": "other.example.test"})) as client,
    ):
        assert (await client.probe()).version == "v9.9.9"


async def test_requests_carry_the_name_and_the_account_and_ask_for_plain_answers(tmp_path: Path):
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(http("200 OK", b'{"status": {"phase": "Active"}}'))

    async with peer(handler, tmp_path) as port, asking(kubeconfig(port, host="localhost")) as client:
        assert await client.namespace_exists("shop")
    lines = seen[0].lower().split(b"\r\n")
    assert lines[0] == b"get /api/v1/namespaces/shop http/1.1"
    assert {
        f"host: localhost:{port}".encode(),
        b"authorization: bearer secret-token",
        b"accept-encoding: identity",
    } <= set(lines)


async def test_a_path_of_the_server_is_kept(tmp_path: Path):
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(http("200 OK", b"{}"))

    async with peer(handler, tmp_path) as port:
        text = kubeconfig(port, cluster={"server": f"https://127.0.0.1:{port}/k8s/clusters/c-1/"})
        async with asking(text) as client:
            await client.namespace_exists("shop")
    assert seen[0].startswith(b"GET /k8s/clusters/c-1/api/v1/namespaces/shop ")


async def test_loopback_that_a_name_leads_to_is_not_asked_without_the_setting(tmp_path: Path):
    async with peer(silent, tmp_path) as port:
        text = kubeconfig(port, host="localhost")
        client = ClusterClient(text, ClusterSettings(allow_loopback=False, answer_seconds=SECONDS))
        with pytest.raises(ClusterUnavailable, match=r"localhost is refused: .* is this machine"):
            await client.probe()
        await client.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "A", "a,b=c", "-a", "a" * 254, "a\n", "ä"])
async def test_what_is_no_name_is_never_sent(name: str):
    async with asking(kubeconfig(1)) as client:
        with pytest.raises(InvalidRequest, match="not a valid Kubernetes object name"):
            await client.namespace_exists(name)
        with pytest.raises(InvalidRequest):
            await client.list_release_labels(namespace="a", name=name)
        with pytest.raises(InvalidRequest):
            await client.find_release_secret(namespace=name, name="a", revision=1)


async def test_a_list_that_expires_between_two_pages_is_unavailable(tmp_path: Path):
    pages = [http("200 OK", b'{"items": [{"metadata": {}}], "metadata": {"continue": "t"}}'), status(410, "expired")]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(pages.pop(0))

    async with peer(handler, tmp_path) as port, asking(kubeconfig(port)) as client:
        with pytest.raises(ClusterUnavailable, match="changed while it was read"):
            _ = [secret async for secret in client.list_release_secrets()]


async def test_connections_are_kept_and_a_replaced_client_still_works(tmp_path: Path):
    connections = 0
    answer = b'{"status": {}}'

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    async with peer(handler, tmp_path) as port:
        clients = ClusterClients(SETTINGS)
        first = clients.get("id", kubeconfig(port))
        assert clients.get("id", kubeconfig(port)) is first
        for _ in range(5):
            assert await first.namespace_exists("shop")
        assert connections == 1
        second = clients.get("id", kubeconfig(port, cluster={"tls-server-name": "localhost"}))
        assert second is not first
        assert await first.namespace_exists("a")
        assert await second.namespace_exists("a")
        assert connections == 2
        assert await first.namespace_exists("a")
        assert connections == 3
        await clients.close()


async def test_the_oldest_of_many_clients_is_let_go(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_cache, "_KEPT_CLIENTS", 2)
    clients = ClusterClients(SETTINGS)
    first, second = (clients.get(name, kubeconfig(1)) for name in "ab")
    assert clients.get("a", kubeconfig(1)) is first
    clients.get("c", kubeconfig(1))
    assert clients.get("a", kubeconfig(1)) is first
    assert clients.get("b", kubeconfig(1)) is not second
    await clients.close()


async def test_a_list_without_an_end_costs_the_limit(tmp_path: Path):
    page = json.dumps({"kind": "SecretList", "items": [{}], "metadata": {"continue": "more"}}).encode()
    async with peer(saying(http("200 OK", page)), tmp_path) as port, asking(kubeconfig(port)) as client:
        with pytest.raises(ClusterUnavailable, match="did not answer within"):
            await client.list_release_labels(namespace="default", name="web")
        with pytest.raises(ClusterUnavailable, match="did not answer within"):
            async with client.within_limit():
                assert len([one async for one in client.list_release_secrets(namespace="default", name="web")]) == 0


@pytest.mark.parametrize(
    "metadata", [{"continue": "more"}, {"continue": "x" * 100_000}, {"continue": ["more"]}], ids=["same", "long", "odd"]
)
async def test_a_list_that_goes_on_without_objects_is_given_up(metadata: dict[str, object], tmp_path: Path):
    page = json.dumps({"kind": "SecretList", "items": [], "metadata": metadata}).encode()
    async with peer(saying(http("200 OK", page)), tmp_path) as port, asking(kubeconfig(port), PATIENT) as client:
        with pytest.raises(ClusterUnavailable, match="an endless list"):
            await client.list_release_labels(namespace="default", name="web")


@pytest.mark.parametrize("digits", ["9" * 1_000_000, "-1", "1e9"], ids=["million", "negative", "exponent"])
async def test_a_revision_that_is_no_number_of_helms_is_passed_over(digits: str, tmp_path: Path):
    item = {"metadata": {"name": "x", "resourceVersion": digits, "labels": {"version": digits}}}
    odd = [{"metadata": []}, {"metadata": {"labels": []}}, {"metadata": {"labels": 7}}, {}]
    page = json.dumps({"kind": "SecretList", "items": [item, *odd], "metadata": {"resourceVersion": digits}}).encode()
    async with peer(saying(http("200 OK", page)), tmp_path) as port, asking(kubeconfig(port)) as client:
        assert await client.list_release_labels(namespace="default", name="web") == []
        with pytest.raises(ClusterUnavailable, match="a resourceVersion that is not a number"):
            await client.newest_resource_version()


async def test_a_name_that_leads_to_a_place_never_met_does_not_tell_what_is_there(tmp_path: Path):
    async with peer(closing, tmp_path) as port:
        for text in (kubeconfig(port, host="localhost"), kubeconfig(1, host="localhost")):
            async with asking(text) as client:
                started = time.monotonic()
                with pytest.raises(ClusterUnavailable, match="cannot be reached as a Kubernetes API server") as caught:
                    await client.namespace_exists("shop")
                assert SECONDS <= time.monotonic() - started < SECONDS + 2
                assert "cannot be reached: " in caught.value.detail
                assert caught.value.detail not in str(caught.value)


async def test_a_name_that_leads_to_where_the_cluster_was_met_tells_why_it_fails(tmp_path: Path):
    answers = [http("200 OK", b'{"kind": "Namespace", "status": {}}'), http("502 Bad Gateway", SLY)]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answers.pop(0))

    async with peer(handler, tmp_path) as port, asking(kubeconfig(port, host="localhost")) as client:
        assert await client.namespace_exists("shop")
        with pytest.raises(ClusterUnavailable, match="502, but not as a Kubernetes"):
            await client.namespace_exists("shop")
