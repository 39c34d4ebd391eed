"""The hash by which an ID token names its access token.

authlib's own knows neither Ed25519 nor Ed448, and takes an empty access token for none.

Source: OpenID Connect Core 1.0, section 3.1.3.6; RFC 9864 for the names of algorithms; RFC 8032 for their hashes.
"""

import base64
import hashlib
from typing import Final

_ED25519, _ED448 = "Ed25519", "Ed448"
#: The output that Ed448 has of SHAKE256.
_ED448_BYTES: Final = 114


def half_hash(text: str, algorithm: str) -> str:
    """Return the left half of the hash that the algorithm of the settings uses, as at_hash has it."""
    octets = text.encode("utf-8", "surrogatepass")
    if algorithm == _ED448:
        digest = hashlib.shake_256(octets).digest(_ED448_BYTES)
    elif algorithm == _ED25519:
        digest = hashlib.sha512(octets).digest()
    else:  # such as RS256
        digest = hashlib.new(f"sha{algorithm[-3:]}", octets).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
