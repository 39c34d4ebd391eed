"""What strangers and tenants without rights send to stop the server: others are answered meanwhile, and memory stays.

Every attack here stopped the version before it for seconds, or for ever.
"""

import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.bystanders import longest_wait
from tests.support.charts import build_chart
from tests.support.crowds import crowd
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.tokens import PATH as TOKENS
from tests.support.tokens import send, token_of
from tests.support.users import add_person
from tests.support.wire import assert_error

MIB = 1024 * 1024
#: The longest that one request may keep another waiting is 50 ms; a busy machine adds to what is seen from outside.
PATIENCE_SECONDS = 0.5
SETTINGS = {
    "PILOTHOUSE_HTTP__HEAD_SECONDS": "1.5",
    "PILOTHOUSE_HTTP__BODY_SECONDS": "2",
    "PILOTHOUSE_HTTP__WRITE_SECONDS": "2",
    "PILOTHOUSE_HTTP__WAITING_BYTES": str(8 * MIB),
    "PILOTHOUSE_HTTP__CONNECTIONS": "60",
    "PILOTHOUSE_HTTP__CONNECTIONS_PER_ADDRESS": "50",
    "PILOTHOUSE_HTTP__UNPROVEN_BODIES": "8",
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[RunningServer]:
    """Yield a server without clusters whose limits are reached in seconds."""
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=SETTINGS) as running:
        yield running


def connect(server: RunningServer, *, tls: bool = False, source: str = "") -> socket.socket:
    address = urlsplit(server.tls_url if tls else server.url)
    raw = socket.create_connection((address.hostname or "", address.port or 0), timeout=20, source_address=(source, 0))
    if not tls:
        return raw
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(raw)


def answered(connection: socket.socket) -> int:
    """Return the status of the next answer, which is read whole; the connection stays open."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def received(connection: socket.socket) -> bytes:
    """All that comes until the peer closes."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except (ConnectionResetError, ssl.SSLError):
        pass
    return b"".join(pieces)


def left_open(held: list[socket.socket]) -> int:
    """How many of the connections the server has not closed; what they received stays unread."""
    states = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] for one in held]
    return states.count(1)  # TCP_ESTABLISHED


def api_memory(server: RunningServer) -> int:
    """Return the bytes that the API process holds."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    api = next(pid for pid in children if b"\0api\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    resident = next(line for line in Path(f"/proc/{api}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) * 1024


def login_with(**identity: Any) -> bytes:
    return json.dumps({"auth": {"identity": identity}}).encode()


class TestBodies:
    def test_a_log_in_with_half_a_million_errors_is_not_read(self, guarded: RunningServer):
        before = api_memory(guarded)

        def attack() -> None:
            body = login_with(methods=[0] * 500_000)
            assert_error(send(guarded, "POST", TOKENS, content=body), 413, "APIGW.0201", "16384")

        assert longest_wait(guarded, attack) < PATIENCE_SECONDS
        assert api_memory(guarded) - before < 64 * MIB

    def test_only_the_first_error_of_a_log_in_is_told(self, guarded: RunningServer):
        answer = send(guarded, "POST", TOKENS, content=login_with(methods=[0] * 50))

        assert_error(answer, 400, "IAM.0011", "auth.identity.methods")
        assert len(answer.content) < 2000

    def test_a_log_in_of_too_many_values_is_refused_before_they_are_built(self, guarded: RunningServer):
        answer = send(guarded, "POST", TOKENS, content=b'{"auth": [' + b"[]," * 4000 + b"[]]}")

        assert_error(answer, 400, "IAM.0011", "more than 200 values")

    def test_chunks_of_one_byte_are_refused_after_some(self, guarded: RunningServer):
        def attack() -> None:
            with closing(connect(guarded)) as connection:
                head = f"POST {TOKENS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                with suppress(OSError):
                    connection.sendall(head + b"1\r\n \r\n" * 150_000)
                answer = received(connection)
                assert not answer or answer.startswith(b"HTTP/1.1 400 "), answer

        assert longest_wait(guarded, attack) < PATIENCE_SECONDS

    @pytest.mark.parametrize(
        "first", [b"", b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "behind another"]
    )
    def test_a_head_of_fifty_thousand_lines_is_refused(self, guarded: RunningServer, first: bytes):
        def attack() -> None:
            for _ in range(5):
                with closing(connect(guarded)) as connection:
                    with suppress(OSError):
                        connection.sendall(first + b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 47_000 + b"\r\n")
                    answer = received(connection)
                    assert b"HTTP/1.1 494 " in answer or not answer or (first and answer.startswith(b"HTTP/1.1 200"))

        assert longest_wait(guarded, attack) < PATIENCE_SECONDS

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_refused_head_is_answered_in_no_hurry(self, guarded: RunningServer, tls: bool):  # noqa: FBT001
        with closing(connect(guarded, tls=tls)) as connection:
            began = time.monotonic()
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 300 + b"\r\n")
            assert received(connection).startswith(b"HTTP/1.1 494 ")
        assert time.monotonic() - began >= 0.1

    @pytest.mark.parametrize("parts", [1, 7])
    @pytest.mark.parametrize(("lines", "status"), [(256, b"HTTP/1.1 200 "), (257, b"HTTP/1.1 494 ")])
    def test_a_head_may_have_256_lines(self, guarded: RunningServer, lines: int, status: bytes, parts: int):
        sent = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"a: b\r\n" * (lines - 2) + b"\r\n"
        size = len(sent) // parts + 1
        with closing(connect(guarded)) as connection:
            with suppress(OSError):
                for start in range(0, len(sent), size):
                    connection.sendall(sent[start : start + size])
                    time.sleep(0.01)
            assert received(connection).startswith(status)

    def test_who_may_not_create_is_told_before_the_body_is_looked_into(self, guarded: RunningServer):
        nobody = add_person(guarded).server
        body = b'{"values": [' + b"[]," * 1_300_000 + b"[]]}"

        def attack() -> None:
            path = "/cce/cam/v3/clusters/c/releases"
            answer = nobody.send("POST", path, body=body, headers={"Content-Type": "application/json"})
            assert_error(answer, 403, "CCE.01403001", "cce:release:create")

        assert longest_wait(guarded, attack) < PATIENCE_SECONDS

    def test_values_that_are_too_many_are_refused_beside_the_others(self, guarded: RunningServer):
        body = b'{"chart_id": "c", "namespace": "n", "values": {"a": [' + b"[]," * 1_300_000 + b"[]]}}"
        before = api_memory(guarded)

        def attack() -> None:
            path = "/cce/cam/v3/clusters/c/releases"
            answer = guarded.send("POST", path, body=body, headers={"Content-Type": "application/json"})
            assert_error(answer, 400, "CCE.01400001", "more than 50000 values")

        assert longest_wait(guarded, attack) < PATIENCE_SECONDS
        assert api_memory(guarded) - before < 64 * MIB

    def test_a_body_that_trickles_ends_in_time(self, guarded: RunningServer):
        with closing(connect(guarded)) as connection:
            connection.sendall(f"POST {TOKENS} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n".encode())
            began = time.monotonic()
            answer = b""
            connection.settimeout(0.3)
            while not answer and time.monotonic() - began < 10:
                try:
                    answer = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(b" ")
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert 1.5 < time.monotonic() - began < 6


class TestRevocation:
    def test_a_request_that_was_begun_before_its_token_ended_does_nothing(self, guarded: RunningServer):
        token = token_of(guarded)
        body = json.dumps({"name": "left-behind"}).encode()
        with closing(connect(guarded)) as connection:
            head = (
                f"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\nContent-Type: application/json\r\n"
            )
            connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body[:5])
            time.sleep(1.3)  # the credentials of what comes sooner are fresh
            ended = send(guarded, "DELETE", TOKENS, token=token, headers={"X-Subject-Token": token})
            assert ended.status_code == 204
            connection.sendall(body[5:])
            answer = received(connection)

        assert answer.startswith(b"HTTP/1.1 401 "), answer
        assert "left-behind" not in guarded.send("GET", "/api/v1/users").text


class TestConnections:
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("sent", [b"", b"GET /api/v1/health HTTP/1.1\r\nHos"], ids=["nothing", "half a head"])
    def test_a_head_that_does_not_come_ends_the_connection(self, guarded: RunningServer, sent: bytes, tls: bool):  # noqa: FBT001
        with closing(connect(guarded, tls=tls)) as connection:
            began = time.monotonic()
            connection.sendall(sent)
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408 " if sent else b""), answer
        assert sent or not answer  # an answer to nothing would be taken for that to a request on its way
        assert 1 < time.monotonic() - began < 8

    def test_a_half_head_behind_a_request_ends_the_connection_too(self, guarded: RunningServer):
        with closing(connect(guarded)) as connection:
            connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\nGET /api")
            began = time.monotonic()
            answer = received(connection)
        assert b"HTTP/1.1 200 " in answer
        assert b"HTTP/1.1 408 " in answer
        assert time.monotonic() - began < 8

    @pytest.mark.parametrize("door", ["plain", "tls"])
    def test_an_address_with_all_its_places_keeps_nobody_behind_it_out(self, guarded: RunningServer, door: str):
        url = guarded.url if door == "plain" else guarded.tls_url
        with crowd(url, 50, of_an_address=50, first_address=1) as held:
            assert guarded.send("GET", "/v2/charts").status_code == 200
            assert left_open(held) < 50

    def test_a_connection_of_a_known_caller_stays_when_strangers_crowd(self, guarded: RunningServer):
        asked = f"GET /v2/charts HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token_of(guarded)}\r\n\r\n".encode()
        with closing(connect(guarded)) as kept:
            kept.sendall(asked)
            assert answered(kept) == 200
            with crowd(guarded.url, 70, of_an_address=70, first_address=1), crowd(guarded.url, 70):
                time.sleep(0.5)  # until the server has accepted them
                kept.sendall(asked)
                assert answered(kept) == 200

    @pytest.mark.parametrize(
        "what", ["answers that are not read", "log-ins", "log-ins that ask first", "bodies of a claimed key"]
    )
    def test_who_makes_the_server_wait_keeps_nobody_out(self, guarded: RunningServer, what: str):
        claim = "SDK-HMAC-SHA256 Access={}, SignedHeaders=x-sdk-date, Signature={}"
        sent = {
            "answers that are not read": b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60,
            "log-ins": f"POST {TOKENS} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{{".encode(),
            "log-ins that ask first": (
                f"POST {TOKENS} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n".encode()
            ),
            "bodies of a claimed key": (
                "POST /v2/charts HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
                f"Authorization: {claim.format(guarded.access_key, '0' * 64)}\r\n"
                f"X-Sdk-Date: {time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}\r\n\r\n--"
            ).encode(),
        }[what]
        with crowd(guarded.url, 75, send=sent):
            # Until the first answers to the crowd are made, it is the crowd that waits for the server, as it may.
            wait_for(lambda: guarded.send("GET", "/v2/charts").status_code == 200, seconds=15)
            for _ in range(3):
                time.sleep(0.2)
                assert guarded.send("GET", "/v2/charts").status_code == 200

    def test_bodies_that_prove_nothing_share_a_small_part_of_the_memory(self, guarded: RunningServer):
        claim = "SDK-HMAC-SHA256 Access={}, SignedHeaders=x-sdk-date, Signature={}"
        head = (
            f"POST /v2/charts HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB}\r\n"
            f"Authorization: {claim.format(guarded.access_key, '0' * 64)}\r\n"
            f"X-Sdk-Date: {time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}\r\n\r\n"
        ).encode()
        before = api_memory(guarded)
        with crowd(guarded.url, 40, send=head + bytes(MIB - 1)) as held:
            assert guarded.send("GET", "/v2/charts").status_code == 200
            assert left_open(held) <= 8
            assert api_memory(guarded) - before < 24 * MIB

    def test_an_answer_that_nobody_takes_ends(self, guarded: RunningServer):
        with crowd(guarded.url, 1, send=b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60) as held:
            wait_for(lambda: not left_open(held), seconds=15)


@pytest.mark.parametrize("attacked", ["plain", "tls"])
def test_silent_connections_give_way_when_files_run_short(attacked: str):
    """380 of them ended the service for ever where a process may open 400 files."""
    settings = {"PILOTHOUSE_HTTP__CONNECTIONS_PER_ADDRESS": "5000"}
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)); "
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'pilothouse', *sys.argv[1:]])"
    )
    program = (sys.executable, "-c", limited)
    with (
        open_folder() as folder,
        run_server(folder, kubeconfig=None, environment=settings, program=program) as server,
    ):
        address = urlsplit(server.url if attacked == "plain" else server.tls_url)
        held = [socket.create_connection((address.hostname or "", address.port or 0), timeout=20) for _ in range(420)]
        try:
            for _ in range(5):
                with httpx2.Client(base_url=server.url, trust_env=False, timeout=10) as http:
                    assert http.get("/api/v1/health").status_code == 200
            over_tls = {"PILOTHOUSE_URL": server.tls_url, "PILOTHOUSE_CA": str(server.ca)}
            signed = server.command("chart", "list", variables=over_tls)
            assert signed.returncode == 0, signed.stderr
        finally:
            for connection in held:
                connection.close()


def test_uploads_that_prove_nothing_are_few_from_one_address(guarded: RunningServer):
    """Whoever knows an access key could keep everybody's uploads out with bodies whose signature is never verified."""
    claim = "SDK-HMAC-SHA256 Access={}, SignedHeaders=x-sdk-date, Signature={}"
    head = (
        "POST /v2/charts HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Authorization: " + claim.format(guarded.access_key, "0" * 64) + "\r\n"
        f"X-Sdk-Date: {time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}\r\nContent-Length: {8 * MIB}\r\n\r\n"
    ).encode()
    large = build_chart("large", templates={}, files={"noise": os.urandom(2 * MIB)})
    with ExitStack() as held:
        for _ in range(2):  # a quarter of UNPROVEN_BODIES
            attacker = held.enter_context(closing(connect(guarded, source="127.0.0.2")))
            attacker.sendall(head + bytes(2 * MIB))
        time.sleep(0.3)
        further = held.enter_context(closing(connect(guarded, source="127.0.0.2")))
        further.sendall(head + bytes(2 * MIB))
        assert further.recv(65536).startswith(b"HTTP/1.1 429 ")
        answer = guarded.upload(large, parameters='{"skip_lint": true}')
        assert answer.status_code == 201, answer.text
    wait_for(lambda: guarded.send("GET", "/v2/charts").status_code == 200)


def test_strangers_learn_nothing_from_the_health_page(guarded: RunningServer):
    answer = httpx2.get(f"{guarded.url}/api/v1/health", trust_env=False)

    assert answer.json() == {"status": "ok"}
    assert send(guarded, "GET", "/api/v1/status").status_code == 401
    assert guarded.send("GET", "/api/v1/status").json()["index"]["clusters"] == 0
    assert_error(add_person(guarded).server.send("GET", "/api/v1/status"), 403, "CCE.01403001")


@pytest.mark.parametrize("path", ["/v3/projects", "/v3/auth/domains", "/v3/regions", "/v3"])
def test_iam_answers_carry_the_trace_id(guarded: RunningServer, path: str):
    for answer in (guarded.send("GET", path), send(guarded, "GET", path)):
        assert answer.headers["x-iam-trace-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("marker", ["a/%01", "a/%C2%85", "a%E2%80%AE/b", "/", "a/", "a/" + "b" * 300])
def test_hostile_markers_of_a_release_list_are_refused(server: RunningServer, marker: str):
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases?limit=1&marker={marker}"

    assert_error(server.send("GET", path), 400, "CCE.01400001", "marker")


@pytest.mark.parametrize(
    "marker", ["2026-01-01T00:00:00Z/%ED%A0%80", "0001-01-01T00:00:00%2B14:00/a", "9999-12-31T23:59:59-14:00/a", "x/y"]
)
def test_hostile_markers_of_an_operation_list_are_refused(guarded: RunningServer, marker: str):
    assert_error(guarded.send("GET", f"/api/v1/operations?marker={marker}"), 400, "CCE.01400001", "marker")
