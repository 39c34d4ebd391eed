"""The access-key signature schemes: digest, key and proof of each.

All of them derive their keys from access key and secret key alone, and so does this server: no public key is ever
stored or sent. Derived keys are not cached between requests; the most expensive derivation, SM2's, takes less than a
millisecond.

Source: the signers of the vendor's SDKs (Python 3.1.219, Go, Java); RFC 5869 for the derived key of V11; Open Telekom
Cloud's Go SDK 0.9.0 for the key that is derived step by step.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pilothouse.auth import sm2

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Digest(Protocol):
    """An incremental hash with hashlib's interface."""

    def update(self, data: bytes, /) -> None:
        """Hash the next piece."""
        ...

    def hexdigest(self) -> str:
        """Return the digest in lower-case hex; no further update is allowed."""
        ...


class Sm3:
    """SM3 with hashlib's interface; hashlib's own is missing on systems whose OpenSSL is built without SM3."""

    def __init__(self) -> None:
        self._hash = hashes.Hash(hashes.SM3())

    def update(self, data: bytes, /) -> None:
        """Hash the next piece."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """Return the digest in lower-case hex; no further update is allowed."""
        return self._hash.finalize().hex()


@dataclass(frozen=True, slots=True)
class Key:
    """Input of a signature; ``scope`` is what follows the access key in ``Credential``, else empty."""

    access_key: str
    secret_key: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Scheme:
    """One scheme; ``matches`` takes the key, the string to sign, and the signature in lower-case hex.

    ``name`` is the scheme's own name, ``algorithm`` the one in the header and in the string to sign, which two schemes
    share. ``new_digest`` hashes both canonical request and body. A scheme with a ``scope`` signs with a key that is
    valid for one day, region and service; the scope in ``Credential`` must match that pattern.
    """

    name: str
    algorithm: str
    new_digest: Callable[[], Digest]
    empty_digest: str
    content_header: bytes
    matches: Callable[[Key, bytes, str], bool]
    scope: re.Pattern[str] | None = None

    @property
    def scoped(self) -> bool:
        """True if the header names a ``Credential`` with a scope."""
        return self.scope is not None

    def hexdigest(self, data: bytes) -> str:
        """Return the digest of ``data`` in lower-case hex."""
        digest = self.new_digest()
        digest.update(data)
        return digest.hexdigest()


def hmac_sha256(key: Key, text: bytes) -> str:
    """Return the ``SDK-HMAC-SHA256`` signature in lower-case hex."""
    return hmac.digest(key.secret_key.encode(), text, "sha256").hex()


def _hmac_sha256_matches(key: Key, text: bytes, signature: str) -> bool:
    return hmac.compare_digest(hmac_sha256(key, text), signature)


def _hmac_sm3_matches(key: Key, text: bytes, signature: str) -> bool:
    return hmac.compare_digest(_hmac_sm3(key.secret_key.encode(), text).hex(), signature)


def _derived_hmac_sha256_matches(key: Key, text: bytes, signature: str) -> bool:
    derivation = HKDF(hashes.SHA256(), length=32, salt=key.access_key.encode(), info=key.scope.encode())
    # The clients use the derived key as hex text.
    derived = derivation.derive(key.secret_key.encode()).hex().encode()
    return hmac.compare_digest(hmac.digest(derived, text, "sha256").hex(), signature)


def _stepwise_hmac_sha256_matches(key: Key, text: bytes, signature: str) -> bool:
    derived = b"SDK" + key.secret_key.encode()
    for part in key.scope.split("/"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(derived, text, "sha256").hex(), signature)


def _ecdsa_p256_matches(key: Key, text: bytes, signature: str) -> bool:
    scalar = _private_scalar(key, "SDK-ECDSA-P256-SHA256", _hmac_sha256_bytes, _P256_ORDER)
    public = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    try:
        public.verify(_unhex(signature), text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _sm2_matches(key: Key, text: bytes, signature: str) -> bool:
    scalar = _private_scalar(key, "SDK-SM2-SM3", _hmac_sm3, sm2.ORDER)
    return sm2.is_signature(_unhex(signature), text, private_key=scalar)


def _private_scalar(key: Key, scheme: str, mac: Callable[[bytes, bytes], bytes], order: int) -> int:
    """Derive the clients' private key: the first of at most 255 candidates that is below the order."""
    head = b"\0\0\0\1" + scheme.encode() + b"\0" + key.access_key.encode()
    for counter in range(255):
        number = int.from_bytes(mac(key.secret_key.encode(), head + bytes((counter,)) + b"\0\0\1\0"), "big")
        if number <= order - 2:
            return number + 1
    raise AssertionError("255 digests above the order: the hash is broken")


def _hmac_sha256_bytes(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _hmac_sm3(key: bytes, text: bytes) -> bytes:
    mac = HMAC(key, hashes.SM3())
    mac.update(text)
    return mac.finalize()


def _unhex(signature: str) -> bytes:
    """Decode lower-case hex; empty for an odd number of digits, which is no valid signature."""
    return bytes.fromhex(signature) if len(signature) % 2 == 0 else b""


_SCOPE_PART: Final = r"[!-+\--.0-~]"  # visible, but no ',' and no '/'
_EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_EMPTY_SM3: Final = "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"

HMAC_SHA256: Final = Scheme(
    name="SDK-HMAC-SHA256",
    algorithm="SDK-HMAC-SHA256",
    new_digest=hashlib.sha256,
    empty_digest=_EMPTY_SHA256,
    content_header=b"x-sdk-content-sha256",
    matches=_hmac_sha256_matches,
)
HMAC_SM3: Final = Scheme(
    name="SDK-HMAC-SM3",
    algorithm="SDK-HMAC-SM3",
    new_digest=Sm3,
    empty_digest=_EMPTY_SM3,
    content_header=b"x-sdk-content-sm3",
    matches=_hmac_sm3_matches,
)
ECDSA_P256_SHA256: Final = Scheme(
    name="SDK-ECDSA-P256-SHA256",
    algorithm="SDK-ECDSA-P256-SHA256",
    new_digest=hashlib.sha256,
    empty_digest=_EMPTY_SHA256,
    content_header=b"x-sdk-content-sha256",
    # A second signature (r, n - s) follows from every one; nothing here takes a signature for an identity.
    matches=_ecdsa_p256_matches,
)
SM2_SM3: Final = Scheme(
    name="SDK-SM2-SM3",
    algorithm="SDK-SM2-SM3",
    new_digest=Sm3,
    empty_digest=_EMPTY_SM3,
    content_header=b"x-sdk-content-sm3",
    matches=_sm2_matches,
)
DERIVED_HMAC_SHA256: Final = Scheme(
    name="V11-HMAC-SHA256",
    algorithm="V11-HMAC-SHA256",
    new_digest=hashlib.sha256,
    empty_digest=_EMPTY_SHA256,
    content_header=b"x-sdk-content-sha256",
    matches=_derived_hmac_sha256_matches,
    scope=re.compile(rf"[0-9]{{8}}/{_SCOPE_PART}{{1,64}}/{_SCOPE_PART}{{1,64}}"),
)
STEPWISE_HMAC_SHA256: Final = Scheme(
    name="SDK-HMAC-SHA256/sdk_request",
    algorithm="SDK-HMAC-SHA256",
    new_digest=hashlib.sha256,
    empty_digest=_EMPTY_SHA256,
    content_header=b"x-sdk-content-sha256",
    matches=_stepwise_hmac_sha256_matches,
    # Open Telekom Cloud's SDK leaves region and service empty.
    scope=re.compile(rf"[0-9]{{8}}/{_SCOPE_PART}{{0,64}}/{_SCOPE_PART}{{0,64}}/sdk_request"),
)
SCHEMES: Final[Mapping[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (HMAC_SHA256, HMAC_SM3, ECDSA_P256_SHA256, SM2_SM3, DERIVED_HMAC_SHA256, STEPWISE_HMAC_SHA256)
}

_BY_HEADER: Final = {(scheme.algorithm, scheme.scoped): scheme for scheme in SCHEMES.values()}


def find_scheme(algorithm: str, *, has_scope: bool) -> Scheme | None:
    """Return the scheme of an Authorization header with ``Credential`` (a scope) or ``Access``; None if unknown."""
    return _BY_HEADER.get((algorithm, has_scope))
