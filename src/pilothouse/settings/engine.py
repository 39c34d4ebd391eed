"""The processes that run Helm, and the archives that they are given."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.settings.group import MIB, Group


class ChartLimits(Group):
    """Limits of an archive, checked before it is opened; counted over all nested archives together."""

    unpacked_bytes: int = Field(100 * MIB, ge=1, description="sum of all files; Helm's own limit is per archive")
    file_bytes: int = Field(5 * MIB, ge=1, description="one file; Helm's own limit for a decompressed file")
    files: int = Field(10_000, ge=1, description="maximum number of files and folders")
    depth: int = Field(4, ge=0, description="nesting of archives in charts/; real charts reach 2")
    values_bytes: int = Field(1 * MIB, ge=1, description="values.yaml as JSON; a release Secret holds 1 MiB")

    @model_validator(mode="after")
    def _one_file_fits_in_an_archive(self) -> Self:
        """Refuse a limit of one file that the limit of the archive always meets first."""
        if self.file_bytes > self.unpacked_bytes:
            raise ValueError(f"FILE_BYTES ({self.file_bytes}) must not be above UNPACKED_BYTES ({self.unpacked_bytes})")
        return self


class EngineSettings(Group):
    """The processes that run Helm."""

    children: int = Field(
        2,
        ge=1,
        description="children of the API that work at a time: one is permanent, others are started when needed "
        "(0.2 s); values above the number of CPU cores bring no benefit",
    )
    idle_seconds: float = Field(120.0, ge=0, description="how long an idle child beyond the first is kept (14 MB)")
    memory_bytes: int = Field(
        3072 * MIB, gt=0, description="RLIMIT_AS of a child; below 1 GiB it does not start: Go reserves half of that"
    )
    cpu_seconds: int = Field(120, ge=1, description="CPU time of one operation before the kernel kills the child")
    recycle_after: int = Field(
        200, ge=1, description="operations after which a child is replaced (to free memory used by malicious templates)"
    )
    answer_seconds: float = Field(30.0, gt=0, description="deadline of synchronous calls: dry run, lint")
    name_seconds: float = Field(1.0, gt=0, description="deadline of a name template, which takes milliseconds")
    queue_seconds: float = Field(5.0, ge=0, description="how long such a call waits for a free child before 429")
    waiting_per_project: int = Field(
        16, ge=1, description="waiting calls of a project; each can hold an archive in memory"
    )
    qps: float = Field(
        200.0,
        gt=0,
        description="requests, and new connections, per second to the cluster; Helm's default of 5 is too slow",
    )
    burst: int = Field(400, ge=1, description="burst over qps")
    parallel_objects: int = Field(
        48,
        ge=1,
        description="objects of one kind looked up, applied or deleted at a time, as far as qps allows",
    )
