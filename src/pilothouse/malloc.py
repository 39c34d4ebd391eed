"""The C library's allocator: memory that large work needed for a moment goes back to the system.

By glibc's defaults each thread has a heap of its own, up to eight for each core, and once a block of some megabytes was
freed, blocks of that size come from those heaps, of which less than twice that size is not given back. So the first
password that a thread checks, for which Argon2 takes 12 MiB, leaves 12 MiB behind in the heap of that thread for good.
"""

import ctypes
from typing import Final

# Source: malloc.h and mallopt(3) of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_OPTIONS: Final = {
    _ARENA_MAX: 2,
    # As neither is left to its default, they no longer grow with what is freed.
    _MMAP_THRESHOLD: 256 * 1024,
    _TRIM_THRESHOLD: 512 * 1024,
}


def bound_malloc() -> bool:
    """Set the allocator's limits for this process, before it has threads; return False if it has no such limits."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _OPTIONS.items())
