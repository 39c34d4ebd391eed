"""The file that holds the master keys: permissions, creation, and replacement while servers run.

Invariants: the file is created and replaced atomically, because a lost key loses everything that it sealed; it keeps
its owner, whoever changes it; only the owner can read it.
"""

import base64
import binascii
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pilothouse.errors import DecryptionFailed
from pilothouse.files import locked, write_file

RandomBytes = Callable[[int], bytes]
FileVersion = tuple[int, int, int]

KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_LARGEST_FILE: Final = 1024 * 1024


@dataclass(frozen=True)
class MasterKey:
    """One key. ``retired_at``: when another key began to seal; None for the key that seals and for staged ones."""

    id: str
    secret: bytes = field(repr=False)
    created_at: datetime | None = None
    retired_at: datetime | None = None

    @property
    def id_bytes(self) -> bytes:
        """The id in the form that sealed values contain."""
        return bytes.fromhex(self.id)


@dataclass(frozen=True)
class KeyRing:
    """All keys of the file, oldest first, and the id of the one that seals."""

    keys: tuple[MasterKey, ...]
    sealing: str


def new_key(random_bytes: RandomBytes, *, beside: KeyRing | None = None, now: datetime | None = None) -> MasterKey:
    """Create a key with an id that is not in the ring."""
    taken = {key.id for key in beside.keys} if beside else set()
    key_id = random_bytes(KEY_ID_BYTES).hex()
    while key_id in taken:
        key_id = random_bytes(KEY_ID_BYTES).hex()
    return MasterKey(key_id, random_bytes(_KEY_BYTES), created_at=now)


def file_version(path: Path) -> FileVersion | None:
    """Return a value that changes when the file does; None if the file does not exist or is not accessible."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_keys(path: Path) -> KeyRing:
    """Return the keys in the file; raise DecryptionFailed if it is missing, damaged, or accessible to others."""
    try:
        return parse_keys(_read_private(path), path)
    except FileNotFoundError:
        raise DecryptionFailed(
            f"there is no master key file {path}; restore it from a backup, because no other key decrypts "
            "what it sealed"
        ) from None


def ensure_keys(path: Path, *, random_bytes: RandomBytes) -> KeyRing:
    """Return the keys in the file, creating it with one new key if it is missing. Concurrent starts share one key."""
    try:
        return parse_keys(_read_private(path), path)
    except FileNotFoundError:
        key = new_key(random_bytes)
        _create(path, format_keys(KeyRing((key,), key.id)))
        return read_keys(path)


def change_keys(path: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Replace the keys in the file, one program at a time; a crash leaves the old file or the new one.

    Raises DecryptionFailed like ``read_keys``, and whatever ``change`` raises; then the file is unchanged.
    """
    try:
        with locked(path.parent, create=False):  # a lock on the file itself would vanish when the file is replaced
            changed = change(read_keys(path))
            write_file(path, format_keys(changed), owner=path.stat())
    except FileNotFoundError:
        raise DecryptionFailed(f"there is no master key file {path}") from None
    except OSError as error:
        raise DecryptionFailed(f"cannot change the master key file {path}: {error.strerror}") from error
    return changed


def write_keys(path: Path, content: bytes) -> None:
    """Install a key file from elsewhere; an existing file with the same keys is left unchanged.

    Raises DecryptionFailed for damaged content, and for an existing file with other keys.
    """
    keys = parse_keys(content, path)
    _create(path, content)
    if read_keys(path) != keys:
        raise DecryptionFailed(
            f"{path} exists and contains other keys: what they sealed would be lost. Move it away if it is not needed"
        )


def format_keys(ring: KeyRing) -> bytes:
    """Return the content of a key file."""
    entries = [
        {
            "id": key.id,
            "key": base64.b64encode(key.secret).decode(),
            **({"created_at": key.created_at.isoformat()} if key.created_at else {}),
            **({"retired_at": key.retired_at.isoformat()} if key.retired_at else {}),
        }
        for key in ring.keys
    ]
    return json.dumps({"version": 1, "sealing": ring.sealing, "keys": entries}, indent=2).encode() + b"\n"


def parse_keys(text: bytes, path: Path) -> KeyRing:
    """Parse the content of the key file at ``path``; raise DecryptionFailed if it is damaged."""
    keys: list[MasterKey] = []
    try:
        content = json.loads(text)
        entries: list[dict[str, Any]] = content["keys"]
        if content["version"] != 1:
            raise DecryptionFailed(
                f"the master key file {path} has version {content['version']!r}; this program reads 1"
            )
        for entry in entries:
            keys.append(_parse_key(entry, path, known={key.id for key in keys}))
        sealing = content.get("sealing", keys[-1].id if keys else "")
        if sealing not in {key.id for key in keys}:
            keys.clear()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        keys.clear()
    if not keys:
        raise DecryptionFailed(
            f"the master key file {path} is damaged; restore it from a backup, because no other key decrypts "
            "what it sealed"
        ) from None
    return KeyRing(tuple(keys), sealing)


def _parse_key(entry: dict[str, Any], path: Path, *, known: set[str]) -> MasterKey:
    key_id = bytes.fromhex(entry["id"])
    secret = base64.b64decode(entry["key"], validate=True)
    if len(key_id) != KEY_ID_BYTES or len(secret) != _KEY_BYTES or key_id.hex() in known:
        raise DecryptionFailed(f"the master key file {path} contains a key of a wrong size, or two with the same id")
    created, retired = entry.get("created_at"), entry.get("retired_at")
    return MasterKey(
        key_id.hex(),
        secret,
        datetime.fromisoformat(created) if created else None,
        datetime.fromisoformat(retired) if retired else None,
    )


def _read_private(path: Path) -> bytes:
    """Return the file's content; permissions are checked on the open file, so that it cannot be swapped in between."""
    try:
        # O_NONBLOCK: a FIFO put there must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DecryptionFailed(f"cannot read the master key file {path}: {error.strerror}") from error
    try:
        _check_private(os.fstat(descriptor), path)
        return os.read(descriptor, _LARGEST_FILE)
    except OSError as error:
        raise DecryptionFailed(f"cannot read the master key file {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _check_private(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DecryptionFailed(f"the master key file {path} is not a regular file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise DecryptionFailed(
            f"the master key file {path} is open to other users (mode {mode:04o}); run: chmod 600 '{path}', "
            "and replace the key if others may have read it"
        )
    # Root may look at everybody's: it changes keys for a server that runs under an account of its own.
    if os.geteuid() != 0 and status.st_uid not in {os.geteuid(), 0}:
        raise DecryptionFailed(f"the master key file {path} belongs to user {status.st_uid}; give it to {os.geteuid()}")


def _create(path: Path, content: bytes) -> None:
    """Create the file; one that another process created meanwhile is kept."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, content, replace=False)
    except OSError as error:
        raise DecryptionFailed(f"cannot create the master key file {path}: {error.strerror}") from error
