"""The rule that nothing may be forgotten: a new route says what it takes, and is in both matrices by that."""

import re
from pathlib import Path

import pytest

from tests.support.matrix import ACCOUNT_IDS, PROJECT_IDS, words_of
from tests.support.route_table import (
    EVERYBODY,
    PUBLIC,
    SEES_PROJECT,
    TABLE,
    Served,
    application,
    declared,
    id_fields,
    untwinned,
)

#: What a path or a body names that is no id: the matrices fill it in all the same.
NAMES = {
    *("namespace", "name", "role", "fresh", "region", "kubeconfig"),
    *("repository", "authority", "chart_name", "version"),
}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return application(tmp_path)


def test_the_action_of_every_route_is_declared_and_no_route_is_that_does_not_exist(served: Served):
    assert {untwinned(route) for route in served.routes} == set(TABLE), "declare it in tests/support/route_table.py"
    wrong = {name: one.action for name, one in TABLE.items() if not re.fullmatch(r"\w+:\w+:\w+", one.action)}
    assert set(wrong.values()) == {PUBLIC, EVERYBODY, SEES_PROJECT}


def test_every_id_that_a_route_takes_is_filled_in_by_the_matrices(served: Served):
    for route in served.routes:
        words = words_of(route.partition(" ")[2], declared(route))
        assert words <= PROJECT_IDS | ACCOUNT_IDS | NAMES, route
        if route == "POST /v3/auth/tokens":
            continue  # its ids are claims of whoever logs in
        for document in served.documents:
            body = served.described(route).get("requestBody", {})
            if served.described(route) not in document["paths"].get(route.partition(" ")[2], {}).values():
                continue
            assert id_fields([one["schema"] for one in body.get("content", {}).values()], document) <= words, route
