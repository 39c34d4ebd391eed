"""Targets of webhooks that users chose: what is never sent there, and what they can do to who sends."""

import asyncio
import time
from pathlib import Path

import pytest

from pilothouse.errors import InvalidRequest, InvalidSettings
from pilothouse.settings import ClusterSettings, WebhookSettings
from pilothouse.webhook_targets import Reply, Targets
from tests.support.fake_api_servers import Handler, certificate, http, peer, read_request, saying

SECONDS = 1.0
UNREACHED = "it cannot be reached, or did not answer within 1 s; the log of Pilothouse has the cause"


def targets(**different: object) -> Targets:
    usual: dict[str, object] = {"allow_loopback": True, "plain_http": True, "answer_seconds": SECONDS}
    return Targets(WebhookSettings.model_validate(usual | different), ClusterSettings())


async def send(
    handler: Handler, folder: Path, *, tls: bool = False, host: str = "127.0.0.1", **different: object
) -> Reply:
    cert = different.pop("cert", None)
    assert cert is None or isinstance(cert, tuple)
    async with peer(handler, folder, tls=tls, cert=cert) as port:
        url = f"{'https' if tls else 'http'}://{host}:{port}/hook?key=1"
        return await targets(**different).post(url, b'{"a":1}', {"webhook-id": "7"}, project="p")


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content"])
async def test_a_message_that_is_taken(status: str, tmp_path: Path):
    seen = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader) + await reader.readexactly(7))
        await saying(http(status, b""))(_read(b"\r\n\r\n"), writer)

    assert await send(take, tmp_path) == Reply(int(status[:3]))
    assert seen[0].startswith(b"POST /hook?key=1 HTTP/1.1\r\n")
    assert b"\r\nwebhook-id: 7\r\n" in seen[0]
    assert seen[0].endswith(b'\r\n\r\n{"a":1}')


def _read(text: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(text)
    return reader


@pytest.mark.parametrize("status", ["400 Bad Request", "410 Gone", "500 Internal Server Error"])
async def test_a_message_that_is_not_taken(status: str, tmp_path: Path):
    number = int(status[:3])
    assert await send(saying(http(status, b"secret of the network")), tmp_path) == Reply(
        number, f"it answered {number}"
    )


async def test_a_redirect_inside_is_not_followed(tmp_path: Path):
    inside = []

    async def count(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        inside.append(await read_request(reader))

    async with peer(count, tmp_path, tls=False) as port:
        moved = http("307 Temporary Redirect", b"", f"Location: http://127.0.0.1:{port}/latest/meta-data")
        reply = await send(saying(moved), tmp_path)
    assert reply == Reply(307, "it answered 307, a redirect, which is not followed")
    assert inside == []


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.05)


async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await writer.drain()


@pytest.mark.parametrize("handler", [hang, drip, go_on, saying(b"SSH-2.0-OpenSSH\r\n"), saying(b"")])
async def test_one_that_hangs_or_lies_costs_its_time_and_tells_nothing(handler: Handler, tmp_path: Path):
    began = time.monotonic()
    reply = await send(handler, tmp_path)
    assert time.monotonic() - began < SECONDS + 10
    assert (reply.status, reply.problem) == (None, UNREACHED)
    assert reply.detail


async def test_an_answer_without_an_end_is_not_read(tmp_path: Path):
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    assert await send(pour, tmp_path) == Reply(200)
    assert sent < 64 << 20


async def test_who_answers_must_be_who_was_meant(tmp_path: Path):
    stranger = await send(saying(http("200 OK", b"")), tmp_path, tls=True)
    assert (stranger.status, stranger.problem) == (None, UNREACHED)
    assert "its certificate is not trusted" in stranger.detail

    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(certificate()[0])
    assert await send(saying(http("200 OK", b"")), tmp_path, tls=True, ca=trusted) == Reply(200)
    assert await send(saying(http("200 OK", b"")), tmp_path, tls=True, ca=trusted, host="localhost") == Reply(200)

    other = certificate("elsewhere.example.com", "192.0.2.7")
    trusted.write_bytes(other[0])
    impostor = await send(saying(http("200 OK", b"")), tmp_path, tls=True, ca=trusted, cert=other)
    assert (impostor.status, impostor.problem) == (None, UNREACHED)


async def test_an_authority_that_cannot_be_read_is_told_in_the_log(tmp_path: Path):
    reply = await send(saying(http("200 OK", b"")), tmp_path, ca=tmp_path / "none.pem")
    assert reply.problem == UNREACHED
    assert "PILOTHOUSE_WEBHOOKS__CA" in reply.detail


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_not_reached_by_address_nor_by_name(host: str, tmp_path: Path):
    reached = []

    async def count(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.append(await read_request(reader))

    reply = await send(count, tmp_path, host=host, allow_loopback=False)
    assert reply.problem == UNREACHED
    assert "is this machine; to allow that, list it in PILOTHOUSE_WEBHOOKS__ALLOWED" in reply.detail
    assert reached == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.com/", "must begin with https://"),
        ("ftp://hooks.example.com/", "must read https://HOST"),
        ("https://", "must read https://HOST"),
        ("https://hooks.example.com:0/", "must read https://HOST"),
        ("https://hooks.example.com:70000/", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://user:password@hooks.example.com/", "no user, no password"),
        ("https://hooks.example.com/#part", "no fragment"),
        ("https://hooks.example.com/\n", "visible ASCII"),
        ("https://hooks.example.com/\u00e4", "visible ASCII"),
        ("https://hooks.example.com/" + "a" * 2048, "at most 2048"),
        ("https://127.0.0.1/", "is this machine"),
        ("https://169.254.169.254/latest/meta-data", "link-local or a metadata service"),
        ("https://[fd00:ec2::254]/", "link-local or a metadata service"),
        ("https://0.0.0.0/", "is not the address of a server"),
    ],
)
def test_what_is_no_target(url: str, said: str):
    with pytest.raises(InvalidRequest, match="url: ") as refused:
        targets(allow_loopback=False, plain_http=False).check(url)
    assert said in str(refused.value)
    assert "password@" not in str(refused.value)


def test_the_origin_is_what_may_be_shown():
    strict = targets(allow_loopback=False, plain_http=False)
    assert strict.check("https://hooks.slack.com/services/T0/B0/secret") == "https://hooks.slack.com:443"
    assert strict.check("https://[2001:db8::1]:8443/x?token=secret") == "https://[2001:db8::1]:8443"


def test_a_list_of_targets_is_kept_to():
    listed = targets(allow_loopback=False, allowed="198.51.100.0/24:443")
    assert listed.check("https://198.51.100.7/")
    with pytest.raises(InvalidRequest, match="is not among the addresses that PILOTHOUSE_WEBHOOKS__ALLOWED lists"):
        listed.check("https://198.51.100.7:8443/")
    with pytest.raises(InvalidSettings, match="PILOTHOUSE_WEBHOOKS__ALLOWED: 'a b' is not a network"):
        targets(allowed="a b")
