"""The options of a write, as the command line gives them to the API."""

from typing import Any

import pytest
import typer
from typer.core import TyperCommand

from pilothouse.cli.writes import write_body

NOT_GIVEN: dict[str, Any] = {"wait": None, "timeout": None, "no_hooks": False, "history_max": None, "checks": ()}


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({}, {"wait": "hooks"}),
        ({"history_max": 0}, {"history_max": 0, "wait": "hooks"}),
        ({"history_max": 3, "no_hooks": True}, {"no_hooks": True, "history_max": 3, "wait": "hooks"}),
        ({"checks": ["test"], "wait": "none"}, {"checks": ["test"], "wait": "none"}),
    ],
)
def test_what_is_given_is_sent_and_nothing_else(*, given: dict[str, Any], body: dict[str, Any]):
    context = typer.Context(TyperCommand("upgrade"))
    context.meta["pilothouse.options"] = NOT_GIVEN | given

    assert write_body(context) == body
