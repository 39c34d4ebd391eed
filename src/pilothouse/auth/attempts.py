"""How often somebody may be wrong: wrong signatures of a key from an address are answered ever later.

A secret key cannot be guessed, so nothing is locked: what is limited is what wrong requests cost. Whoever has proven
the key from that address is not slowed by another's wrong signatures, though both come from behind one address (NAT).
Counts live in the process: each of several counts what reaches it.
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
    """Counts failures by address and key, in bounded memory."""

    def __init__(
        self,
        *,
        free: int,
        longest_seconds: float,
        most: int = _MOST_PAIRS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``free`` failures in a row cost nothing; 0: none ever does."""
        self._free = free
        self._longest = longest_seconds
        self._most = most
        self._monotonic = monotonic
        self._failed: OrderedDict[_Pair, _Failures] = OrderedDict()
        self._proven: OrderedDict[_Pair, float] = OrderedDict()

    def wait_seconds(self, address: str, key: str) -> float:
        """How long the next try of that key from that address has to wait; 0: not at all."""
        pair = (network_of(address), key)
        now = self._monotonic()
        failures = self._failed.get(pair)
        if failures is None or self._is_proven(pair, now):
            return 0.0
        return max(0.0, failures.until - now)

    def fail(self, address: str, key: str) -> float:
        """Counts a failure; gives how long the next try should wait, 0 while failures are free."""
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
        """The key was proven from that address: its count starts anew, and nothing slows it for an hour."""
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
    """What one customer of a network has at will: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
