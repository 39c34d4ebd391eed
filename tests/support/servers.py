"""A whole server for tests, and the vendor's client pointed at it."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from pilothouse.embedded_postgres.server import EmbeddedPostgres
from pilothouse.settings import PostgresSettings

if TYPE_CHECKING:
    from huaweicloudsdkcce.v3 import CceClient

START_SECONDS = 60
Value = TypeVar("Value")
CompletedCommand = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class RunningServer:
    """A server that answers, with the credentials of its first start and the id of the registered cluster."""

    url: str
    pid: int
    data_dir: Path
    access_key: str
    secret_key: str
    project_id: str
    cluster_id: str
    tls_url: str = ""
    password: str = ""  # of the user "admin" in the domain "pilothouse"

    @property
    def ca(self) -> Path:
        """The authority that the TLS listener's certificate comes from."""
        return self.data_dir / "tls" / "ca.pem"

    @property
    def database_url(self) -> str:
        """The server's own database, to look behind the API."""
        url = EmbeddedPostgres(PostgresSettings(), data_dir=self.data_dir).running_url()
        assert url is not None
        return url

    def sdk(self) -> "CceClient":
        """Return the vendor's Python client."""
        # Half a second, which most tests and every process of theirs need not pay.
        from huaweicloudsdkcce.v3 import CceClient  # noqa: PLC0415
        from huaweicloudsdkcore.auth.credentials import BasicCredentials, Credentials  # noqa: PLC0415
        from huaweicloudsdkcore.region.region import Region  # noqa: PLC0415

        Credentials._CACHE = {}  # it keeps project ids per access key for the life of the process
        credentials = BasicCredentials(self.access_key, self.secret_key).with_iam_endpoint(self.url)
        region = Region("cn-north-4", self.url)
        return CceClient.new_builder().with_credentials(credentials).with_region(region).build()

    def send(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        now: datetime | None = None,
        timeout: float = 60,
    ) -> httpx2.Response:
        """Any request, signed; for what the SDK would not send."""
        content = json.dumps(json_body).encode() if json_body is not None else body or b""
        wanted = {"Content-Type": "application/json", **(headers or {})}
        request = httpx2.Request(method, self.url + path, content=content, headers=wanted)
        request.headers.update(
            sign(
                SignedRequest(
                    method=method,
                    raw_path=request.url.raw_path.split(b"?")[0],
                    query_string=request.url.query,
                    headers=[(b"host", request.headers["host"].encode())],
                    body_digest=body_digest(content),
                    body_empty=not content,
                ),
                access_key=access_key or self.access_key,
                secret_key=secret_key or self.secret_key,
                now=now or datetime.now(UTC),
            )
        )
        with httpx2.Client(timeout=timeout, trust_env=False) as http:
            return http.send(request)

    def upload(
        self,
        archive: bytes,
        *,
        parameters: str | None = None,
        filename: str = "chart.tgz",
        provenance: str | None = None,
        timeout: float = 60,
    ) -> httpx2.Response:
        """Return a chart upload, as a form."""
        form = httpx2.Request(
            "POST",
            self.url,
            files={"content": (filename, archive)},
            data={
                name: text
                for name, text in {"parameters": parameters, "provenance": provenance}.items()
                if text is not None
            },
        )
        form.read()
        kind = {"Content-Type": form.headers["content-type"]}
        return self.send("POST", "/v2/charts", body=form.content, headers=kind, timeout=timeout)

    def command(
        self, *arguments: str, folder: Path | None = None, variables: dict[str, str] | None = None, given: str = ""
    ) -> CompletedCommand:
        """``pilothouse …`` as a person runs it against this server, in ``folder``; ``given`` is its input."""
        environment = {
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_URL": self.url,
            "CLOUD_SDK_AK": self.access_key,
            "CLOUD_SDK_SK": self.secret_key,
            "COLUMNS": "200",
            **(variables or {}),
        }
        return subprocess.run(
            [sys.executable, "-m", "pilothouse", *arguments],
            env=environment,
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def create(self, **body: Any) -> httpx2.Response:
        """Return a Create Release request with exactly this body."""
        return self.send("POST", f"/cce/cam/v3/clusters/{self.cluster_id}/releases", json_body=body)

    def show(self, namespace: str, name: str) -> httpx2.Response:
        """Return a Show Release request."""
        return self.send("GET", f"/cce/cam/v3/clusters/{self.cluster_id}/namespace/{namespace}/releases/{name}")

    def index(self, cluster_id: str = "") -> dict[str, Any]:
        """Return what the server says of the release index of a cluster."""
        answer = self.send("GET", f"/api/v1/clusters/{cluster_id or self.cluster_id}")
        assert answer.status_code == 200, answer.text
        index: dict[str, Any] = answer.json()["index"]
        return index

    def wait_until_listed(self, cluster_id: str = "", *, seconds: float = 60) -> None:
        """Return when reads answer from the index."""
        until = time.monotonic() + seconds
        while not (index := self.index(cluster_id))["listed"]:
            assert time.monotonic() < until, index
            time.sleep(0.1)

    def wait_until_shown(self, namespace: str, name: str, *, revision: int = 1, seconds: float = 30) -> None:
        """Return when a revision that others deployed is seen."""
        until = time.monotonic() + seconds
        while True:
            answer = self.show(namespace, name)
            if answer.status_code == 200 and (answer.json()["version"], answer.json()["status"]) == (
                revision,
                "DEPLOYED",
            ):
                return
            assert time.monotonic() < until, answer.text
            time.sleep(0.05)

    def wait_until_final(self, namespace: str, name: str, *, seconds: float = 60) -> dict[str, Any]:
        """Return the release, once it is no longer pending."""
        until = time.monotonic() + seconds
        while True:
            response = self.show(namespace, name)
            assert response.status_code == 200, response.text
            release: dict[str, Any] = response.json()
            if not release["status"].startswith("PENDING"):
                return release
            assert time.monotonic() < until, release
            time.sleep(0.1)


def close_sdk(client: Any) -> None:
    """Close a client of the vendor's SDK; its own ``close`` leaves the threads of its asynchronous calls."""
    client.close()
    client._http_client.executor.shutdown()


def part(server: RunningServer, name: str) -> int:
    """Return the pid of one of the server's processes: api, worker or observer; it may be starting yet."""

    def find() -> int:
        for pid in children(server.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in words:
                return pid
        return 0

    return wait_for(find, otherwise=lambda: f"that the server has a part {name}")


def children(pid: int) -> list[int]:
    """Return the pids of its children."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a folder that PostgreSQL's account may enter, which pytest's own are not when root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-test-") as made:
        folder = Path(made)
        folder.chmod(0o711)
        yield folder


@contextlib.contextmanager
def run_server(
    folder: Path,
    *,
    kubeconfig: str | None,
    environment: dict[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "pilothouse"),
    cwd: Path | None = None,
    port: int = 0,
) -> Iterator[RunningServer]:
    """``pilothouse serve`` with its data in ``folder``; stopped, with all its children, at the end."""
    port, tls_port = port or free_port(), free_port()
    first = folder / "first.json"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
        "PILOTHOUSE_DATA_DIR": str(folder / "data"),
        "PILOTHOUSE_PORT": str(port),
        "PILOTHOUSE_TLS__PORT": str(tls_port),
        "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
        "PILOTHOUSE_SOURCES__ALLOW_LOOPBACK": "true",
        "PILOTHOUSE_WORKER__DRAIN_SECONDS": "5",
        # Tests that send wrong signatures and passwords would slow all the others, which share their address.
        "PILOTHOUSE_IDENTITY__SLOW_SIGNATURES_AFTER": "0",
        "PILOTHOUSE_IDENTITY__LOCK_PASSWORDS_AFTER": "0",
        # For the same reason, and because many tests are one user.
        "PILOTHOUSE_IDENTITY__LOGINS_PER_SECOND": "0",
        "PILOTHOUSE_RATES__PER_ADDRESS": "0",
        "PILOTHOUSE_RATES__PER_KEY": "0",
        "PILOTHOUSE_RATES__PER_USER": "0",
        # Tests stop parts for a while, and want them back as they were.
        "PILOTHOUSE_SUPERVISOR__SILENT_SECONDS": "300",
        **(environment or {}),
    }
    url = f"http://127.0.0.1:{port}"
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*program, "serve", "--first-credentials", str(first)],
            env=variables,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(url, process, log=folder / "serve.log")
        made = json.loads(first.read_text())
        running = RunningServer(
            url=url,
            pid=process.pid,
            data_dir=folder / "data",
            access_key=made["access_key"],
            secret_key=made["secret_key"],
            project_id=made["project_id"],
            cluster_id="",
            tls_url=f"https://127.0.0.1:{tls_port}",
            password=made["password"],
        )
        if kubeconfig is not None:
            answer = running.send("POST", "/api/v1/clusters", json_body={"name": "test", "kubeconfig": kubeconfig})
            if answer.status_code == 409:
                answer = running.send("GET", "/api/v1/clusters")
                found = answer.json()[0]
            else:
                assert answer.status_code == 201, answer.text
                found = answer.json()
            running = RunningServer(**{**vars(running), "cluster_id": found["id"]})
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", *, log: Path) -> None:
    """Return when the server answers; fail with its log when it does not."""
    until = time.monotonic() + START_SECONDS
    with httpx2.Client(trust_env=False, timeout=2) as http:
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(httpx2.HTTPError):
                if http.get(f"{url}/api/v1/health").is_success:
                    return
            time.sleep(0.1)
    raise AssertionError(f"the server does not answer:\n{log.read_text()[-4000:]}")


def wait_for(
    condition: Callable[[], Value], *, seconds: float = 30.0, otherwise: Callable[[], str] = lambda: ""
) -> Value:
    """Return what the condition gives, once that is true; a process or a server that is not there is waited for.

    ``otherwise`` tells more about what did not come about.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(AssertionError, OSError, httpx2.HTTPError):
            if value := condition():
                return value
        time.sleep(0.1)
    raise AssertionError(f"it did not come about in time {otherwise()}".rstrip())


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def monitoring_ports() -> dict[str, int]:
    """Return three free ports in a row, one for each part; below those that the kernel gives to connections."""
    while True:
        first = 20_000 + secrets.randbelow(10_000)
        if all(_is_free(first + offset) for offset in range(3)):
            return {"api": first, "observer": first + 1, "worker": first + 2}


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
