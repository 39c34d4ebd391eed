"""``make release V=0.2.0``: the steps of a release, on the current branch; nothing is pushed.

``python -m tools.release VERSION [--without check] [--without dist]``
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

VERSION_FILE = Path("src/pilothouse/__init__.py")
CHART_FILE = Path("deploy/chart/pilothouse/Chart.yaml")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def main(arguments: list[str]) -> int:
    """Perform the steps; the first that fails ends it with its reason, before anything is committed."""
    parser = argparse.ArgumentParser(description="Make a release.")
    parser.add_argument("version", nargs="?", default="", help="such as 0.2.0")
    parser.add_argument("--without", action="append", default=[], choices=["check", "dist"], help="leave this step out")
    given = parser.parse_args(arguments)
    if reason := why_not(given.version):
        print(f"no release is made: {reason}", file=sys.stderr)
        return 1
    _replace(VERSION_FILE, r'(?m)^__version__ = ".*"$', f'__version__ = "{given.version}"')
    _replace(CHART_FILE, r"(?m)^(version|appVersion): .*$", rf"\1: {given.version}")
    _run(sys.executable, "-m", "towncrier", "build", "--yes", "--version", given.version)
    if "check" not in given.without:
        _run("make", "check")
    _run("git", "add", "--all")
    _run("git", "commit", "--quiet", "--message", f"Release {given.version}")
    _run("git", "tag", "--annotate", f"v{given.version}", "--message", f"Pilothouse {given.version}")
    if "dist" not in given.without:
        _run("make", "dist")
    print(f"committed and tagged v{given.version}. Next: make test, then push the commit and the tag, publish dist/")
    return 0


def why_not(version: str) -> str:
    """Return why this version cannot be released from this tree, or nothing."""
    if not _VERSION.fullmatch(version):
        return f"{version!r} is no version such as 0.2.0: make release V=0.2.0"
    before = re.findall(r'__version__ = "(.*)"', VERSION_FILE.read_text())[0]
    tags = _told("git", "tag", "--list", "v*").split()
    if f"v{version}" in tags or (tags and _number(version) <= _number(before)):
        return f"{version} is not newer than {before}"
    if _number(version) < _number(before):
        return f"{version} is older than {before}"
    if changed := _told("git", "status", "--porcelain"):
        return f"commit or remove what is not committed:\n{changed.rstrip()}"
    if not list(Path("changes").glob("*.md")):
        return "changes/ is empty: nothing has changed for users"
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _replace(file: Path, pattern: str, new: str) -> None:
    text, count = re.subn(pattern, new, file.read_text())
    if not count:
        raise SystemExit(f"{file} has no line like {pattern}")
    file.write_text(text)


def _run(*command: str) -> None:
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise SystemExit(f"{' '.join(command)} failed ({code}); 'git checkout .' undoes what is not committed")


def _told(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
