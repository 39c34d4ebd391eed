"""Sealing of secrets at rest: AES-256-GCM under a master key that never enters the database.

What must stay true: a sealed value opens only in the context it was sealed for, so that one copied into another
row is refused, and it names the key it needs, so that a new master key can be added while the old values still
open. Layout: version (1 byte), key id (4), nonce (12), ciphertext with the 16-byte tag. Version, key id and context
are associated data.

The nonce is random: one key may seal 2^32 values (NIST SP 800-38D, section 8.3) before a new one is due.
"""

import base64
import binascii
import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilothouse.errors import SealBroken

RandomBytes = Callable[[int], bytes]

_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(_VERSION) + _KEY_ID_BYTES
_LARGEST_FILE: Final = 1024 * 1024


class MasterKeys:
    """The keys of one installation: the newest seals, every one opens what it sealed."""

    def __init__(self, keys: Mapping[bytes, bytes], *, random_bytes: RandomBytes = os.urandom) -> None:
        """Takes key id → key, oldest first."""
        if not keys:
            raise SealBroken("there is no master key")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._newest = next(reversed(self._ciphers))
        self._random_bytes = random_bytes

    @classmethod
    def load_or_create(cls, path: Path, *, random_bytes: RandomBytes = os.urandom) -> Self:
        """The keys of this file, which is made (mode 0600, one new key) if it does not exist.

        Processes that start together end up with the same key. Raises SealBroken if the file is damaged, or if
        anybody but its owner may read or write it.
        """
        try:
            text = _read_private(path)
        except FileNotFoundError:
            _create_private(path, _new_file(random_bytes), random_bytes=random_bytes)
            text = _read_private(path)
        return cls(_parse(text, path), random_bytes=random_bytes)

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """The plaintext, readable only with this key and this context ('access-key:AK…')."""
        header = _VERSION + self._newest
        nonce = self._random_bytes(_NONCE_BYTES)
        return header + nonce + self._ciphers[self._newest].encrypt(nonce, plaintext, header + context.encode())

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """What was sealed in this context; raises SealBroken for another context, an unknown key or damage."""
        if len(sealed) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
            raise SealBroken(f"the sealed value of {context} is damaged, or a newer Pilothouse sealed it")
        header, key_id = sealed[:_HEADER_BYTES], sealed[1:_HEADER_BYTES]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealBroken(
                f"the sealed value of {context} needs master key {key_id.hex()}, which the key file does not hold; "
                "restore the key file that belongs to this database"
            )
        nonce, ciphertext = sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES], sealed[_HEADER_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, ciphertext, header + context.encode())
        except InvalidTag:
            raise SealBroken(
                f"the sealed value of {context} does not open: it is damaged, or was sealed for something else"
            ) from None


def _new_file(random_bytes: RandomBytes) -> bytes:
    key = {"id": random_bytes(_KEY_ID_BYTES).hex(), "key": base64.b64encode(random_bytes(_KEY_BYTES)).decode()}
    return json.dumps({"version": 1, "keys": [key]}, indent=2).encode() + b"\n"


def _parse(text: bytes, path: Path) -> dict[bytes, bytes]:
    keys: dict[bytes, bytes] = {}
    try:
        content = json.loads(text)
        entries: list[dict[str, Any]] = content["keys"]
        if content["version"] != 1:
            raise SealBroken(f"the master key file {path} has version {content['version']!r}; this program reads 1")
        for entry in entries:
            key_id = bytes.fromhex(entry["id"])
            key = base64.b64decode(entry["key"], validate=True)
            if len(key_id) != _KEY_ID_BYTES or len(key) != _KEY_BYTES or key_id in keys:
                raise SealBroken(f"the master key file {path} holds a key of a wrong size, or two of one id")
            keys[key_id] = key
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        keys.clear()
    if not keys:
        raise SealBroken(
            f"the master key file {path} is damaged; restore it from a backup, because what it sealed opens with "
            "nothing else"
        ) from None
    return keys


def _read_private(path: Path) -> bytes:
    """The file's content; the check is made on the open file, so that it cannot be exchanged in between."""
    try:
        # O_NONBLOCK: a FIFO put there must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SealBroken(f"the master key file {path} cannot be read: {error.strerror}") from error
    try:
        _check_private(os.fstat(descriptor), path)
        return os.read(descriptor, _LARGEST_FILE)
    except OSError as error:
        raise SealBroken(f"the master key file {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _check_private(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SealBroken(f"the master key file {path} is not a regular file")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise SealBroken(
            f"the master key file {path} is open to other users (mode {mode:04o}); run: chmod 600 '{path}', "
            "and replace the key if others may have read it"
        )
    if status.st_uid not in {os.geteuid(), 0}:
        raise SealBroken(f"the master key file {path} belongs to user {status.st_uid}; give it to {os.geteuid()}")


def _create_private(path: Path, content: bytes, *, random_bytes: RandomBytes) -> None:
    """The file appears whole or not at all; one that another process made meanwhile stays."""
    temporary = path.with_name(f"{path.name}.{random_bytes(8).hex()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)  # unlike a rename, this never replaces a key that somebody already uses
        finally:
            temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SealBroken(f"the master key file {path} cannot be made: {error.strerror}") from error
