"""The span of an attempt."""

from collections.abc import Iterator
from contextlib import contextmanager

from pilothouse import tracing
from pilothouse.store.operations import OperationRow


@contextmanager
def traced_attempt(row: OperationRow) -> Iterator[None]:
    """Record the block as a part of the trace of the request that ordered the operation."""
    attributes: dict[str, str | int] = {
        "pilothouse.operation_id": row.id,
        "pilothouse.cluster_id": row.cluster_id,
        "pilothouse.request_id": row.request_id,
        "pilothouse.attempt": row.attempt,
    }
    name = f"attempt {row.action}"
    with (
        tracing.span(name, "consumer", parent=row.trace_parent, attributes=attributes) as span,
        tracing.traced_log(span),
    ):
        yield
