"""The command line starts at once: what only a server needs is not loaded for ``--help`` and ``version``."""

import subprocess
import sys

import pytest

from pilothouse import __version__

SERVER_ONLY = ["fastapi", "sqlalchemy", "alembic", "psycopg", "lightkube", "uvicorn", "httpx2", "pydantic", "structlog"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "pilothouse", *arguments], capture_output=True, text=True, check=False)


def test_the_command_line_alone_loads_nothing_of_the_server():
    program = f"import sys, pilothouse.cli; print([name for name in {SERVER_ONLY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_prints_the_version():
    assert run("version").stdout.strip() == __version__


@pytest.mark.parametrize("command", ["serve", "migrate", "cluster"])
def test_help_names_the_commands_and_each_explains_itself(command: str):
    assert command in run("--help").stdout
    assert run(command, "--help").returncode == 0
