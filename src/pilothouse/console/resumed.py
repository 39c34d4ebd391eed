"""What a form that was kept through a log-in would do, in words: its action, what it is for, and its fields."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from pilothouse.console.faults import LABELS
from pilothouse.console.plan_words import OPTIONS
from pilothouse.console.texts import Texts, gettext, gettext_noop
from pilothouse.states import Action

#: By the last part of the path that it was sent to.
_ACTIONS: Final = Texts({
    "apply": gettext_noop("Apply a plan"),
    "attachments": gettext_noop("Attach a policy"),
    "bulk": gettext_noop("Change several releases"),
    "cancel": gettext_noop("Cancel an operation"),
    "change": gettext_noop("Plan a change"),
    "clusters": gettext_noop("Add a cluster"),
    "delete": gettext_noop("Delete"),
    "document": gettext_noop("Change a policy"),
    "groups": gettext_noop("Add a group"),
    Action.INSTALL: gettext_noop("Plan an install"),
    "keys": gettext_noop("Keys"),
    "policies": gettext_noop("Add a policy"),
    "remove": gettext_noop("Remove"),
    "roles": gettext_noop("Grant a role"),
    Action.ROLLBACK: gettext_noop("Roll back"),
    "sources": gettext_noop("Add a source"),
    "state": gettext_noop("Enable or disable a user"),
    "sync": gettext_noop("Synchronise a source"),
    Action.UNINSTALL: gettext_noop("Uninstall"),
    "unlock": gettext_noop("Unlock"),
    "users": gettext_noop("Add a user"),
    "wall": gettext_noop("Change a wall"),
    "withdraw": gettext_noop("Withdraw a role"),
})  # fmt: skip
_FIELDS: Final = Texts({
    "hooks": gettext_noop("Run hooks"),
    "keep": gettext_noop("Keep what is installed so far"),
    "plan": gettext_noop("Only plan it"),
    "releases": gettext_noop("Releases"),
})  # fmt: skip
#: What only the page knows, and says nothing to people.
_HIDDEN: Final = frozenset({"once", "seen", "shown", "digest", "csrf"})
#: The parts of an address that name one thing, and how many names it has.
_NAMES: Final = {"releases": 3, "clusters": 1, "sources": 1}


def tell_action(path: str) -> str:
    """Return what a form sent there does."""
    last = path.partition("?")[0].rpartition("/")[2]
    return _ACTIONS.get(last) or gettext("Send the form")


def tell_place(path: str) -> str:
    """Return the release, cluster or source that the path is of; empty for others."""
    parts = [unquote(one) for one in path.partition("?")[0].split("/")]
    for kind, count in _NAMES.items():
        if kind in parts and len(parts) > parts.index(kind) + count + 1:
            at = parts.index(kind) + 1
            return " / ".join(parts[at : at + count])
    return ""


def tell_kept(kept: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the fields of the form by their labels, those first that have been filled in."""
    told = [(_label(name), value) for name, value in kept.items() if name not in _HIDDEN and value]
    return [(name, gettext("yes") if value == "yes" else value) for name, value in told]


def _label(name: str) -> str:
    return LABELS.get(name) or OPTIONS.get(name) or _FIELDS.get(name) or name.replace("_", " ")
