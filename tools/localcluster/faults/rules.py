"""What is to happen to which request: rules, the requests that they hold, and the log of everything that passed."""

import asyncio
import itertools
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

Action = Literal["cut", "delay", "freeze", "refuse"]
When = Literal["request", "answer"]
How = Literal["pass", "cut"]

_KEPT = 200_000


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fault: the ``nth`` request (0: every one) that matches is cut, delayed by ``seconds``, frozen, or refused.

    The texts are patterns as in file names; ``pids``, if there are any, are the only senders that count, and
    ``parents`` the only parents of senders. ``when`` says
    whether the other end sees the request: ``request`` strikes before anything of it is passed on, ``answer`` when the
    other end has answered and nothing of that is passed back. ``changing`` passes over statements that changed no row,
    and COMMITs of none but such. A frozen request stays until it is released. A refused one, of Kubernetes only, is
    answered with the error ``status`` in the API server's place.
    """

    action: Action
    listener: str = "*"
    verb: str = "*"
    resource: str = "*"
    name: str = "*"
    namespace: str = "*"
    agent: str = "*"
    pids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    nth: int = 1
    when: When = "request"
    changing: bool = False
    seconds: float = 0.0
    status: int = 503


@dataclass(kw_only=True)
class Exchange:
    """One request and its answer, or one SQL statement that changes something, or the COMMIT of such statements.

    ``verb`` is Kubernetes' word (create, get, list, watch, update, patch, delete) or SQL's. ``resource`` is the plural,
    with a slash before a subresource, or what a statement changes, such as ``UPDATE operations(lease_until)``. ``pid``
    is the process that sent it and ``parent`` that one's parent, 0 if they were gone before they could be found out.
    ``status`` is HTTP's, or 1 for a statement that failed; ``rows`` how many a statement changed, -1 if that is not
    known yet. Times are seconds since the epoch.
    """

    number: int
    listener: str
    pid: int
    parent: int
    verb: str
    resource: str
    name: str = ""
    namespace: str = ""
    agent: str = ""
    audit_id: str = ""
    status: int = 0
    rows: int = -1
    received: float = field(default_factory=time.time)
    answered: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Held:
    """A frozen request that waits to be released."""

    number: int
    when: When
    exchange: Exchange


class ConnectionCut(Exception):
    """The connection is to be closed, at both ends."""


class RequestRefused(Exception):
    """The request is to be answered with the error ``status`` instead of being passed on."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class RuleBook:
    """The rules in force, the requests that they hold, and the log; belongs to one event loop."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._held: dict[int, tuple[Held, asyncio.Future[How]]] = {}
        self._numbers = itertools.count(1)
        self._hold_numbers = itertools.count(1)
        self._changed = asyncio.Condition()
        self.log: deque[Exchange] = deque(maxlen=_KEPT)

    def arm(self, rule: Rule) -> None:
        """From now on the rule counts."""
        self._armed.append(_Armed(rule))

    def disarm(self) -> None:
        """No rule is in force; what is held stays held."""
        self._armed.clear()

    def clear(self, how: How) -> None:
        """No rule is in force, and what was held is released."""
        self.disarm()
        for number in list(self._held):
            self.release(number, how)

    def note(self, **what: Any) -> Exchange:
        """Return a new exchange, in the log."""
        exchange = Exchange(number=next(self._numbers), **what)
        self.log.append(exchange)
        return exchange

    def awaits_answers(self, listener: str) -> bool:
        """Whether a rule may strike an answer there."""
        return any(one.rule.when == "answer" and fnmatchcase(listener, one.rule.listener) for one in self._armed)

    async def strike(self, when: When, exchange: Exchange) -> None:
        """Return when the exchange may go on; raise ConnectionCut or RequestRefused when it may not.

        Call it once for each ``when``.
        """
        struck = None
        for armed in list(self._armed):
            if armed.rule.when == when and armed.counts(exchange) and struck is None:
                struck = armed.rule
                if struck.nth:
                    self._armed.remove(armed)
        if struck is not None:
            await self._carry_out(struck, when, exchange)

    async def _carry_out(self, rule: Rule, when: When, exchange: Exchange) -> None:
        match rule.action:
            case "delay":
                await asyncio.sleep(rule.seconds)
            case "cut":
                raise ConnectionCut
            case "freeze":
                await self._hold(when, exchange)
            case "refuse":
                raise RequestRefused(rule.status)

    async def _hold(self, when: When, exchange: Exchange) -> None:
        held = Held(number=next(self._hold_numbers), when=when, exchange=exchange)
        released: asyncio.Future[How] = asyncio.get_running_loop().create_future()
        self._held[held.number] = (held, released)
        try:
            async with self._changed:
                self._changed.notify_all()
            if await released == "cut":
                raise ConnectionCut
        finally:
            self._held.pop(held.number, None)

    def release(self, number: int, how: How) -> bool:
        """Lets a held request go on, or cuts it; False when it is not held any more."""
        held = self._held.get(number)
        if held is None or held[1].done():
            return False
        held[1].set_result(how)
        return True

    async def wait_held(self, seconds: float) -> list[Held]:
        """Return what is held, once there is something, or nothing after ``seconds``."""
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait_for(lambda: self._held)
            except TimeoutError:
                return []
        return [held for held, _ in self._held.values()]


class _Armed:
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._count = 0

    def counts(self, exchange: Exchange) -> bool:
        """Whether this is the one that the rule is about; each match is counted."""
        rule = self.rule
        if rule.pids and exchange.pid not in rule.pids:
            return False
        if rule.parents and exchange.parent not in rule.parents:
            return False
        if rule.changing and exchange.rows == 0:
            return False
        own = asdict(exchange)
        patterns = ("listener", "verb", "resource", "name", "namespace", "agent")
        if not all(fnmatchcase(str(own[key]), getattr(rule, key)) for key in patterns):
            return False
        self._count += 1
        return rule.nth in (0, self._count)
