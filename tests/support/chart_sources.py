"""Chart sources of our own: repositories that answer as they are told, and real registries."""

import contextlib
import hashlib
import json
import os
import secrets
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pilothouse.chart_sources.registry import MANIFEST
from tests.support.fake_api_servers import certificate
from tests.support.servers import RunningServer, free_port
from tools.docker_registry import find_registry
from tools.localcluster import builds, programs
from tools.localcluster.progress import on_stderr

USER = "puller"


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What is answered; ``endless``: the body is sent again and again."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False


Answers = Callable[[Request], Reply]


@dataclass
class Repository:
    """A server that answers with files by their paths, or as ``answers`` says; it keeps the requests."""

    port: int
    scheme: str = "https"
    files: dict[str, bytes] = field(default_factory=dict)
    answers: Answers | None = None
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    @property
    def ca(self) -> str:
        return certificate()[0].decode()

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def reply(self, request: Request) -> Reply:
        if self.answers is not None:
            return self.answers(request)
        return self.from_files(request)

    def from_files(self, request: Request) -> Reply:
        path = request.path.partition("?")[0].lstrip("/")
        if path not in self.files:
            return Reply(b"no such file", 404)
        body = self.files[path]
        tag = f'"{hash(body)}"'
        if request.headers.get("if-none-match") == tag:
            return Reply(status=304, headers={"ETag": tag})
        return Reply(body, headers={"ETag": tag})


@contextlib.contextmanager
def repository(*, tls: bool = True) -> Iterator[Repository]:
    """Serve a repository on this machine."""
    found: list[Repository] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            serving = found[0]
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(self.path, headers, self.command, body)
            serving.requests.append(request)
            reply = serving.reply(request)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.endless:
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(reply.body)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # the names of the base class

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(b"".join(certificate()))
            file.flush()
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(file.name)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found.append(Repository(server.server_address[1], "https" if tls else "http"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Registry:
    """A running registry, and who may use it."""

    host: str
    password: str
    ca: Path

    def as_source(self, name: str, *, folder: str = "team", **changes: Any) -> dict[str, Any]:
        """Return the body that adds it as a source."""
        return {
            "name": name,
            "kind": "oci",
            "url": f"oci://{self.host}/{folder}",
            "credentials": {"username": USER, "password": self.password},
            "ca": self.ca.read_text(),
            **changes,
        }

    def push(self, helm: Path, archive: bytes, *, folder: str = "team", provenance: str = "") -> str:
        """Push a chart with the real helm, with its provenance if there is one."""
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "chart.tgz").write_bytes(archive)
            if provenance:
                (Path(home) / "chart.tgz.prov").write_text(provenance)
            return self._run(helm, Path(home), "push", "chart.tgz", f"oci://{self.host}/{folder}")

    def digest(self, path: str, reference: str) -> str:
        """Return the digest of a manifest."""
        return f"sha256:{hashlib.sha256(self.get(path, f'manifests/{reference}')).hexdigest()}"

    def get(self, path: str, what: str) -> bytes:
        """Return a manifest or blob of a repository, whichever way the registry wants the log-in."""
        with httpx2.Client(verify=ssl.create_default_context(cafile=str(self.ca)), trust_env=False) as http:
            url, headers = f"https://{self.host}/v2/{path}/{what}", {"accept": MANIFEST}
            answer = http.get(url, headers=headers, auth=(USER, self.password))
            if answer.status_code == 401:
                answer = http.get(url, headers={**headers, "authorization": "Bearer a-token-of-the-tests"})
            assert answer.status_code == 200, answer.text
            return answer.content

    def pull(self, helm: Path, name: str, version: str, *, folder: str = "team") -> bytes:
        """Pull a chart with the real helm."""
        with tempfile.TemporaryDirectory() as home:
            self._run(helm, Path(home), "pull", f"oci://{self.host}/{folder}/{name}", "--version", version)
            (file,) = Path(home).glob("*.tgz")
            return file.read_bytes()

    def verify(self, helm: Path, name: str, version: str, *, keys: str, folder: str = "team") -> None:
        """Pull a chart with the real helm, which verifies its provenance with these armored keys."""
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "ring.asc").write_text(keys)
            options = ["--version", version, "--verify", "--keyring", "ring.asc"]
            self._run(helm, Path(home), "pull", f"oci://{self.host}/{folder}/{name}", *options)

    def _run(self, helm: Path, home: Path, *arguments: str) -> str:
        trusted = ["--ca-file", str(self.ca)]
        login = ["registry", "login", self.host, "--username", USER, "--password-stdin"]
        for words, given in ((login, self.password), (arguments, "")):
            done = subprocess.run(
                [helm, *words, *trusted],
                env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
                cwd=home,
                input=given,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


def _debian_registry(program: str, folder: Path, *, port: int, password: str) -> list[str]:
    """Return the command of Debian's package; without it the test is skipped, but not in CI."""
    found = find_registry()
    if found is None:
        message = "there is no docker-registry: python -m tools.docker_registry unpacks Debian's, or says how"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    written = [program, "-kind=htpasswd", f"-user={USER}", f"-password={password}"]
    (folder / "htpasswd").write_bytes(subprocess.run(written, capture_output=True, check=True).stdout)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(folder / "ca.pem"), "key": str(folder / "key.pem")},
        },
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    return [found, "serve", str(folder / "registry.yml")]


@contextlib.contextmanager
def registry(kind: str, folder: Path) -> Iterator[Registry]:
    """Serve a real registry with TLS and a user.

    ``debian``: Debian's docker-registry, with htpasswd; ``distribution``: the next version of the same; neither has the
    API of referrers. ``token``: another implementation with a token service and that API.
    """
    program = str(builds.build(programs.REGISTRY, progress=on_stderr()) / "registry")
    ca, key, password, port = folder / "ca.pem", folder / "key.pem", secrets.token_urlsafe(), free_port()
    ca.write_bytes(certificate()[0])
    key.write_bytes(certificate()[1])
    host = f"localhost:{port}"
    options = {"kind": kind, "address": f"127.0.0.1:{port}", "certificate": ca, "key": key, "user": USER}
    command = [program, *(f"-{name}={value}" for name, value in {**options, "password": password}.items())]
    if kind == "debian":
        command = _debian_registry(program, folder, port=port, password=password)
    with (
        (folder / "registry.log").open("ab") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            until = time.monotonic() + 30
            with httpx2.Client(verify=ssl.create_default_context(cafile=str(ca)), trust_env=False) as http:
                while True:
                    with contextlib.suppress(httpx2.HTTPError):
                        if http.get(f"https://{host}/v2/").status_code in (200, 401):
                            break
                    assert process.poll() is None, (folder / "registry.log").read_text()
                    assert time.monotonic() < until, (folder / "registry.log").read_text()
                    time.sleep(0.05)
            yield Registry(host, password, ca)
        finally:
            process.kill()


@contextlib.contextmanager
def added(server: RunningServer, body: dict[str, Any]) -> Iterator[str]:
    """Add a source for the block; gives its id."""
    answer = server.send("POST", "/api/v1/sources", json_body=body)
    assert answer.status_code == 201, answer.text
    source = str(answer.json()["id"])
    try:
        yield source
    finally:
        server.send("DELETE", f"/api/v1/sources/{source}")
