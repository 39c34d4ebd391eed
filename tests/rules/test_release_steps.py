"""A release is made by one command: rehearsed on a copy of the repository, and refused where it must be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pilothouse import __version__

ROOT = Path(__file__).parents[2]
FILES = [
    "src/pilothouse/__init__.py",
    "deploy/chart/pilothouse/Chart.yaml",
    "pyproject.toml",
    "CHANGELOG.md",
    "changes",
    "tools",
]
NAMED = {
    "PATH": "/usr/bin:/bin",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a repository of one commit with the files that a release changes or reads."""
    folder = tmp_path / "copy"
    for name in (
        "src/pilothouse/__init__.py",
        "deploy/chart/pilothouse/Chart.yaml",
        "pyproject.toml",
        "CHANGELOG.md",
        "changes",
        "tools",
    ):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "before"]):
        git(folder, *command)
    return folder


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, env={"PATH": "/usr/bin:/bin", **NAMED}, capture_output=True, text=True, check=True
    )
    return done.stdout


def release(folder: Path, version: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-B", "-m", "tools.release", version, "--without", "check", "--without", "dist"]
    return subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin:/bin", **NAMED}, capture_output=True, text=True, check=False
    )


def test_one_command_makes_version_changelog_commit_and_tag(copy: Path):
    told = [" ".join(file.read_text().split()) for file in (copy / "changes").glob("*.md")]
    done = release(copy, "99.1.0")

    assert done.returncode == 0, done.stderr
    assert git(copy, "status", "--porcelain") == ""
    assert git(copy, "tag", "--list", "--format=%(refname:short) %(subject)") == "v99.1.0 Pilothouse 99.1.0\n"
    assert git(copy, "log", "-1", "--format=%s") == "Release 99.1.0\n"
    assert '__version__ = "99.1.0"' in (copy / "src/pilothouse/__init__.py").read_text()
    chart = yaml.safe_load((copy / "deploy/chart/pilothouse/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == ("99.1.0", "99.1.0")
    assert re.search(r"^## 99\.1\.0 \(\d{4}-\d\d-\d\d\)$", (copy / "CHANGELOG.md").read_text(), re.MULTILINE)
    changelog = " ".join((copy / "CHANGELOG.md").read_text().split())
    assert [one for one in told if one not in changelog] == []
    assert list((copy / "changes").glob("*.md")) == []
    again = release(copy, "99.1.0")
    assert (again.returncode, "not newer than 99.1.0" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("version", "words"), [("", "is no version"), ("v1.0.0", "is no version"), ("0.0.1", "older than")]
)
def test_a_wrong_version_is_refused(copy: Path, version: str, words: str):
    done = release(copy, version)

    assert (done.returncode, words in done.stderr) == (1, True), done.stderr
    assert git(copy, "log", "--format=%s") == "before\n"


def test_uncommitted_work_and_a_release_of_nothing_are_refused(copy: Path):
    (copy / "left.txt").touch()
    assert "left.txt" in release(copy, "99.1.0").stderr
    (copy / "left.txt").unlink()
    git(copy, "rm", "--quiet", "-r", "changes")
    git(copy, "commit", "--quiet", "--message", "nothing")
    assert "changes/ is empty" in release(copy, "99.1.0").stderr
    assert git(copy, "tag") == ""


def test_the_version_has_one_place_and_the_chart_follows():
    chart = yaml.safe_load((ROOT / "deploy/chart/pilothouse/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
