"""Forms that grant a role: what each allows in a line, and the question before the widest."""

from typing import Final

from pilothouse.auth.policy import ADMINISTRATOR
from pilothouse.console.forms import Fields
from pilothouse.console.requests import wrong
from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.console.value_forms import require
from pilothouse.errors import Checks

#: What each role allows, from the smallest on.
ROLES: Final = Texts({
    "CCE ReadOnlyAccess": gettext_noop("sees clusters, charts, releases and operations; no values, no logs"),
    "readonly": gettext_noop(
        "as CCE ReadOnlyAccess; granted in the whole account also users and groups"
    ),
    "CCE FullAccess": gettext_noop(
        "sees and changes clusters, charts and releases, with values and logs; no users"
    ),
    "CCE Administrator": gettext_noop("as CCE FullAccess"),
    ADMINISTRATOR: gettext_noop(
        "may do everything; granted in the whole account also to users, roles and keys, and reads the audit"
    ),
})  # fmt: skip
#: Stands for the whole account: nothing chosen must not mean it.
ACCOUNT: Final = "account"


def read_grant(fields: Fields) -> tuple[str, str | None]:
    """Return the role and the project, None for the whole account; InvalidRequest for what was not chosen."""
    checks, elsewhere = Checks(), gettext("choose where the role counts, in a project or in the whole account")
    role = checks.read(lambda: require(fields, "role", gettext("choose one"))) or ""
    where = checks.read(lambda: require(fields, "project", elsewhere)) or ""
    checks.end()
    if role == ADMINISTRATOR and where == ACCOUNT and "sure" not in fields:
        meaning = gettext(
            "%(role)s in the whole account may do everything, to users and other administrators too; "
            "tick the box if that is meant",
            role=ADMINISTRATOR,
        )
        raise wrong("sure", meaning)
    return role, None if where == ACCOUNT else where
