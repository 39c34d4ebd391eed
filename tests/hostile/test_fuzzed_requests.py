"""Twenty thousand requests that no client would send: none is answered with 500, every error is a JSON object.

The seed is printed and can be given again by PILOTHOUSE_TEST_SEED.
"""

import http.client
import json
import os
import random
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer

REQUESTS = 20_000
THREADS = 2
RAW = 600

METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "GE T", ""]
WORDS = [
    "", "a", "A", "-", ".", "..", "web", "default", "kube-system", "no-such", "%00", "\x00", "é", "\U0001f680", "a/b",
    "\ud83d", "a%2Fb", "{cluster_id}", "%7Bproject_id%7D", "' OR 1=1 --", "x" * 60, "x" * 5000, "null", "true", "0",
    "-1", "1e400", "2026-01-01T00:00:00Z", "../../etc/passwd", "\u202e", "\r\nX-Injected: 1",
]  # fmt: skip
ROUTES = [
    "/cce/cam/v3/clusters/{}/releases", "/cce/cam/v3/clusters/{}/namespace/{}/releases/{}",
    "/cce/cam/v3/clusters/{}/namespace/{}/releases/{}/history", "/autopilot/cam/v3/clusters/{}/releases",
    "/autopilot/cam/v3/clusters/{}/namespace/{}/releases/{}", "/v2/charts", "/v2/charts/{}", "/v2/charts/{}/archive",
    "/v2/charts/{}/values", "/v2/charts/{}/quotas", "/autopilot/v2/charts/{}", "/v3/auth/tokens", "/v3/projects",
    "/v3/auth/domains", "/v3/auth/projects", "/v3/regions", "/v3/projects/{}", "/v3", "/", "/api/v1/clusters",
    "/api/v1/clusters/{}", "/api/v1/clusters/{}/unlock", "/api/v1/operations", "/api/v1/operations/{}",
    "/api/v1/operations/{}/events", "/api/v1/users", "/api/v1/users/{}", "/api/v1/accesskeys", "/api/v1/accesskeys/{}",
    "/api/v1/projects", "/api/v1/projects/{}", "/api/v1/health", "/api/v1/openapi.json", "/{}", "/{}/{}",
]  # fmt: skip
KEYS = [
    "chart_id", "name", "namespace", "version", "values", "parameters", "description", "action", "dry_run", "replace",
    "release_version", "name_template", "kubeconfig", "context", "reason", "auth", "identity", "methods", "password",
    "user", "scope", "project", "domain", "role", "enabled", "x", "", "\x00",
]  # fmt: skip
QUERIES = [
    "namespace", "chart_id", "show_resources", "limit", "marker", "fields", "name", "page", "per_page", "enabled",
    "after", "state", "nocatalog", "domain_id", "",
]  # fmt: skip
TYPES = [
    "application/json", "application/json;charset=utf-8", "text/plain", "multipart/form-data; boundary=x", "",
    "multipart/form-data", "application/x-pem-file", "image/png", "multipart/form-data; boundary=" + "b" * 300,
]  # fmt: skip


class Fuzz:
    """Requests of one seed."""

    def __init__(self, seed: int, server: RunningServer, known: list[str]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - replayable, not secret
        self._server = server
        self._words = WORDS + known

    def word(self) -> str:
        return self.random.choice(self._words)

    def value(self, depth: int = 0) -> Any:
        kind = self.random.randrange(9 if depth < 4 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind in {7, 8}:
            return {self.random.choice(KEYS): self.value(depth + 1) for _ in range(self.random.randrange(6))}
        numbers = [0, 1, -1, 2**31, 2**63, 2**70, 0.5, 1e308]
        return [None, True, False, self.random.choice(numbers), self.word(), "x" * self.random.randrange(300)][kind]

    def body(self) -> bytes:
        kind = self.random.randrange(10)
        if kind < 6:
            text = json.dumps({key: self.value() for key in self.random.sample(KEYS, self.random.randrange(8))})
            if kind == 0:  # broken somewhere
                cut = self.random.randrange(len(text))
                text = text[:cut] + self.random.choice(["", "}", "[", '"', "\\u00", "NaN"]) + text[cut + 1 :]
            return text.encode("utf-8", "surrogatepass")
        if kind == 6:
            return self.random.randbytes(self.random.randrange(200))
        if kind == 7:
            return self.form()
        return [b"", b"null", b"[" * 3000, b'{"a":' * 500, b"\xff\xfe{}", b"{}"][self.random.randrange(6)]

    def form(self) -> bytes:
        parts = b""
        for _ in range(self.random.randrange(4)):
            name = self.random.choice(["content", "parameters", "other", ""])
            content = self.random.choice([b"", b"{}", b"{", b"\x1f\x8b\x08", self.random.randbytes(60)])
            head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.tgz"\r\n\r\n'
            parts += head.encode() + content + b"\r\n"
        return parts + self.random.choice([b"--x--\r\n", b"--x", b""])

    def target(self) -> str:
        route = self.random.choice(ROUTES)
        words = [self.word() for _ in range(route.count("{}"))]
        if self.random.random() < 0.3 and words:
            words[0] = self._server.cluster_id
        target = route.format(*(quote(word, safe="/%", errors="replace") for word in words))
        if self.random.random() < 0.4:
            pairs = (
                f"{self.random.choice(QUERIES)}={quote(self.word(), errors='replace')}"
                for _ in range(self.random.randrange(1, 4))
            )
            target += "?" + "&".join(pairs)
        return target

    def headers(self) -> dict[str, str]:
        found = {}
        if content_type := self.random.choice(TYPES):
            found["Content-Type"] = content_type
        for name in ("X-Project-Id", "X-Auth-Token", "X-Pilothouse-Wait", "X-Pilothouse-Timeout", "Prefer", "Accept"):
            if self.random.random() < 0.06:
                found[name] = "".join(char for char in self.word()[:200] if " " <= char <= "~")
        return found


def send(connection: http.client.HTTPConnection, fuzz: Fuzz, server: RunningServer) -> tuple[int, bytes, str]:
    """The answer to one request; what the client library refuses to send is left out by making it again."""
    method = fuzz.random.choice(METHODS[:4] * 6 + [one for one in METHODS if one.isalpha()])
    target, body, headers = fuzz.target(), fuzz.body(), fuzz.headers()
    if fuzz.random.random() < 0.85:
        path, _, query = target.partition("?")
        request = SignedRequest(
            method=method,
            raw_path=path.encode(),
            query_string=query.encode(),
            headers=[(b"host", urlsplit(server.url).netloc.encode())],
            body_digest=body_digest(body),
            body_empty=not body,
        )
        keys = {"access_key": server.access_key, "secret_key": server.secret_key}
        headers |= sign(request, **keys, now=datetime.now(UTC))
    headers["Content-Length"] = str(len(body))
    connection.request(method, target, body=body, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), f"{method} {target[:200]} {body[:200]!r}"


def judge(status: int, text: bytes, what: str, method_has_body: bool) -> None:  # noqa: FBT001 - a case of the test
    assert status < 500, (what, status, text[:300])
    if status >= 400 and method_has_body:
        assert isinstance(json.loads(text), dict), (what, status, text[:300])


@pytest.fixture(scope="module")
def known(attacked: RunningServer) -> list[str]:
    """Ids that exist, so that some requests get far."""
    chart = attacked.upload(config_map_chart("fuzzed"), parameters='{"override": true}').json()["id"]
    return [str(chart), attacked.project_id, attacked.cluster_id]


def test_no_request_is_answered_with_500_and_every_error_is_a_json_object(attacked: RunningServer, known: list[str]):
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED") or secrets.randbits(32))
    print(f"PILOTHOUSE_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    address = urlsplit(attacked.url)

    def attack(number: int) -> dict[int, int]:
        fuzz = Fuzz(seed + number, attacked, known)
        seen: dict[int, int] = {}
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
            for _ in range(REQUESTS // THREADS):
                try:
                    status, text, what = send(connection, fuzz, attacked)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    connection.close()  # the server ends connections whose rest it will not read
                    continue
                judge(status, text, what, not what.startswith("HEAD"))
                seen[status] = seen.get(status, 0) + 1
        return seen

    with ThreadPoolExecutor(THREADS) as pool:
        counts = list(pool.map(attack, range(THREADS)))
    total: dict[int, int] = {}
    for one in counts:
        for status, count in one.items():
            total[status] = total.get(status, 0) + count
    assert sum(total.values()) > REQUESTS * 0.98, total
    assert {200, 400, 401, 403, 404} <= set(total), total  # some got far, so that the fuzz means something
    assert attacked.send("GET", "/v2/charts").status_code == 200


def test_bytes_that_are_no_http_are_refused_in_json_or_cut_off(attacked: RunningServer):
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED") or secrets.randbits(32))
    print(f"PILOTHOUSE_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)  # noqa: S311 - replayable, not secret
    address = urlsplit(attacked.url)
    good = (
        b"GET /v2/charts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    for _ in range(RAW):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as raw:
            raw.sendall(bytes(data))
            raw.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := raw.recv(65536):
                answer += piece
        if not answer:
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        assert status < 500, (bytes(data), answer)
        if status >= 400 and body:
            first, _ = json.JSONDecoder().raw_decode(body.decode())
            assert isinstance(first, dict), (bytes(data), answer)
    assert attacked.send("GET", "/v2/charts").status_code == 200
