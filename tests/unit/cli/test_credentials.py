"""What is said where credentials are missing or wrong."""

import subprocess
import sys

import pytest

from pilothouse.cli import COMMANDS, connection
from pilothouse.cli.groups import load_command


@pytest.mark.parametrize(("given", "origin"), [({"with_token": "abc"}, "--token"), ({}, "PILOTHOUSE_TOKEN")])
def test_a_wrong_token_is_blamed_on_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], origin: str
):
    monkeypatch.setenv("PILOTHOUSE_TOKEN", "of the environment")
    client = connection._resolve({"server_url": "http://127.0.0.1:1", **given}).client

    assert client._advice() == f"; {origin} holds no valid token of this server"


@pytest.mark.parametrize(
    ("words", "flag"),
    [([], "--password-stdin"), (["--access-key", "AK"], "--secret-key-stdin")],
)
def test_without_a_terminal_a_secret_is_asked_for_in_a_pipe(words: list[str], flag: str):
    ended = subprocess.run(
        [sys.executable, "-m", "pilothouse", "login", "http://127.0.0.1:1", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,  # without the terminal of who runs the tests
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("pilothouse: there is no terminal to ask for the ")
    assert ended.stderr.endswith(f"pipe it in, with {flag}\n")


@pytest.mark.parametrize("verb", ["install", "upgrade", "rollback", "uninstall", "plan", "test"])
def test_the_help_says_the_default_of_timeout(verb: str):
    [timeout] = [one for one in load_command(verb, COMMANDS[verb]).params if "--timeout" in one.opts]

    assert "default: the server's, 5m" in timeout.help
