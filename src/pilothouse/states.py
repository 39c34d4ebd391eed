"""The words that operations and releases are described with, from the database to the wire."""

from enum import StrEnum


class Action(StrEnum):
    """What an operation does to its release."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    UNINSTALL = "uninstall"


class OperationState(StrEnum):
    """How far an operation is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: A release has at most one operation in one of these.
LIVING_STATES = (OperationState.QUEUED, OperationState.RUNNING, OperationState.CANCELLING)
#: An attempt may be at work on it.
HELD_STATES = (OperationState.RUNNING, OperationState.CANCELLING)


class ReleaseStatus(StrEnum):
    """Helm's words for the status of a revision."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"
