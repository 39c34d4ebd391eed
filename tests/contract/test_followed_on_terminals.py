"""Operations that are followed on a terminal or without one, while their connection breaks or a person types Ctrl-C."""

import json
import os
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.cells import cell_len

from tests.support.forwarder import Forwarder
from tests.support.servers import RunningServer
from tests.support.terminals import open_terminal
from tests.support.typed import Start, Typed, done

QUESTION = b"[g]o on following? [d] "


def test_a_connection_that_breaks_neither_loses_nor_repeats_the_upgrade(
    *, server: RunningServer, typed: Typed, hooked: Path, start: Start
):
    done(typed("install", "web", str(hooked)))
    address = urlsplit(server.url)
    way = Forwarder(address.hostname or "", address.port or 0)
    try:
        process = start("upgrade", "web", ".", "--set", "text=y", url=f"http://127.0.0.1:{way.port}")
        assert process.stderr is not None
        process.stderr.readline()
        way.stop()
        assert process.stderr.readline() == "the connection broke; the operation goes on, reconnecting\n"
        way.resume()
        out, _ = process.communicate(timeout=60)
    finally:
        way.stop()

    assert process.returncode == 0
    assert "REVISION: 2" in out
    assert "STATUS: deployed" in out


def test_ctrl_c_without_a_terminal_leaves_it_and_says_how_to_follow(typed: Typed, hooked: Path, start: Start):
    done(typed("install", "web", str(hooked)))
    process = start("upgrade", "web", ".")
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "pilothouse operation follow" in err
    assert "REVISION: 2" in done(typed("wait", "web"))


@pytest.mark.parametrize("columns", [40, 100])
def test_a_terminal_sees_one_line_that_changes_and_fits(*, typed: Typed, hooked: Path, start: Start, columns: int):
    done(typed("install", "web", str(hooked)))
    with open_terminal(columns=columns) as terminal:
        process = start("upgrade", "web", ".", "--timeout", "90s", stdin=terminal.device, stderr=terminal.device)
        seen = terminal.read_to_end()

    out, _ = process.communicate(timeout=60)
    drawn = [part for part in seen.decode().split("\r\x1b[K") if part.strip()]
    assert process.returncode == 0
    assert any(part.endswith("s left") and "hook" in part for part in drawn), drawn
    assert max(cell_len(part) for part in drawn if part.endswith("s left")) < columns
    assert "\x1b" not in seen.decode().replace("\r\x1b[K", "")
    assert "STATUS: deployed" in out


@pytest.mark.parametrize(("keys", "state"), [("c\n", "cancelled"), ("?\ng\n", "succeeded")])
def test_ctrl_c_on_a_terminal_asks(*, typed: Typed, hooked: Path, start: Start, keys: str, state: str):
    done(typed("install", "web", str(hooked)))
    with open_terminal() as terminal:
        process = start("upgrade", "web", ".", stdin=terminal.device, stderr=terminal.device)
        terminal.read_until(b" left")
        process.send_signal(signal.SIGINT)
        terminal.read_until(QUESTION)
        terminal.type(keys)
        terminal.read_to_end()
    process.communicate(timeout=60)

    [operation, *_] = json.loads(done(typed("operation", "list", "--release", "web", "-o", "json")))
    assert operation["state"] == state
    assert process.returncode == (0 if state == "succeeded" else 1)


def test_a_second_ctrl_c_at_the_question_detaches(*, typed: Typed, hooked: Path, start: Start):
    done(typed("install", "web", str(hooked)))
    with open_terminal() as terminal:
        process = start("upgrade", "web", ".", stdin=terminal.device, stderr=terminal.device)
        terminal.read_until(b" left")
        process.send_signal(signal.SIGINT)
        terminal.read_until(QUESTION)
        process.send_signal(signal.SIGINT)
        seen = terminal.read_to_end()
    process.communicate(timeout=60)

    assert (process.returncode, b"Traceback" in seen) == (130, False), seen
    assert b"the operation goes on; to follow it again: pilothouse operation follow " in seen
    assert "REVISION: 2" in done(typed("wait", "web"))


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("install", "web", "."), b"POST /v2/charts"),
        (("plan", "web", "."), b"/plan HTTP"),
        (("apply", "PLAN"), b"/apply HTTP"),
        (("login", "URL", "--password-stdin"), b"POST /v3/auth/tokens"),
    ],
    ids=["upload", "plan", "apply", "login"],
)
def test_ctrl_c_while_the_server_is_silent_ends_without_a_traceback(
    *, server: RunningServer, typed: Typed, start: Start, words: tuple[str, ...], asked: bytes, folder: Path
):
    plan = json.loads(done(typed("plan", "web", ".", "-o", "json")))
    (folder / "values.yaml").write_text("text: other\n")
    address, arrived = urlsplit(server.url), threading.Event()

    def fall_silent(data: bytes) -> None:
        if asked in data:
            arrived.set()
            way.hang()

    way = Forwarder(address.hostname or "", address.port or 0, before=fall_silent)
    url = f"http://127.0.0.1:{way.port}"
    given, giving = os.pipe()
    os.write(giving, f"{server.password}\n".encode())
    os.close(giving)
    try:
        process = start(*(word.replace("PLAN", plan["id"]).replace("URL", url) for word in words), url=url, stdin=given)
        assert arrived.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        os.close(given)
        way.stop()

    assert (process.returncode, out, "Traceback" in err) == (130, "", False), err
    assert ("it may have begun" in err) == (words[0] == "apply"), err
    assert typed("status", "web").returncode == 1


def test_ctrl_c_at_the_question_for_a_password_ends_it(server: RunningServer, start: Start):
    with open_terminal() as terminal:
        process = start("login", server.url, "--user", "admin", stdin=terminal.device, stderr=terminal.device)
        terminal.read_until(b"Password")
        process.send_signal(signal.SIGINT)
        seen = terminal.read_to_end()
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out, b"Traceback" in seen) == (130, "", False), seen
