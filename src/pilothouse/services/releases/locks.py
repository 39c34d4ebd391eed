"""Locks of releases: one operation at a time, and none while another program holds Helm's lock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pilothouse.errors import Forbidden, InvalidRequest, ReleaseMoved
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import PENDING, UNINSTALLING, StoredRelease
from pilothouse.states import Action
from pilothouse.store.operations import OperationRow

#: The words that the vendor's Terraform provider waits on; they must be among the first 200 characters of the text.
REFUSED = "Update release is forbidden"
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Seen:
    """What somebody was shown of a release before they decided: its revision, and when it was first installed.

    ``since``: in microseconds, because a release that is installed again begins at revision 1.
    """

    revision: int
    since: int

    def refuse_moved(self, revision: int, first_deployed: datetime) -> None:
        """Return if the release is still what was seen, else raise InvalidRequest."""
        if revision != self.revision:
            raise InvalidRequest(f"it is at revision {revision} now; look at it again")
        if microseconds(first_deployed) != self.since:
            raise InvalidRequest("it was installed anew since it was shown; look at it again")


def refuse_other_base(name: str, found: int | None, *, expected: int | None) -> None:
    """Return if the newest revision is the one that is wanted, or none is, else raise ReleaseMoved."""
    if expected is None or found == expected:
        return
    now = f"it is at revision {found} by now" if found is not None else "it is gone by now"
    raise ReleaseMoved(
        f"base_revision: release {name!r} moved: {now}, and this request is for revision {expected}; nothing was "
        "done, look at the release and send it again"
    )


def microseconds(time: datetime) -> int:
    """Return the time since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def running_error(row: OperationRow) -> Forbidden:
    """Return the error for a write while an operation on the release is unfinished."""
    return Forbidden(
        f"{REFUSED}: {noun_of(row.action)} of release {row.release_name!r} is {row.state} (operation {row.id}); "
        "retry when the release is no longer pending"
    )


def noun_of(action: str) -> str:
    """Return how texts call an operation."""
    return _NOUNS.get(action, action)


def changed_error(name: str) -> Forbidden:
    """Return the error if another request was accepted, or ended, between our check and our acceptance."""
    return Forbidden(f"{REFUSED}: release {name!r} was modified by another request; retry")


def is_locked(stored: StoredRelease) -> bool:
    """Return True if Helm refuses to upgrade it or roll it back."""
    return stored.status in PENDING or stored.status == UNINSTALLING


def locked_error(stored: StoredRelease, secret: Secret, *, cluster_id: str) -> Forbidden:
    """Return the error for a foreign ``pending-*`` revision: its writer, its age, and the way out."""
    return Forbidden(f"{REFUSED}: {describe_lock(stored, secret, cluster_id=cluster_id)}")


def describe_lock(stored: StoredRelease, secret: Secret, *, cluster_id: str) -> str:
    """Describe the lock's owner, its age, and the call that ends it, in this order and short."""
    since = stored.last_deployed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"revision {stored.revision} is {stored.status} by {_writer(secret)!r} since {since}; "
        f"unlock: POST /api/v1/clusters/{cluster_id}/unlock if its writer is dead"
    )


def _writer(secret: Secret) -> str:
    """Return the program that wrote the Secret last, as recorded by Kubernetes."""
    entries = (secret.get("metadata") or {}).get("managedFields") or []
    written = [entry for entry in entries if isinstance(entry, dict) and entry.get("manager")]
    last = max(written, key=lambda entry: str(entry.get("time", "")), default=None)
    return str(last["manager"])[:16] if last else "unknown"


_NOUNS: dict[str, str] = {
    Action.INSTALL: "the installation",
    Action.UPGRADE: "an upgrade",
    Action.ROLLBACK: "a rollback",
    Action.UNINSTALL: "the deletion",
    Action.TEST: "a test",
}
