"""How accepted operations wait, are carried out and are remembered."""

from typing import Final, Self

from pydantic import Field, model_validator

from pilothouse.settings.group import MIB, Group


class WorkerSettings(Group):
    """Execution of accepted operations."""

    operations: int = Field(
        4,
        ge=1,
        description="operations that work at a time in a worker process, one engine child each; two more than cores,"
        " because a child is idle while its operation waits for the cluster and the database, and one slot is reserved",
    )
    waiting: int = Field(
        16,
        ge=0,
        description="operations that may wait for their cluster in addition to those slots, half of them of one "
        "project: each needs no CPU, but an engine child (30 MB); further waiting operations keep their slots",
    )
    reserved: int = Field(
        1,
        ge=0,
        description="slots that no single API server can occupy, and twice as many that no single project can: a "
        "tenant whose releases never become ready does not stop the rest; with too few slots, only for projects",
    )
    lease_seconds: float = Field(6.0, description="how long an attempt holds its operation without a renewal")
    lease_margin_seconds: float = Field(1.0, description="additional time before another worker takes over")
    renew_seconds: float = Field(1.0, description="between two renewals")
    fence_seconds: float = Field(
        4.0, description="without a confirmed renewal for this long the worker kills the child"
    )
    poll_seconds: float = Field(1.0, gt=0, description="polling interval of the queue without notifications")
    timeout_seconds: float = Field(
        300.0, gt=0, description="deadline of one operation, over all attempts; Helm's default is 5 min"
    )
    longest_timeout_seconds: int = Field(
        3600,
        ge=1,
        description="maximum of X-Pilothouse-Timeout: a waiting operation can hold its slot for that long",
    )
    undo_timeout_seconds: float = Field(
        300.0, gt=0, description="deadline of the undo of a cancelled operation, counted from the cancel"
    )
    drain_seconds: float = Field(60.0, ge=0, description="after SIGTERM, how long running operations may finish")
    collect_seconds: float = Field(60.0, gt=0, description="interval of the search for unused chart archives")
    unused_archive_seconds: float = Field(
        600.0, ge=0, description="how long an unused archive is kept; longer than the longest request and download"
    )
    attempts: int = Field(3, ge=1, description="number of crashes after which an operation is given up")

    @model_validator(mode="after")
    def _lease_outlives_the_fence(self) -> Self:
        """Refuse what would let two attempts write at once: a child must be dead before its lease can be taken."""
        if not 0 < self.renew_seconds < self.fence_seconds < self.lease_seconds:
            raise ValueError(
                "RENEW_SECONDS must be above 0 and below FENCE_SECONDS, and that below LEASE_SECONDS; they are "
                f"{self.renew_seconds:g}, {self.fence_seconds:g} and {self.lease_seconds:g}"
            )
        if self.lease_margin_seconds <= 0:
            raise ValueError(f"LEASE_MARGIN_SECONDS must be above 0, and is {self.lease_margin_seconds:g}")
        return self

    @model_validator(mode="after")
    def _default_is_no_longer_than_the_longest(self) -> Self:
        """Refuse a default deadline that exceeds the maximum of a request."""
        if self.timeout_seconds > self.longest_timeout_seconds:
            raise ValueError(
                f"TIMEOUT_SECONDS ({self.timeout_seconds:g}) is over LONGEST_TIMEOUT_SECONDS "
                f"({self.longest_timeout_seconds}); lower the one or raise the other"
            )
        return self


class QueueSettings(Group):
    """Limits of queued and running operations, over all processes that share the database."""

    waiting_per_cluster: int = Field(
        5000, ge=1, description="queued operations per cluster; a further write is answered 429"
    )
    waiting_per_project: int = Field(10_000, ge=1, description="the same for one project")
    waiting_bytes_per_project: int = Field(
        256 * MIB,
        ge=8 * MIB,  # any order fits
        description="bytes of a project's queued request data, counting those of 8 KiB and more; the same answer",
    )
    retry_seconds: int = Field(5, ge=1, description="Retry-After of that answer")
    running_per_cluster: int | None = Field(
        None,
        ge=1,
        description="running operations per API server over all workers, however often it is registered;"
        " unset: all but worker.reserved slots of each worker that has more than three",
    )
    running_per_project: int | None = Field(None, ge=1, description="the same for one project")


#: More than a century; much more, and the database cannot say when it began.
_AGES_SECONDS: Final = 4e9
#: Younger rows of the audit are deleted by nobody: the database refuses it.
_DAY: Final = 24 * 3600.0


class RetentionSettings(Group):
    """Retention times of old data."""

    operation_seconds: float = Field(
        30 * 24 * 3600.0,
        gt=0,
        le=_AGES_SECONDS,
        description="an ended operation with its events; longer while the revision that it wrote exists",
    )
    audit_seconds: float = Field(
        365 * 24 * 3600.0, ge=_DAY, le=_AGES_SECONDS, description="a row of the table audit; at least a day"
    )
    audit_failed_seconds: float = Field(
        30 * 24 * 3600.0, ge=_DAY, le=_AGES_SECONDS, description="the same for failed log-ins and signatures"
    )
    sweep_seconds: float = Field(600.0, gt=0, description="interval of the cleanup")
    key_seconds: float = Field(
        24 * 3600.0, gt=0, le=_AGES_SECONDS, description="an Idempotency-Key; a later request with it is a new one"
    )
    delivery_seconds: float = Field(
        7 * _DAY, gt=0, le=_AGES_SECONDS, description="a message to a webhook that was delivered or given up"
    )

    @model_validator(mode="after")
    def _nothing_is_kept_longer_than_what_it_stands_on(self) -> Self:
        """Refuse ages that cannot be kept: a key is deleted with its operation, a failed proof with the audit."""
        for name, age, limit_name, limit in (
            ("KEY_SECONDS", self.key_seconds, "OPERATION_SECONDS", self.operation_seconds),
            ("AUDIT_FAILED_SECONDS", self.audit_failed_seconds, "AUDIT_SECONDS", self.audit_seconds),
        ):
            if age > limit:
                raise ValueError(
                    f"{name} ({age:g}) must not be above {limit_name} ({limit:g}), with which it is deleted"
                )
        return self
