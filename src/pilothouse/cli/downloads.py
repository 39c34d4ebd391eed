"""Files that commands write for people: whole, or not at all."""

import os
import shutil
from pathlib import Path

from pilothouse.errors import PilothouseError


def save(target: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file; raise PilothouseError if it cannot be written, and leave what was there, or no part of it.

    Without ``replace`` raise FileExistsError if there is one.
    """
    try:
        if replace and target.is_file():
            _replace(target.resolve(), content)
        else:
            _create(target, content, replace=replace)
    except FileExistsError:
        raise
    except OSError as error:
        raise PilothouseError(f"cannot write {target}: {error.strerror}") from error


def _create(target: Path, content: bytes, *, replace: bool) -> None:
    with target.open("wb" if replace else "xb") as opened:
        try:
            opened.write(content)
            opened.flush()
        except OSError:
            if target.is_file():  # and no device
                target.unlink()
            raise


def _replace(target: Path, content: bytes) -> None:
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        shutil.copymode(target, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
