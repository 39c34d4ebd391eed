"""Repeated authorisation of long requests, which can outlive keys, tokens and roles."""

import time
from dataclasses import replace
from typing import Final, Protocol

from pilothouse.errors import NotAuthenticated, NotFound
from pilothouse.services.identity.authentication import (
    bearer_caller,
    caller_of,
    check_alive,
    holder_of,
    session_caller,
)
from pilothouse.services.identity.bootstrap import Caller, Proof
from pilothouse.store import access_keys, provider_users, sessions, tokens
from pilothouse.store.database import Database, Transaction

#: What was asked so long ago is asked again before anything is stored or told.
FRESH_SECONDS: Final = 1.0


class Issuers(Protocol):
    """Knows whether tokens of others are still valid."""

    async def check_again(self, token: str, source: str, /) -> tuple[str, ...]:
        """Return the groups that the token has now; raise NotAuthenticated, or Busy if nobody can tell."""
        ...


class Standing:
    """Check again that callers still have their rights."""

    def __init__(self, database: Database, *, again_seconds: float, issuers: Issuers | None = None) -> None:
        """``again_seconds``: how often to check while an answer is streamed; ``issuers`` of other tokens than ours."""
        self._database = database
        self._issuers = issuers
        self.again_seconds = again_seconds

    async def require(self, caller: Caller, action: str, *, after_seconds: float = FRESH_SECONDS) -> Caller:
        """Do what ``require_still`` does, on a separate connection if the database has to be asked."""
        caller = await self.ask(caller, after_seconds=after_seconds)
        caller.require(action)
        return caller

    async def ask(self, caller: Caller, *, after_seconds: float = FRESH_SECONDS) -> Caller:
        """Return the caller as it is now, whose permissions are the caller's business."""
        if _is_fresh(caller, after_seconds):
            return caller
        if self._issuers is not None and caller.proof is not None and caller.proof.token:
            caller = _with_groups(caller, await self._issuers.check_again(caller.proof.token, caller.source))
        async with self._database.autocommit() as connection:
            return await current_caller(connection, caller, after_seconds=after_seconds)


async def require_still(
    tx: Transaction, caller: Caller, action: str, *, after_seconds: float = FRESH_SECONDS
) -> Caller:
    """Return the caller with its current roles if they allow the action; younger knowledge counts as current.

    Raises NotPermitted, and what ``ask_again`` raises.
    """
    caller = await current_caller(tx, caller, after_seconds=after_seconds)
    caller.require(action)
    return caller


async def current_caller(tx: Transaction, caller: Caller, *, after_seconds: float = FRESH_SECONDS) -> Caller:
    """Return the caller as it is now; raise what ``ask_again`` raises.

    Call it first in the transaction of a write, and check the permission of what it returns.
    """
    return caller if _is_fresh(caller, after_seconds) else await ask_again(tx, caller)


async def ask_again(tx: Transaction, caller: Caller) -> Caller:
    """Return the caller with its current roles and policies, if its credentials are still valid.

    Raises NotAuthenticated if they are not, or its user is disabled or gone, and NotFound for its project. Locks are
    about guesses, and do not end what was proved.
    """
    found = await _ask_again(tx, caller)
    return found.at(caller.where.cluster_id, caller.where.namespace)


async def _ask_again(tx: Transaction, caller: Caller) -> Caller:
    proof = caller.proof
    if proof is not None and proof.kind == "key":
        key = await access_keys.find_proving(tx, proof.id, project_id=caller.project_id)
        if key is None:
            raise NotAuthenticated("the access key, or its user, was disabled or deleted, or has expired")
        if key.project_id is None:
            raise NotFound(f"project {caller.project_id!r} was disabled or deleted, or the user has no role there now")
        return holder_of(key, caller.source)
    if proof is not None and proof.kind == "session":
        session = await sessions.find_session(tx, proof.id, project=caller.project_id)
        person = session_caller(session, caller.source, idle_limit=proof.idle_limit or 0) if session else None
        if person is None:
            raise NotAuthenticated("the session has ended, or its user's password, keys, roles or state changed")
        if caller.project_id and not person.project_id:
            raise NotFound(f"project {caller.project_id!r} was disabled or deleted, or the user has no role there now")
        return person
    if proof is not None and proof.kind == "bearer":
        return await _ask_bearer_again(tx, caller, proof)
    token = await tokens.find_token(tx, proof.id) if proof is not None else None
    if token is None:
        raise NotAuthenticated("the token was revoked")
    check_alive(token)
    return caller_of(token, caller.source)


async def _ask_bearer_again(tx: Transaction, caller: Caller, proof: Proof) -> Caller:
    user = await provider_users.find_again(tx, proof.id, project_id=caller.project_id or None, carried=proof.carried)
    expires_at = proof.expires_at or 0.0
    if user is None or not user.enabled or expires_at <= time.time():
        raise NotAuthenticated("the token has expired, or its user was disabled or deleted")
    if caller.project_id and user.project_id is None:
        raise NotFound(f"project {caller.project_id!r} was disabled or deleted, or the user has no role there now")
    found = bearer_caller(user, caller.source, proved_at=None, expires_at=expires_at)
    return replace(found, proof=proof)


def _with_groups(caller: Caller, groups: tuple[str, ...]) -> Caller:
    """Return the caller with the groups that its token has now: it can be valid still, with fewer."""
    proof = caller.proof
    if proof is None or proof.carried is None:
        return caller
    return replace(caller, proof=replace(proof, carried=replace(proof.carried, groups=groups)))


def _is_fresh(caller: Caller, seconds: float) -> bool:
    return time.monotonic() - caller.asked_at < seconds
