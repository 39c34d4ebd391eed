"""What the test command says of tests that fail beside others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LATE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", [str(number) for number in range({count})])
def test_late(name):
    seen = Path(__file__).with_name(f"seen-{{name}}")
    first = not seen.exists()
    seen.touch()
    assert not first
"""

#: What the first test leaves behind is an error of the second, which would pass alone.
_LEAVES = """
left = []

def test_first():
    left.append(1)

def test_second():
    assert not left
"""
_SKIPS = """
from pathlib import Path
import pytest

def test_late():
    seen = Path(__file__).with_name("seen")
    if seen.exists():
        pytest.skip("not again")
    seen.touch()
    assert False
"""


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("def test_right(): pass", 0, ["1 passed"]),
        (_LATE.format(count=2), 0, ["2 failed. Their files are run once more", "passed only when they were run alone"]),
        ("def test_wrong(): assert False", 1, ["1 failed. Their files are run once more", "FAILED"]),
        (_LEAVES, 1, ["1 failed. Their files are run once more", "FAILED"]),
        (_SKIPS, 1, ["and were not run the second time"]),
        (_LATE.format(count=9), 1, ["9 failed"]),
    ],
    ids=["green", "late", "wrong", "left-behind", "skipped", "many"],
)
def test_a_test_that_fails_beside_others_decides_when_it_is_run_alone(
    tmp_path: Path, text: str, code: int, said: list[str]
):
    (tmp_path / "test_some.py").write_text(text)
    # of the plugins only the one whose options the command gives: loading all of them takes seconds
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **plugins}
    done = subprocess.run(
        [sys.executable, "-m", "tools.run_tests", "-n0"],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert all(words in done.stdout for words in said), done.stdout
