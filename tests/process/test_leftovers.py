"""The harness itself: what a file leaves behind is an error of that file and of no other, in every order."""

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import LONG_FILES, rank

ROOT = Path(__file__).parents[2]

LEAKS = {
    "child process": "subprocess.Popen(['sleep', '30'])",
    "thread": "threading.Thread(target=time.sleep, args=(3,)).start()",
    "listening socket": "kept.append(socket.create_server(('127.0.0.1', 0)))",
    "unclosed transport": "asyncio.run(forgotten())",
    "frozen transport": "(asyncio.run(forgotten()), gc.freeze())",  # as an application does that starts
}
FILE = """
import asyncio, gc, socket, subprocess, threading, time
from tests.support import leftovers
leftovers._SECONDS = 0.2
kept = []
async def forgotten():
    near, far = socket.socketpair()
    kept.append(far)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    transport.itself = transport  # only the collector finds it
def test_it():
    kept.append({leak})
"""
CLEAN = """
import pytest, socket, subprocess
@pytest.fixture(scope="session")
def own():
    with socket.create_server(("127.0.0.1", 0)), subprocess.Popen(["sleep", "30"]) as process:
        yield
        process.kill()
def test_it(own): pass
"""
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run files with this harness in a process of their own, and return the summary."""

    def pytest_run(files: dict[str, str], *options: str) -> str:
        for name, text in files.items():
            (tmp_path / f"test_{name.replace(' ', '_')}.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
        command += ["-p", "tests.conftest", "-p", "no:cacheprovider", "-v", *options, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout

    return pytest_run


def test_a_leak_is_an_error_of_the_file_that_leaks_and_session_fixtures_keep_what_they_make(run: Run):
    files = {"a clean one": CLEAN, "z clean one": CLEAN}
    files |= {f"leak {kind}": FILE.replace("{leak}", leak) for kind, leak in LEAKS.items()}
    said = run(files)
    for kind in LEAKS:
        where = f"test_leak_{kind.replace(' ', '_')}.py"
        assert re.search(rf"^ERROR \S*{where}::test_it", said, re.MULTILINE), said
        assert (f"{where} left behind: {kind}" in said) or kind.endswith("transport"), said
    assert said.count("ResourceWarning: unclosed transport") >= 2, said
    assert "7 passed, 5 errors" in said, said


def test_long_files_begin_first_and_unit_tests_last():
    assert all((ROOT / name).is_file() for name in LONG_FILES)
    others = ["tests/cluster/test_pods.py", "tests/wheel/test_wheel.py", "tests/rules/test_states.py"]
    assert sorted([others[2], *others[:2], *reversed(LONG_FILES)], key=rank) == [*LONG_FILES, *others]


def test_files_and_their_tests_run_in_another_order(run: Run):
    files = {letter: "".join(f"def test_{n}(): pass\n" for n in range(5)) for letter in "abcd"}

    def names(order: str) -> list[str]:
        said = run(files, "--order", order, "--collect-only", "-qq", "-o", "addopts=-p no:schemathesis")
        return [line for line in said.splitlines() if "::" in line]

    turned, shuffled = names("reversed"), names("7")
    given = [f"test_{letter}.py::test_{n}" for letter in "abcd" for n in range(5)]
    assert [name.rpartition("/")[2] for name in turned] == given[::-1]
    assert shuffled not in (turned, turned[::-1])
    assert sorted(shuffled) == sorted(turned)
    owners = [name.split("::")[0] for name in shuffled]
    assert sum(one != other for one, other in pairwise(owners)) == len(files) - 1  # a file stays together
