"""Commands against a server of another version: what it has more is ignored, what it lacks is named.

Between them stands a server that changes answers of the real one only as another version would.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

INSTALLED = Path(sys.executable).with_name("pilothouse")
PROGRAMS = {"installed": [str(INSTALLED)], "python": [sys.executable, "-m", "pilothouse"]}
COMMANDS = [
    ["list"],
    ["list", "-o", "json"],
    ["list", "-q"],
    ["status", "web"],
    ["history", "web"],
    ["cluster", "list"],
]
Change = Callable[[str, int, bytes], tuple[int, bytes]]
Other = Callable[[Change], str]


@pytest.fixture
def other(server: RunningServer) -> Iterator[Other]:
    """Start a server that changes status and body of the real one's answers; return its URL."""
    started: list[ThreadingHTTPServer] = []
    real = urlsplit(server.url)

    def start(change: Change) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # its base class names it so
                """Answer as the real server does, changed."""
                way = HTTPConnection(real.hostname or "", real.port, timeout=60)
                way.request("GET", self.path, headers=dict(self.headers))
                answer = way.getresponse()
                status, body = change(self.path, answer.status, answer.read())
                way.close()
                self.send_response(status)
                for name, text in answer.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, text)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=listening.serve_forever, daemon=True).start()
        started.append(listening)
        return f"http://127.0.0.1:{listening.server_port}"

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


@pytest.fixture(scope="module")
def place(
    server: RunningServer,
    make_namespace: Callable[[], str],
    helm_cli: HelmCommand,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Return a namespace with the release ``web``."""
    server.wait_until_listed(seconds=90)
    namespace = make_namespace()
    chart = tmp_path_factory.mktemp("chart") / "chart.tgz"
    chart.write_bytes(config_map_chart())
    helm_cli("install", "web", str(chart), "-n", namespace)
    server.wait_until_shown(namespace, "web", seconds=90)
    return namespace


@pytest.fixture
def run(server: RunningServer, place: str, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a program's command against that URL."""

    def ran(program: str, url: str, words: list[str]) -> "subprocess.CompletedProcess[str]":
        access = {"CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
        where = {"PILOTHOUSE_URL": url, "PILOTHOUSE_NAMESPACE": place, "PILOTHOUSE_CLUSTER": server.cluster_id}
        return subprocess.run(
            [*PROGRAMS[program], *words],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **access, **where},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return ran


def newer(_path: str, status: int, body: bytes) -> tuple[int, bytes]:
    """Return the answer with a field more in each object, and a column more in a table."""

    def more(value: Any) -> Any:
        if isinstance(value, list):
            return [more(one) for one in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"columns", "rows"}:
            return {"columns": [*value["columns"], "shard"], "rows": [[*row, "s-1"] for row in value["rows"]]}
        return {name: more(one) for name, one in value.items()} | {"shard": {"name": "s-1"}}

    return status, json.dumps(more(json.loads(body)), separators=(",", ":")).encode()


@pytest.mark.parametrize("words", [one for one in COMMANDS if "json" not in one], ids=" ".join)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_newer_server_tells_more_is_ignored(
    *, server: RunningServer, run: Callable[..., Any], other: Other, program: str, words: list[str]
):
    usual, told = run(program, server.url, words), run(program, other(newer), words)

    assert (usual.returncode, told.returncode, told.stderr) == (0, 0, ""), told.stderr
    assert told.stdout == usual.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_route_that_an_older_server_lacks_is_named(
    *, server: RunningServer, run: Callable[..., Any], other: Other, program: str, words: list[str]
):
    lacking = server.send("GET", "/api/v1/newer")
    assert lacking.status_code == 404
    route = {"list": "/api/v1/releases", "cluster": "/api/v1/clusters"}.get(words[0], "/api/v1/clusters/")

    url = other(lambda _path, _status, _body: (404, lacking.content))
    refused = run(program, url, words)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"pilothouse: {url} has no GET {route}")
    assert ": that server is of another version than this command (" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
