"""The command line starts at once: what only a server needs is not loaded for ``--help`` and ``version``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pilothouse import __version__
from pilothouse.cli import COMMANDS, app

SERVER_ONLY = [
    "fastapi",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "lightkube",
    "uvicorn",
    "httpx2",
    "pydantic",
    "structlog",
    "asyncio",
    "rich",
    "yaml",
]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "pilothouse", *arguments], capture_output=True, text=True, check=False)


def test_the_command_line_alone_loads_nothing_of_the_server():
    program = f"import sys, pilothouse.cli; print([name for name in {SERVER_ONLY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_that_asks_a_server_loads_only_what_that_takes():
    """What a person waits for: pydantic alone is 60 ms."""
    unwanted = [name for name in SERVER_ONLY if name != "rich"] + ["rich.console", "msgspec"]
    program = (
        "import sys, pilothouse.cli, contextlib\n"
        "with contextlib.suppress(SystemExit): pilothouse.cli.main()\n"
        f"print([name for name in {unwanted} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('pilothouse.cli.commands.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "cluster", "list", "-n", "default", "-o", "json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nowhere",
            "PILOTHOUSE_URL": "http://127.0.0.1:1",
            "PILOTHOUSE_TOKEN": "t",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no Pilothouse server answers at http://127.0.0.1:1" in done.stderr
    assert done.stdout.splitlines() == ["[]", "['pilothouse.cli.commands.cluster']"]


@pytest.mark.parametrize("command", ["install", "upgrade", "template", "wait", "diff", "show"])
def test_the_help_of_a_command_loads_nothing_that_asks_a_server_or_runs_a_program(command: str):
    unwanted = [*SERVER_ONLY, "http.client", "hashlib", "tempfile"]
    program = (
        "import sys, pilothouse.cli, contextlib\n"
        "with contextlib.suppress(SystemExit): pilothouse.cli.main()\n"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [["version"], ["completion", "bash"], ["context", "list"]], ids=" ".join)
def test_a_command_without_a_server_loads_nothing_that_only_a_server_needs(command: list[str]):
    unwanted = [*(name for name in SERVER_ONLY if name != "rich"), "rich.console", "http.client"]
    program = (
        "import sys, pilothouse.cli, contextlib\n"
        "with contextlib.suppress(SystemExit): pilothouse.cli.main()\n"
        f"print('loaded', [name for name in {unwanted} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "loaded []"


#: What each process imports when it runs, and what it must not load by that: memory that it holds for ever.
PROCESSES = {
    "pilothouse.cli.serve": ["fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "aiohttp", "yaml", "uvloop"],
    "pilothouse.app": ["alembic", "pilothouse.worker", "pilothouse.observer", "pilothouse.embedded_postgres"],
    "pilothouse.daemons": ["alembic", "fastapi", "starlette", "uvicorn", "pilothouse.http", "pilothouse.api"],
}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_loads_nothing_of_the_others(process: str):
    unwanted = [*PROCESSES[process], "rich", "pygments", "lightkube", "httpx2", "sqlalchemy.orm"]
    program = (
        f"import sys; from pilothouse.cli.commands import server; server._leave_out_unused(); import {process}; "
        f"print([name for name in {unwanted} if sys.modules.get(name) is not None])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_prints_the_version():
    assert run("version").stdout.strip() == __version__


@pytest.mark.parametrize("command", ["serve", "migrate", "cluster"])
def test_help_names_the_commands_and_each_explains_itself(command: str):
    assert command in run("--help").stdout
    assert run(command, "--help").returncode == 0
    assert run(command, "-h").stdout == run(command, "--help").stdout


@pytest.mark.parametrize("command", ["serve", "api", "worker", "migrate"])
def test_a_setting_that_cannot_be_read_is_named_without_its_value_and_without_a_traceback(command: str):
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", command],
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_PORT": "hunter2", "PILOTHOUSE_TLS__PORT": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PILOTHOUSE_PORT: " in done.stderr
    assert "PILOTHOUSE_TLS__PORT: " in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("noun", ["", *COMMANDS])
def test_no_line_of_the_help_is_cut(noun: str):
    done = CliRunner().invoke(app, [*filter(None, [noun]), "--help"])
    assert done.exit_code == 0
    assert [line for line in done.stdout.splitlines()[1:] if line.endswith("...")] == []


def test_serve_names_the_variable_that_is_no_setting_and_starts_nothing(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "serve"],
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_DATA_DIR": str(tmp_path / "data"),
            "PILOTHOUSE_PROT": "hunter2",
            "PILOTHOUSE_TOKEN": "mine",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no such setting: PILOTHOUSE_PROT (did you mean PILOTHOUSE_PORT?)" in " ".join(done.stderr.split())
    assert "hunter2" not in done.stderr
    assert "TOKEN" not in done.stderr
    assert not (tmp_path / "data").exists()
