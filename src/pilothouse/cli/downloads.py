"""Files that commands write for people: whole, or not at all."""

from pathlib import Path

from pilothouse.errors import PilothouseError


def save(target: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file; raise PilothouseError if it cannot be written, and leave no part of it.

    Without ``replace`` raise FileExistsError if there is one.
    """
    try:
        with target.open("wb" if replace else "xb") as opened:
            try:
                opened.write(content)
                opened.flush()
            except OSError:
                if target.is_file():  # and no device
                    target.unlink()
                raise
    except FileExistsError:
        raise
    except OSError as error:
        raise PilothouseError(f"cannot write {target}: {error.strerror}") from error
