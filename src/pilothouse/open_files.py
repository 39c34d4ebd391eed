"""The limit of open files: connections, children and clusters use them, and a process without any left cannot work."""

import resource
from typing import Final

#: For the database, clusters, engine children, uploads and files of one process.
RESERVED: Final = 200


def raise_open_files() -> int:
    """Raise this process's soft limit of open files to the hard one, and return it.

    The soft limit is often 1,024 for programs that use select(2), which none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def hard_limit() -> int:
    """Return how many files a process may open at most; RLIM_INFINITY is negative."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
