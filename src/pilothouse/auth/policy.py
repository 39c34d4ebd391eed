"""Permissions as the vendor's action names: ``service:resource:verb``, for example ``cce:release:create``.

A role is a policy of ours; custom ones are in the same form (``auth.policy_documents``) and may deny. Two actions have
an older name as an alias: whoever may do one may do the other.

Source: CCE user guide, "Permissions"; CCE API reference, "Permissions and Supported Actions".
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from pilothouse.auth.policy_documents import CLUSTER_ID, NAMESPACE, Document, Statement, Values, decide, read
from pilothouse.errors import InvalidRequest

#: What the vendor calls Tenant Administrator: everything, the account's users and projects included.
ADMINISTRATOR: Final = "te_admin"
#: To be shown what the values of releases hold; without it only the names are shown. Not one of the vendor's actions.
READ_VALUES: Final = "pilothouse:values:read"
#: To be shown the logs of a release's containers, which hold whatever its programs write; not the vendor's either.
READ_LOGS: Final = "pilothouse:logs:read"

_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    ADMINISTRATOR: ("*:*:*",),
    # IAM names what it reads in the verb: listUsers, getUser.
    "readonly": ("*:*:get*", "*:*:list*"),
    "CCE Administrator": ("cce:*:*", READ_VALUES, READ_LOGS),
    "CCE FullAccess": ("cce:*:*", READ_VALUES, READ_LOGS),
    "CCE ReadOnlyAccess": ("cce:*:get", "cce:*:list"),
}


def role_documents() -> dict[str, dict[str, Any]]:
    """Return the roles as documents in the vendor's form."""
    return {
        name: {"Version": "5.0", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": ["*"]}]}
        for name, actions in _ALLOWED.items()
    }


ROLES: Final[Mapping[str, Document]] = {name: read(json.dumps(document)) for name, document in role_documents().items()}

_CLOSED: Final = Document("5.0", (Statement(allows=False, actions=("*",), clusters=()),))
#: An action, and the name under which older roles and policies allow it.
_ALIASES: Final[Mapping[str, str]] = {
    "cce:chart:download": "cce:chart:get",
    "cce:chart:getQuota": "cce:chart:list",
}
#: What a policy can be about.
ACTIONS: Final = (
    *("cce:chart:delete", "cce:chart:download", "cce:chart:get", "cce:chart:getQuota", "cce:chart:list"),
    *("cce:chart:update", "cce:chart:upload"),
    *("cce:cluster:create", "cce:cluster:delete", "cce:cluster:get", "cce:cluster:list", "cce:cluster:update"),
    *("cce:operation:get", "cce:operation:list"),
    *("cce:release:create", "cce:release:delete", "cce:release:get", "cce:release:list", "cce:release:update"),
    *("iam:credentials:createCredential", "iam:credentials:deleteCredential", "iam:credentials:getCredential"),
    *("iam:credentials:listCredentials", "iam:credentials:updateCredential"),
    *("iam:groups:createGroup", "iam:groups:deleteGroup", "iam:groups:getGroup", "iam:groups:listGroups"),
    *("iam:permissions:grantRoleToGroup", "iam:permissions:grantRoleToUser"),
    *("iam:permissions:revokeRoleFromGroup", "iam:permissions:revokeRoleFromUser"),
    *("iam:policies:attach", "iam:policies:create", "iam:policies:delete", "iam:policies:detach"),
    *("iam:policies:get", "iam:policies:list", "iam:policies:update"),
    *("iam:projects:createProject", "iam:projects:deleteProject", "iam:projects:updateProject"),
    *("iam:sessions:delete", "iam:sessions:list", "iam:tokens:delete", "iam:tokens:get", "iam:tokens:list"),
    *("iam:users:createUser", "iam:users:deleteUser", "iam:users:getUser", "iam:users:listUsers"),
    "iam:users:updateUser",
    *("cce:source:create", "cce:source:delete", "cce:source:get", "cce:source:list", "cce:source:push"),
    *("cce:source:sync", "cce:source:update", "cce:verification:get", "cce:verification:update"),
    *("cce:webhook:create", "cce:webhook:delete", "cce:webhook:get", "cce:webhook:list", "cce:webhook:update"),
    *("pilothouse:audit:read", "pilothouse:status:get", READ_LOGS, READ_VALUES, "pilothouse:wall:update"),
)
#: Resources that are in no cluster: what a condition asks of one has no value there.
_IN_NO_CLUSTER: Final = (
    *("cce:chart:", "cce:source:", "cce:verification:", "cce:webhook:"),
    *("iam:", "pilothouse:audit:", "pilothouse:status:", "pilothouse:wall:"),
)


def allows(
    roles: Iterable[str],
    action: str,
    *,
    policies: Iterable[str] = (),
    known: Values | None = None,
    possibly: bool = False,
) -> bool:
    """Return True if roles and policies allow the action, under its name or its alias; an unknown role allows nothing.

    ``policies`` are the texts of documents, and ``known`` what is known of where; with ``possibly`` what is not known
    counts in the caller's favour.
    """
    documents = tuple(policies)
    if not documents:
        return _roles_allow(frozenset(roles), action)
    held = [ROLES[role] for role in roles if role in ROLES]
    where = dict(known or {})
    if action.startswith(_IN_NO_CLUSTER):
        where |= {CLUSTER_ID: None, NAMESPACE: None}
    return decide([*held, *map(_stored, documents)], _names(action), where, unknown_counts=possibly)


def _stored(text: str) -> Document:
    """Return the document that was stored; one that is damaged denies everything."""
    try:
        return read(text)
    except InvalidRequest:
        return _CLOSED


@lru_cache(maxsize=4096)
def _roles_allow(roles: frozenset[str], action: str) -> bool:
    return decide([ROLES[role] for role in roles if role in ROLES], _names(action), {}, unknown_counts=False)


def _names(action: str) -> tuple[str, ...]:
    return tuple({action, _ALIASES.get(action, action)})
