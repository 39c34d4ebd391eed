"""What a form that was kept through a log-in would do, in words: its action, what it is for, and its fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from pilothouse.console.faults import LABELS
from pilothouse.console.plan_words import CRDS, MODES, OPTIONS, WAITS
from pilothouse.console.texts import Texts, gettext, gettext_noop, ngettext
from pilothouse.console.words import INTERVALS, VERIFICATIONS
from pilothouse.http.middleware.session import CONSOLE
from pilothouse.states import Action

_RELEASE: Final = "/releases/{cluster}/{namespace}/{name}"
_USER: Final = "/access/users/{user}"
_GROUP: Final = "/access/groups/{group}"
_POLICY: Final = "/access/policies/{policy}"
#: By the route that it is sent to, and what its button says if that has several.
_ACTIONS: Final = Texts({
    "/access/groups": gettext_noop("Add a group"),
    f"{_GROUP}/delete": gettext_noop("Delete a group"),
    f"{_GROUP}/roles": gettext_noop("Grant a role to a group"),
    f"{_GROUP}/roles/withdraw": gettext_noop("Withdraw a role of a group"),
    "/access/policies": gettext_noop("Add a policy"),
    f"{_POLICY}/attachments": gettext_noop("Attach a policy"),
    f"{_POLICY}/attachments/remove": gettext_noop("Detach a policy"),
    f"{_POLICY}/delete": gettext_noop("Delete a policy"),
    f"{_POLICY}/document": gettext_noop("Change a policy"),
    "/access/users": gettext_noop("Add a user"),
    f"{_USER}/delete": gettext_noop("Delete a user"),
    f"{_USER}/roles": gettext_noop("Grant a role to a user"),
    f"{_USER}/roles/withdraw": gettext_noop("Withdraw a role of a user"),
    f"{_USER}/state": gettext_noop("Enable or disable a user"),
    f"{_USER}/state?disable": gettext_noop("Disable a user"),
    f"{_USER}/state?enable": gettext_noop("Enable a user"),
    "/charts": gettext_noop("Upload a chart"),
    "/clusters": gettext_noop("Add a cluster"),
    "/clusters/{cluster}/drift": gettext_noop("Set how often a cluster is looked at for drift"),
    "/clusters/{cluster}/kubeconfig": gettext_noop("Replace the kubeconfig of a cluster"),
    "/clusters/{cluster}/remove": gettext_noop("Remove a cluster"),
    "/clusters/{cluster}/wall": gettext_noop("Set or change the wall of a cluster"),
    "/clusters/{cluster}/wall/remove": gettext_noop("Remove the wall of a cluster"),
    "/install": gettext_noop("Plan an install"),
    "/operations/{operation}/cancel": gettext_noop("Cancel an operation"),
    "/plans/{plan}/apply": gettext_noop("Apply a plan"),
    f"{_RELEASE}/change": gettext_noop("Plan a change"),
    f"{_RELEASE}/rollback": gettext_noop("Roll back"),
    f"{_RELEASE}/uninstall": gettext_noop("Uninstall"),
    f"{_RELEASE}/unlock": gettext_noop("Unlock"),
    "/releases/bulk": gettext_noop("Change several releases"),
    f"/releases/bulk?{Action.ROLLBACK}": gettext_noop("Roll back several releases"),
    f"/releases/bulk?{Action.UPGRADE}": gettext_noop("Upgrade several releases"),
    f"/releases/bulk?{Action.UNINSTALL}": gettext_noop("Uninstall several releases"),
    "/sources": gettext_noop("Add a source"),
    "/sources/{source}/change": gettext_noop("Change a source"),
    "/sources/{source}/delete": gettext_noop("Remove a source"),
    "/sources/{source}/sync": gettext_noop("Synchronise a source"),
    "/verification/keys": gettext_noop("Change whose signatures count"),
    "/verification/policy": gettext_noop("Change which charts are taken"),
})  # fmt: skip
#: Of a person, below the page of the account or of a user.
_OF_PERSON: Final = Texts({
    "/keys": gettext_noop("Make an access key"),
    "/keys/change": gettext_noop("Change an access key"),
    "/keys/change?delete": gettext_noop("Delete an access key"),
    "/keys/change?disable": gettext_noop("Disable an access key"),
    "/keys/change?enable": gettext_noop("Enable an access key"),
    "/password": gettext_noop("Set another password"),
    "/sessions/end": gettext_noop("End a session"),
    "/sessions/end-all": gettext_noop("End all sessions"),
    "/tokens/end": gettext_noop("End a token"),
})  # fmt: skip
#: Things that are named by an id, which says little by itself.
_BY_ID: Final = Texts({
    "group": gettext_noop("group %(id)s"),
    "operation": gettext_noop("operation %(id)s"),
    "plan": gettext_noop("plan %(id)s"),
    "policy": gettext_noop("policy %(id)s"),
    "user": gettext_noop("user %(id)s"),
})  # fmt: skip
_FIELDS: Final = Texts({
    "end_keys": gettext_noop("Disable the access keys too"),
    "hooks": gettext_noop("Run hooks"),
    "keep": gettext_noop("Keep what is installed so far"),
    "key": gettext_noop("Access key"),
    "no_ca": gettext_noop("Only what the system trusts from now on"),
    "no_credentials": gettext_noop("No user name and password any more"),
    "plan": gettext_noop("Only plan it"),
    "releases": gettext_noop("Releases"),
    "session": gettext_noop("Session"),
    "show": gettext_noop("Only show what would change"),
})  # fmt: skip
#: What a choice says by itself, and what is said of it instead.
_CHOICES: Final[Mapping[str, Texts]] = {
    "crds": CRDS,
    "mode": MODES,
    "often": Texts({**INTERVALS, "default": gettext_noop("as the server says")}),
    "project": Texts({"account": gettext_noop("the whole account")}),
    "sync_seconds": INTERVALS,
    "take": Texts({
        "all": gettext_noop("all charts"),
        "verified": gettext_noop("verified charts only"),
    }),
    "verification": VERIFICATIONS,
    "wait": WAITS,
}  # fmt: skip
_CHOSEN: Final = re.compile(r"([^/@\s]+)/([^/@\s]+)/([^/@\s]+)(?:@\S*)?")
#: What only the page knows, and says nothing to people.
_HIDDEN: Final = frozenset({"once", "seen", "shown", "shown_sync_seconds", "shown_username", "digest", "csrf"})
#: What no page shows.
_SECRET: Final = frozenset({"kubeconfig", "token"})
#: What is not undone, by the last part of the path or what the button says.
_DESTROYS: Final = frozenset({"delete", "disable", "end-all", "remove", Action.UNINSTALL.value, "unlock"})
#: Where the form stands that is sent to a route, if neither there nor on the page of what the route is of.
_PAGES: Final = {
    "/access/groups": "/access/groups",
    "/access/policies": "/access/policies",
    "/clusters": "/clusters/new",
    "/releases/bulk": "/releases",
}
_ADDRESS: Final = re.compile(rf"{CONSOLE}(?:/p/(?P<project>[^/]+))?(?P<rest>/.+)")


@dataclass(frozen=True)
class Told:
    """What a form does, for what and in which project; ``destroys``: what it does is not undone.

    ``page``: the address of the page that it stands on.
    """

    action: str
    place: str
    project: str
    destroys: bool
    page: str


def tell_form(path: str, kept: Mapping[str, str]) -> Told:
    """Return what a form with these fields does when it is sent there; what is not known is told by its path."""
    whole = path.partition("?")[0]
    found = _ADDRESS.fullmatch(whole)
    rest, project = (found["rest"], unquote(found["project"] or "")) if found is not None else (whole, "")
    do = kept.get("do", "")
    sure = "confirm" in kept or not {rest.rpartition("/")[2], do}.isdisjoint(_DESTROYS)
    destroys = sure and "plan" not in kept
    for route, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(rest):
            action = _find_action(f"{route}?{do}") or _find_action(route)
            page = _find_page(route, rest)
            address = path if page == rest else f"{whole.removesuffix(rest)}{page}"
            return Told(action, _tell_place(route, match.groupdict()), project, destroys, address)
    return Told(gettext("Send the form"), unquote(whole), project, destroys, path)


def _find_action(route: str) -> str:
    for page in ("/account", _USER):
        if found := _OF_PERSON.get(route.removeprefix(page)):
            return found
    return _ACTIONS.get(route, "")


def _find_page(route: str, rest: str) -> str:
    if route.startswith((_RELEASE, "/operations/")):
        return rest
    last = max((at for at, part in enumerate(route.split("/")) if part.startswith("{")), default=1)
    return _PAGES.get(route) or "/".join(rest.split("/")[: last + 1])


def _tell_place(route: str, names: Mapping[str, str]) -> str:
    if route.startswith("/account/"):
        return gettext("your account")
    return " / ".join(
        _BY_ID[kind] % {"id": unquote(name)} if kind in _BY_ID else unquote(name) for kind, name in names.items()
    )


#: What a button says, where that is in the name of the action.
_TOLD: Final = frozenset(f"?{route.partition('?')[2]}" for route in (*_ACTIONS, *_OF_PERSON) if "?" in route)


def _compile(route: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{([a-z]+)\}", r"(?P<\1>[^/]+)", route))


_PATTERNS: Final = {
    route: _compile(route)
    for route in (*_ACTIONS, *(f"{page}{route_end}" for page in ("/account", _USER) for route_end in _OF_PERSON))
    if "?" not in route
}


def tell_kept(kept: Mapping[str, str], names: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the fields of the form by their labels, those first that have been filled in.

    ``names``: what the fields that hold an id name by it.
    """
    found = {name: value for name, value in kept.items() if name not in _HIDDEN and value}
    if f"?{found.get('do', '')}" in _TOLD:
        del found["do"]
    return [(_label(name), (names or {}).get(name) or _tell_value(name, value)) for name, value in found.items()]


def _tell_value(name: str, value: str) -> str:
    """Return a value as the form says it, and of a secret its length."""
    if name in _SECRET or "password" in name:
        return ngettext("not shown (%(num)s character)", "not shown (%(num)s characters)", len(value))
    if name in _CHOICES and value in _CHOICES[name]:
        return _CHOICES[name][value]
    if name == "releases" and (places := _CHOSEN.findall(value)):
        return "\n".join(" / ".join(place) for place in places)
    return gettext("yes") if value == "yes" else value.replace("\r\n", "\n")


def _label(name: str) -> str:
    return LABELS.get(name) or OPTIONS.get(name) or _FIELDS.get(name) or name.replace("_", " ")
