"""The gateway behind a real HTTP server, called by the vendor's Python SDK and by hand-written bytes."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
import structlog
import uvicorn
from huaweicloudsdkcce.v3 import (
    CceClient,
    CreateReleaseReqBody,
    CreateReleaseRequest,
    DeleteReleaseRequest,
    ListReleasesRequest,
    ShowReleaseRequest,
    UploadChartRequest,
    UploadChartRequestBody,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.formdata import FormFile
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from pilothouse.errors import NotAuthenticated
from pilothouse.http.gateway_errors import internal_error, route_not_found
from pilothouse.http.middleware.stack import server_options, wrap
from pilothouse.settings import Settings
from tests.support.servers import close_sdk

ACCESS_KEY, SECRET_KEY = "A1B2C3D4E5F6G7H8I9J0", "s" * 40
PROJECT = "0123456789abcdef0123456789abcdef"
LIMIT = 12 * 1024 * 1024


@dataclass(frozen=True)
class Caller:
    project_id: str
    user_id: str = "user"


@dataclass(frozen=True)
class Holder:
    secret_key: str = SECRET_KEY
    caller: Caller = Caller("default")


class OneKey:
    async def find_key(self, access_key: str, _project_id: str | None, _source: str) -> Holder | None:
        return Holder() if access_key == ACCESS_KEY else None

    async def select_project(self, _known: Holder, project_id: str | None) -> Caller:
        return Caller(project_id or "default")

    async def reject_key(self, _known: Holder) -> None:
        pass

    async def note_unusable(self, _access_key: str, _source: str, _reason: str) -> None:
        pass

    async def find_token(self, _token: str, _project_id: str | None, _source: str) -> Caller:
        raise NotAuthenticated("decrypt token fail")


async def echo(request: Request) -> Response:
    seen = {
        "name": request.path_params.get("name"),
        "values": request.state.caller.project_id,
        "parameters": request.state.body_digest,
        "version": request.state.body_size,
        "description": request.url.query,
    }
    one = request.method != "GET" or "name" in request.path_params
    return JSONResponse(seen if one else [seen])


async def crash(_request: Request) -> Response:
    raise RuntimeError("the secret cause")


def application() -> Starlette:
    handlers: Any = {404: route_not_found, 405: route_not_found, Exception: internal_error}
    app = Starlette(
        routes=[
            Route("/cce/cam/v3/clusters/crash/releases", crash, methods=["GET"]),
            Route("/cce/cam/v3/clusters/{cluster}/releases", echo, methods=["GET", "POST"]),
            Route(
                "/cce/cam/v3/clusters/{cluster}/namespace/{namespace}/releases/{name}", echo, methods=["GET", "DELETE"]
            ),
            Route("/v2/charts", echo, methods=["POST"]),
        ],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    return app


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = wrap(
        application(),
        settings=Settings.model_validate({"host": "127.0.0.1"}),
        authenticator=OneKey(),
        is_public=lambda _method, _path: False,
        clock=lambda: datetime.now(UTC),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, **server_options(Settings())))
    thread = threading.Thread(target=server.run, args=([listener],))
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        structlog.reset_defaults()
    assert not thread.is_alive()


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    yield from sdk(port, SECRET_KEY)


@pytest.fixture
def stranger(port: int) -> Iterator[Any]:
    yield from sdk(port, "w" * 40)


def sdk(port: int, secret_key: str) -> Iterator[Any]:
    made = (
        CceClient.new_builder()
        .with_credentials(BasicCredentials(ACCESS_KEY, secret_key, PROJECT))
        .with_endpoint(f"http://127.0.0.1:{port}")
        .build()
    )
    yield made
    close_sdk(made)


def show(name: str, namespace: str = "default") -> Any:
    return ShowReleaseRequest(name=name, namespace=namespace, cluster_id="c", show_resources="true")


class TestSdk:
    def test_list(self, client):
        response = client.list_releases(ListReleasesRequest(cluster_id="c", namespace="a b+c&d=é", chart_id="x/y"))

        (release,) = response.body
        assert release._values == PROJECT
        assert release.description == "chart_id=x%2Fy&namespace=a%20b%2Bc%26d%3D%C3%A9"

    def test_create_with_a_body(self, client):
        body = CreateReleaseReqBody(chart_id="c", name="größe", namespace="default", values={"n": 1}, version="1.0.0")

        response = client.create_release(CreateReleaseRequest(cluster_id="c", body=body))

        assert response.version > 50

    @pytest.mark.parametrize(
        "name", ["demo", "a b", "größe", "100%", "a+b", "~.-_", "a;b=c,d", "a\\b", "中文🔑", "%41"]
    )
    def test_names_of_any_kind_in_the_path(self, client, name):
        assert client.show_release(show(name)).name == name

    def test_delete(self, client):
        assert client.delete_release(DeleteReleaseRequest(name="demo", namespace="default", cluster_id="c")) is not None

    @pytest.fixture
    def upload(self, tmp_path):
        def send(client: Any, size: int) -> Any:
            path = tmp_path / "chart.tgz"
            path.write_bytes(b"x" * size)
            with closing(FormFile(str(path))) as file:
                body = UploadChartRequestBody(parameters='{"override": true}', content=file)
                return client.upload_chart(UploadChartRequest(body=body))

        return send

    def test_multipart_upload(self, client, upload):
        assert upload(client, 3 * 1024 * 1024) is not None

    def test_an_upload_over_the_limit_gets_its_answer(self, client, upload):
        with pytest.raises(ClientRequestException) as caught:
            upload(client, LIMIT + 1)

        assert (caught.value.status_code, caught.value.error_code) == (413, "APIGW.0201")
        assert len(caught.value.request_id) == 32

    def test_an_upload_with_an_unknown_key_gets_its_answer(self, client, upload):
        client._credentials.ak = "Z" * 20
        with pytest.raises(ClientRequestException) as caught:
            upload(client, LIMIT)

        assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
        assert caught.value.error_msg.endswith("ak not exist")

    def test_a_wrong_secret_key(self, stranger):
        with pytest.raises(ClientRequestException) as caught:
            stranger.show_release(show("demo"))

        assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
        assert "verify aksk signature fail" in caught.value.error_msg
        assert len(caught.value.request_id) == 32

    def test_unicode_headers(self, client):
        invoker = client.show_release_invoker(show("demo")).add_header("X-Note", "Größe 中文")

        assert invoker.invoke().name == "demo"

    def test_a_token_instead_of_a_signature(self, client):
        invoker = client.show_release_invoker(show("demo"))
        with pytest.raises(ClientRequestException) as caught:
            invoker.add_header("X-Auth-Token", "t").add_header("Authorization", "x").invoke()

        assert caught.value.error_msg.endswith("decrypt token fail")


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    json: Any


def head(  # the parts of a request
    port: int,
    method: str = "GET",
    target: str = "/cce/cam/v3/clusters/c/releases",
    *,
    body: bytes = b"",
    extra: Sequence[str] = (),
    now: datetime | None = None,
) -> bytes:
    """Return a signed request head; ``extra`` are unsigned header lines."""
    path, _, query = target.encode().partition(b"?")
    headers = [(b"Host", f"127.0.0.1:{port}".encode())]
    request = SignedRequest(method, path, query, headers, body_digest(body), not body)
    added = sign(request, access_key=ACCESS_KEY, secret_key=SECRET_KEY, now=now or datetime.now(UTC))
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in added.items()] + list(extra)
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Wire:
    """A connection on which a test says every byte."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *pieces: bytes) -> Self:
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def reply(self) -> Reply:
        """Return the next answer, which must be JSON and carry a request id."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        content = json.loads(self._file.read(int(headers["content-length"])))
        assert headers["content-type"] == "application/json"
        assert len(headers["x-request-id"]) == 32
        if status >= 400:
            assert content["request_id"] == headers["x-request-id"]
            assert (content["error_code"], content["error_msg"]) == (content["errorCode"], content["errorMessage"])
        return Reply(status, headers, content)

    def closed(self) -> bool:
        """Return True if nothing more comes and the server closes."""
        return self._file.read() == b""


@pytest.fixture
def wire(port: int) -> Iterator[Wire]:
    with Wire(port) as made:
        yield made


JSON_BODY = b'{"chart_id": "c"}\n'


class TestWire:
    def test_a_get_with_a_body(self, wire, port):
        wire.send(head(port, body=b"{}", extra=["Content-Length: 2"]), b"{}")

        assert wire.reply().json[0]["version"] == 2

    def test_a_chunked_body_without_a_length(self, wire, port):
        request = head(port, "POST", body=JSON_BODY, extra=["Transfer-Encoding: chunked"])
        wire.send(request, *(chunked(JSON_BODY[:5], JSON_BODY[5:])[n : n + 7] for n in range(0, 99, 7)))

        reply = wire.reply()
        assert (reply.status, reply.json["parameters"]) == (200, body_digest(JSON_BODY))

    def test_a_chunked_get(self, wire, port):
        wire.send(head(port, body=b"{}", extra=["Transfer-Encoding: chunked"]), chunked(b"{}"))

        assert wire.reply().json[0]["version"] == 2

    def test_a_body_other_than_the_signed_one(self, wire, port):
        wire.send(head(port, "POST", body=b"{}", extra=["Content-Length: 2"]), b"[]")
        wire.send(head(port))

        assert [wire.reply().status, wire.reply().status] == [401, 200]

    def test_exactly_the_limit_chunked(self, wire, port):
        body = b"x" * LIMIT
        wire.send(head(port, "POST", body=body, extra=["Transfer-Encoding: chunked"]), chunked(body))

        assert wire.reply().json["version"] == LIMIT

    @pytest.mark.parametrize("excess", [1, LIMIT], ids=["one byte", "twice"])
    def test_over_the_limit_chunked(self, wire, port, excess):
        body = b"x" * 65536
        wire.send(head(port, "POST", body=body, extra=["Transfer-Encoding: chunked"]))
        wire.send(chunked(*[body] * (LIMIT // len(body)), b"x" * excess))

        reply = wire.reply()
        assert (reply.status, reply.json["error_code"]) == (413, "APIGW.0201")
        with Wire(port) as other:
            assert other.send(head(port)).reply().status == 200

    def test_an_endless_upload_is_cut_off_after_its_answer(self, wire, port):
        wire.send(head(port, "POST", extra=["Transfer-Encoding: chunked"]))
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(OSError):  # noqa: PT012 - which of the pieces meets the closed connection is the kernel's choice
            for _ in range(10_000):
                wire.send(piece)

    def test_one_byte_over_the_limit_by_its_length(self, wire, port):
        wire.send(head(port, "POST", extra=[f"Content-Length: {LIMIT + 1}"]))

        reply = wire.reply()
        assert (reply.status, reply.json["error_code"]) == (413, "APIGW.0201")

    def test_a_refused_client_that_expects_100_continue_is_not_asked_for_its_body(self, wire, port):
        wire.send(head(port, "POST", extra=[f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"]))

        assert wire.reply().status == 413

    def test_expect_100_continue(self, wire, port):
        wire.send(head(port, "POST", body=b"{}", extra=["Content-Length: 2", "Expect: 100-continue"]))
        assert wire._file.readline().startswith(b"HTTP/1.1 100")
        assert wire._file.readline() == b"\r\n"
        wire.send(b"{}")

        assert wire.reply().status == 200

    def test_a_length_longer_than_the_body_hangs_nobody(self, wire, port):
        wire.send(head(port, "POST", body=b"{}", extra=["Content-Length: 10"]), b"{}")
        wire.socket.shutdown(socket.SHUT_WR)

        assert wire.closed()
        with Wire(port) as other:
            assert other.send(head(port)).reply().status == 200

    def test_a_length_shorter_than_the_body_refuses_the_rest(self, wire, port):
        wire.send(head(port, "POST", body=b"{}", extra=["Content-Length: 2"]), b"{} and more\r\n\r\n")

        assert wire.reply().status == 200
        reply = wire.reply()
        assert (reply.status, reply.json["error_code"]) == (400, "APIGW.0201")
        assert wire.closed()

    @pytest.mark.parametrize(
        "lengths", [["Content-Length: 2", "Content-Length: 3"], ["Content-Length: -2"], ["Content-Length: x"]]
    )
    def test_lengths_that_contradict_or_are_none(self, wire, port, lengths):
        wire.send(head(port, "POST", extra=lengths), b"{}")

        assert wire.reply().status == 400

    def test_a_length_beside_chunks_is_refused(self, wire, port):
        wire.send(
            head(port, "POST", body=b"{}", extra=["Content-Length: 2", "Transfer-Encoding: chunked"]), chunked(b"{}")
        )

        assert wire.reply().status == 400

    @pytest.mark.parametrize("name", ["X-Sdk-Date", "Authorization"])
    def test_a_credential_given_twice(self, wire, port, name):
        lines = head(port).split(b"\r\n")
        (again,) = [line for line in lines if line.startswith(name.encode())]
        wire.send(b"\r\n".join([*lines[:-2], again, b"", b""]))

        reply = wire.reply()
        assert reply.status == 401
        assert "2 times" in reply.json["error_msg"]

    def test_two_hosts(self, wire, port):
        wire.send(head(port, extra=["Host: other"]))

        assert wire.reply().status == 400

    def test_requests_in_one_go_are_answered_in_order(self, wire, port):
        targets = [f"/cce/cam/v3/clusters/c/namespace/n/releases/r{n}" for n in range(20)]
        wire.send(
            b"".join(head(port, target=target, body=b"{}", extra=["Content-Length: 2"]) + b"{}" for target in targets)
        )

        assert [wire.reply().json["name"] for _ in targets] == [f"r{n}" for n in range(20)]

    def test_a_refusal_keeps_the_connection_when_no_body_waits(self, wire, port):
        stale = datetime.now(UTC) - timedelta(minutes=16)
        wire.send(head(port, now=stale), head(port, target="/nowhere"), head(port))

        assert [wire.reply().status for _ in range(3)] == [401, 404, 200]

    def test_a_stale_date_is_refused_without_the_body(self, wire, port):
        stale = datetime.now(UTC) - timedelta(minutes=16)
        wire.send(head(port, "POST", now=stale, extra=["Content-Length: 5000000"]))

        assert wire.reply().status == 401

    def test_a_crash(self, wire, port):
        wire.send(head(port, target="/cce/cam/v3/clusters/crash/releases"))

        reply = wire.reply()
        assert (reply.status, reply.json["error_code"]) == (500, "CCE.01500001")
        assert "secret" not in json.dumps(reply.json)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\r\n\r\n\r\nhello\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        ],
        ids=["text", "no host", "raw unicode", "NUL", "TLS", "gzip"],
    )
    def test_what_is_no_http(self, wire, garbage):
        wire.send(garbage)

        reply = wire.reply()
        assert (reply.status, reply.json["error_code"]) == (400, "APIGW.0201")
        assert wire.closed()

    def test_a_chunk_that_is_none_in_the_middle_of_a_body(self, wire, port):
        wire.send(head(port, "POST", body=b"{}", extra=["Transfer-Encoding: chunked"]), b"1\r\n{\r\n", b"no chunk\r\n")

        assert wire.reply().status == 400
        assert wire.closed()

    def test_nonsense_after_a_refusal_does_not_disturb_it(self, wire, port):
        stale = datetime.now(UTC) - timedelta(minutes=16)
        wire.send(head(port, "POST", now=stale, extra=["Transfer-Encoding: chunked"]), b"no chunk\r\n")

        assert wire.reply().status in {400, 401}
        assert wire.closed()

    @pytest.mark.parametrize(
        ("extra", "status"),
        [
            ([f"X-A: {'x' * 32 * 1024}"], 494),
            ([f"X-{n}: {'x' * 30_000}" for n in range(5)], 494),
            ([f"X-{n}: {'x' * 30_000}" for n in range(50)], 494),
            ([f"X-{n}: {'x' * 30_000}" for n in range(4)], 200),
        ],
    )
    def test_large_heads(self, wire, port, extra, status):
        wire.send(head(port, extra=extra))

        assert wire.reply().status == status

    def test_a_long_target(self, wire, port):
        base = "/cce/cam/v3/clusters/c/releases?a="
        longest = base + "x" * (32 * 1024 - len(base))
        wire.send(head(port, target=longest), head(port, target=longest + "x"))

        assert [wire.reply().status, wire.reply().status] == [200, 414]

    def test_head_requests_get_no_body(self, wire, port):
        wire.send(head(port, "HEAD", target="/nowhere"))
        assert wire._file.readline().startswith(b"HTTP/1.1 404")
        wire.send(head(port))
        while wire._file.readline().strip():
            pass
        assert wire.reply().status == 200

    def test_a_client_that_leaves_in_the_middle_of_a_body(self, port):
        for _ in range(5):
            with Wire(port) as leaving:
                leaving.send(head(port, "POST", extra=["Content-Length: 1000000"]), b"x" * 70_000)
        with Wire(port) as wire:
            assert wire.send(head(port)).reply().status == 200
