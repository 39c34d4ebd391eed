"""The one place that every end of an operation passes after it is committed: the log and the metrics know it from here.

What the end changes in the database, and the notification, is ``store.operations.ending``.
"""

import structlog

from pilothouse.metrics import OPERATION_SECONDS, OPERATIONS_ENDED
from pilothouse.store.operations import EndedOperation, OperationRow

log = structlog.get_logger(__name__)


def report_end(ended: EndedOperation | OperationRow) -> None:
    """Log and count the end; call it once for each, when its transaction is committed."""
    seconds = (ended.finished_at - ended.created_at).total_seconds() if ended.finished_at is not None else None
    OPERATIONS_ENDED.labels(ended.action, ended.state).inc()
    if seconds is not None:
        OPERATION_SECONDS.labels(ended.action).observe(seconds)
    log.info(
        "operation_ended",
        operation_id=ended.id,
        action=ended.action,
        state=ended.state,
        attempt=ended.attempt,
        seconds=seconds,
    )
