"""The whole gateway around a tiny application, without a network."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from pilothouse.errors import Busy, Forbidden, NotAuthenticated, NotFound
from pilothouse.http.connections import RequestObserver, remember_observer
from pilothouse.http.gateway_errors import internal_error, route_not_found
from pilothouse.http.middleware.request_id import RequestIdMiddleware
from pilothouse.http.middleware.stack import wrap
from pilothouse.metrics import THROTTLED
from pilothouse.settings import RateSettings, Settings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCESS_KEY, SECRET_KEY = "A1B2C3D4E5F6G7H8I9J0", "s" * 40
TOKEN, TOKENS_PROJECT = "a-good-token", "project-of-the-token"
MIB = 1024 * 1024


@dataclass(frozen=True)
class InProject:
    project_id: str
    user_id: str = "user"


@dataclass(frozen=True)
class Holder:
    secret_key: str = SECRET_KEY
    default_project: str = "own-project"
    caller: InProject = InProject("own-project")


@dataclass
class Directory:
    """Knows one key; ``problem`` is what its project look-up raises."""

    problem: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def find_key(self, access_key: str, _project_id: str | None, _source: str) -> Holder | None:
        self.asked.append(access_key)
        return Holder() if access_key == ACCESS_KEY else None

    async def select_project(self, known: Holder, project_id: str | None) -> InProject:
        self.asked.append(f"project {project_id}")
        if self.problem is not None:
            raise self.problem
        return InProject(project_id or known.default_project)

    async def reject_key(self, _known: Holder) -> None:
        self.asked.append("rejected")

    async def note_unusable(self, _access_key: str, _source: str, _reason: str) -> None:
        pass

    async def find_token(self, token: str, project_id: str | None, _source: str) -> InProject:
        self.asked.append(f"token {project_id}")
        if token != TOKEN:
            raise NotAuthenticated("decrypt token fail")
        if self.problem is not None:
            raise self.problem
        return InProject(TOKENS_PROJECT)


async def show(request: Request) -> JSONResponse:
    caller = getattr(request.state, "caller", None)
    return JSONResponse(
        {
            "project": caller.project_id if caller else None,
            "body": (await request.body()).decode(),
            "digest": request.state.body_digest,
            "size": request.state.body_size,
            "request_id": request.state.request_id,
        },
        headers={"X-Request-Id": "chosen by the application"},
    )


async def crash(_request: Request) -> PlainTextResponse:
    raise RuntimeError("the secret cause")


async def crash_late(_request: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("the secret cause")

    return StreamingResponse(body())


def application() -> Starlette:
    handlers: Any = {404: route_not_found, 405: route_not_found, Exception: internal_error}
    app = Starlette(
        routes=[
            Route("/show", show, methods=["GET", "POST", "DELETE"]),
            Route("/health", show),
            Route("/public", show, methods=["POST"]),
            Route("/crash", crash),
            Route("/crash-late", crash_late),
        ],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    received: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def is_public(_method: str, path: str) -> bool:
    return path in {"/health", "/public"}


def stack(
    app: ASGIApp | None = None,
    *,
    directory: Directory | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
    **settings: Any,
) -> ASGIApp:
    return wrap(
        app or application(),
        settings=Settings(**settings),
        authenticator=directory or Directory(),
        is_public=is_public,
        clock=clock,
    )


async def call(
    app: ASGIApp,
    path: str = "/show",
    *,
    method: str = "GET",
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    parts: Sequence[bytes] | None = None,
    client: str = "",
) -> Answer:
    pieces = list(parts if parts is not None else [body])
    sent: list[Message] = []
    received = 0

    async def receive() -> Message:
        nonlocal received
        if received == len(pieces):
            return {"type": "http.disconnect"}
        received += 1
        return {"type": "http.request", "body": pieces[received - 1], "more_body": received < len(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers),
        "state": {},
        "scheme": "http",
        "client": (client, 1) if client else None,
    }
    await app(scope, receive, send)
    start = sent[0]
    assert start["type"] == "http.response.start"
    heads = [name.decode() for name, _ in start["headers"]]
    assert len(set(heads)) == len(heads)
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
        received,
    )


def signed(
    path: str = "/show",
    *,
    method: str = "GET",
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = ((b"host", b"h:1"),),
    body: bytes = b"",
    now: datetime = NOW,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
) -> list[tuple[bytes, bytes]]:
    request = SignedRequest(method, path.encode(), query, headers, body_digest(body), not body)
    added = sign(request, access_key=access_key, secret_key=secret_key, now=now)
    return [*headers, *((name.lower().encode(), value.encode()) for name, value in added.items())]


def assert_refused(answer: Answer, status: int, code: str, message: str) -> None:
    """Check the vendor's shape in both spellings, with the id that the header also has."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "error_code": code,
        "errorCode": code,
        "error_msg": message,
        "errorMessage": message,
        "request_id": answer.headers["x-request-id"],
    }


PREFIX = "Incorrect IAM authentication information: "


class TestCredentials:
    async def test_a_signed_request_reaches_the_application_with_its_caller(self):
        answer = await call(stack(), headers=signed())

        assert answer.status == 200
        assert (answer.json["project"], answer.json["size"]) == ("own-project", 0)

    async def test_a_body_is_verified_and_given_on(self):
        headers = signed(method="POST", body=b'{"a":1}')

        answer = await call(stack(), method="POST", headers=headers, parts=[b'{"a"', b":1}"])

        assert (answer.json["body"], answer.json["digest"]) == ('{"a":1}', body_digest(b'{"a":1}'))

    async def test_a_get_with_a_body(self):
        answer = await call(stack(), headers=signed(body=b"{}"), body=b"{}")

        assert answer.json["body"] == "{}"

    async def test_the_project_header_chooses(self):
        headers = signed(headers=[(b"host", b"h"), (b"x-project-id", b"other")])

        assert (await call(stack(), headers=headers)).json["project"] == "other"

    async def test_an_empty_project_header_does_not(self):
        headers = signed(headers=[(b"x-project-id", b"")])

        assert (await call(stack(), headers=headers)).json["project"] == "own-project"

    async def test_an_unsigned_project_header_chooses_as_with_terraform(self):
        headers = [*signed(), (b"x-project-id", b"other")]

        assert (await call(stack(), headers=headers)).json["project"] == "other"

    async def test_two_project_headers_are_refused(self):
        headers = [*signed(), (b"x-project-id", b"a"), (b"x-project-id", b"b")]

        answer = await call(stack(), headers=headers)

        assert_refused(answer, 400, "APIGW.0201", "Bad request: X-Project-Id was sent 2 times; send it once")

    @pytest.mark.parametrize("problem", [NotFound("no such project"), Forbidden("no such project")])
    async def test_a_project_that_the_key_may_not_use(self, problem):
        answer = await call(stack(directory=Directory(problem)), headers=signed())

        assert_refused(answer, 403, "APIGW.0310", "The project is unavailable: no such project")

    async def test_a_key_that_stopped_being_one(self):
        answer = await call(stack(directory=Directory(NotAuthenticated("token expires"))), headers=signed())

        assert_refused(answer, 401, "APIGW.0301", PREFIX + "token expires")

    async def test_a_busy_directory(self):
        answer = await call(stack(directory=Directory(Busy("later", retry_after_seconds=3))), headers=signed())

        assert_refused(answer, 429, "APIGW.0308", "The throttling threshold has been reached: later")
        assert answer.headers["retry-after"] == "3"

    @pytest.mark.parametrize(
        ("headers", "tail"),
        [
            ([], "x-auth-token not found"),
            ([(b"x-auth-token", b"t")], "decrypt token fail"),
            ([(b"x-auth-token", b"t"), (b"authorization", b"x")], "decrypt token fail"),
            (signed(access_key="Z" * 20), "Get secretKey failed,ak:***,err:ak not exist"),
        ],
    )
    async def test_without_a_known_key(self, headers, tail):
        answer = await call(stack(), headers=headers)

        assert_refused(answer, 401, "APIGW.0301", PREFIX + tail)

    @pytest.mark.parametrize(
        ("headers", "tail"),
        [
            ([(b"authorization", b"x")], "the Authorization header must read"),
            ([(b"authorization", b"\xff\xfe")], "the Authorization header must read"),
            ([*signed(), signed()[-1]], "Authorization was sent 2 times"),
            (signed(now=NOW - timedelta(seconds=901)), "X-Sdk-Date 20260301T114459Z is 901 s away"),
            (signed(secret_key="w" * 40), "the signature does not belong to this request"),
            (signed(method="DELETE"), "the signature does not belong to this request"),
        ],
    )
    async def test_with_a_bad_signature(self, headers, tail):
        answer = await call(stack(), headers=headers)

        assert answer.status == 401
        assert answer.json["error_msg"].startswith(PREFIX + "verify aksk signature fail, " + tail)
        assert SECRET_KEY not in answer.json["error_msg"]

    async def test_the_project_is_asked_only_for_a_proven_key(self):
        directory = Directory()

        await call(stack(directory=directory), headers=signed(secret_key="w" * 40))

        assert directory.asked == [ACCESS_KEY, "rejected"]

    @pytest.mark.parametrize("headers", [signed(now=NOW - timedelta(hours=1)), [(b"authorization", b"x")]])
    async def test_what_proves_nothing_about_the_secret_key_is_not_held_against_it(self, headers):
        directory = Directory()

        await call(stack(directory=directory), headers=headers)

        assert directory.asked == []

    @pytest.mark.parametrize("headers", [[], signed(access_key="Z" * 20), signed(now=NOW + timedelta(hours=1))])
    async def test_a_hopeless_request_is_answered_before_its_body_is_read(self, headers):
        order: list[str] = []

        async def receive() -> Message:
            order.append("receive")
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            order.append(message["type"])

        headers = [*headers, (b"content-length", b"12000000")]
        scope: Scope = {"type": "http", "method": "POST", "path": "/show", "query_string": b"", "headers": headers}
        await stack()(scope, receive, send)

        assert order == ["http.response.start", "http.response.body", "receive", "http.response.body"]

    async def test_a_slow_upload_does_not_make_its_own_signature_stale(self):
        times = iter([NOW + timedelta(seconds=899), NOW + timedelta(seconds=2000)])

        assert (await call(stack(clock=lambda: next(times)), headers=signed())).status == 200


class TestTokens:
    async def test_a_token_gives_its_own_project(self):
        answer = await call(stack(), headers=[(b"x-auth-token", TOKEN.encode())])

        assert (answer.status, answer.json["project"]) == (200, TOKENS_PROJECT)

    @pytest.mark.parametrize(
        "authorization", [b"x", b"", b"\xff", b"SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=0"]
    )
    async def test_whatever_stands_in_authorization_beside_it(self, authorization):
        headers = [(b"x-auth-token", TOKEN.encode()), (b"authorization", authorization)]

        assert (await call(stack(), headers=headers)).json["project"] == TOKENS_PROJECT

    async def test_it_counts_before_a_good_signature(self):
        directory = Directory()

        answer = await call(stack(directory=directory), headers=[*signed(), (b"x-auth-token", TOKEN.encode())])

        assert (answer.json["project"], directory.asked) == (TOKENS_PROJECT, ["token None"])

    async def test_a_bad_one_is_refused_beside_a_good_signature(self):
        answer = await call(stack(), headers=[*signed(), (b"x-auth-token", b"bad")])

        assert_refused(answer, 401, "APIGW.0301", PREFIX + "decrypt token fail")

    async def test_an_empty_one_is_none(self):
        assert (await call(stack(), headers=[*signed(), (b"x-auth-token", b" ")])).json["project"] == "own-project"
        answer = await call(stack(), headers=[(b"x-auth-token", b"")])
        assert_refused(answer, 401, "APIGW.0301", PREFIX + "x-auth-token not found")

    async def test_two_of_them(self):
        answer = await call(stack(), headers=[(b"x-auth-token", TOKEN.encode())] * 2)

        assert_refused(
            answer, 401, "APIGW.0301", PREFIX + "decrypt token fail, X-Auth-Token was sent 2 times; send it once"
        )

    async def test_a_bearers_beside_another_authorization(self):
        bearer = (b"authorization", f"Bearer {TOKEN}".encode())

        for headers in ([bearer, bearer], [bearer, *signed()], [*signed(), bearer]):
            answer = await call(stack(), headers=headers)
            assert_refused(
                answer,
                401,
                "APIGW.0301",
                PREFIX + "verify aksk signature fail, Authorization was sent 2 times; send it once",
            )

    async def test_a_bad_one_is_answered_before_the_body_is_read(self):
        answer = await call(stack(), method="POST", headers=[(b"x-auth-token", b"bad")], body=b"never wanted")

        assert (answer.status, answer.received) == (401, 0)

    async def test_the_body_may_be_as_large_as_with_a_signature_and_arrives_whole(self):
        body = b"x" * (3 * MIB)
        headers = [(b"x-auth-token", TOKEN.encode()), (b"content-length", str(len(body)).encode())]

        answer = await call(stack(), method="POST", headers=headers, parts=[body[:MIB], body[MIB:]])

        assert (answer.json["size"], answer.json["digest"]) == (len(body), body_digest(body))
        over = [(b"x-auth-token", TOKEN.encode()), (b"content-length", str(12 * MIB + 1).encode())]
        assert (await call(stack(), method="POST", headers=over)).status == 413

    async def test_the_project_that_the_request_names_is_handed_on(self):
        directory = Directory(NotFound("not the project of the token"))

        answer = await call(
            stack(directory=directory), headers=[(b"x-auth-token", TOKEN.encode()), (b"x-project-id", b"another")]
        )

        assert directory.asked == ["token another"]
        assert_refused(answer, 403, "APIGW.0310", "The project is unavailable: not the project of the token")


class TestPublicRoutes:
    async def test_they_need_no_credentials(self):
        assert (await call(stack(), "/health")).json["project"] is None

    async def test_their_bodies_stay_in_memory(self):
        app = stack(memory_body_bytes=1000)

        assert (await call(app, "/public", method="POST", body=b"x" * 1000)).json["size"] == 1000
        answer = await call(app, "/public", method="POST", body=b"x" * 1001)
        assert_refused(answer, 413, "APIGW.0201", "Request body too large: the limit is 1000 bytes")

    async def test_what_only_looks_like_one_is_not(self):
        for path in ("/health/", "/HEALTH", "//health", "/health/../show"):
            assert (await call(stack(), path)).status == 401


class TestLimits:
    async def test_a_declared_length_over_the_limit_is_refused_before_the_body(self):
        headers = [*signed(method="POST"), (b"content-length", b"12582913")]

        answer = await call(stack(), method="POST", headers=headers)

        assert_refused(answer, 413, "APIGW.0201", "Request body too large: the limit is 12582912 bytes")
        assert answer.headers["connection"] == "close"

    async def test_a_chunked_body_over_the_limit(self):
        headers = [*signed(method="POST"), (b"transfer-encoding", b"chunked")]

        answer = await call(stack(), method="POST", headers=headers, parts=[b"x" * MIB] * 12 + [b"x"])

        assert answer.status == 413

    async def test_a_body_of_exactly_the_limit(self):
        parts = [b"x" * MIB] * 12
        headers = signed(method="POST", body=b"".join(parts))

        answer = await call(stack(), method="POST", headers=headers, parts=parts)

        assert (answer.status, answer.json["size"]) == (200, 12 * MIB)

    async def test_uri(self):
        query = b"a=" + b"x" * (32 * 1024 - len("/show?a="))

        assert (await call(stack(), query=query, headers=signed(query=query))).status == 200
        answer = await call(stack(), query=query + b"x")
        assert_refused(answer, 414, "APIGW.0201", "Request URI too long: the limit is 32768 bytes")

    async def test_one_header(self):
        value = b"x" * (32 * 1024 - 3)

        assert (await call(stack(), headers=[*signed(), (b"x-a", value)])).status == 200
        answer = await call(stack(), headers=[(b"x-a", value + b"x")])
        assert_refused(answer, 494, "APIGW.0201", "Request headers too large: x-a is over 32768 bytes")

    async def test_all_headers(self):
        headers = [(f"x-{n}".encode(), b"x" * 30_000) for n in range(5)]

        answer = await call(stack(), headers=headers)

        assert_refused(answer, 494, "APIGW.0201", "Request headers too large: all together are over 131072 bytes")


class TestRequestId:
    async def test_it_is_ours_new_and_everywhere_the_same(self):
        headers = [*signed(), (b"x-request-id", b"chosen by the caller")]

        first, second = [await call(stack(), headers=headers) for _ in range(2)]

        assert first.headers["x-request-id"] == first.json["request_id"] != second.headers["x-request-id"]
        assert len(first.headers["x-request-id"]) == 32
        assert int(first.headers["x-request-id"], 16)

    async def test_it_is_in_the_log_context_of_the_application_only(self):
        seen: list[dict[str, Any]] = []

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            seen.append(structlog.contextvars.get_contextvars())
            await PlainTextResponse("")(_scope, _receive, send)

        await call(RequestIdMiddleware(app, new_id=lambda: "id"))

        assert seen == [{"request_id": "id"}]
        assert structlog.contextvars.get_contextvars() == {}

    async def test_one_log_line_per_request_without_the_query(self):
        query = b"token=secret"
        times = iter([1.0, 1.5])
        app = RequestIdMiddleware(application(), new_id=lambda: "id", monotonic=lambda: next(times))
        with structlog.testing.capture_logs() as logs:
            await call(app, "/nowhere", query=query)

        assert logs == [
            {
                "event": "request_served",
                "log_level": "info",
                "request_id": "id",
                "method": "GET",
                "path": "/nowhere",
                "status": 404,
                "duration_ms": 500.0,
                "project_id": None,
            }
        ]

    async def test_the_log_line_names_the_project(self):
        with structlog.testing.capture_logs() as logs:
            await call(stack(), headers=signed())

        assert [line["project_id"] for line in logs] == ["own-project"]

    async def test_a_client_that_left_is_logged_and_not_answered(self):
        with structlog.testing.capture_logs() as logs, pytest.raises(IndexError):
            await call(stack(), method="POST", headers=signed(method="POST"), parts=[])

        assert [(line["event"], line["status"]) for line in logs] == [("request_served", 499)]

    async def test_a_path_cannot_forge_a_log_line(self):
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": "/a\nb" + "c" * 9999,
            "query_string": b"",
            "headers": [],
        }

        async def ignore(_message: Message) -> None:
            pass

        with structlog.testing.capture_logs() as logs:
            await stack()(scope, asyncio.Event().wait, ignore)  # type: ignore[arg-type]

        assert logs[0]["path"].startswith("/a\\nb")
        assert len(logs[0]["path"]) == 512


class TestErrors:
    @pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("DELETE", "/crash"), ("GET", "/show/")])
    async def test_unknown_routes_and_methods(self, method, path):
        answer = await call(stack(), path, method=method, headers=signed(path, method=method))

        assert_refused(answer, 404, "APIGW.0101", f"The API does not exist or has not been published: {method} {path}")

    async def test_a_crash_is_logged_with_its_cause_and_answered_without_it(self):
        with structlog.testing.capture_logs() as logs:
            answer = await call(stack(), "/crash", headers=signed("/crash"))

        request_id = answer.headers["x-request-id"]
        expected = f"Internal error: the server's log has the cause under request id {request_id}"
        assert_refused(answer, 500, "CCE.01500001", expected)
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("request_failed", "error"),
            ("request_served", "info"),
        ]
        assert logs[0]["exc_info"]
        assert logs[1]["status"] == 500

    async def test_a_crash_outside_of_starlette_too(self):
        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise HTTPException(418)

        with structlog.testing.capture_logs():
            answer = await call(stack(app), headers=signed())

        assert (answer.status, answer.json["error_code"]) == (500, "CCE.01500001")

    async def test_a_crash_in_the_middle_of_an_answer_adds_nothing_to_it(self):
        with structlog.testing.capture_logs() as logs:
            answer = await call(stack(), "/crash-late", headers=signed("/crash-late"))

        assert (answer.status, answer.body) == (200, b"half")
        assert [line["event"] for line in logs] == ["request_failed", "request_served"]

    async def test_a_websocket_is_closed_and_never_reaches_the_application(self):
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await stack()({"type": "websocket", "path": "/show", "headers": []}, asyncio.Event().wait, send)  # type: ignore[arg-type]

        assert [message["type"] for message in sent] == ["websocket.close"]

    async def test_the_lifespan_passes(self):
        seen: list[str] = []

        async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope["type"])

        async def nothing(*_: Any) -> Any:
            return None

        await stack(app)({"type": "lifespan"}, nothing, nothing)

        assert seen == ["lifespan"]


async def test_a_body_that_nothing_proves_counts_for_the_memory_of_all_connections():
    class Counted(RequestObserver):
        def __init__(self) -> None:
            self.held: list[int] = []

        def hold(self, count: int) -> None:
            self.held.append(count)

    place, app = Counted(), stack()

    async def with_place(scope: Scope, receive: Receive, send: Send) -> None:
        remember_observer(scope, place)
        await app(scope, receive, send)

    answer = await call(with_place, "/public", method="POST", parts=[b"a" * 1000, b"b" * 500])
    assert (answer.status, place.held) == (200, [1000, 1500])


def rates(**limits: float) -> RateSettings:
    """Return limits whose buckets do not fill again while a test runs; those that are not named are off."""
    return RateSettings(**{"per_address": 0, "per_key": 0, "per_user": 0, "burst_seconds": 1e6, **limits})


ONE, THREE = 1e-6, 3e-6  # requests at once
STRANGER, OTHER = "192.0.2.1", "192.0.2.2"


async def statuses(app: ASGIApp, number: int, headers: Sequence[tuple[bytes, bytes]] = (), **more: Any) -> list[int]:
    return [(await call(app, headers=headers, **more)).status for _ in range(number)]


class TestRates:
    async def test_an_address_is_refused_before_its_request_is_looked_at(self):
        directory = Directory()
        app = stack(rates=rates(per_address=THREE), directory=directory)

        assert await statuses(app, 4, client=STRANGER, path="/health") == [200, 200, 200, 429]
        answer = await call(app, client=STRANGER, headers=signed(method="POST", body=b"12"), method="POST", body=b"12")

        text = "this address has sent more requests than it may (3e-06 a second, 3 at once); retry in "
        assert answer.status == 429
        assert answer.json["error_msg"].startswith(f"The throttling threshold has been reached: {text}")
        assert int(answer.headers["retry-after"]) >= 1
        assert directory.asked == []
        assert await statuses(app, 1, client=OTHER, path="/health") == [200]

    async def test_an_address_is_a_network_of_ipv6(self):
        app = stack(rates=rates(per_address=ONE))
        path = "/health"

        assert await statuses(app, 1, client="2001:db8::1", path=path) == [200]
        assert await statuses(app, 1, client="2001:db8::2", path=path) == [429]
        assert await statuses(app, 1, client="2001:db8:0:1::1", path=path) == [200]

    async def test_a_proxy_stands_for_many_and_names_them(self):
        app = stack(rates=rates(per_address=ONE), trusted_proxies=STRANGER)
        forwarded = [(b"x-forwarded-for", OTHER.encode())]

        assert await statuses(app, 3, client=STRANGER, path="/health") == [200, 200, 200]
        assert await statuses(app, 2, forwarded, client=STRANGER, path="/health") == [200, 429]

    async def test_a_key_counts_what_it_proves_and_not_what_names_it(self):
        directory = Directory()
        app = stack(rates=rates(per_key=THREE), directory=directory)

        assert await statuses(app, 10, signed(secret_key="w" * 40)) == [401] * 10
        assert await statuses(app, 4, signed()) == [200, 200, 200, 429]
        asked = len(directory.asked)
        answer = await call(app, headers=signed())
        assert answer.json["error_msg"].startswith(
            "The throttling threshold has been reached: this access key, token or session has sent more requests"
        )
        assert len(directory.asked) == asked  # nobody was asked
        assert await statuses(app, 1, [(b"x-auth-token", TOKEN.encode())]) == [200]

    async def test_a_token_is_a_key_too(self):
        app = stack(rates=rates(per_key=ONE))

        assert await statuses(app, 2, [(b"x-auth-token", TOKEN.encode())]) == [200, 429]
        assert await statuses(app, 1, [(b"x-auth-token", b"another")]) == [401]

    async def test_nobody_uses_up_a_key_by_naming_it_beside_what_proves(self):
        app = stack(rates=rates(per_key=THREE))
        bearer = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"authorization", dict(signed())[b"authorization"])]

        assert await statuses(app, 5, bearer) == [401] * 5
        assert await statuses(app, 3, signed()) == [200] * 3

    async def test_a_token_is_the_same_key_in_either_header(self):
        app = stack(rates=rates(per_key=ONE))
        token = [(b"x-auth-token", TOKEN.encode())]

        assert await statuses(app, 1, [*token, *[(b"authorization", b"x")] * 2]) == [200]
        assert await statuses(app, 1, [(b"authorization", f"Bearer {TOKEN}".encode())]) == [429]

    async def test_a_user_counts_with_all_its_keys_and_tokens(self):
        app = stack(rates=rates(per_user=THREE))
        token = [(b"x-auth-token", TOKEN.encode())]

        assert await statuses(app, 2, signed()) == [200, 200]
        assert await statuses(app, 2, token) == [200, 429]
        answer = await call(app, headers=signed(method="POST", body=b"12"), method="POST", parts=[b"1", b"2"])
        assert answer.status == 429
        assert "this user has sent more requests" in answer.json["error_msg"]

    async def test_what_is_refused_is_counted_by_its_limit(self):
        before = THROTTLED.labels("address")._value.get()

        await statuses(stack(rates=rates(per_address=ONE)), 3, client=STRANGER, path="/health")

        assert THROTTLED.labels("address")._value.get() == before + 2

    async def test_a_browser_reads_a_sentence(self):
        app = stack(rates=rates(per_address=ONE))

        answers = [await call(app, "/console/releases", client=STRANGER) for _ in range(2)]

        assert answers[1].status == 429
        assert answers[1].headers["content-type"].startswith("text/plain")
        assert answers[1].body.startswith(b"The throttling threshold has been reached: this address has sent more")


class TestBrowsers:
    """Who asks for HTML without credentials of the API is a person, who cannot read JSON."""

    HTML = ((b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),)

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            ({"path": "/show"}, 401),
            ({"path": "/show", "query": b"x" * 40_000}, 414),
            ({"path": "/public", "method": "POST", "body": b"x" * 2 * MIB}, 413),
            ({"path": "/show", "headers": [(b"cookie", b"x" * 90_000)]}, 494),
        ],
    )
    async def test_a_refusal_is_a_page(self, request_: dict[str, Any], status: int):
        headers = [*request_.pop("headers", []), *self.HTML]

        answer = await call(stack(root_path="/ph"), **request_, headers=headers)

        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/html")
        assert "script-src" not in answer.headers["content-security-policy"]
        page = answer.body.decode()
        assert answer.headers["x-request-id"] in page
        assert 'href="/ph/console/"' in page

    async def test_what_it_echoes_is_a_text(self):
        headers = [(b"x-project-id", b"<script>alert(1)</script>" * 100), *self.HTML]

        page = (await call(stack(), headers=headers)).body

        assert b"<script" not in page

    async def test_a_crash_is_a_page(self):
        wrapped = wrap(
            application(),
            settings=Settings(),
            authenticator=Directory(),
            is_public=lambda _method, _path: True,
            clock=lambda: NOW,
        )
        answer = await call(wrapped, "/crash", headers=self.HTML)
        assert answer.status == 500
        assert answer.headers["content-type"].startswith("text/html")

    async def test_a_program_gets_json_whatever_else_it_takes(self):
        answer = await call(stack(), headers=[(b"x-auth-token", b"wrong"), *self.HTML])

        assert_refused(answer, 401, "APIGW.0301", answer.json["error_msg"])
