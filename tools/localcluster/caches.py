"""The folder in the user's cache where built programs are kept between runs and between checkouts."""

import os
from pathlib import Path

from tools.localcluster.errors import CacheError


def location() -> Path:
    """Where the cache folder is, whether it exists or not.

    Raises CacheError when the user has no home and XDG_CACHE_HOME says nothing.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The specification of XDG_CACHE_HOME says that a relative path is to be ignored.
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise CacheError(_advice(str(error))) from error
    return root / "pilothouse" / "localcluster"


def writable() -> Path:
    """Return the cache folder, made if needed and known to be writable; CacheError says what to do when it is not."""
    path = location()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(_advice(str(error))) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise CacheError(_advice(f"{path} is not writable for you"))
    return path


def _advice(reason: str) -> str:
    return (
        f"cannot keep built programs in the cache folder: {reason}. "
        "Set XDG_CACHE_HOME to a folder that you can write and that has 1 GB free."
    )
