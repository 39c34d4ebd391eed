"""``pilothouse operation follow``: to the end, over broken connections, and out of it by Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.contract.test_operations_api import slow_chart
from tests.support.forwarder import Forwarder
from tests.support.servers import RunningServer
from tests.support.terminals import open_terminal

Start = Callable[..., "subprocess.Popen[str]"]
QUESTION = b"or [g]o on following? [d] "


@pytest.fixture
def operation(server: RunningServer, namespace: str) -> str:
    """Return the id of an install that takes some seconds."""
    slow = str(server.upload(slow_chart("4s"), parameters='{"override": true}').json()["id"])
    return server.create(chart_id=slow, namespace=namespace, name="slow").headers["x-operation-id"]


@pytest.fixture
def start(server: RunningServer) -> Iterator[Start]:
    """Start ``pilothouse operation follow``, or with several words that command."""
    started: list[subprocess.Popen[str]] = []

    def run(
        *words: str, url: str = "", stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE
    ) -> "subprocess.Popen[str]":
        command = words if len(words) > 1 else ("operation", "follow", *words)
        process = subprocess.Popen(
            # whoever runs the tests in the background has SIGINT ignored, which processes inherit
            ["env", "--default-signal=INT", sys.executable, "-m", "pilothouse", *command],
            env={
                "PATH": os.environ["PATH"],
                "PILOTHOUSE_URL": url or server.url,
                "CLOUD_SDK_AK": server.access_key,
                "CLOUD_SDK_SK": server.secret_key,
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def state_of(server: RunningServer, operation_id: str) -> str:
    return str(server.send("GET", f"/api/v1/operations/{operation_id}").json()["state"])


def test_every_event_is_told_once_though_the_connection_breaks(server: RunningServer, operation: str, start: Start):
    address = urlsplit(server.url)
    way = Forwarder(address.hostname or "", address.port or 0)
    try:
        process = start(operation, url=f"http://127.0.0.1:{way.port}")
        assert process.stderr is not None
        first = process.stderr.readline()
        way.stop()
        broken = process.stderr.readline()
        way.resume()
        out, err = process.communicate(timeout=60)
    finally:
        way.stop()

    events = server.send("GET", f"/api/v1/operations/{operation}/events").json()
    assert broken == "the connection broke; the operation goes on, reconnecting\n"
    told = [line for line in (first + err).splitlines() if line != broken.rstrip()]
    logged = [line for one in events if one["kind"] == "hook_log" for line in one["data"]["lines"]]
    assert [line.strip() for line in told if line.startswith("    ")] == logged
    moments = [line for line in told if not line.startswith("    ") and "  log of " not in line]
    assert moments == [f"{one['at'][11:19]}  {one['text']}" for one in events if one["kind"] != "hook_log"]
    assert process.returncode == 0
    assert "succeeded" in out


def test_ctrl_c_without_a_terminal_leaves_the_operation_alone(server: RunningServer, operation: str, start: Start):
    process = start(operation)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.endswith(f"to follow it again: pilothouse operation follow {operation}\n")
    assert state_of(server, operation) in {"running", "succeeded"}


@pytest.mark.parametrize(("keys", "state", "status"), [("c\n", "cancelled", 1), ("g\n", "succeeded", 0)])
def test_ctrl_c_on_a_terminal_asks(
    *, server: RunningServer, operation: str, start: Start, keys: str, state: str, status: int
):
    with open_terminal() as terminal:
        process = start(operation, stdin=terminal.device, stderr=terminal.device)
        terminal.read_until(b": ")
        process.send_signal(signal.SIGINT)
        terminal.read_until(QUESTION)
        terminal.type(keys)
        terminal.read_to_end()
    out, _ = process.communicate(timeout=60)

    assert state in out
    assert process.returncode == status
    assert state_of(server, operation) == state


def test_a_wait_that_is_cancelled_says_so(server: RunningServer, operation: str, namespace: str, start: Start):
    words = ["wait", "slow", "-n", namespace]
    with open_terminal() as terminal:
        process = start(*words, stdin=terminal.device, stderr=terminal.device)
        terminal.read_until(b": ")
        process.send_signal(signal.SIGINT)
        terminal.read_until(QUESTION)
        terminal.type("c\n")
        assert b"install of slow cancelled" in terminal.read_to_end()
    process.communicate(timeout=60)

    assert process.returncode == 1
    assert state_of(server, operation) == "cancelled"


@pytest.mark.parametrize("what", ["wait", "operation"])
def test_a_wait_has_a_limit_and_the_operation_goes_on(
    *, server: RunningServer, operation: str, namespace: str, start: Start, what: str
):
    words = ["wait", "slow", "-n", namespace] if what == "wait" else ["operation", "follow", operation]
    process = start(*words, "--timeout", "1s")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert err.endswith("has not ended after 1s; it goes on at the server\n")
    assert state_of(server, operation) in {"running", "succeeded"}


@pytest.mark.parametrize(("cluster", "status"), [((), 0), (("--cluster", "there-is-none"), 1)], ids=str)
def test_a_release_that_is_gone_is_uninstalled_but_not_in_a_cluster_that_is_none(
    *, server: RunningServer, namespace: str, cluster: tuple[str, ...], status: int
):
    done = server.command("wait", "nobody", "-n", namespace, "--for", "uninstalled", *cluster)

    assert done.returncode == status, done.stderr
    assert ('release "nobody" uninstalled' in done.stdout) == (status == 0)


def test_an_operation_that_is_none_is_told_at_once(start: Start):
    process = start("no-such")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "no-such" in err
