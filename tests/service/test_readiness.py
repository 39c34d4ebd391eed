"""What ``pilothouse serve`` calls ready does its work, and is itself what answers at its port."""

import os
import re
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def systemd(folder: Path) -> Iterator[socket.socket]:
    """Yield what a service of Type=notify speaks to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(folder / "notify"))
        (folder / "notify").chmod(0o777)
        channel.settimeout(60)
        yield channel


@pytest.fixture(scope="module")
def server(folder: Path, systemd: socket.socket) -> Iterator[RunningServer]:
    with run_server(folder, kubeconfig=None, environment={"NOTIFY_SOCKET": systemd.getsockname()}) as running:
        yield running


@contextmanager
def stranger(port: int) -> Iterator[None]:
    """Let another program have the port, which calls itself well whatever it is asked."""

    class Healthy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    class Other(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    until = time.monotonic() + 10
    while True:
        try:
            other = Other(("127.0.0.1", port), Healthy)
            break
        except OSError:
            assert time.monotonic() < until
    with other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield
        other.shutdown()


@pytest.mark.usefixtures("server")
def test_systemd_is_told_when_the_worker_takes_operations(systemd: socket.socket, folder: Path):
    said = systemd.recv(200)
    log = (folder / "serve.log").read_text()

    assert said == b"READY=1"
    assert "worker_started" in log
    assert log.count("engine_ready") >= 1
    assert re.search("part_ready.*observer", log)


def test_another_program_at_the_port_of_a_dead_api_is_not_taken_for_it(
    server: RunningServer, systemd: socket.socket, folder: Path
):
    log, port = folder / "serve.log", int(server.url.rsplit(":", 1)[1])
    ready, died = (partial(count, log, kind) for kind in ("part_ready", "part_died"))
    before = ready()
    api = part(server, "api")
    os.kill(server.pid, signal.SIGSTOP)
    os.kill(api, signal.SIGKILL)
    with stranger(port):
        os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: died() >= 3, seconds=60)  # killed, and twice without its port
        assert httpx2.get(f"{server.url}/api/v1/health", trust_env=False).status_code == 200
        assert ready() == before
        assert b"STATUS=not ready: api: " in systemd.recv(200)
    wait_for(lambda: ready() == before + 1, seconds=60)
    assert httpx2.get(f"{server.url}/api/v1/health", trust_env=False).json()
    wait_for(lambda: systemd.recv(200) == b"STATUS=ready")


def count(log: Path, kind: str) -> int:
    return sum(1 for line in log.read_text().splitlines() if kind in line and "api" in line)
