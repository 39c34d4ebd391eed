"""The pages for newcomers name what is there: files, functions, and what the README calls and runs.

A function belongs to the file that the page names before it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from pilothouse.cli import app
from tests.support.route_table import application

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pilothouse"
PAGES = sorted([ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "dev").glob("*.md")])
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(/[\w.*-]+)*(/|\.(py|go|md|toml|yaml|yml|json|mod|sql))")
_FUNCTION = re.compile(r"(?:(?P<owner>\w+)\.)?(?P<name>\w+)\(\)")


def spans(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return (found[1] for found in _SPAN.finditer(text))


def find(path: str) -> Path | None:
    """Return the file or folder that a page means: of the package, else of the project."""
    for folder in (SOURCE, ROOT):
        if next(folder.glob(path), None):
            return folder / path
    return None


def defines(source: str, owner: str | None, name: str) -> bool:
    has_owner = owner is None or re.search(rf"^(class|type) {owner}\b", source, re.MULTILINE)
    return bool(has_owner and re.search(rf"(\bdef|\bfunc( \([^)]*\))?) {name}\(", source))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    named = {span for span in spans(page) if _PATH.fullmatch(span)}

    assert [path for path in sorted(named) if find(path) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_function_that_a_page_names_is_in_the_file_named_before_it(page: Path):
    source, where, missing = "", "", []
    for span in spans(page):
        if _PATH.fullmatch(span) and (path := find(span)) is not None and path.is_file():
            source, where = path.read_text(), span
        elif (function := _FUNCTION.fullmatch(span)) and not defines(source, function["owner"], function["name"]):
            missing.append(f"{where}: {span}")

    assert missing == []


def test_every_path_that_the_readme_calls_is_a_route(tmp_path: Path):
    routes = [
        re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.partition(" ")[2])) for route in application(tmp_path).routes
    ]
    called = re.findall(r"\$URL(/[^\s?\"]+)", (ROOT / "README.md").read_text())

    assert [path for path in called if not any(re.fullmatch(route, path) for route in routes)] == []
    assert len(called) == 5


def test_every_command_that_the_readme_and_the_forms_name_exists():
    texts = [page.read_text() for page in (ROOT / "README.md", *(ROOT / ".github").rglob("*.yml"))]
    named = [found for text in texts for found in re.findall(r"\bpilothouse (?!-)([a-z]+)(?: ([a-z]+)\b)?", text)]
    known = get_command(app).commands  # type: ignore[attr-defined]
    nouns = {name for name, command in known.items() if hasattr(command, "commands")}

    assert {noun for noun, _ in named} <= set(known)
    assert [pair for pair in named if pair[0] in nouns and pair[1] not in known[pair[0]].commands] == []
    assert named
