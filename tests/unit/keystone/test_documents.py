"""What Keystone says of a token, as a user and groups of ours."""

from typing import Any

import pytest

from pilothouse.errors import Forbidden, NotAuthenticated
from pilothouse.keystone.documents import KeystoneProvider, read_token

PROVIDER = KeystoneProvider("keystone", "keystone", "https://keystone.test", "")


def document(**changed: Any) -> dict[str, Any]:
    """Return what Keystone says of a token for a project, changed; None removes a member."""
    said = {
        "user": {"id": "u1", "name": "alice", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "shop", "domain": {"id": "default", "name": "Default"}},
        "is_domain": False,
        "roles": [{"id": "r1", "name": "member"}, {"id": "r2", "name": "reader"}],
        "issued_at": "2026-11-30T08:00:00.000000Z",
        "expires_at": "2026-11-30T09:00:00.000000Z",
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}


def groups(**changed: Any) -> tuple[str, ...] | None:
    return read_token(document(**changed), PROVIDER).identity.groups


def project(name: str, domain: str = "Default", id_: str = "p1") -> dict[str, Any]:
    return {"id": id_, "name": name, "domain": {"id": "d1", "name": domain}}


def test_roles_become_groups_by_the_projects_name_and_id():
    found = read_token(document(), PROVIDER)
    assert found.project_id == "p1"
    identity = found.identity
    assert (identity.subject, identity.name, identity.carried, identity.proved_at) == ("u1", "alice", True, None)
    assert identity.groups == ("Default/shop:member", "Default/shop:reader", "p1:member", "p1:reader")
    assert not identity.delegated
    assert read_token(document(application_credential={"id": "a"}), PROVIDER).identity.delegated
    assert read_token(document(methods=["token", "application_credential"]), PROVIDER).identity.delegated
    assert not read_token(document(methods=["password"]), PROVIDER).identity.delegated
    assert identity.expires_at - identity.issued_at == 3600
    assert groups(roles=[]) == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((project("a:b"), "c"), (project("a"), "b:c")),
        ((project("b/c", "a"), "r"), (project("c", "a/b"), "r")),
        ((project("x", id_="a/b"), "r"), (project("b", "a"), "r")),
        ((project("x%3A", id_="1"), "r"), (project("x:", id_="2"), "r")),
    ],
)
def test_no_project_and_role_are_named_as_another(one: tuple[Any, str], other: tuple[Any, str]):
    found = [set(groups(project=where, roles=[{"name": role}]) or ()) for where, role in (one, other)]
    by_name = [next(name for name in names if not name.startswith(("p1:", "1:", "2:"))) for names in found]
    assert by_name[0] != by_name[1]
    assert found[0] != found[1]


def test_a_name_that_is_none_here_is_replaced():
    said = read_token(document(user={"id": "u1", "name": "Ärla / x"}), PROVIDER).identity.name
    assert said.startswith("keystone-")
    other = read_token(document(user={"id": "u2", "name": said}), PROVIDER).identity.name
    assert other.startswith("keystone-")
    assert other != said, "nor does another user get that one"


@pytest.mark.parametrize(
    "changed",
    [
        {"project": None},
        {"project": None, "domain": {"id": "default", "name": "Default"}},
        {"project": None, "system": {"all": True}},
        {"is_domain": True},
    ],
)
def test_only_tokens_for_a_project_count(changed: dict[str, Any]):
    with pytest.raises(Forbidden, match="not for a project"):
        groups(**changed)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"oauth2_credential": {"x5t#S256": "x"}}, "bound to a certificate"),
        ({"OS-TRUST:trust": {"id": "t1", "impersonation": True}}, "it is of a trust"),
        ({"OS-OAUTH1": {"access_token_id": "a", "consumer_id": "c"}}, "it is of an OAuth consumer"),
        ({"user": None}, "not understood"),
        ({"user": {"id": ""}}, "not understood"),
        ({"user": {"id": 1}}, "not understood"),
        ({"user": {"id": "\ud800"}}, "not understood"),
        ({"project": {"id": "p1", "name": "shop"}}, "not understood"),
        ({"project": []}, "not understood"),
        ({"roles": None}, "no list"),
        ({"roles": [{"name": f"r{number}"} for number in range(101)]}, "at most 100 roles"),
        ({"roles": ["member"]}, "not understood"),
        ({"expires_at": None}, "not understood"),
        ({"expires_at": "soon"}, "not understood"),
        ({"expires_at": "2026-11-30T09:00:00"}, "not understood"),
    ],
)
def test_what_is_not_understood_is_refused(changed: dict[str, Any], why: str):
    with pytest.raises(NotAuthenticated, match=why):
        groups(**changed)
