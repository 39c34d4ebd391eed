"""The words that operations and releases are described with, from the database to the wire."""

from enum import StrEnum


class Action(StrEnum):
    """What an operation does to its release."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    UNINSTALL = "uninstall"
    TEST = "test"


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


#: On its way to another status, as long as somebody is at work on it.
UNSETTLED = frozenset(
    {
        ReleaseStatus.PENDING_INSTALL,
        ReleaseStatus.PENDING_UPGRADE,
        ReleaseStatus.PENDING_ROLLBACK,
        ReleaseStatus.UNINSTALLING,
    }
)


class DeliveryState(StrEnum):
    """How far a message to a webhook is; the last two are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class WebhookEvent(StrEnum):
    """What a webhook can be told."""

    OPERATION_ENDED = "operation.ended"
    DRIFT_CHANGED = "drift.changed"
    PING = "ping"


class WebhookFormat(StrEnum):
    """How a webhook is told it."""

    JSON = "json"
    SLACK = "slack"
