"""What roles allow."""

import re
from pathlib import Path

import pytest

from pilothouse.auth.policy import _IN_NO_CLUSTER, ACTIONS, READ_VALUES, ROLES, allows
from pilothouse.errors import Forbidden
from pilothouse.services.identity.bootstrap import Caller
from tests.support.route_table import TABLE

#: Every action of the chart and release API, as the vendor's permission tables name them.
READS = [
    "cce:release:list",
    "cce:release:get",
    "cce:chart:list",
    "cce:chart:get",
    "cce:chart:download",
    "cce:chart:getQuota",
    "cce:cluster:list",
    "cce:cluster:get",
]
WRITES = [
    "cce:release:create",
    "cce:release:update",
    "cce:release:delete",
    "cce:chart:upload",
    "cce:chart:update",
    "cce:chart:delete",
    "cce:cluster:create",
    "cce:cluster:delete",
]


@pytest.mark.parametrize("action", READS + WRITES)
@pytest.mark.parametrize("role", ["te_admin", "CCE Administrator", "CCE FullAccess"])
def test_administrators_of_cce_may_do_everything_in_it(role: str, action: str):
    assert allows([role], action)


@pytest.mark.parametrize("role", ["readonly", "CCE ReadOnlyAccess"])
def test_readers_read_downloads_and_quotas_included_and_write_nothing(role: str):
    assert [action for action in READS + WRITES if allows([role], action)] == READS


@pytest.mark.parametrize("role", [name for name in ROLES if name.startswith("CCE")])
def test_a_role_of_cce_says_nothing_about_users(role: str):
    assert not allows([role], "iam:users:listUsers")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_only_roles_that_write_read_the_values_of_releases(role: str):
    assert allows([role], READ_VALUES) == (role not in {"readonly", "CCE ReadOnlyAccess"})


def test_roles_add_up_and_unknown_ones_add_nothing():
    assert allows(["CCE ReadOnlyAccess", "CCE FullAccess"], "cce:release:create")
    assert not allows(["CCE ReadOnlyAccess", "root", "*", ""], "cce:release:create")
    assert not allows([], "cce:release:get")


@pytest.mark.parametrize("action", ["cce:release", "cce:release:create:all", "create", ""])
def test_what_is_no_action_is_not_allowed_to_anybody(action: str):
    assert not allows(["te_admin"], action)


def test_a_refusal_names_user_permission_and_roles():
    caller = Caller(
        user_id="1", user_name="reader", domain_id="2", domain_name="d", project_id="3", roles=frozenset({"readonly"})
    )
    caller.require("cce:chart:list")
    with pytest.raises(Forbidden, match=r"'reader' lacks the permission cce:chart:upload .*readonly"):
        caller.require("cce:chart:upload")


def test_a_role_in_one_project_does_not_reach_the_account():
    caller = Caller(
        user_id="1", user_name="lead", domain_id="2", domain_name="d", project_id="3", roles=frozenset({"te_admin"})
    )
    caller.require("cce:chart:upload")
    with pytest.raises(Forbidden, match=r"iam:users:createUser in the whole account"):
        caller.require_in_account("iam:users:createUser")


@pytest.mark.parametrize("action", ["iam:users:listUsers", "iam:users:getUser", "iam:credentials:listCredentials"])
def test_readonly_reads_users_and_keys_too_and_changes_none(action: str):
    assert allows(["readonly"], action)
    assert not allows(["CCE ReadOnlyAccess"], action)


@pytest.mark.parametrize(
    "action",
    [
        "iam:users:createUser",
        "iam:permissions:grantRoleToUser",
        "iam:credentials:createCredential",
        "iam:tokens:delete",
        "pilothouse:audit:read",
        "pilothouse:values:read",
        "pilothouse:logs:read",
        "cce:cluster:create",
    ],
)
def test_readonly_allows_no_change_and_no_secrets(action: str):
    assert not allows(["readonly"], action)


def test_a_policy_can_be_about_every_action_that_a_route_asks_for():
    asked = {route.action for route in TABLE.values() if ":" in route.action}
    assert asked - set(ACTIONS) == set()


#: What is done in a cluster: policies can ask for the cluster and the namespace of these.
IN_A_CLUSTER = ("cce:cluster:", "cce:operation:", "cce:release:", "pilothouse:logs:", "pilothouse:values:")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_said_to_be_in_a_cluster_or_in_none(action: str):
    assert action.startswith(IN_A_CLUSTER) != action.startswith(_IN_NO_CLUSTER)


def test_the_page_of_policies_lists_every_action():
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
    listed = page.partition("\n## Actions\n")[2].partition("\n## ")[0]
    named = {
        f"{found[1]}:{verb}"
        for found in re.finditer(r"^\| `([a-z]+:[a-z]+)` \| ([^|]+) \|", listed, re.MULTILINE)
        for verb in re.findall(r"`(\w+)`", found[2])
    }

    assert named == set(ACTIONS)
