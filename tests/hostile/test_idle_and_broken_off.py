"""What the server counts of connections that say nothing more: their idle time, their files, the bodies that break off.

The soft limit of open files is that of an ordinary log-in, and the idle time is 2 s instead of 75.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pilothouse.open_files import RESERVED
from pilothouse.settings import HttpSettings, Settings
from tests.support.costs import MIB
from tests.support.servers import RunningServer, free_port, open_folder, part, run_server, wait_for
from tests.support.users import add_person

IDLE_SECONDS = 2.0
SOFT, HARD = 300, 3000
SETTINGS = {
    "PILOTHOUSE_HTTP__IDLE_SECONDS": f"{IDLE_SECONDS:g}",
    "PILOTHOUSE_IDENTITY__LOCK_KEYS_AFTER": "2",
}
_LIMITED = (
    f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({SOFT}, {HARD})); "
    "os.execv(sys.executable, [sys.executable, '-P', '-m', 'pilothouse', *sys.argv[1:]])"
)
PROGRAM = (sys.executable, "-c", _LIMITED)


@pytest.fixture(scope="module")
def patient() -> Iterator[RunningServer]:
    """Yield a server without clusters that was started with few open files."""
    with (
        open_folder() as folder,
        run_server(folder, kubeconfig=None, environment=SETTINGS, program=PROGRAM) as running,
    ):
        yield running


def connect(server: RunningServer) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)


def ask(connection: socket.socket) -> None:
    connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = HTTPResponse(connection)
    answer.begin()
    assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})


def test_an_idle_connection_is_kept_for_its_time_and_then_closed(patient: RunningServer):
    with closing(connect(patient)) as connection:
        ask(connection)
        time.sleep(IDLE_SECONDS / 2)
        ask(connection)  # and the time begins anew
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert IDLE_SECONDS * 0.8 < time.monotonic() - began < IDLE_SECONDS * 5


def test_it_is_75_seconds_by_default():
    assert HttpSettings().idle_seconds == 75


def limit_of(pid: int) -> tuple[int, int]:
    found = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert found is not None
    return int(found[1]), int(found[2])


def test_the_api_may_open_as_many_files_as_the_hard_limit_allows(patient: RunningServer):
    assert limit_of(patient.pid) == (SOFT, HARD), "the supervisor's own limit is what it was started with"
    assert limit_of(part(patient, "api")) == (HARD, HARD)


def test_the_doctor_says_which_limit_is_too_low(tmp_path: Path):
    done = subprocess.run(
        [*PROGRAM, "doctor", "--output", "json"],
        env={**os.environ, "PILOTHOUSE_DATA_DIR": str(tmp_path), "PILOTHOUSE_PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
    )
    [found] = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "open files"]
    connections = HttpSettings().connections
    assert found["state"] == "warning"
    assert f"may open {HARD} files: too few for the {connections} connections" in found["found"]
    assert found["advice"].endswith(f"to {connections + RESERVED}")


def break_off(server: RunningServer, size: int) -> None:
    """Begin a large upload with a known access key and a wrong signature, and hang up after ``size`` bytes."""
    head = (
        "POST /v2/charts HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Authorization: SDK-HMAC-SHA256 Access={server.access_key}, SignedHeaders=x-sdk-date, Signature={'0' * 64}\r\n"
        f"X-Sdk-Date: {time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}\r\nContent-Length: {8 * MIB}\r\n\r\n"
    )
    with closing(connect(server)) as connection:
        connection.sendall(head.encode() + bytes(size))
        time.sleep(0.5)


def test_uploads_that_break_off_before_they_prove_anything_are_failures_of_the_key(patient: RunningServer):
    spooled = Settings().memory_body_bytes * 2
    owner = add_person(patient).server
    for _ in range(5):
        break_off(owner, 1000)  # kept in memory only: costs no disk, and counts for nothing
    assert owner.send("GET", "/v2/charts").status_code != 401
    for _ in range(3):  # one more than LOCK_KEYS_AFTER
        break_off(owner, spooled)
    wait_for(lambda: owner.send("GET", "/v2/charts").status_code == 401, seconds=10)
    assert patient.send("GET", "/v2/charts").status_code == 200, "another key is not concerned"
