import pytest

from pilothouse.auth.policy import ROLES
from pilothouse.console import grants
from pilothouse.errors import InvalidRequest


def test_every_role_is_told_in_a_line_and_the_widest_comes_last():
    assert set(grants.ROLES) == set(ROLES)
    assert list(grants.ROLES)[-1] == "te_admin"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "role:"),
        ({"role": "readonly"}, "project:"),
        ({"role": "te_admin", "project": ""}, "project:"),
        ({"role": "te_admin", "project": "account"}, "sure:"),
    ],
)
def test_nothing_that_was_not_chosen_is_granted(fields: dict[str, str], named: str):
    with pytest.raises(InvalidRequest, match=f"^{named}"):
        grants.read_grant(fields)


def test_what_was_chosen_is_granted():
    assert grants.read_grant({"role": "readonly", "project": "account"}) == ("readonly", None)
    assert grants.read_grant({"role": "te_admin", "project": "p"}) == ("te_admin", "p")
    assert grants.read_grant({"role": "te_admin", "project": "account", "sure": "yes"}) == ("te_admin", None)
