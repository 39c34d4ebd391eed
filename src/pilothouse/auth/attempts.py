"""Delays for wrong signatures of one key from one address, growing with each failure.

A secret key cannot be guessed, so nothing is locked; the delay limits the cost of wrong requests. A client that proved
the key from the address is not slowed by wrong signatures of another client behind the same address (NAT). Counts are
kept per process: each API process counts only the requests that reach it.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MOST_PAIRS: Final = 20_000
#: So long a failure is remembered after the last one, and a success after it.
_FAILURE_SECONDS: Final = 600.0
_SUCCESS_SECONDS: Final = 3600.0

_Pair = tuple[str, str]


@dataclass
class _Failures:
    number: int
    last: float
    until: float


class Attempts:
    """Count failures by address and key, in bounded memory."""

    def __init__(
        self,
        *,
        free: int,
        longest_seconds: float,
        most: int = _MOST_PAIRS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow ``free`` failures in a row without a delay; 0 disables delays."""
        self._free = free
        self._longest = longest_seconds
        self._most = most
        self._monotonic = monotonic
        self._failed: OrderedDict[_Pair, _Failures] = OrderedDict()
        self._proven: OrderedDict[_Pair, float] = OrderedDict()

    def wait_seconds(self, address: str, key: str) -> float:
        """Return the delay before that key may be tried again from that address; 0 for none."""
        pair = (network_of(address), key)
        now = self._monotonic()
        failures = self._failed.get(pair)
        if failures is None or self._is_proven(pair, now):
            return 0.0
        return max(0.0, failures.until - now)

    def fail(self, address: str, key: str) -> float:
        """Count a failure and return the delay before the next try; 0 while failures are free."""
        if not self._free:
            return 0.0
        pair = (network_of(address), key)
        now = self._monotonic()
        before = self._failed.pop(pair, None)
        number = before.number + 1 if before is not None and now - before.last < _FAILURE_SECONDS else 1
        over = number - self._free
        wait = min(self._longest, 2.0 ** min(over - 1, 30)) if over > 0 else 0.0
        self._failed[pair] = _Failures(number, now, now + wait)
        while len(self._failed) > self._most:
            self._failed.popitem(last=False)
        return wait

    def succeed(self, address: str, key: str) -> None:
        """Reset the count of a key proved from that address, and exempt the pair from delays for an hour."""
        if not self._free:
            return
        pair = (network_of(address), key)
        self._failed.pop(pair, None)
        self._proven.pop(pair, None)
        self._proven[pair] = self._monotonic()
        while len(self._proven) > self._most:
            self._proven.popitem(last=False)

    def _is_proven(self, pair: _Pair, now: float) -> bool:
        at = self._proven.get(pair)
        return at is not None and now - at < _SUCCESS_SECONDS


def network_of(address: str) -> str:
    """Return what one customer of a network can use freely: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
