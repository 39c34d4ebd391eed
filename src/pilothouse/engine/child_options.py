"""Options of a starting child."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ChildOptions:
    """Options of a starting child, without secrets, because they are on its command line."""

    channel_fd: int
    deadline_fd: int
    connections_fd: int
    parent_pid: int
    memory_bytes: int
    file_bytes: int
    chart_unpacked_bytes: int
    chart_file_bytes: int
    chart_files: int
    chart_depth: int
    qps: float
    burst: int
    parallel_objects: int
