"""Which groups a provider states: some, none, or nothing."""

from typing import Any

import pytest

from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.claims import groups_of
from pilothouse.oidc.configuration import ProviderConfiguration


def provider(groups_claim: str = "groups") -> ProviderConfiguration:
    return ProviderConfiguration.model_validate(
        {"name": "corp", "issuer": "https://sso.example.com", "audience": "api", "groups_claim": groups_claim}
    )


@pytest.mark.parametrize(
    ("claim", "claims", "stated"),
    [
        ("groups", {"groups": ["b", "a", "b"]}, ("a", "b")),
        ("groups", {"groups": "a"}, ("a",)),
        ("groups", {"groups": []}, ()),
        ("groups", {}, None),
        ("groups", {"groups": None}, None),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, ("a",)),
        ("realm_access.roles", {"realm_access": {"roles": []}}, ()),
        ("realm_access.roles", {"realm_access": {}}, None),
        ("realm_access.roles", {"realm_access": "a"}, None),
    ],
)
def test_only_a_claim_that_is_there_states_groups(claim: str, claims: dict[str, Any], stated: tuple[str, ...] | None):
    assert groups_of(claims, provider(claim)) == stated


@pytest.mark.parametrize("said", [[1], [""], {"a": "b"}, False, 0, ["a", None]])
def test_what_is_no_list_of_groups_is_refused(said: Any):
    with pytest.raises(NotAuthenticated, match="is no list of groups"):
        groups_of({"groups": said}, provider())
