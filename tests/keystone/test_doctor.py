"""What the doctor finds at a real Keystone, and what it says to do."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.findings import Finding, State
from pilothouse.cli.keystone_checks import check_keystone
from pilothouse.settings import KeystoneSettings, Settings
from tests.support.fake_api_servers import peer
from tests.support.keystone import PASSWORD, Keystone
from tests.support.servers import free_port


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "keystone-password"
    file.write_text(PASSWORD + "\n")
    return file


@pytest.fixture
def wrong_password(tmp_path: Path) -> Path:
    file = tmp_path / "wrong-password"
    file.write_text("hunter2hunter2")
    return file


async def look(keystone: Keystone, password: Path, **changed: Any) -> tuple[Finding, Finding]:
    values = {"url": keystone.url, "password_file": password, "allow_loopback": True, **changed}
    server, user = await check_keystone(Settings(keystone=KeystoneSettings(**values)))
    assert (server.check, user.check) == ("keystone", "keystone user")
    return server, user


async def test_a_keystone_that_is_set_up_is_healthy(keystone: Keystone, password: Path):
    server, user = await look(keystone, password)
    assert (server.state, user.state) == (State.OK, State.OK), (server, user)
    assert server.found.removeprefix(keystone.url.removesuffix("/v3")).startswith(": Identity API v3.")
    assert user.found == "pilothouse, in project service, may validate tokens"


def test_the_command_shows_both(keystone: Keystone, password: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "doctor", "--output", "json"],
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_DATA_DIR": str(tmp_path / "data"),
            "PILOTHOUSE_PORT": str(free_port()),
            "PILOTHOUSE_TLS__PORT": "0",
            "PILOTHOUSE_KEYSTONE__URL": keystone.url,
            "PILOTHOUSE_KEYSTONE__PASSWORD_FILE": str(password),
            "PILOTHOUSE_KEYSTONE__ALLOW_LOOPBACK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert [found[name]["state"] for name in ("keystone", "keystone user")] == ["ok", "ok"], found
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changed", "found", "advice"),
    [
        ({"user": "nobody"}, "refuses the name, password or project", "KEYSTONE__USER"),
        ({"project": "shop"}, "refuses the name, password or project", "KEYSTONE__PROJECT"),
        ({"user_domain": "Other"}, "refuses the name, password or project", "KEYSTONE__USER_DOMAIN"),
        ({"password_file": Path("/nowhere/password")}, "/nowhere/password cannot be read", "into that file"),
    ],
)
async def test_a_service_user_that_cannot_log_in(
    keystone: Keystone, password: Path, changed: dict[str, Any], found: str, advice: str
):
    server, user = await look(keystone, password, **changed)
    assert (server.state, user.state) == (State.OK, State.FAILED)
    assert (found in user.found, advice in user.advice) == (True, True), user


async def test_a_wrong_password_is_not_repeated(keystone: Keystone, wrong_password: Path):
    _, user = await look(keystone, wrong_password)
    assert (user.state, str(wrong_password) in user.advice, "hunter2" in str(user)) == (State.FAILED, True, False), user


async def test_a_service_user_without_the_right_gets_the_command_that_gives_it(keystone: Keystone, password: Path):
    _, user = await look(keystone, password, user="bob", project="shop")
    assert user.state is State.FAILED
    assert "does not let our service user validate tokens" in user.found
    given = "openstack role add --user bob --user-domain Default --project shop --project-domain Default service"
    assert given in user.advice
    keystone.grant("bob", "service", "shop")
    _, user = await look(keystone, password, user="bob", project="shop")
    assert user.state is State.OK, "as the advice says"


async def test_another_address_than_keystones(keystone: Keystone, password: Path):
    server, user = await look(keystone, password, url=keystone.url.replace("/v3", "/elsewhere"))
    assert (server.state, user.state, user.found) == (State.FAILED, State.SKIPPED, "see keystone")
    assert ("answered 404" in server.found, "KEYSTONE__URL" in server.advice) == (True, True), server


async def test_an_address_that_is_not_allowed(keystone: Keystone, password: Path):
    server, _ = await look(keystone, password, allow_loopback=False)
    assert server.state is State.FAILED
    assert ("is this machine" in server.found, "PILOTHOUSE_KEYSTONE__ALLOWED" in server.advice) == (True, True), server


async def test_a_keystone_that_is_down_or_hangs(keystone: Keystone, password: Path):
    with keystone.halted():
        server, _ = await look(keystone, password, answer_seconds=1)
        assert (server.state, server.found) == (State.FAILED, "it did not answer within 1 s")
        assert "PILOTHOUSE_KEYSTONE__ANSWER_SECONDS" in server.advice
    server, _ = await look(keystone, password, url=f"http://127.0.0.1:{free_port()}/v3")
    assert (server.state, server.advice.startswith("start Keystone")) == (State.FAILED, True), server


@asynccontextmanager
async def answering(folder: Path, body: bytes, *, tls: bool = False) -> AsyncIterator[str]:
    async def answer(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with peer(answer, folder, tls=tls) as port:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/v3"


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"[]",
        b"{}",
        b'{"version": "v3.14"}',
        b'{"version": {"id": "v2.0"}}',
        b'{"version": {"id": "v3.14 \\u001b[31m"}}',
    ],
)
async def test_what_is_no_keystone_is_named(keystone: Keystone, password: Path, tmp_path: Path, body: bytes):
    async with answering(tmp_path, body) as url:
        server, _ = await look(keystone, password, url=url)
    assert (server.state, "KEYSTONE__URL" in server.advice) == (State.FAILED, True), server


async def test_an_answer_without_end_is_cut_off(keystone: Keystone, password: Path, tmp_path: Path):
    async with answering(tmp_path, b"x" * 10_000) as url:
        server, _ = await look(keystone, password, url=url, answer_bytes=1024)
    assert (server.state, "exceeds 1024 bytes" in server.found) == (State.FAILED, True), server


async def test_a_certificate_of_nobody_known(keystone: Keystone, password: Path, tmp_path: Path):
    async with answering(tmp_path, b"{}", tls=True) as url:
        server, _ = await look(keystone, password, url=url)
    assert (server.state, "PILOTHOUSE_KEYSTONE__CA" in server.advice) == (State.FAILED, True), server


async def test_without_a_keystone_nothing_is_said():
    assert await check_keystone(Settings()) == []
