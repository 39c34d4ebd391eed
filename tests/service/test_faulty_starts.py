"""``pilothouse serve`` with something wrong about its start: it ends with one plain sentence, and nothing is lost."""

import json
import os
import signal
import subprocess
import sys
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
