"""What a page asks for by itself is below ``/live``: it does not count as use, and keeps no session alive."""

import re
from pathlib import Path

import pytest

from pilothouse.console.rendering import environment
from pilothouse.http.middleware.session import LIVE

TEMPLATES = Path(__file__).parents[3] / "src" / "pilothouse" / "console" / "templates"
_POLL = re.compile(r'hx-get="(?P<path>[^"]*)"[^>]*hx-trigger="[^"]*every')
#: Paths that are put together elsewhere, by the expression that a template has for them.
_NAMED = re.compile(r"\{\{ (live|query\.live|tree_path|at \}\}\{\{ live) \}\}")


def polls() -> list[tuple[str, str]]:
    """Return each poll with its template."""
    return [
        (template.name, found["path"])
        for template in sorted(TEMPLATES.glob("*.html"))
        for found in _POLL.finditer(template.read_text())
    ]


def test_the_polls_are_found():
    assert len(polls()) >= 8
    assert all(environment().get_template(name) for name, _ in polls())


@pytest.mark.parametrize(("template", "path"), polls())
def test_a_poll_keeps_no_session_alive(template: str, path: str):
    assert _NAMED.fullmatch(path) or path.partition("?")[0].endswith(LIVE), template
