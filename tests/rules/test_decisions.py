"""Whoever names a decision names one that there is, by the number of its file."""

import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_DECISIONS = _ROOT / "docs" / "decisions"
NUMBERS = {int(path.name[:4]) for path in _DECISIONS.glob("[0-9]*.md")}
_FILE = re.compile(r"decisions/(\d{4}(?:-[\w.-]+\.md)?)")
_NUMBER = re.compile(r"\b(?:ADR|decision) (\d+)\b")
#: A link whose text is a number, such as [18](0018-stored-payloads.md).
_LINK = re.compile(r"\[(?:ADR |decision )?(\d+)\]\((?:[\w./-]*/)?(\d{4})-[\w-]+\.md")


def texts() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of everything that may name a decision."""
    places = {"src": "py yaml", "engine": "go", "tests": "py", "tools": "py", "deploy": "yaml md", "docs": "md"}
    for folder, endings in places.items():
        for ending in endings.split():
            for path in (_ROOT / folder).rglob(f"*.{ending}"):
                if path != Path(__file__).resolve():
                    yield str(path.relative_to(_ROOT)), path.read_text()


def test_every_named_file_of_a_decision_is_there_and_is_named_whole():
    named = [(where, found[1]) for where, text in texts() for found in _FILE.finditer(text)]
    assert [(where, name) for where, name in named if not (_DECISIONS / name).is_file()] == []
    assert len(named) > 10


def test_every_number_of_a_decision_is_that_of_one():
    named = [(where, int(found[1])) for where, text in texts() for found in _NUMBER.finditer(text)]
    assert [(where, number) for where, number in named if number not in NUMBERS] == []
    assert named


def test_a_link_that_is_a_number_leads_to_the_decision_of_that_number():
    links = [(where, found[1], found[2]) for where, text in texts() for found in _LINK.finditer(text)]
    assert [link for link in links if int(link[1]) != int(link[2])] == []
    assert len(links) > 10
