"""Policies in the vendor's form: a table of who may do what where, and what is refused when it is stored."""

import json
import time
from typing import Any

import pytest

from pilothouse.auth.policy import ACTIONS, ROLES, allows
from pilothouse.auth.policy_documents import LONGEST, check_actions, read
from pilothouse.errors import InvalidRequest

HERE, THERE = "0b1c", "ffff"


def policy(*statements: dict[str, Any], version: str = "5.0") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), **more}


def deny(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": list(actions), **more}


def when(operator: str, key: str, *values: str) -> dict[str, Any]:
    return {"Condition": {operator: {key: list(values)}}}


def place(cluster: str | None = HERE, namespace: str | None = "shop", project: str = "p") -> dict[str, str | None]:
    return {"cce:ClusterId": cluster, "pilothouse:Namespace": namespace, "g:ProjectName": project}


IN_HERE = when("StringEquals", "cce:ClusterId", HERE)
IN_SHOP = when("StringLike", "pilothouse:Namespace", "shop", "shop-*")
NOT_HERE = when("StringNotEquals", "cce:ClusterId", HERE)

#: Roles, policies, action, place, and whether that is allowed.
TABLE: list[tuple[str, list[str], list[str], str, dict[str, str | None], bool]] = [
    ("nothing allows nothing", [], [policy(deny("cce:node:x"))], "cce:release:get", place(), False),
    ("an action", [], [policy(allow("cce:release:get"))], "cce:release:get", place(), True),
    ("another action", [], [policy(allow("cce:release:get"))], "cce:release:list", place(), False),
    ("an asterisk for a part", [], [policy(allow("cce:*:get"))], "cce:cluster:get", place(), True),
    ("one for the end of a part", [], [policy(allow("iam:users:list*"))], "iam:users:listUsers", place(), True),
    ("one for what follows", [], [policy(allow("cce:*"))], "cce:chart:upload", place(), True),
    ("one for everything", [], [policy(allow("*"))], "iam:users:createUser", place(), True),
    ("one is no part too many", [], [policy(allow("cce:*:*"))], "iam:users:getUser", place(), False),
    ("an alias", [], [policy(allow("cce:chart:get"))], "cce:chart:download", place(), True),
    ("Deny of an alias", ["te_admin"], [policy(deny("cce:chart:get"))], "cce:chart:download", place(), False),
    ("Deny beats a role", ["te_admin"], [policy(deny("cce:release:delete"))], "cce:release:delete", place(), False),
    ("and only that", ["te_admin"], [policy(deny("cce:release:delete"))], "cce:release:update", place(), True),
    ("Deny beats Allow beside it", [], [policy(allow("*"), deny("cce:*"))], "cce:release:get", place(), False),
    ("Deny beats Allow elsewhere", [], [policy(deny("cce:*")), policy(allow("*"))], "cce:release:get", place(), False),
    ("a role adds to a policy", ["readonly"], [policy(allow("cce:chart:*"))], "cce:release:get", place(), True),
    ("an unknown role adds nothing", ["root"], [policy(allow("cce:chart:*"))], "cce:release:get", place(), False),
    ("in the cluster", [], [policy(allow("cce:*", **IN_HERE))], "cce:release:create", place(), True),
    ("in another", [], [policy(allow("cce:*", **IN_HERE))], "cce:release:create", place(THERE), False),
    ("a chart is in none", [], [policy(allow("cce:*", **IN_HERE))], "cce:chart:upload", {}, False),
    ("Deny but in the cluster", ["te_admin"], [policy(deny("cce:*", **NOT_HERE))], "cce:release:get", place(), True),
    ("which denies others", ["te_admin"], [policy(deny("cce:*", **NOT_HERE))], "cce:release:get", place(THERE), False),
    ("and what is in none", ["te_admin"], [policy(deny("cce:*", **NOT_HERE))], "cce:chart:get", {}, False),
    (
        "unless it says if",
        ["te_admin"],
        [policy(deny("cce:*", **when("StringNotEqualsIfExists", "cce:ClusterId", HERE)))],
        "cce:chart:get",
        {},
        False,
    ),
    (
        "Allow where there is one, or none",
        [],
        [policy(allow("cce:*", **when("StringEqualsIfExists", "cce:ClusterId", HERE)))],
        "cce:chart:get",
        {},
        True,
    ),
    ("in the namespace", [], [policy(allow("cce:*", **IN_SHOP))], "cce:release:create", place(), True),
    ("by a pattern", [], [policy(allow("cce:*", **IN_SHOP))], "cce:release:create", place(namespace="shop-7"), True),
    ("not in another", [], [policy(allow("cce:*", **IN_SHOP))], "cce:release:create", place(namespace="sho"), False),
    (
        "all conditions together",
        [],
        [policy(allow("cce:*", Condition={**IN_HERE["Condition"], **IN_SHOP["Condition"]}))],
        "cce:release:get",
        place(THERE),
        False,
    ),
    (
        "a project by name",
        [],
        [policy(allow("cce:*", **when("StringStartWith", "g:ProjectName", "cn-")))],
        "cce:chart:get",
        place(project="cn-north-4"),
        True,
    ),
    (
        "its end",
        [],
        [policy(allow("cce:*", **when("StringEndWith", "g:ProjectName", "-4")), version="1.1")],
        "cce:chart:get",
        place(project="cn-north-5"),
        False,
    ),
    (
        "in any letters",
        [],
        [policy(allow("cce:*", **when("StringEqualsIgnoreCase", "g:ProjectName", "SHOP")))],
        "cce:chart:get",
        place(project="shop"),
        True,
    ),
    (
        "a resource",
        [],
        [policy(allow("cce:*", Resource=[f"cce:*:*:cluster:{HERE}"]))],
        "cce:release:get",
        place(),
        True,
    ),
    (
        "another resource",
        [],
        [policy(allow("cce:*", Resource=[f"cce:*:*:cluster:{HERE}"]))],
        "cce:release:get",
        place(THERE),
        False,
    ),
    ("every resource", [], [policy(allow("cce:*", Resource=["*"]))], "cce:release:get", place(THERE), True),
    ("1.1 as 5.0", [], [policy(allow("cce:*:*"), version="1.1")], "cce:release:get", place(), True),
]


@pytest.mark.parametrize(
    ("roles", "policies", "action", "known", "allowed"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_decision(roles: list[str], policies: list[str], action: str, known: dict[str, str | None], allowed: bool):  # noqa: FBT001
    assert allows(roles, action, policies=policies, known=known) is allowed
    assert allows(roles, action, policies=policies, known=known, possibly=True) is allowed, "where all is known"


def test_what_is_not_known_counts_against_the_caller_or_for_it():
    for statement, roles, surely, possibly in (
        (allow("cce:*", **IN_HERE), [], False, True),
        (deny("cce:*", **IN_HERE), ["te_admin"], False, True),
        (deny("cce:*"), ["te_admin"], False, False),
        (allow("cce:*"), [], True, True),
        (allow("iam:*", **IN_HERE), [], False, False),
        (allow("cce:*", Resource="cce:::cluster:0b*"), [], False, True),
    ):
        for is_possible, right in ((False, surely), (True, possibly)):
            found = allows(roles, "cce:release:create", policies=[policy(statement)], possibly=is_possible)
            assert found is right, (statement, is_possible)
    partly = [policy(allow("cce:*", Condition={**IN_HERE["Condition"], **IN_SHOP["Condition"]}))]
    there = {"cce:ClusterId": THERE}
    assert not allows([], "cce:release:get", policies=partly, known=there, possibly=True), "one that fails is enough"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_policy_that_says_nothing_of_it_changes_nothing_of_a_role(role: str, action: str):
    assert allows([role], action, policies=[policy(deny("cce:node:x"))]) is allows([role], action)


REFUSED: list[tuple[Any, str]] = [
    ("{", "no JSON"),
    ("[" * 6000, "no JSON"),
    ("[]", "document: must be an object"),
    ({"Version": "5.0", "Statement": [allow("a:b:c")], "Id": "x"}, "document: 'Id' is not understood"),
    ({"Version": "4.0", "Statement": []}, "Version: '4.0' is not one of 1.1, 5.0"),
    ({"Statement": [allow("a:b:c")]}, "Version: 'None'"),
    ({"Version": "5.0", "Statement": []}, "1 to 100 statements"),
    ({"Version": "5.0"}, "Statement.0.: must be an object"),
    ({"Version": "5.0", "Statement": [{**allow("a:b:c"), "Principal": "*"}]}, "Statement.0.: 'Principal' is not"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", NotAction=["a"])]}, "'NotAction' is not understood"),
    ({"Version": "1.1", "Statement": [allow("a:b:c", Sid="x")]}, "'Sid' is not understood"),
    ({"Version": "5.0", "Statement": [allow("a:b:c"), {"Effect": "allow"}]}, "Statement.1..Effect: 'allow' is not"),
    ({"Version": "5.0", "Statement": [allow("release:create x")]}, "Action: 'release:create x' is no action"),
    ({"Version": "5.0", "Statement": [allow()]}, "Action: must be a text or a list"),
    ({"Version": "5.0", "Statement": [allow("a:b:c:d")]}, "'a:b:c:d' is no action"),
    (
        {"Version": "5.0", "Statement": [allow("a:b:c", Resource=["cce:*:*:node:1"])]},
        "Resource: 'cce:.*:node:1' is nei",
    ),
    ({"Version": "5.0", "Statement": [allow("a:b:c", **when("IpAddress", "g:SourceIp", "x"))]}, "'IpAddress' is not"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", **when("StringEquals", "g:MFA", "x"))]}, "'g:MFA' is not one of"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", Condition=[])]}, "Condition: must be an object"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", **when("StringEquals", "cce:ClusterId"))]}, "must be a text or a"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", Condition={"StringEquals": {"g:ProjectName": [1]}})]}, "a text"),
    ({"Version": "5.0", "Statement": [allow("a:b:c", **when("StringLike", "g:ProjectName", "a?"))]}, "'.' is not und"),
    ({"Version": "5.0", "Statement": [allow("a:b:c")] * 101}, "characters|1 to 100"),
    ({"Version": "5.0", "Statement": [allow(*["a:b:c"] * 101)]}, "101 values; 100 at most"),
    ({"Version": "5.0", "Statement": [allow("a" * 7000)]}, f"a policy has {LONGEST} at most"),
]


@pytest.mark.parametrize(("document", "why"), REFUSED)
def test_what_is_not_understood_is_refused_by_name(document: Any, why: str):
    with pytest.raises(InvalidRequest, match=why):
        read(document if isinstance(document, str) else json.dumps(document))


def test_an_action_that_this_server_does_not_have_is_refused_by_name():
    for pattern in ("cce:node:create", "ecs:*:*", "cce:release:remove"):
        with pytest.raises(InvalidRequest, match=r"Statement\[0\].Action: .* matches no action of this server"):
            check_actions(read(policy(deny(pattern))), ACTIONS)
    check_actions(read(policy(allow("cce:*"), deny("*:*:delete*"))), ACTIONS)


def test_a_pattern_takes_time_linear_to_its_length():
    slow = [policy(allow("cce:*", **when("StringLike", "pilothouse:Namespace", "*a" * 120 + "b")))]
    began = time.monotonic()
    assert not allows([], "cce:release:get", policies=slow, known=place(namespace="a" * 5000))
    assert time.monotonic() - began < 5, "exponential time would be years"


def test_a_document_that_was_damaged_closes_everything():
    for damaged in ("", "{", "[]", policy(allow("*"))[:-1]):
        assert not allows(["te_admin"], "cce:release:get", policies=[damaged], known=place())
