"""Password hashing: few at a time, off the event loop, in turn.

A hash costs 12 MiB and tens of milliseconds, and unauthenticated clients can request one. Each address has one place in
the queue, so that a flood from one delays others by one hash only. The user is looked up when its turn has come, so
that simultaneous guesses cannot bypass the lock. A lock applies to the guessing address alone: nobody can lock users
out elsewhere. How often an address may try is limited before that, so that it cannot guess with one name after another.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog

from pilothouse.auth import passwords
from pilothouse.auth.attempts import network_of
from pilothouse.errors import Busy, InvalidArgument, NotAuthenticated
from pilothouse.metrics import THROTTLED
from pilothouse.services.admin.audit import Audit
from pilothouse.settings import IdentitySettings
from pilothouse.shares import Rate
from pilothouse.store import password_failures, projects, users
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database
from pilothouse.store.users import LoginRow

log = structlog.get_logger(__name__)

_SHORTEST = 8
_LOG_IN = "iam:tokens:create"
_BURST_SECONDS = 10


@dataclass(frozen=True)
class Login:
    """A log-in of a user by id, or by name in the domain of that id or name; ``source`` is the address."""

    password: str = field(repr=False)
    user_id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    source: str = ""


class Passwords:
    """Hash and verify passwords."""

    def __init__(self, database: Database, settings: IdentitySettings, audit: Audit) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings
        often = settings.logins_per_second
        self._rate = Rate(often, burst=often * _BURST_SECONDS, what="log-ins", whose="this address")
        self._turns = asyncio.Semaphore(settings.password_checks)
        self._lanes: dict[str, asyncio.Lock] = {}
        self._in_lane: Counter[str] = Counter()
        # The ids of accounts by name and id, of those whose users have tried to log in.
        self._domains: dict[str, str] = {}
        # Whoever names no user costs what a wrong password costs, so that names cannot be told by the clock.
        self._nobodys_hash = passwords.hash_password(passwords.generate_password())

    async def prove(self, login: Login) -> LoginRow:
        """Return the enabled user with this password; raise NotAuthenticated, always in the same words, or Busy."""
        address = network_of(login.source)
        try:
            self._rate.take(address)
        except Busy:
            THROTTLED.labels("login").inc()
            self._note_full(login)
            raise
        async with AsyncExitStack() as turn:
            try:
                await turn.enter_async_context(self._turn(address))
            except Busy:
                self._note_full(login)
                raise
            async with self._database.autocommit() as connection:
                user = await users.find_login(
                    connection,
                    address=address,
                    user_id=login.user_id,
                    name=login.name,
                    domain_id=login.domain_id,
                    domain_name=login.domain_name,
                )
            if user is not None:
                self._domains[user.domain_id] = self._domains[user.domain_name] = user.domain_id
            # Users of identity providers have no password, and cost the same.
            known = (user.password_hash if user is not None else "") or self._nobodys_hash
            right = await asyncio.to_thread(passwords.verify_password, login.password, known)
            if user is None or not user.enabled or user.locked or not right:
                if user is not None and user.enabled and not user.locked:
                    await self._count(user, address)
                await self._note(login, user)
                # No name: people type their password where the name belongs.
                log.info("login_refused", user_id=user.id if user is not None else None)
                raise self._refusal()
            await self._settle(user, login.password, address)
        return user

    async def hash(self, password: str, *, user_name: str, source: str) -> str:
        """Return the hash of a new password; raise InvalidRequest if it is too weak, or Busy."""
        check_password(password, user_name=user_name)
        async with self._turn(network_of(source)):
            return await asyncio.to_thread(passwords.hash_password, password)

    @asynccontextmanager
    async def _turn(self, address: str) -> AsyncIterator[None]:
        """Hold the right to hash: one log-in per address is in the queue, a few more of it wait behind that one."""
        if self._in_lane[address] >= self._settings.password_queue:
            raise _too_many()
        lane = self._lanes.setdefault(address, asyncio.Lock())
        self._in_lane[address] += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(self._settings.password_queue_seconds):
                        await held.enter_async_context(lane)
                        await held.enter_async_context(self._turns)
                except TimeoutError:
                    raise _too_many() from None
                yield
        finally:
            self._in_lane[address] -= 1
            if not self._in_lane[address]:
                del self._in_lane[address], self._lanes[address]

    async def _count(self, user: LoginRow, address: str) -> None:
        if not self._settings.lock_passwords_after:
            return
        async with self._database.autocommit() as connection:
            locked = await password_failures.count(
                connection,
                user.id,
                address=address,
                most=self._settings.lock_passwords_after,
                lock_seconds=self._settings.lock_seconds,
            )
        if locked:
            log.warning("user_locked", user_id=user.id, address=address, seconds=self._settings.lock_seconds)

    async def _note(self, login: Login, user: LoginRow | None) -> None:
        """Record in the audit log; for an unknown name only the account that was named, if it exists."""
        if user is not None:
            who = Somebody(user_id=user.id, user_name=user.name, domain_id=user.domain_id, source=login.source)
            detail = "locked" if user.locked else "disabled" if not user.enabled else "wrong password"
            self._audit.note(who, _LOG_IN, outcome=Outcome.FAILED, target=user.id, target_name=user.name, detail=detail)
            return
        async with self._database.autocommit() as connection:
            domain_id = await projects.find_domain(connection, domain_id=login.domain_id, name=login.domain_name)
        nobody = Somebody(domain_id=domain_id or "", source=login.source)
        self._audit.note(nobody, _LOG_IN, outcome=Outcome.FAILED, detail="unknown user")

    def _note_full(self, login: Login) -> None:
        """Record a rejected log-in in the audit log without looking up the user, because it is a flood."""
        domain_id = self._domains.get(login.domain_id or login.domain_name or "", "")
        nobody = Somebody(domain_id=domain_id, source=login.source)
        self._audit.note(nobody, _LOG_IN, outcome=Outcome.FAILED, detail="too many log-ins at once")

    async def _settle(self, user: LoginRow, password: str, address: str) -> None:
        """Update after a right password: reset failures, and renew an outdated hash."""
        if user.failures:
            async with self._database.autocommit() as connection:
                await password_failures.forget(connection, user.id, address=address)
        if passwords.needs_rehash(user.password_hash):
            anew = await asyncio.to_thread(passwords.hash_password, password)
            async with self._database.autocommit() as connection:
                await users.replace_hash(connection, user.id, old=user.password_hash, new=anew)

    def _refusal(self) -> NotAuthenticated:
        text = "The username or password is wrong."
        if self._settings.lock_passwords_after:
            # The same answer in all cases: it must not reveal whether the user exists or is locked.
            text += (
                f" More than {self._settings.lock_passwords_after} wrong passwords in a row from one address lock a "
                f"user for {self._settings.lock_seconds:.0f} s, for that address."
            )
        return NotAuthenticated(text)


def _too_many() -> Busy:
    return Busy("too many log-ins at once; retry in a moment")


def check_password(password: str, *, user_name: str) -> None:
    """Raise InvalidRequest for a new password that is too weak."""
    if len(password) < _SHORTEST or password.lower() == user_name.lower():
        raise InvalidArgument(f"password: at least {_SHORTEST} characters, and not the user's name")
