"""Ten thousand requests that no client would send: none is answered with 500, every error is a JSON object.

Half are made of words, half are whole requests to a route of ``support.route_table`` with something changed, so that
a new route is among them by itself. ``make fuzz`` sends 100,000. The seed is printed and can be given again by
PILOTHOUSE_TEST_SEED.
"""

import errno
import http.client
import json
import os
import random
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.charts import config_map_chart
from tests.support.matrix import form_of, request, words_of
from tests.support.matrix_world import add_group, add_policy
from tests.support.releases import planned_install
from tests.support.route_table import TABLE
from tests.support.servers import RunningServer
from tests.support.users import add_person

REQUESTS = int(os.environ.get("PILOTHOUSE_TEST_REQUESTS") or 10_000)
THREADS = 2
#: Requests that are no HTTP any more: a connection each.
RAW = REQUESTS // 20

ARCHIVE = config_map_chart("fuzzed", "2.0.0")
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
    "/api/v1/login",
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
HEADERS = (
    *("X-Project-Id", "X-Auth-Token", "Prefer", "Accept", "X-Pilothouse-Wait", "X-Pilothouse-Timeout"),
    *("X-Pilothouse-CRDs", "X-Pilothouse-Skip-Schema-Validation", "X-Pilothouse-Remove-Namespace"),
)
TYPES = [
    "application/json", "application/json;charset=utf-8", "text/plain", "multipart/form-data; boundary=x", "",
    "multipart/form-data", "application/x-pem-file", "image/png", "multipart/form-data; boundary=" + "b" * 300,
]  # fmt: skip


class Fuzz:
    """Requests of one seed."""

    def __init__(self, seed: int, server: RunningServer, known: dict[str, str]) -> None:
        self.random = random.Random(seed)  # noqa: S311 - replayable, not secret
        self._server = server
        self._known = known
        self._words = [*WORDS, *known.values()]

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

    def declared(self) -> tuple[str, str, bytes, dict[str, str]]:
        """Return a whole request to some route, changed a little: method, target, body and headers."""
        name = self.random.choice(list(TABLE))
        method, _, path = name.partition(" ")
        for first, twin in (("/cce/cam/", "/autopilot/cam/"), ("/v2/charts", "/autopilot/v2/charts")):
            if self.random.random() < 0.3:
                path = path.replace(first, twin)
        ids = {word: self._known[word] for word in words_of(path, TABLE[name])}
        # What is deleted early is missed by all that follow.
        wrong = 0.95 if method == "DELETE" else 0.3
        for word in ids:
            if self.random.random() < wrong:
                ids[word] = self.word().encode("utf-8", "replace").decode()
        target, headers, body = request(path, TABLE[name], ids, ARCHIVE)
        headers = {
            key: "".join(char for char in value if " " <= char <= "~").strip() for key, value in headers.items()
        } | ({} if "Content-Type" in headers else {"Content-Type": "application/json"})
        if TABLE[name].body is not None and self.random.random() < 0.7:
            body = json.dumps(self.changed(json.loads(body))).encode("utf-8", "surrogatepass")
        elif body and self.random.random() < 0.5:
            body = self.damaged(body)
        if self.random.random() < 0.2:
            target += (
                "&" if "?" in target else "?"
            ) + f"{self.random.choice(QUERIES)}={quote(self.word(), errors='replace')}"
        return method, target, body, headers

    def changed(self, tree: Any) -> Any:
        """Return the JSON with one of its values or names exchanged, left out or put into something."""
        if isinstance(tree, dict) and tree and self.random.random() < 0.8:
            key = self.random.choice(list(tree))
            others = {name: value for name, value in tree.items() if name != key}
            kind = self.random.randrange(5)
            if kind == 0:
                return others
            if kind == 1:
                return {**tree, self.random.choice(KEYS): self.value()}
            if kind == 2:
                return {**others, self.random.choice(KEYS): tree[key]}
            return {**others, key: self.changed(tree[key])}
        return self.random.choice([self.value(), [tree], {"x": tree}, [tree, tree], None])

    def damaged(self, data: bytes) -> bytes:
        """Return the bytes with a few of them exchanged, left out or doubled."""
        found = bytearray(data)
        for _ in range(self.random.randrange(1, 6)):
            at = self.random.randrange(len(found) + 1)
            found[at : at + self.random.randrange(4)] = self.random.randbytes(self.random.randrange(4))
        return bytes(found)

    def headers(self) -> dict[str, str]:
        found = {}
        if content_type := self.random.choice(TYPES):
            found["Content-Type"] = content_type
        for name in HEADERS:
            if self.random.random() < 0.06:
                found[name] = "".join(char for char in self.word()[:200] if " " <= char <= "~")
        return found


def send(connection: http.client.HTTPConnection, fuzz: Fuzz, server: RunningServer) -> int:
    """Send one request, judge the answer, and return its status."""
    if fuzz.random.random() < 0.5:
        method, target, body, headers = fuzz.declared()
    else:
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
    is_json = answer.headers.get_content_type() == "application/json" and method != "HEAD"
    judge(answer.status, answer.read(), f"{method} {target[:200]} {body[:200]!r}", is_json=is_json)
    return answer.status


def judge(status: int, text: bytes, what: str, *, is_json: bool) -> None:
    assert status < 500, (what, status, text[:300])
    content = json.loads(text) if is_json and status != 204 else None
    if status >= 400 and not what.startswith("HEAD"):
        assert isinstance(content, dict), (what, status, text[:300])
        assert content["error_code"], (what, status, text[:300])


@pytest.fixture(scope="module")
def known(attacked: RunningServer, make_namespace: Callable[[], str]) -> dict[str, str]:
    """Ids that exist, so that some requests get far; what they do in the cluster they do in a namespace of its own."""
    person = add_person(attacked, "CCE ReadOnlyAccess", project_id=attacked.project_id)
    namespace = make_namespace()
    chart = str(attacked.upload(config_map_chart("fuzzed"), parameters='{"override": true}').json()["id"])
    accepted = attacked.create(chart_id=chart, name="fuzzed", namespace=namespace)
    assert accepted.status_code == 201, accepted.text
    hook = attacked.send("POST", "/api/v1/webhooks", json_body={"name": "fuzzed", "url": "https://192.0.2.1/"})
    assert hook.status_code == 201, hook.text
    domain = attacked.send("GET", "/v3/auth/domains").json()["domains"][0]["id"]
    return {
        "webhook_id": hook.json()["id"],
        "group_id": add_group(attacked, domain),
        "policy_id": add_policy(attacked, domain),
        "chart_id": chart,
        "project_id": attacked.project_id,
        "cluster_id": attacked.cluster_id,
        "cluster": attacked.cluster_id,
        "operation_id": accepted.headers["x-operation-id"],
        "plan_id": planned_install(attacked, cluster_id=attacked.cluster_id, chart_id=chart, namespace=namespace),
        "user_id": person.id,
        "access_key": person.server.access_key,
        "token": person.token(),
        "namespace": namespace,
        "name": "fuzzed",
        "fresh": "fuzzed-too",
        "role": "CCE ReadOnlyAccess",
        "region": "cn-north-4",
        "kubeconfig": "none",
        "source": "none",
        "repository": "none",
        "authority": "none",
        "chart_name": "fuzzed",
        "version": "0.1.0",
    }


def test_no_request_is_answered_with_500_and_every_error_is_a_json_object(
    attacked: RunningServer, known: dict[str, str]
):
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED") or secrets.randbits(32))
    print(f"PILOTHOUSE_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    address = urlsplit(attacked.url)

    def attack(number: int) -> dict[int, int]:
        fuzz = Fuzz(seed + number, attacked, known)
        seen: dict[int, int] = {}
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)) as connection:
            for _ in range(REQUESTS // THREADS):
                try:
                    status = send(connection, fuzz, attacked)
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    connection.close()  # the server ends connections whose rest it will not read
                    continue
                seen[status] = seen.get(status, 0) + 1
        return seen

    with ThreadPoolExecutor(THREADS) as pool:
        counts = list(pool.map(attack, range(THREADS)))
    total: dict[int, int] = {}
    for one in counts:
        for status, count in one.items():
            total[status] = total.get(status, 0) + count
    print(f"{sum(total.values())} answers, 0 of them 5xx: {dict(sorted(total.items()))}")  # noqa: T201 - a figure
    assert sum(total.values()) > REQUESTS * 0.98, total
    assert {200, 400, 401, 403, 404} <= set(total), total  # some got far, so that the fuzz means something
    assert attacked.send("GET", "/v2/charts").status_code == 200


def whole_requests(server: RunningServer, known: dict[str, str]) -> list[bytes]:
    """Return requests that are right to the last byte, as they go over the wire."""
    cluster, host = known["cluster_id"], urlsplit(server.url).netloc
    content_type, form = form_of(ARCHIVE)
    create = {"chart_id": known["chart_id"], "name": "raw", "namespace": known["namespace"], "values": {}}
    chunked = b'3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nX-After: 1\r\n\r\n'
    found = []
    for method, path, kind, body, framing in (
        ("GET", "/v2/charts", "application/json", b"", {}),
        ("POST", f"/cce/cam/v3/clusters/{cluster}/releases", "application/json", json.dumps(create).encode(), {}),
        ("POST", "/v3/auth/tokens", "application/json", b'{"a":1}', {"Transfer-Encoding": "chunked"}),
        ("POST", "/v2/charts", content_type, form, {}),
        ("PUT", f"/v2/charts/{known['chart_id']}", content_type, form, {"Expect": "100-continue"}),
    ):
        signed = SignedRequest(
            method=method,
            raw_path=path.encode(),
            query_string=b"",
            headers=[(b"host", host.encode())],
            body_digest=body_digest(body),
            body_empty=not body,
        )
        headers = {"Host": host, "Content-Type": kind, **framing}
        headers |= sign(signed, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
        if not framing.get("Transfer-Encoding"):
            headers["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        found.append(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (chunked if framing else body))
    return [*found, found[0] + found[2]]


def broken(chance: random.Random, data: bytes) -> bytes:
    """Return the request with bytes or lines exchanged, left out or doubled; most changes are in its head."""
    found = bytearray(data)
    head = data.index(b"\r\n\r\n")
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(head if chance.random() < 0.7 else len(found))
        kind = chance.randrange(4)
        if kind == 0:
            lines = bytes(found).split(b"\r\n")
            lines.insert(chance.randrange(len(lines) + 1), chance.choice([*lines, b"", b" x", b"Content-Length: 9"]))
            found = bytearray(b"\r\n".join(lines))
        elif kind == 1:
            found[at:at] = chance.choice([b"\r", b"\n", b"\0", b"\r\n\r\n", b":", b" ", b"\xff", b"x" * 70_000])
        else:
            found[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
    return bytes(found)


def exchange(server: RunningServer, data: bytes) -> bytes:
    """Return all that is answered to these bytes on a connection of their own."""
    address = urlsplit(server.url)
    answer = b""
    with (
        socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as raw,
        suppress(BrokenPipeError, ConnectionResetError),  # what is refused is not read to its end
    ):
        raw.sendall(data)
        try:
            raw.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it is gone already; a silent server still fails the test
                raise
        while piece := raw.recv(65536):
            answer += piece
    return answer


def test_bytes_that_are_no_http_are_refused_in_json_or_cut_off(attacked: RunningServer, known: dict[str, str]):
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED") or secrets.randbits(32))
    print(f"PILOTHOUSE_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)  # noqa: S311 - replayable, not secret
    seen: dict[int, int] = {}
    for number in range(RAW):
        if number % 1000 == 0:
            whole = whole_requests(attacked, known)  # a signature is good for minutes
        data = broken(chance, chance.choice(whole))
        answer = exchange(attacked, data).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not answer:
            seen[0] = seen.get(0, 0) + 1
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        seen[status] = seen.get(status, 0) + 1
        assert status < 500, (data, answer)
        if status >= 400 and body:
            first, _ = json.JSONDecoder().raw_decode(body.decode())
            assert isinstance(first, dict), (data, answer)
    print(f"{RAW} broken requests, 0 answered with 5xx: {dict(sorted(seen.items()))}")  # noqa: T201 - a figure
    assert {400, 401} <= set(seen), seen
    assert attacked.send("GET", "/v2/charts").status_code == 200
