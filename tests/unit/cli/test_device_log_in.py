"""``pilothouse login --device`` with servers that a real one cannot be brought to be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli import device_flow
from pilothouse.cli.client import Client, Credentials
from pilothouse.cli.commands.login import _log_in_by_device, _revoking
from pilothouse.cli.contexts import Context
from pilothouse.cli.device_log_in import log_in_by_device
from pilothouse.cli.exits import NotLoggedIn, UsageError
from pilothouse.errors import InvalidRequest, PilothouseError
from tests.support.fake_api_servers import peer

TOKENS = "/v3/auth/tokens"
SAID = {"user": {"name": "alice", "domain": {"name": "staff"}}, "expires_at": "2030-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask at once: how often a provider is asked is judged in ``test_device_flow``."""
    monkeypatch.setattr(device_flow, "_SHORTEST", 0.01)


@dataclass
class Server:
    """A server that is its own identity provider; ``asked`` are methods, paths and bodies."""

    port: int = 0
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def names(self, **changed: Any) -> None:
        """Name a provider, changed."""
        provider = {"name": "corp", "title": "Example Corp", "issuer": self.url, "client_id": "cli"}
        self.answers["GET /api/v1/login"] = (200, {"providers": [{**provider, "scopes": ["openid"], **changed}]})

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        body = (await reader.readexactly(length)).decode()
        method, path = head.split(" ")[0], head.split(" ")[1].partition("?")[0]
        self.asked.append((method, path, body))
        status, said = self.answers[f"{method} {path}"]
        text = json.dumps(said).encode()
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(text)}\r\nx-subject-token: t-2\r\n".encode())
        writer.write(b"connection: close\r\n\r\n" + text)
        await writer.drain()

    async def log_in(self, project: str = "default") -> Context:
        made = Context(name="there", url=self.url)

        def log_in() -> None:
            with _revoking(made, besides=""):
                _log_in_by_device(made, "", project)

        await asyncio.to_thread(log_in)
        return made


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Server]:
    made = Server()
    async with peer(made.handle, folder, tls=False) as port:
        made.port = port
        made.names()
        made.answers["GET /.well-known/openid-configuration"] = (
            200,
            {
                "issuer": made.url,
                "device_authorization_endpoint": f"{made.url}/device",
                "token_endpoint": f"{made.url}/token",
            },
        )
        code = {"device_code": "d", "user_code": "A-B", "verification_uri": made.url, "expires_in": 60, "interval": 0}
        made.answers["POST /device"] = (200, code)
        made.answers["POST /token"] = (200, {"id_token": "a.b.c", "access_token": "opaque"})
        made.answers["POST /api/v1/login"] = (201, {"token": "t-1"})
        made.answers[f"POST {TOKENS}"] = (201, {"token": {**SAID, "project": {"name": "default"}}})
        made.answers[f"DELETE {TOKENS}"] = (204, None)
        yield made


async def test_a_log_in_lasts_though_what_it_was_exchanged_for_cannot_be_ended(tmp_path: Path):
    async with running(tmp_path) as server:
        server.answers[f"DELETE {TOKENS}"] = (503, {"errorMessage": "busy"})
        made = await server.log_in()
        assert (made.token, made.project, made.user) == ("t-2", "default", "alice")
        server.answers[f"POST {TOKENS}"] = (404, {"errorMessage": "no such project"})
        with pytest.raises(PilothouseError, match="no such project"):
            await server.log_in()


async def test_without_a_terminal_several_projects_are_named(tmp_path: Path):
    async with running(tmp_path) as server:
        server.answers["GET /v3/auth/projects"] = (
            200,
            {"projects": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]},
        )
        with pytest.raises(UsageError, match="you have 2 projects, choose one of them: a, b"):
            await server.log_in("")
        assert len([one for one in server.asked if one[0] == "DELETE"]) == 2


@pytest.mark.parametrize("said", [[], {}, None, {"token": None}, "t", {"token": ["t"]}])
async def test_a_log_in_that_is_answered_without_a_token_is_none(tmp_path: Path, said: Any):
    async with running(tmp_path) as server:
        server.answers["POST /api/v1/login"] = (201, said)
        with pytest.raises(InvalidRequest, match="answers the log-in without a token; is it Pilothouse"):
            await server.log_in()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "corp; rm -rf ~"},
        {"name": "--user"},
        {"name": ""},
        {"name": "Corp"},
        {"title": "x" * 501},
        {"title": "\x1b[2J"},
        {"client_id": 7},
        {"client_id": "a\nb"},
        {"scopes": "openid"},
        {"scopes": ["openid", "a\nb"]},
        {"scopes": None},
    ],
)
async def test_what_a_server_says_of_a_provider_is_bounded(tmp_path: Path, changed: dict[str, Any]):
    async with running(tmp_path) as server:
        server.names(**changed)
        with pytest.raises(InvalidRequest, match="does not say where people log in; is it Pilothouse"):
            await server.log_in()
        assert [path for _, path, _ in server.asked] == ["/api/v1/login"]


def test_plain_http_is_for_a_server_on_this_machine_only():
    client = Client("http://192.0.2.1:8080", credentials=Credentials())
    with pytest.raises(UsageError, match=r"--device: http://192.0.2.1:8080 must begin with https://"):
        log_in_by_device(client, "")


async def test_what_is_to_be_typed_is_quoted(tmp_path: Path):
    async with running(tmp_path) as server:
        server.answers["GET /api/v1/users"] = (401, {"errorMessage": "no"})
        for context, typed in (
            (
                Context(name="a b", provider="x; id", url=server.url, token="t"),
                "--context 'a b' --device --provider 'x; id'",
            ),
            (
                Context(name="$(id)", user="o'neil", url=server.url, token="t"),
                """--context '$(id)' --user 'o'"'"'neil'""",
            ),
        ):
            client = Client(server.url, credentials=Credentials.of(context))
            with pytest.raises(NotLoggedIn) as refused:
                await asyncio.to_thread(client.call, "GET", "/api/v1/users")
            assert str(refused.value).endswith(f"type: pilothouse login {server.url} {typed}")
