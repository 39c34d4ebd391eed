"""Permissions of roles, as the vendor's action names: ``service:resource:verb``, for example ``cce:release:create``.

A role is a list of patterns and allows every action that one of them matches; roles only add rights, none denies any.
Two actions have an older name as an alias: whoever may do one may do the other.

Source: CCE user guide, "Permissions"; CCE API reference, "Permissions and Supported Actions".
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

#: What the vendor calls Tenant Administrator: everything, the account's users and projects included.
ADMINISTRATOR: Final = "te_admin"
#: To be shown what the values of releases hold; without it only the names are shown. Not one of the vendor's actions.
READ_VALUES: Final = "pilothouse:values:read"

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    ADMINISTRATOR: ("*:*:*",),
    # IAM names what it reads in the verb: listUsers, getUser.
    "readonly": ("*:*:get*", "*:*:list*"),
    "CCE Administrator": ("cce:*:*", READ_VALUES),
    "CCE FullAccess": ("cce:*:*", READ_VALUES),
    "CCE ReadOnlyAccess": ("cce:*:get", "cce:*:list"),
}

#: An action, and the name under which older roles and policies allow it.
_ALIASES: Final[Mapping[str, str]] = {
    "cce:chart:download": "cce:chart:get",
    "cce:chart:getQuota": "cce:chart:list",
}


def allows(roles: Iterable[str], action: str) -> bool:
    """Return True if one of the roles covers the action or its alias; an unknown role allows nothing."""
    return _allows(frozenset(roles), action)


@lru_cache(maxsize=4096)
def _allows(roles: frozenset[str], action: str) -> bool:
    names = {action, _ALIASES.get(action, action)}
    return any(_covers(pattern, name) for role in roles for pattern in ROLES.get(role, ()) for name in names)


def _covers(pattern: str, action: str) -> bool:
    wanted, given = pattern.split(":"), action.split(":")
    return len(wanted) == len(given) and all(map(_matches, wanted, given))


def _matches(wanted: str, given: str) -> bool:
    return given.startswith(wanted[:-1]) if wanted.endswith("*") else given == wanted
