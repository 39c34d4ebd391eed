"""Verification of SM2 signatures by a party that knows the private key.

This is our own code because no well-maintained library offers it: cryptography has SM3 but no SM2, and the other
packages on PyPI are unmaintained or obscure. It stays small because both sides of an access-key signature derive the
same private key d: the point [s]G + [t]P of the standard is [s + t·d]G, so only multiples of the generator are needed,
and those come from a table. Every multiplication makes the same 64 additions, whatever the number.

Source: GB/T 32918.2-2016 (signatures) and GB/T 32918.5-2017 (the curve).
"""

import functools
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ORDER: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123

_P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
_A: Final = _P - 3
_B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
_GX: Final = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
_GY: Final = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0
_BYTES: Final = 32
_USER_ID: Final = b"1234567812345678"  # the standard's default, which all clients use

_Point = tuple[int, int]


def sm3(data: bytes) -> bytes:
    """Return the SM3 digest, 32 bytes."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


def is_signature(signature: bytes, message: bytes, *, private_key: int) -> bool:
    """Return True if ``signature`` (DER of r and s) over ``message`` was made with the private key, 1 to ORDER - 2."""
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        return False
    if not (0 < r < ORDER and 0 < s < ORDER):
        return False
    t = (r + s) % ORDER
    point = _multiply((s + t * private_key) % ORDER) if t else None
    public = _multiply(private_key)
    if point is None or public is None:
        return False
    return any(
        (int.from_bytes(sm3(identity + message), "big") + point[0]) % ORDER == r for identity in _identities(public)
    )


def _identities(public: _Point) -> Iterator[bytes]:
    """Yield Z_A of the standard, and that of the vendor's Python SDK if it differs, which drops leading zero bytes."""
    known = [number.to_bytes(_BYTES, "big") for number in (_A, _B, _GX, _GY)]
    head = (len(_USER_ID) * 8).to_bytes(2, "big") + _USER_ID + b"".join(known)
    padded = b"".join(number.to_bytes(_BYTES, "big") for number in public)
    unpadded = b"".join(number.to_bytes((number.bit_length() + 7) // 8, "big") for number in public)
    yield sm3(head + padded)
    if unpadded != padded:
        yield sm3(head + unpadded)


def _multiply(number: int) -> _Point | None:
    """Multiply the generator by ``number`` (0 to ORDER - 1); return None for 0.

    The sum runs in Jacobian coordinates over 4-bit digits. The table's digits are one higher, and the start value
    compensates: so no digit is skipped and no partial sum is the point at infinity. Also returns None in the one case
    in 2^256 where a partial sum meets its own summand; whoever could aim at it owns the key.
    """
    (x, y), rows = _table()
    z = 1
    for row in rows:
        other_x, other_y = row[number & 15]
        number >>= 4
        z2 = z * z % _P
        h = (other_x * z2 - x) % _P
        if h == 0:
            return None
        slope = (other_y * z2 % _P * z - y) % _P
        h2 = h * h % _P
        h3 = h * h2 % _P
        v = x * h2 % _P
        x = (slope * slope - h3 - 2 * v) % _P
        y = (slope * (v - x) - y * h3) % _P
        z = z * h % _P
    inverse = pow(z, -1, _P)
    inverse2 = inverse * inverse % _P
    return x * inverse2 % _P, y * inverse2 % _P * inverse % _P


@functools.cache
def _table() -> tuple[_Point, list[list[_Point]]]:
    """Compute the start value of every sum, and for each digit i the points 1·16^i·G to 16·16^i·G.

    It takes 20 ms and 200 KiB.
    """
    rows: list[list[_Point]] = []
    first = (_GX, _GY)
    for _ in range(2 * _BYTES):
        row = [first]
        for _ in range(15):
            row.append(_add(row[-1], first))
        rows.append(row)
        first = row[-1]
    total = rows[0][0]
    for row in rows[1:]:
        total = _add(total, row[0])
    return (total[0], _P - total[1]), rows


def _add(point: _Point, other: _Point) -> _Point:
    """Add two points that are not each other's negatives."""
    if point == other:
        slope = (3 * point[0] * point[0] + _A) * pow(2 * point[1], -1, _P) % _P
    else:
        slope = (other[1] - point[1]) * pow(other[0] - point[0], -1, _P) % _P
    x = (slope * slope - point[0] - other[0]) % _P
    return x, (slope * (point[0] - x) - point[1]) % _P
