"""The public keys of a provider: which of its key set can be used, and which one a token names."""

import base64
import binascii
import warnings
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from pilothouse.errors import ProviderUnavailable

_MOST_KEYS: Final = 100
_SMALLEST_RSA, _LARGEST_RSA = 2048, 8192
#: Of an RSA key: a large public exponent makes every verification slow.
_LARGEST_EXPONENT: Final = 4
_LONGEST_KID: Final = 256
#: Only these members are read: a private key in a public set makes nothing of ours private.
_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")
#: By the first letters of an algorithm's name; ES256 goes with one curve only, which the library checks.
_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeySet:
    """The usable keys of one document."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Read the document; keys that cannot verify signatures are passed over. Raises ProviderUnavailable."""
        listed = document.get("keys")
        if not isinstance(listed, list):
            raise ProviderUnavailable("its key set has no list 'keys'")
        if len(listed) > _MOST_KEYS:
            raise ProviderUnavailable(f"its key set has {len(listed)} keys; at most {_MOST_KEYS} are read")
        self._keys: list[tuple[str | None, str | None, Key]] = []
        for one in listed:
            if isinstance(one, dict) and (key := _read(one)) is not None:
                kid, algorithm = one.get("kid"), one.get("alg")
                usable = isinstance(kid, str) and len(kid) <= _LONGEST_KID
                self._keys.append((kid if usable else None, algorithm if isinstance(algorithm, str) else None, key))

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of that id for the algorithm; without an id the only one that fits."""
        fitting = [
            key
            for id_, meant_for, key in self._keys
            if (kid is None or id_ == kid)
            and key.key_type == _TYPES.get(algorithm[:2])
            and meant_for in {None, algorithm}
        ]
        return fitting[0] if fitting and (kid is not None or len(fitting) == 1) else None


def _read(listed: dict[str, Any]) -> Key | None:
    if listed.get("use", "sig") != "sig" or listed.get("kty") not in _TYPES.values():
        return None
    members = {name: listed[name] for name in _PUBLIC if isinstance(listed.get(name), str)}
    try:
        if members["kty"] == "RSA" and not _is_sound(members):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return JWKRegistry.import_key(members)
    except (JoseError, ValueError, TypeError, KeyError, Warning):
        return None


def _is_sound(members: dict[str, str]) -> bool:
    """Return True for an RSA key that is neither weak nor slow."""
    modulus, exponent = _bytes(members["n"]), _bytes(members["e"])
    bits = int.from_bytes(modulus[:1]).bit_length() + 8 * (len(modulus) - 1)
    return _SMALLEST_RSA <= bits <= _LARGEST_RSA and len(exponent) <= _LARGEST_EXPONENT


def _bytes(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).lstrip(b"\0")
    except binascii.Error as error:
        raise ValueError(text[:20]) from error
