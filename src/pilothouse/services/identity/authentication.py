"""Authentication of requests: one lookup per request, and no write unless something fails.

Wrong signatures are counted by address and key in this process (``auth.attempts``): they are delayed more and more, and
nobody else is. Locking a key for everyone, as the vendor does, is a setting.
"""

import math
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Protocol

import structlog

from pilothouse.auth.attempts import Attempts
from pilothouse.auth.policy_documents import only_denials
from pilothouse.auth.sealing import MasterKeys
from pilothouse.auth.tokens import token_digest
from pilothouse.errors import Busy, DatabaseUnavailable, DecryptionFailed, NotAuthenticated, NotFound
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.bootstrap import Caller, Proof, open_secret
from pilothouse.settings import IdentitySettings
from pilothouse.store import access_keys, lockout, tokens
from pilothouse.store.access_keys import ProvingKeyRow
from pilothouse.store.audit import Outcome, Somebody, names_of
from pilothouse.store.database import Database
from pilothouse.store.provider_users import ProviderUserRow
from pilothouse.store.roles import Carried
from pilothouse.store.sessions import SessionRow
from pilothouse.store.tokens import TokenRow

log = structlog.get_logger(__name__)

#: The tails of "Incorrect IAM authentication information: " (API Request Signing Guide, FAQs).
_LOCKED = "AK access failed to reach the limit,forbidden."
_UNREADABLE_KEY = "what is stored of this access key cannot be read; make a new key, and delete this one"
#: What a failed proof was to do, as the audit names it.
_SIGN, _TOKEN = "iam:credentials:use", "iam:tokens:use"
_USE_PROJECT = "iam:projects:use"
#: Of so many keys it is remembered whose they are, so that refusing one that is wrong again asks nobody.
_MOST_HOLDERS = 1_000
_UNKNOWN_TOKEN = "decrypt token fail"  # noqa: S105 - the vendor's words


@dataclass(frozen=True)
class KeyHolder:
    """An enabled access key with its plaintext secret and its user; keep it for one request only."""

    secret_key: str = field(repr=False)
    access_key: str
    failures: int
    used_long_ago: bool
    caller: Caller


class Bearers(Protocol):
    """Verifies tokens of identity providers."""

    def takes(self, token: str, /) -> bool:
        """Return True for text in the form of a token of a provider that is set up."""
        ...

    async def find_bearer(self, token: str, project_id: str | None, source: str, /) -> Caller:
        """Return the caller of a token that ``takes`` knows; raise what ``Authentication.find_token`` raises."""
        ...


class Authentication:
    """Look up access keys and tokens."""

    def __init__(
        self,
        database: Database,
        keys: MasterKeys,
        settings: IdentitySettings,
        audit: Audit,
        *,
        bearers: Bearers | None = None,
    ) -> None:
        """Refuse tokens of identity providers without ``bearers``."""
        self._bearers = bearers
        self._database = database
        self._keys = keys
        self._settings = settings
        self._audit = audit
        self._attempts = Attempts(free=settings.slow_signatures_after, longest_seconds=settings.slow_signatures_seconds)
        self._holders: OrderedDict[str, Somebody] = OrderedDict()

    async def find_key(self, access_key: str, project_id: str | None, source: str) -> KeyHolder | None:
        """Return the holder of an enabled access key, in the requested project or the key's own; else None.

        Raises NotAuthenticated for a locked key, and Busy for one with too many wrong signatures from the address
        ``source`` that was not recently proved from there.
        """
        wait = self._attempts.wait_seconds(source, access_key)
        if wait:
            who = self._holders.get(access_key, Somebody())
            self._note_key(replace(who, source=source), access_key, "slowed: too many wrong signatures")
            raise _too_often(wait)
        async with self._database.autocommit() as connection:
            row = await access_keys.find_proving(connection, access_key, project_id=project_id)
        if row is None:
            self._attempts.fail(source, access_key)
            self._audit.note(Somebody(source=source), _SIGN, outcome=Outcome.FAILED, detail="unknown access key")
            return None
        if row.locked:
            self._note_key(named(row, source), row.id, "locked")
            raise NotAuthenticated(_LOCKED)
        try:
            secret_key = open_secret(row.secret_sealed, keys=self._keys, access_key=row.id)
        except (DecryptionFailed, UnicodeDecodeError) as error:
            log.warning("access_key_unreadable", access_key=row.id, cause=str(error))
            self._note_key(named(row, source), row.id, "its secret does not open")
            raise NotAuthenticated(_UNREADABLE_KEY) from error
        return KeyHolder(
            secret_key=secret_key,
            access_key=row.id,
            failures=row.failures,
            used_long_ago=row.used_long_ago,
            caller=holder_of(row, source),
        )

    async def select_project(self, holder: KeyHolder, project_id: str | None) -> Caller:
        """Return the caller in the project that the key was looked up for; NotFound if the account lacks it."""
        self._attempts.succeed(holder.caller.source, holder.access_key)
        if holder.used_long_ago:
            self._audit.note_use(holder.access_key)
        if holder.failures:
            async with self._database.autocommit() as connection:
                await lockout.forget_failures(connection, holder.access_key)
        if holder.caller.project_id:
            return holder.caller
        self._audit.note(
            holder.caller, _USE_PROJECT, outcome=Outcome.DENIED, target=project_id or "", detail="unknown or disabled"
        )
        if project_id is None:
            raise NotFound(f"the project of access key {holder.access_key} is disabled; name another in X-Project-Id")
        raise NotFound(f"X-Project-Id {project_id!r} is not an enabled project in which the user has a role")

    async def reject_key(self, holder: KeyHolder) -> None:
        """Count a wrong signature; raise Busy if the next one from that address has to wait."""
        if self._settings.lock_keys_after:
            async with self._database.autocommit() as connection:
                locked = await lockout.count_failure(
                    connection,
                    holder.access_key,
                    most=self._settings.lock_keys_after,
                    lock_seconds=self._settings.lock_seconds,
                )
            if locked:
                log.warning("access_key_locked", access_key=holder.access_key, seconds=self._settings.lock_seconds)
        who = replace(Somebody(**names_of(holder.caller)), project_id="", project_name="")
        self._holders[holder.access_key] = who
        if len(self._holders) > _MOST_HOLDERS:
            self._holders.popitem(last=False)
        self._note_key(who, holder.access_key, "wrong signature")
        wait = self._attempts.fail(holder.caller.source, holder.access_key)
        if wait:
            raise _too_often(wait)

    async def note_unusable(self, access_key: str, source: str, reason: str) -> None:
        """Record in the audit log a request that names a key but proves nothing, such as a replay.

        ``reason`` is one of a few fixed texts. Not for unknown keys: unauthenticated clients can name anything.
        """
        with suppress(DatabaseUnavailable):  # the request is refused in any case
            async with self._database.autocommit() as connection:
                row = await access_keys.find_proving(connection, access_key, project_id=None)
            if row is not None:
                self._note_key(named(row, source), row.id, reason)

    def _note_key(self, who: Somebody, access_key: str, reason: str) -> None:
        # Names from unauthenticated clients are stored only if they exist.
        target = access_key if who.user_id else ""
        self._audit.note(who, _SIGN, outcome=Outcome.FAILED, target=target, target_name=who.user_name, detail=reason)

    async def find_token(self, token: str, project_id: str | None, source: str) -> Caller:
        """Return the caller of a valid token; NotAuthenticated says why it is not valid.

        A request that names another project than the token's raises NotFound, because it would act in the wrong
        project.
        """
        digest = token_digest(token)
        row = None
        if digest is not None:
            async with self._database.autocommit() as connection:
                row = await tokens.find_token(connection, digest)
        elif self._bearers is not None and self._bearers.takes(token):
            return await self._bearers.find_bearer(token, project_id, source)
        if row is None:
            self._audit.note(Somebody(source=source), _TOKEN, outcome=Outcome.FAILED, detail="unknown token")
            raise NotAuthenticated(_UNKNOWN_TOKEN)
        try:
            check_alive(row)
        except NotAuthenticated:
            self._audit.note(
                named(row, source),
                _TOKEN,
                outcome=Outcome.FAILED,
                target=row.user_id,
                target_name=row.user_name,
                detail="ended",
            )
            raise
        if project_id is not None and row.project_id is not None and project_id != row.project_id:
            self._audit.note(
                caller_of(row, source),
                _USE_PROJECT,
                outcome=Outcome.DENIED,
                target=project_id,
                detail="not the project of the token",
            )
            raise NotFound(f"X-Project-Id {project_id!r} is not the project of the token; leave the header out")
        return caller_of(row, source)


def named(row: ProvingKeyRow | TokenRow, source: str) -> Somebody:
    """Return whose key or token it is, for the audit log."""
    return Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)


def holder_of(row: ProvingKeyRow, source: str) -> Caller:
    """Return the caller of the key, in the project that it was looked up for."""
    return _caller(row, source, Proof("key", row.id))


def _too_often(wait: float) -> Busy:
    return Busy(
        "too many wrong signatures of this access key from this address; check the secret key and the clock",
        retry_after_seconds=max(1, math.ceil(wait)),
    )


def check_alive(row: TokenRow) -> None:
    """Raise NotAuthenticated for a token that has expired or was revoked."""
    if row.expired:
        raise NotAuthenticated(f"token expires, expires_at: {row.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
    if not row.alive:
        raise NotAuthenticated(
            f"{_UNKNOWN_TOKEN}, the token was revoked: its user's password, keys, roles or state changed, or its "
            "project was disabled; request a new one"
        )


def caller_of(row: TokenRow, source: str) -> Caller:
    """Return the caller of the token: its scope decides which of the user's roles count."""
    found = _caller(row, source, Proof("token", row.digest, row.proven_seconds_ago))
    return replace(
        found,
        roles=found.roles if row.scope == "project" else frozenset(),
        account_roles=found.account_roles if row.scope in {"project", "domain"} else frozenset(),
        policies=found.policies if row.scope == "project" else (),
        account_policies=found.account_policies if row.scope in {"project", "domain"} else (),
    )


def session_caller(row: SessionRow, source: str, *, idle_limit: float) -> Caller | None:
    """Return the caller of the session, in the project that it was looked up for; None if the session has ended."""
    if not row.alive or row.expired or row.idle_seconds >= idle_limit:
        return None
    return _caller(row, source, Proof("session", row.digest, row.proven_seconds_ago, idle_limit))


def bearer_caller(
    row: ProviderUserRow,
    source: str,
    *,
    proved_at: float | None,
    expires_at: float,
    carried: Carried | None = None,
    token: str = "",
) -> Caller:
    """Return the caller of a provider's token, in the project that its user was looked up for.

    ``carried`` and ``token`` are those of ``Proof``.
    """
    age = None if proved_at is None else max(0.0, time.time() - proved_at)
    proof = Proof("bearer", row.user_id, age, expires_at=expires_at, carried=carried, token=token)
    held = replace(
        row,
        policies=[*row.policies, *only_denials(row.limits)],
        account_policies=[*row.account_policies, *only_denials(row.account_limits)],
    )
    return _caller(held, source, proof)


def _caller(row: ProvingKeyRow | TokenRow | SessionRow | ProviderUserRow, source: str, proof: Proof) -> Caller:
    """Return whoever proved it, with all roles that the user has."""
    return Caller(
        user_id=row.user_id,
        user_name=row.user_name,
        domain_id=row.domain_id,
        domain_name=row.domain_name,
        project_id=row.project_id or "",
        roles=frozenset(row.roles),
        account_roles=frozenset(row.account_roles),
        project_name=row.project_name or "",
        source=source,
        proof=proof,
        policies=tuple(row.policies),
        account_policies=tuple(row.account_policies),
    )
