"""Refusals by field: with the words of labels, each at its own field, and none of them lost."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilothouse.console.faults import LABELS, Faults, name_fields, tell
from pilothouse.console.requests import wrong
from pilothouse.errors import Checks, DatabaseUnavailable, InvalidRequest, PilothouseError, SeveralWrong
from pilothouse.http.errors import Refusal, refuse

CONSOLE = Path(__file__).parents[3] / "src" / "pilothouse" / "console"


def refused(error: PilothouseError) -> Refusal:
    return name_fields(refuse(error), error, lambda text: text)


@pytest.mark.parametrize(
    ("text", "shown", "fields"),
    [
        ("expires_at: it is past", "Last day: it is past", {"expires": "it is past"}),
        ("confirm: type it", "To confirm: type it", {"confirm": "type it"}),
        ("wall.namespaces[0] cannot be one", "Namespaces: cannot be one", {"namespaces": "cannot be one"}),
        ("wall.user, wall.groups: each is short", "User to act as: each is short", {"user": "each is short"}),
        ("chart.id: there is none\nat all", "Chart: there is none\nat all", {"chart": "there is none\nat all"}),
        ("dry run: values: no YAML", "Values: no YAML", {"values": "no YAML"}),
        ("cluster 'a' does not answer: no route", "cluster 'a' does not answer: no route", {}),
        ("values, line 3, column 1: no", "Values: line 3, column 1: no", {"values": "line 3, column 1: no"}),
        ("unheard_of: text", "unheard_of: text", {}),
    ],
)
def test_a_refusal_names_a_field_by_its_label(text: str, shown: str, fields: dict[str, str]):
    found = refused(InvalidRequest(text))
    assert (found.text, dict(found.fields)) == (shown, fields)


def test_several_refusals_stand_each_at_its_field():
    checks = Checks()

    def fail(name: str) -> str:
        raise wrong(name, f"bad {name}")

    assert checks.read(lambda: "fine") == "fine"
    for name in ("role", "project"):
        assert checks.read(lambda name=name: fail(name)) is None  # type: ignore[misc]
    with pytest.raises(SeveralWrong) as raised:
        checks.end()
    found = refused(raised.value)
    assert found.text == "Role: bad role\nProject: bad project"
    both = tell(found, "role", "project")
    assert (both.fields, both.field) == ({"role": "Role: bad role", "project": "Project: bad project"}, "role")
    one = tell(found, "role")
    assert (one.fields, one.field) == ({"role": "Role: bad role"}, ""), "what is at no field must be told, too"


def test_what_is_at_no_field_among_several_is_told_at_the_field_of_all_else_or_on_top():
    checks = Checks()
    checks.refuse("name: 'x y' is none")
    checks.refuse("Statement[0]: no such action")
    checks.refuse("name: taken")
    with pytest.raises(SeveralWrong) as raised:
        checks.end()
    found = refused(raised.value)
    both = tell(found, "name", "document", otherwise="document")
    assert both.fields == {"name": "Name: 'x y' is none\ntaken", "document": "Statement[0]: no such action"}
    assert both.field == "name"
    assert tell(found, "name", "document").field == "", "it is told on top"


def test_a_form_can_call_a_field_otherwise_and_have_a_field_for_all_else():
    secret = refused(InvalidRequest("password: too short"))
    names, labels = {"password": "new_password"}, {"new_password": "Password"}
    assert tell(secret, "new_password", names=names).fields == {"new_password": "New password: too short"}
    assert tell(secret, "new_password", names=names, labels=labels).fields == {"new_password": "Password: too short"}
    assert tell(refused(InvalidRequest("no JSON")), "document", otherwise="document").fields == {"document": "no JSON"}
    assert tell(None, "document", otherwise="document") == Faults()
    unsure = replace(refused(DatabaseUnavailable("gone")), unsure=True)
    assert tell(unsure, "document", otherwise="document") == Faults("gone"), "it is said on top what is not known"


def names_of_fields() -> Iterator[str]:
    """Yield the constant names of fields that pages refuse."""
    for file in CONSOLE.glob("*.py"):
        for one in ast.walk(ast.parse(file.read_text())):
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.args:
                name = one.args[0]
                if one.func.id in {"wrong", "not_one_of", "not_a_day", "too_long"} and isinstance(name, ast.Constant):
                    yield str(name.value)


def test_each_field_that_a_page_refuses_has_a_label():
    assert {*names_of_fields()} - {"Content-Type"} <= set(LABELS)
