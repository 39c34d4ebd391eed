"""``pilothouse serve`` with something wrong about its start: it ends with one plain sentence, and nothing is lost."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.support.servers import free_port, open_folder, wait_for


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
        "PILOTHOUSE_DATA_DIR": str(folder / "data"),
        "PILOTHOUSE_PORT": str(free_port()),
        "PILOTHOUSE_TLS__PORT": "0",
        **variables,
    }


def fails(variables: dict[str, str], *arguments: str) -> str:
    """Return what ``serve`` printed, which must have ended by itself, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "serve", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def says(log: Path, words: str) -> bool:
    return words in log.read_text()


def test_a_password_that_cannot_be_kept_is_not_lost(folder: Path):
    variables, lost, kept = environment(folder), folder / "none" / "first.json", folder / "first.json"
    assert f"cannot write the first credentials to {lost}: No such file" in fails(
        variables, "--first-credentials", str(lost)
    )
    for expected in ("serving", "first_credentials_not_written"):
        with (folder / f"{expected}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pilothouse", "serve", "--first-credentials", str(kept)],
                env=variables,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(partial(says, folder / f"{expected}.log", expected), seconds=60)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)
        assert json.loads(kept.read_text())["password"]
        assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("/etc/passwd", "the data folder /etc/passwd is not a folder"),
        ("/etc/passwd/below", "cannot make the data folder /etc/passwd/below: Not a directory"),
        ("/proc/x", "cannot make the data folder /proc/x: No such file or directory"),
    ],
)
def test_a_data_folder_that_cannot_be_is_named(folder: Path, wrong: str, expected: str):
    variables = environment(folder, PILOTHOUSE_DATA_DIR=wrong)
    assert fails(variables).startswith(f"pilothouse: {expected}")
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "doctor"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stdout + done.stderr


def test_a_port_that_another_has_ends_the_start_before_anything_else(folder: Path):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    class Healthy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        printed = fails(environment(folder, PILOTHOUSE_PORT=str(port)))
        other.shutdown()
    assert printed.startswith(f"pilothouse: cannot listen on http://127.0.0.1:{port}: Address already in use")
    assert "part_ready" not in printed
    assert not any((folder / "data").iterdir())
