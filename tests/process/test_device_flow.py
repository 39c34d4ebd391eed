"""Log-in from a terminal at providers that a real one cannot be brought to be: slow, wrong, hostile."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.device_flow import Code, DeviceClient, DeviceFlow, GivenTokens
from pilothouse.cli.device_log_in import _show
from pilothouse.cli.exits import NoServer
from pilothouse.cli.provider_requests import ProviderRequests, is_provider_address
from pilothouse.errors import InvalidRequest, PilothouseError
from tests.support.fake_api_servers import peer

Answer = tuple[int, Any] | bytes
DISCOVERY, DEVICE, TOKEN = "/.well-known/openid-configuration", "/device/auth", "/token"
PENDING: Answer = (400, {"error": "authorization_pending"})
SLOW_DOWN: Answer = (400, {"error": "slow_down"})
TOKENS: Answer = (200, {"id_token": "a.b.c", "access_token": "opaque", "token_type": "Bearer"})


@dataclass
class Provider:
    """What is answered where, one after the other and the last one for ever; ``waited`` is what the program did."""

    port: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    shown: list[Code] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def describes_itself(self, **changed: Any) -> None:
        names = {"issuer": self.issuer, "device_authorization_endpoint": self.issuer + DEVICE}
        self.answers[DISCOVERY] = [(200, {**names, "token_endpoint": self.issuer + TOKEN, **changed})]

    def gives_a_code(self, **changed: Any) -> None:
        said = {
            "device_code": "d-1",
            "user_code": "WDJB-MJHT",
            "verification_uri": "https://sso.example.com/device",
            "verification_uri_complete": "https://sso.example.com/device?user_code=WDJB-MJHT",
            "expires_in": 600,
            **changed,
        }
        self.answers[DEVICE] = [(200, {name: value for name, value in said.items() if value is not None})]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        path, body = head.split(" ")[1], (await reader.readexactly(length)).decode()
        self.asked.append((path, body))
        left = self.answers[path]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, bytes):
            writer.write(answer)
            while answer.endswith(b"endless\r\n\r\n"):
                writer.write(b"x" * 65536)
                await writer.drain()
            if answer.endswith(b"silent"):
                await asyncio.sleep(3600)
        else:
            text = json.dumps(answer[1]).encode()
            writer.write(f"HTTP/1.1 {answer[0]} x\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n".encode())
            writer.write(text)
        await writer.drain()

    async def log_in(self, *, issuer: str = "", plain: bool = True, answer_seconds: float = 5.0) -> GivenTokens:
        now = 0.0

        async def sleep(seconds: float) -> None:
            nonlocal now
            self.waited.append(seconds)
            now += seconds

        client = DeviceClient("corp", "Example Corp", issuer or self.issuer, "cli", ("openid", "groups"))
        requests = ProviderRequests(client.title, answer_seconds=answer_seconds)
        try:
            flow = DeviceFlow(client, requests, plain=plain, clock=lambda: now, sleep=sleep)
            return await flow.log_in(self.shown.append)
        finally:
            await requests.close()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Provider]:
    made = Provider()
    async with peer(made.handle, folder, tls=False) as port:
        made.port = port
        made.describes_itself()
        made.gives_a_code()
        made.answers[TOKEN] = [TOKENS]
        yield made


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize(
    ("interval", "answers", "waited"),
    [
        (None, [TOKENS], [5]),
        (2, [PENDING, PENDING, TOKENS], [2, 2, 2]),
        (None, [PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, TOKENS], [5, 5, 10, 10, 15]),
        (0, [PENDING, TOKENS], [1, 1]),
        (1e9, [TOKENS], [60]),
        (5, [b"", (503, {}), (429, {"error": "too_many"}), PENDING, TOKENS], [5, 10, 20, 40, 40]),
        (5, [b"HTTP/1.1 502 x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhtml", TOKENS], [5, 10]),
    ],
)
async def test_it_asks_as_often_as_the_provider_allows(
    tmp_path: Path, interval: float | None, answers: list[Answer], waited: list[float]
):
    async with running(tmp_path) as provider:
        provider.gives_a_code(interval=interval)
        provider.answers[TOKEN] = answers
        assert await provider.log_in() == GivenTokens("a.b.c", "opaque")
        assert provider.waited == waited
    assert [path for path, _ in provider.asked[:2]] == [DISCOVERY, DEVICE]
    assert provider.asked[1][1] == "client_id=cli&scope=openid+groups"
    form = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d-1&client_id=cli"
    assert {body for path, body in provider.asked if path == TOKEN} == {form}


async def test_it_asks_no_longer_than_the_code_is_good(tmp_path: Path):
    async with running(tmp_path) as provider:
        provider.gives_a_code(expires_in=12)
        provider.answers[TOKEN] = [PENDING]
        with pytest.raises(InvalidRequest, match="expired before it was confirmed; begin again"):
            await provider.log_in()
        assert provider.waited == [5, 5, 2]
        provider.gives_a_code(expires_in=1e300)
        provider.waited.clear()
        with pytest.raises(InvalidRequest, match="begin again"):
            await provider.log_in()
        assert sum(provider.waited) == 3600


async def test_a_provider_that_goes_away_is_named_when_the_code_has_expired(tmp_path: Path):
    async with running(tmp_path) as provider:
        provider.gives_a_code(expires_in=12)
        provider.answers[TOKEN] = [PENDING, b""]
        with pytest.raises(NoServer, match=r"Example Corp \(127.0.0.1:\d+/token\) cannot be reached"):
            await provider.log_in()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"error": "access_denied"}, "the log-in was refused there"),
        ({"error": "expired_token"}, "begin again"),
        ({"error": "invalid_client"}, "does not know the client cli; .* device_client_id"),
        ({"error": "unauthorized_client"}, "its client cli may not log in from terminals"),
        ({"error": "\x1b[31mred" + "x" * 500}, r"it answered '\\x1b\[31mredx{72}'$"),
        ({"error": {"of": "another kind"}}, "refused the log-in with 400"),
        ({"error": "{client} {0}"}, r"it answered '\{client\} \{0\}'"),
        ({}, "refused the log-in with 400"),
    ],
)
@pytest.mark.parametrize("place", [DEVICE, TOKEN])
async def test_what_the_provider_refuses_is_said_in_our_words(tmp_path: Path, place: str, said: Any, why: str):
    async with running(tmp_path) as provider:
        provider.answers[place] = [(400, said)]
        with pytest.raises(InvalidRequest, match=why):
            await provider.log_in()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "https://elsewhere.example"}, "calls itself another issuer"),
        ({"device_authorization_endpoint": None}, "it has no device authorization .* make an access key"),
        ({"device_authorization_endpoint": "http://sso.example.com/device"}, "no https:// address as device_auth"),
        ({"token_endpoint": "http://sso.example.com/token"}, "no https:// address as token_endpoint"),
        ({"token_endpoint": "file:///etc/passwd"}, "no https:// address as token_endpoint"),
        ({"token_endpoint": ["https://sso.example.com"]}, "no https:// address as token_endpoint"),
    ],
)
async def test_a_description_that_cannot_be_used(tmp_path: Path, changed: dict[str, Any], why: str):
    async with running(tmp_path) as provider:
        provider.describes_itself(**changed)
        with pytest.raises(NoServer, match=f"Example Corp cannot be used from a terminal: .*{why}"):
            await provider.log_in()
        assert [path for path, _ in provider.asked] == [DISCOVERY]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"user_code": None}, "without a usable user_code"),
        ({"user_code": "AB\x1b[2JCD"}, "without a usable user_code"),
        ({"user_code": "x" * 33}, "without a usable user_code"),
        ({"user_code": "AB CD"}, "without a usable user_code"),
        ({"user_code": "АВСD"}, "without a usable user_code"),  # noqa: RUF001 - that is the trick
        ({"device_code": ""}, "without a usable device_code"),
        ({"verification_uri": None}, "no https:// page to open"),
        ({"verification_uri": "http://sso.example.com/device"}, "no https:// page to open"),
        ({"verification_uri": "javascript:alert(1)"}, "no https:// page to open"),
        ({"verification_uri": "https://sso.example.com/\x1b[31m"}, "no https:// page to open"),
        ({"expires_in": None}, "without a usable expires_in"),
        ({"expires_in": "soon"}, "without a usable expires_in"),
        ({"expires_in": True}, "without a usable expires_in"),
        ({"expires_in": -1}, "without a usable expires_in"),
        ({"interval": "5"}, "without a usable interval"),
    ],
)
async def test_a_code_that_cannot_be_shown_or_used(tmp_path: Path, changed: dict[str, Any], why: str):
    async with running(tmp_path) as provider:
        provider.gives_a_code(**changed)
        with pytest.raises(NoServer, match=why):
            await provider.log_in()
        assert provider.shown == []


async def test_a_page_with_the_code_is_shown_only_if_it_can_be_opened(tmp_path: Path):
    async with running(tmp_path) as provider:
        for said in ("javascript:alert(1)", None, 7):
            provider.gives_a_code(verification_uri_complete=said)
            await provider.log_in()
        provider.gives_a_code(verification_uri=None, verification_url="https://sso.example.com/old")
        await provider.log_in()
    assert [code.page_with_code for code in provider.shown[:3]] == ["", "", ""]
    assert provider.shown[3].page == "https://sso.example.com/old"
    assert "d-1" not in repr(provider.shown[3])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 302 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "redirect, which is not"),
        (b"HTTP/1.1 200 x\r\nconnection: close\r\nx: endless\r\n\r\n", "answers with more than 256 KiB"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 5\r\n\r\nhello", "answered 200 without a JSON object"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n[]", "answered 200 without a JSON object"),
        (b"HTTP/1.1 200 x\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}", "compresses its answer"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 50\r\n\r\n{silent", "did not answer within 0.5 s"),
        (b"hello", "cannot be reached"),
    ],
)
@pytest.mark.parametrize("place", [DISCOVERY, DEVICE])
async def test_an_answer_of_another_kind_ends_it(tmp_path: Path, place: str, answer: bytes, why: str):
    async with running(tmp_path) as provider:
        provider.answers[place] = [answer]
        with pytest.raises(NoServer, match=why):
            await provider.log_in(answer_seconds=0.5 if answer.endswith(b"silent") else 5.0)
        assert provider.asked[-1][0] == place, "nobody was asked elsewhere"


async def test_tokens_without_an_id_token_are_no_log_in(tmp_path: Path):
    async with running(tmp_path) as provider:
        for said in ({"access_token": "opaque"}, {"id_token": 7, "access_token": "opaque"}, {"id_token": "a.b.c"}):
            provider.answers[TOKEN] = [(200, said)]
            with pytest.raises(NoServer, match=r"it gave no ID token; .* scope openid"):
                await provider.log_in()


async def test_plain_http_is_for_a_server_on_this_machine_only(tmp_path: Path):
    async with running(tmp_path) as provider:
        for issuer, plain in ((provider.issuer, False), ("http://sso.example.com", True), ("ftp://x", True)):
            with pytest.raises(PilothouseError, match="which is no https:// address"):
                await provider.log_in(issuer=issuer, plain=plain)
        assert provider.asked == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "socks4://u:s3cret@127.0.0.1:1", "ftp://x", "http://[::1"])
async def test_a_proxy_that_cannot_be_used_is_said_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
):
    monkeypatch.delenv("NO_PROXY")
    for name in ("ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, proxy)
    async with running(tmp_path) as provider:
        assert await provider.log_in(), "one on this machine is asked without it"
        with pytest.raises(
            NoServer, match="HTTPS_PROXY or ALL_PROXY names a proxy of a kind that is not known"
        ) as said:
            await provider.log_in(issuer="https://sso.example.com")
        assert "s3cret" not in str(said.value)


async def test_a_provider_on_this_machine_is_asked_without_the_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_PROXY")
    async with running(tmp_path) as provider, running(tmp_path) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.issuer)
        assert await provider.log_in() == GivenTokens("a.b.c", "opaque")
        assert proxy.asked == []


def test_addresses():
    for good in (
        "https://sso.example.com",
        "https://sso.example.com:8443/o?x=y",
        "http://127.0.0.1:8/x",
        "http://[::1]/",
    ):
        assert is_provider_address(good, plain=True), good
    bad = (
        "https://",
        "//sso",
        "https://a b",
        "https://a:99999/",
        "https://[::1",
        "https://a\n",
        "https://" + "a" * 2048,
        "https://login.example.com@evil.example/",
        "https://a\\@evil/",
        "https://evil.example\\.login.example.com/",
        "https://☃☃..example/d",
        "https://lоgin.example.com/",  # noqa: RUF001 - that is the trick
        "https://login.example.com%2f.evil.example/",
        "https://[v1.x]/",
    )
    for wrong in (*bad, "http://10.0.0.1/", None, 7, ""):
        assert not is_provider_address(wrong, plain=True), wrong


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_what_the_person_reads_fits_and_addresses_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    page = "https://sso.example.com/realms/staff/device"
    shown = DeviceClient("corp", "Example Corp", "https://sso.example.com/realms/staff", "cli-7", ("openid", "groups"))
    _show(
        shown,
        "https://pilothouse.example.com",
        Code("WDJB-MJHT", page, f"{page}?user_code=WDJB-MJHT", 590.0, 5.0, "d-1"),
    )
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.strip() for line in lines if page in line] == [page, f"{page}?user_code=WDJB-MJHT"]
    before = " ".join(said.err.partition("  WDJB-MJHT")[0].split())
    for told in ("https://pilothouse.example.com asks", "at sso.example.com as the client cli-7", "openid, groups"):
        assert told in before
    assert "  WDJB-MJHT" in lines
    assert all(len(line) <= columns for line in lines if "https" not in line), lines
    assert "10 minutes" in " ".join(lines)
    _show(shown, "https://pilothouse.example.com", Code("A", page, "", 30.0, 5.0, "d-1"))
    alone = capsys.readouterr().err
    assert ("Or open" in alone, "1 minute;" in " ".join(alone.split())) == (False, True)
