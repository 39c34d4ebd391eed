"""Encryption of secrets at rest: AES-256-GCM under a master key that is never stored in the database.

Each value has its own data key, which the master key wraps. Invariants: a sealed value opens only in the context it was
sealed for, so that a copy in another row is refused; and it names its master key, so that a new key can be added while
old values still open, and can re-wrap them without decrypting any.

Layout: version (1 byte), master key id (4), nonce (12), wrapped data key (32 + 16), ciphertext with its 16-byte tag.
Version and key id are associated data of the wrapping, version and context of the ciphertext. A data key seals one
value only, so its nonce is constant. The wrapping's is random: one master key may seal 2^32 values (NIST SP 800-38D,
section 8.3) before a new one is due.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilothouse.auth.key_file import (
    KEY_ID_BYTES,
    FileVersion,
    KeyRing,
    RandomBytes,
    ensure_keys,
    file_version,
    read_keys,
)
from pilothouse.errors import DecryptionFailed

_VERSION: Final = b"\x02"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
HEADER_BYTES: Final = len(_VERSION) + KEY_ID_BYTES
#: The first bytes of a sealed value, from which its data key can be unwrapped.
HEAD_BYTES: Final = HEADER_BYTES + _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
_ONLY_NONCE: Final = bytes(_NONCE_BYTES)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Loaded:
    ciphers: Mapping[bytes, AESGCM]
    sealing: bytes


class MasterKeys:
    """The keys of one installation: one seals, each opens what it sealed. Thread-safe.

    Keys loaded from a file follow its changes: a key added there seals and opens from the next call on.
    """

    def __init__(self, keys: Mapping[bytes, bytes], *, random_bytes: RandomBytes = os.urandom) -> None:
        """Take a mapping of key id to key, oldest first; the last one seals."""
        if not keys:
            raise DecryptionFailed("there is no master key")
        self._loaded = _Loaded({key_id: AESGCM(key) for key_id, key in keys.items()}, next(reversed(list(keys))))
        self._random_bytes = random_bytes
        self._path: Path | None = None
        self._file_version: FileVersion | None = None

    @classmethod
    def of_ring(cls, ring: KeyRing) -> Self:
        """Use the keys of a ring that was already read, independent of its file."""
        found = cls({key.id_bytes: key.secret for key in ring.keys})
        found._loaded = _loaded(ring)
        return found

    @classmethod
    def load_or_create(cls, path: Path, *, random_bytes: RandomBytes = os.urandom) -> Self:
        """Load the keys of this file, creating it (mode 0600, one new key) if it does not exist.

        Processes that start together end up with the same key. Raises DecryptionFailed if it is damaged, or if others
        than its owner can read or write it.
        """
        ensure_keys(path, random_bytes=random_bytes)
        version = file_version(path)  # before the file is read: a change in between is noticed at the next look
        ring = read_keys(path)
        found = cls({key.id_bytes: key.secret for key in ring.keys}, random_bytes=random_bytes)
        found._path, found._file_version, found._loaded = path, version, _loaded(ring)
        return found

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Encrypt the plaintext; it can be read only with this key and this context ('access-key:AK…')."""
        self._follow_file()
        nonce, data_key = self._random_bytes(_NONCE_BYTES), self._random_bytes(_KEY_BYTES)
        ciphertext = AESGCM(data_key).encrypt(_ONLY_NONCE, plaintext, _VERSION + context.encode())
        return self._wrap(nonce, data_key) + ciphertext

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt what was sealed in this context; raise DecryptionFailed if another, an unknown key or damage."""
        data_key = self._unwrap(sealed, what=f"the sealed value of {context}")
        try:
            return AESGCM(data_key).decrypt(_ONLY_NONCE, sealed[HEAD_BYTES:], _VERSION + context.encode())
        except InvalidTag:
            raise DecryptionFailed(
                f"the sealed value of {context} cannot be decrypted: it is damaged, or was sealed for another context"
            ) from None

    def reseal(self, sealed: bytes, *, what: str) -> bytes:
        """Re-wrap the value for the key that seals now; nothing is decrypted, so no context is needed.

        ``what`` names the value in the DecryptionFailed raised for a damaged value or an unknown key.
        """
        self._follow_file()
        data_key = self._unwrap(sealed, what=what)
        return self._wrap(self._random_bytes(_NONCE_BYTES), data_key) + sealed[HEAD_BYTES:]

    def check_head(self, head: bytes, *, what: str) -> None:
        """Check that a value with these first HEAD_BYTES opens with one of the keys; else raise DecryptionFailed."""
        self._unwrap(head + bytes(_TAG_BYTES), what=what)

    def sealing_header(self) -> bytes:
        """Return the prefix of every value sealed with the current key."""
        self._follow_file()
        return _VERSION + self._loaded.sealing

    def _wrap(self, nonce: bytes, data_key: bytes) -> bytes:
        loaded = self._loaded
        header = _VERSION + loaded.sealing
        return header + nonce + loaded.ciphers[loaded.sealing].encrypt(nonce, data_key, header)

    def _unwrap(self, sealed: bytes, *, what: str) -> bytes:
        if len(sealed) < HEAD_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
            raise DecryptionFailed(f"{what} is damaged, or another version of Pilothouse sealed it")
        header, key_id = sealed[:HEADER_BYTES], sealed[len(_VERSION) : HEADER_BYTES]
        if key_id not in self._loaded.ciphers:
            self._follow_file()
        cipher = self._loaded.ciphers.get(key_id)
        if cipher is None:
            raise DecryptionFailed(
                f"{what} needs master key {key_id.hex()}, which the key file does not hold; "
                "restore the key file that belongs to this database"
            )
        nonce = sealed[HEADER_BYTES : HEADER_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[HEADER_BYTES + _NONCE_BYTES : HEAD_BYTES], header)
        except InvalidTag:
            raise DecryptionFailed(
                f"{what} cannot be decrypted with master key {key_id.hex()}: it is damaged"
            ) from None

    def _follow_file(self) -> None:
        """Reload a changed file; the check costs microseconds. A missing or damaged file changes nothing."""
        if self._path is None or (version := file_version(self._path)) in (None, self._file_version):
            return
        self._file_version = version
        try:
            self._loaded = _loaded(read_keys(self._path))
        except DecryptionFailed as error:
            log.warning("master_keys_not_reloaded", reason=str(error))
        else:
            log.info("master_keys_reloaded", keys=len(self._loaded.ciphers), sealing=self._loaded.sealing.hex())


def _loaded(ring: KeyRing) -> _Loaded:
    return _Loaded({key.id_bytes: AESGCM(key.secret) for key in ring.keys}, bytes.fromhex(ring.sealing))


def key_id_of(sealed: bytes) -> str:
    """Return the id of the master key that a sealed value needs."""
    return sealed[len(_VERSION) : HEADER_BYTES].hex()
