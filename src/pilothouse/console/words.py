"""The words of the console for states, each with the tone and the icon that go with it: never a colour alone."""

import re
from dataclasses import dataclass, replace
from typing import Final

from pilothouse import errors
from pilothouse.console.texts import Texts, gettext, gettext_noop, translate
from pilothouse.errors import PilothouseError
from pilothouse.kubernetes.health import Health
from pilothouse.services.sources.records import Source
from pilothouse.states import Action, OperationState, ReleaseStatus
from pilothouse.store.access_keys import AccessKeyRow
from pilothouse.store.users import UserRow


@dataclass(frozen=True)
class Word:
    """A word as the catalogue knows it, with its tone, which the style sheet colours, and its icon."""

    message: str
    tone: str
    icon: str

    @property
    def text(self) -> str:
        """The word in the language of the page."""
        return translate(self.message)


#: The icon that turns: an operation is at work.
_MOVES: Final = "loader"
_STATUSES: Final[dict[str, Word]] = {
    ReleaseStatus.DEPLOYED: Word("Deployed", "ok", "check"),
    ReleaseStatus.FAILED: Word("Failed", "bad", "alert"),
    ReleaseStatus.PENDING_INSTALL: Word("Installing", "busy", "loader"),
    ReleaseStatus.PENDING_UPGRADE: Word("Upgrading", "busy", "loader"),
    ReleaseStatus.PENDING_ROLLBACK: Word("Rolling back", "busy", "loader"),
    ReleaseStatus.UNINSTALLING: Word("Uninstalling", "busy", "loader"),
    ReleaseStatus.UNINSTALLED: Word("Uninstalled", "idle", "circle"),
    ReleaseStatus.SUPERSEDED: Word("Superseded", "idle", "circle"),
    ReleaseStatus.UNKNOWN: Word("Unknown", "idle", "help"),
}
#: In this order, the states that a list can be filtered by.
LISTED: Final = (
    *(ReleaseStatus.FAILED, ReleaseStatus.PENDING_INSTALL, ReleaseStatus.PENDING_UPGRADE),
    *(ReleaseStatus.PENDING_ROLLBACK, ReleaseStatus.UNINSTALLING, ReleaseStatus.DEPLOYED, ReleaseStatus.UNINSTALLED),
    ReleaseStatus.UNKNOWN,
)
_STATES: Final[dict[str, Word]] = {
    OperationState.QUEUED: Word("Queued", "idle", "clock"),
    OperationState.RUNNING: Word("Running", "busy", "loader"),
    OperationState.CANCELLING: Word("Cancelling", "busy", "loader"),
    OperationState.SUCCEEDED: Word("Succeeded", "ok", "check"),
    OperationState.FAILED: Word("Failed", "bad", "alert"),
    OperationState.CANCELLED: Word("Cancelled", "idle", "ban"),
}
_ACTIONS: Final = Texts({
    Action.INSTALL: gettext_noop("Install"),
    Action.UPGRADE: gettext_noop("Upgrade"),
    Action.ROLLBACK: gettext_noop("Roll back"),
    Action.UNINSTALL: gettext_noop("Uninstall"),
    Action.TEST: gettext_noop("Test"),
    "cancel": gettext_noop("Cancel"),
    "rollback_on_failure": gettext_noop("Rollback on failure"),
})  # fmt: skip
#: What is asked before an operation is cancelled, and the button for it.
CANCEL_QUESTIONS: Final = Texts({
    Action.INSTALL: gettext_noop("Cancel this install?"),
    Action.UPGRADE: gettext_noop("Cancel this upgrade?"),
    Action.ROLLBACK: gettext_noop("Cancel this rollback?"),
    Action.UNINSTALL: gettext_noop("Cancel this uninstall?"),
    Action.TEST: gettext_noop("Cancel this test?"),
})  # fmt: skip
CANCEL_ORDERS: Final = Texts({
    Action.INSTALL: gettext_noop("Cancel the install"),
    Action.UPGRADE: gettext_noop("Cancel the upgrade"),
    Action.ROLLBACK: gettext_noop("Cancel the rollback"),
    Action.UNINSTALL: gettext_noop("Cancel the uninstall"),
    Action.TEST: gettext_noop("Cancel the test"),
})  # fmt: skip
_CHANGES: Final[dict[str, Word]] = {
    "added": Word("Added", "ok", "plus"),
    "changed": Word("Changed", "busy", "pencil"),
    "removed": Word("Removed", "bad", "minus"),
    "unchanged": Word("Unchanged", "idle", "circle"),
    "put back": Word("Put back", "busy", "refresh"),
    "created again": Word("Created again", "ok", "plus"),
    "unknown": Word("Not compared", "idle", "help"),
}
_OUTCOMES: Final[dict[str, Word]] = {
    "done": Word("Done", "ok", "check"),
    "denied": Word("Denied", "bad", "ban"),
    "failed": Word("Failed", "bad", "alert"),
    "started": Word("Started", "idle", "circle"),
}
_HEALTH: Final[dict[str, Word]] = {
    Health.DEGRADED: Word("Degraded", "bad", "alert"),
    Health.MISSING: Word("Missing", "bad", "ban"),
    Health.UNKNOWN: Word("Unknown", "idle", "help"),
    Health.PROGRESSING: Word("Progressing", "busy", "clock"),
    Health.TERMINATING: Word("Terminating", "busy", "clock"),
    Health.SUSPENDED: Word("Suspended", "idle", "circle"),
    Health.HEALTHY: Word("Healthy", "ok", "check"),
}
#: How the releases of a cluster are known.
INDEXES: Final[dict[str, Word]] = {
    "watched": Word("Watched", "ok", "check"),
    "reading": Word("Being read", "busy", "loader"),
    "partly": Word("Not all readable", "busy", "alert"),
    "error": Word("Not watched", "bad", "alert"),
}
#: How often a source is synchronised, by seconds.
INTERVALS: Final = Texts({
    "3600": gettext_noop("every hour"),
    "600": gettext_noop("every ten minutes"),
    "86400": gettext_noop("every day"),
    "0": gettext_noop("only when asked to"),
})  # fmt: skip
#: How the charts of a source are verified.
VERIFICATIONS: Final = Texts({
    "none": gettext_noop("not: whoever signed them"),
    "pgp": gettext_noop("PGP: by the provenance file of each (.prov)"),
    "cosign": gettext_noop("cosign: by the signature beside each in the registry"),
})  # fmt: skip
#: What can become of a plan.
PLANS: Final[dict[str, Word]] = {
    "plan": Word("Plan", "busy", "list"),
    "applied": Word("Applied", "ok", "check"),
    "expired": Word("Expired", "idle", "clock"),
    "blocked": Word("Cannot be applied", "bad", "ban"),
    "refused": Word("Refused by the cluster", "bad", "ban"),
}
#: What a browser calls itself by, the more special one first: most claim to be the others, too.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS: Final = (
    *(("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad")),
    *(("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)
#: What an error is called, what to do about it, and whether it may go away by itself; the first that fits counts.
_ERRORS: Final[dict[type[PilothouseError], tuple[str, str, bool]]] = {
    errors.NotFound: (
        gettext_noop("There is no such thing here"),
        gettext_noop(
            "It may have been removed or renamed, or be in another project. Look for it in the lists above, or choose "
            "the project again."
        ),
        False,
    ),
    errors.Forbidden: (
        gettext_noop("You may not do this"),
        gettext_noop(
            "An administrator of the account can grant what is missing. Tell them which permission stands here, or "
            "log in as somebody who has it."
        ),
        False,
    ),
    errors.ProviderUnavailable: (
        gettext_noop("The identity provider does not answer"),
        gettext_noop("Nothing was changed. Try again in a moment."),
        True,
    ),
    errors.Busy: (
        gettext_noop("The server has too much to do"),
        gettext_noop("Nothing was changed. Try again in a moment."),
        True,
    ),
    errors.ClusterUnavailable: (
        gettext_noop("The cluster does not answer"),
        gettext_noop("Nothing was changed. The cluster's own page checks the connection. Try again when it is back."),
        True,
    ),
    errors.ClusterDenied: (
        gettext_noop("The cluster refuses Pilothouse's account"),
        gettext_noop("Its credentials can be replaced, or its rights be mended in the cluster; then try again."),
        True,
    ),
    errors.SourceDenied: (
        gettext_noop("The chart source refuses its credentials"),
        gettext_noop(
            "Nothing was changed. The source's own page takes another user name and password; then try again."
        ),
        True,
    ),
    errors.SourceUntrusted: (
        gettext_noop("The chart source's certificate is not trusted"),
        gettext_noop("Nothing was changed. The source's own page takes the authority that signed it; then try again."),
        True,
    ),
    errors.SourceUnavailable: (
        gettext_noop("The chart source does not answer"),
        gettext_noop("Nothing was changed. Try again when it is back, or look at the source's own page."),
        True,
    ),
    errors.TransactionConflict: (
        gettext_noop("Somebody changed the same thing at this moment"),
        gettext_noop("Nothing of yours was changed. Try again."),
        True,
    ),
    errors.DatabaseUnavailable: (
        gettext_noop("The server's database does not answer"),
        gettext_noop("Nothing was changed. Try again in a moment; if that does not help, tell who runs the server."),
        True,
    ),
    **dict.fromkeys(
        (
            *(errors.AlreadyExists, errors.AlreadyEnded, errors.PlanMoved, errors.ReleaseMoved),
            *(errors.ChartReplaced, errors.KeyUsed),
        ),
        (
            gettext_noop("It is not any more as it was shown"),
            gettext_noop("Nothing was changed. Look at how it is now, and begin again from there."),
            False,
        ),
    ),
    errors.HelmError: (
        gettext_noop("Helm cannot do this"),
        gettext_noop("What stands here comes from the chart, its values or the release. Mend it there, and try again."),
        False,
    ),
    errors.CorruptRelease: (
        gettext_noop("The release cannot be read"),
        gettext_noop(
            "What is stored of it in the cluster is damaged, or was not written by Helm. Mend or delete what stands "
            "here, then try again."
        ),
        True,
    ),
    errors.QuotaExceeded: (
        gettext_noop("There is no room for more"),
        gettext_noop("Remove what is not needed any more, or ask who runs the server for a larger limit."),
        False,
    ),
    **dict.fromkeys(
        (errors.InvalidRequest, errors.BodyTooLarge),
        (
            gettext_noop("This cannot be done as it was asked"),
            gettext_noop("Nothing was changed. Mend in the address or the form what stands here, and send it again."),
            False,
        ),
    ),
}
#: What to do instead about an error of a form: it may have come after the work, as when a connection breaks at the end.
_UNSURE: Final[dict[type[PilothouseError], str]] = {
    errors.TransactionConflict: "",
    errors.DatabaseUnavailable: gettext_noop(
        "It is not known whether it was done: look before you send it again. If the database stays away, tell who runs "
        "the server."
    ),
    errors.ClusterUnavailable: gettext_noop(
        "It is not known whether it was done: look when the cluster is back, before you send it again. The cluster's "
        "own page checks the connection."
    ),
}
_OTHER_UNSURE: Final = gettext_noop(
    "It is no fault of yours. It is not known whether it was done: look before you send it again. If it stays, give "
    "the request below to who runs the server."
)
_OTHER_ERROR: Final = (
    gettext_noop("The server failed"),
    gettext_noop("It is no fault of yours. Try again; if it stays, give the request below to who runs the server."),
    True,
)
_GO_VALUE: Final = re.compile(r"&value\.valueUnstructured\{Value:([^{}]*)\}")
_DRIFTS: Final[dict[str, Word]] = {
    "drifted": Word("Drifted", "busy", "alert"),
    "unlooked": Word("Not looked at", "bad", "ban"),
    "uncreated": Word("Never created", "bad", "ban"),
    "partly": Word("Not all compared", "idle", "help"),
    "none": Word("No drift", "ok", "check"),
}
_ORDERED: Final = Word("Ordered", "ok", "check")
_LEFT_ALONE: Final = Word("Left alone", "bad", "ban")
_ENABLED: Final = Word("Enabled", "ok", "check")
_DISABLED: Final = Word("Disabled", "idle", "ban")
#: Of a word that is none of ours.
_LONGEST: Final = 60


def explain(error: PilothouseError, *, is_write: bool = False) -> tuple[str, str, bool]:
    """Return what kind of error it is, what to do about it, and whether the same may work when it is tried again.

    ``is_write``: a form was sent, and may have been carried out before the error came.
    """
    found = next((said for kind, said in _ERRORS.items() if isinstance(error, kind)), None)
    heading, advice, may_help = found or _OTHER_ERROR
    if is_write:
        unsure = next((said for kind, said in _UNSURE.items() if isinstance(error, kind)), "")
        advice = unsure or (advice if found else _OTHER_UNSURE)
    return translate(heading), translate(advice), may_help


def may_be_done(error: PilothouseError) -> bool:
    """Return True if a form may have been carried out although it ended with the error."""
    return isinstance(error, errors.DatabaseUnavailable) and not isinstance(error, errors.TransactionConflict)


def status(word: str, *, moving: bool = True) -> Word:
    """Return the word for a status of Helm's, which is free text in the release's Secret.

    ``moving``: an operation is at work on it; else what it says to be under way is locked.
    """
    found = _STATUSES.get(word) or Word(word[:_LONGEST] or "Unknown", "idle", "help")
    return found if moving or found.icon != _MOVES else replace(found, icon="lock")


def state(word: str, *, moving: bool = True) -> Word:
    """Return the word for an operation's state; ``moving``: there are workers."""
    found = _STATES.get(word) or Word(word, "idle", "help")
    return found if moving or found.icon != _MOVES else replace(found, icon="clock")


def action(word: str) -> str:
    """Return the name of an action."""
    return _ACTIONS.get(word, word)


def health(word: str) -> Word:
    """Return the word for the health of an object."""
    return _HEALTH.get(word) or Word(word, "idle", "help")


def change(word: str) -> Word:
    """Return the word for what became of an object."""
    return _CHANGES.get(word) or Word(word, "idle", "help")


def outcome(word: str) -> Word:
    """Return the word for the outcome of an audited action."""
    return _OUTCOMES.get(word) or Word(word, "idle", "help")


def user(row: UserRow) -> Word:
    """Return the word for whether a user may log in."""
    return _ENABLED if row.enabled else _DISABLED


def key(row: AccessKeyRow) -> Word:
    """Return the word for the state of an access key."""
    if row.expired:
        return Word("Expired", "idle", "clock")
    if row.locked_until is not None:
        return Word("Locked", "busy", "lock")
    return _ENABLED if row.enabled else _DISABLED


def source(chart_source: Source) -> Word:
    """Return the word for whether what is known of a source is what it has."""
    if chart_source.problem:
        return Word("Not synchronised", "bad", "alert")
    return (
        Word("Synchronised", "ok", "check")
        if chart_source.synced_at is not None
        else Word("Never read", "idle", "circle")
    )


def agent(text: str) -> str:
    """Return the browser and its system in a few words; what is none that we know as it calls itself."""
    browser = next((name for sign, name in _BROWSERS if sign in text), "")
    system = next((name for sign, name in _SYSTEMS if sign in text), "")
    if browser:
        return gettext("%(browser)s on %(system)s", browser=browser, system=system) if system else browser
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def plain(text: str) -> str:
    """Return a text of Kubernetes without the names that Go gives to values."""
    return _GO_VALUE.sub(r"\1", text)


def seen(name: str) -> str:
    """Return a name that is ASCII by rule so that any other character is seen, also one that looks like a letter."""
    return name if name.isascii() and name.isprintable() else ascii(name)[1:-1]


def drift(state: str) -> Word:
    """Return the word for what a look at a release has shown."""
    return _DRIFTS[state]


def ordered(problem: str, *, unsure: bool = False) -> Word:
    """Return the word for what became of one order among several; ``unsure``: it may have been ordered."""
    if unsure:
        return Word("Unknown", "idle", "help")
    return _LEFT_ALONE if problem else _ORDERED
