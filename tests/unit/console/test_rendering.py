"""Pages: what they tell of an error, and where they are rendered."""

import re
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from pilothouse.console.app import _explain
from pilothouse.console.faults import Faults
from pilothouse.console.rendering import environment, fragment, page, refusal
from pilothouse.errors import Busy, DatabaseUnavailable, TransactionConflict
from pilothouse.services.releases.differences import RevisionDiff
from pilothouse.services.releases.manifest_diff import ObjectDifference
from pilothouse.settings import Settings


def request_of(path: str = "/console/projects") -> Request:
    """Return a request without a session."""
    app = SimpleNamespace(state=SimpleNamespace(settings=Settings()))
    scope = {"type": "http", "method": "GET", "path": path, "scheme": "http", "headers": [], "query_string": b""}
    return Request({**scope, "client": ("127.0.0.1", 1), "app": app, "state": {}})


async def test_a_page_says_when_to_come_again_and_hides_secrets():
    answer = await _explain(request_of(), Busy("too much: Bearer hunter2-hunter2", retry_after_seconds=7))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.headers["content-security-policy"]
    assert b"too much" in answer.body
    assert b"hunter2" not in answer.body


LOGIN: dict[str, Any] = {
    "next_path": "", "kept": {}, "typed": {"name": "", "account": ""}, "told": "", "providers": [], "caller": None
}  # fmt: skip


@pytest.mark.parametrize(("method", "unsure"), [("GET", False), ("POST", True)])
async def test_an_error_that_may_have_come_after_the_work_is_told_so(method: str, *, unsure: bool):
    request = request_of()
    request.scope["method"] = method
    error = DatabaseUnavailable("PostgreSQL does not answer")
    whole = bytes((await _explain(request, error)).body).decode()
    assert ("It is not known whether it was done" in whole, "Nothing was changed" in whole) == (unsure, not unsure)
    beside = await page(request, "login.html", refused=refusal(request, error), **LOGIN)
    text = bytes(beside.body).decode()
    assert ("It is not known whether it was done" in text, "Not logged in" in text) == (unsure, not unsure)
    conflict = await page(request, "login.html", refused=refusal(request, TransactionConflict("again")), **LOGIN)
    assert b"Not logged in" in conflict.body


SAID: dict[str, Any] = {"problem": "x", "ours": False, "heading": "Wrong", "advice": "Do", "again": "", "came_from": ""}


class Noted:
    """A text that notes in which thread it is put on a page."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def __str__(self) -> str:
        self.threads.append(threading.current_thread())
        return "noted"


async def test_pages_and_their_parts_are_rendered_beside_the_event_loop():
    whole, part = Noted(), Noted()
    answer = await page(request_of(), "error.html", code=whole, **SAID)
    text = await fragment(request_of(), "error.html", code=part, **SAID)
    assert b"noted" in answer.body
    assert "noted" in text
    for one in (whole, part):
        assert one.threads
        assert threading.current_thread() not in one.threads


@pytest.mark.parametrize(("count", "shown"), [(200, ""), (253, "and 53 more objects")])
def test_a_comparison_shows_so_many_objects_and_tells_how_many_it_leaves_out(count: int, shown: str):
    objects = [ObjectDifference("v1", "ConfigMap", "", f"c{number}", "added", []) for number in range(count)]
    same = ObjectDifference("v1", "ConfigMap", "", "same", "unchanged", [])
    diff = RevisionDiff(1, 2, dict.fromkeys(("added", "changed", "removed", "unchanged"), 1), [same, *objects])
    text = environment().from_string('{% import "diff.html" as it with context %}{{ it.show(diff) }}').render(diff=diff)
    assert text.count("<details") == min(count, 200)
    assert shown in text
    assert ("left out" in text) is bool(shown)


@pytest.mark.parametrize(
    ("method", "referer", "told"),
    [
        ("POST", "http://host:1/console/p/a/install?chart=1&x=%22", "/console/p/a/install?chart=1&amp;x=%22"),
        ("GET", "http://host:1/console/p/a/install", ""),
        ("POST", "http://other/console/p/a/install", ""),
        ("POST", "http://host:1//evil.example/console/", ""),
        ("POST", "http://[/console/", ""),
        ("POST", "", ""),
    ],
)
async def test_an_answer_to_a_form_names_the_page_of_the_form(method: str, referer: str, told: str):
    asked = request_of()
    asked.scope.update(
        method=method, headers=[(b"host", b"host:1"), (b"referer", referer.encode())], state={"caller": None}
    )
    answer = await page(asked, "error.html", code="x", **SAID)
    found = re.search(rb'data-asked-by="([^"]*)"', answer.body)
    assert (found[1].decode() if found is not None else "") == told


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        ('"keys"', ' aria-invalid="true" aria-describedby="fault-keys"'),
        ('"keys", "keys-hint"', ' aria-invalid="true" aria-describedby="keys-hint fault-keys"'),
        ('"keys", "keys-hint", false', ' aria-describedby="keys-hint"'),
        ('"name", "name-hint"', ' aria-describedby="name-hint"'),
        ('"name"', ""),
        ('"keys", on=false', ""),
    ],
)
def test_a_field_is_described_by_its_hint_and_by_what_is_wrong_with_it(marks: str, found: str):
    text = f'{{% import "parts.html" as parts with context %}}{{{{ parts.marks({marks}) }}}}'
    assert environment().from_string(text).render(faults=Faults("bad", {"keys": "bad"})) == found


def test_a_time_that_another_clock_has_ahead_is_told_as_it_is():
    ago = environment().filters["ago"]
    now = datetime.now(UTC)
    assert ">now<" in ago(now + timedelta(seconds=30))
    later = now + timedelta(days=3)
    assert f">{later:%Y-%m-%d %H:%M} UTC<" in ago(later)
    assert ">3 d ago<" in ago(now - timedelta(days=3))
    assert environment().filters["lasting"](later) == "0 s"
