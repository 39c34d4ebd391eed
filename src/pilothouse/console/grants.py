"""Forms that grant a role: what each allows in a line, and the question before the widest."""

from typing import Final

from pilothouse.auth.policy import ADMINISTRATOR
from pilothouse.console.forms import Fields
from pilothouse.errors import InvalidRequest

#: What each role allows, from the smallest on.
ROLES: Final[dict[str, str]] = {
    "CCE ReadOnlyAccess": "sees clusters, charts, releases and operations; no values, no logs",
    "readonly": "sees the same, and users and groups if granted in the whole account; no values, no logs",
    "CCE FullAccess": "sees and changes clusters, charts and releases, with values and logs; no users",
    "CCE Administrator": "the same as CCE FullAccess",
    ADMINISTRATOR: "may do everything; granted in the whole account also to users, roles and keys, and reads the audit",
}
#: Stands for the whole account: nothing chosen must not mean it.
ACCOUNT: Final = "account"


def read_grant(fields: Fields) -> tuple[str, str | None]:
    """Return the role and the project, None for the whole account; InvalidRequest for what was not chosen."""
    role, where = fields.get("role", ""), fields.get("project", "")
    if not role:
        raise InvalidRequest("role: choose one")
    if not where:
        raise InvalidRequest("project: choose where the role counts, in a project or in the whole account")
    if role == ADMINISTRATOR and where == ACCOUNT and "sure" not in fields:
        raise InvalidRequest(
            f"sure: {ADMINISTRATOR} in the whole account may do everything, to users and other administrators too; "
            "tick the box if that is meant"
        )
    return role, None if where == ACCOUNT else where
