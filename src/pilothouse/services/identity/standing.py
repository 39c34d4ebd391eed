"""Whether a caller still may do what its request was let in for: what takes long outlives keys, tokens and roles."""

import time
from typing import Final

from pilothouse.errors import NotAuthenticated, NotFound
from pilothouse.services.identity.authentication import caller_of, check_alive, holder_of
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.store import access_keys, tokens
from pilothouse.store.database import Database, Transaction

#: What was asked so long ago is asked again before anything is stored or told.
FRESH_SECONDS: Final = 1.0


class Standing:
    """Asks again about callers."""

    def __init__(self, database: Database, *, again_seconds: float) -> None:
        """``again_seconds``: how often to ask while something is told bit by bit."""
        self._database = database
        self.again_seconds = again_seconds

    async def require(self, caller: Caller, action: str, *, after_seconds: float = FRESH_SECONDS) -> Caller:
        """Do what ``require_still`` does, on a connection of its own if it has to ask."""
        if _is_fresh(caller, after_seconds):
            caller.require(action)
            return caller
        async with self._database.statements() as tx:
            return await require_still(tx, caller, action, after_seconds=after_seconds)


async def require_still(
    tx: Transaction, caller: Caller, action: str, *, after_seconds: float = FRESH_SECONDS
) -> Caller:
    """Return the caller as it is now, if its roles allow the action; what is known for less than that counts as now.

    Raises NotPermitted, and what ``ask_again`` raises.
    """
    if not _is_fresh(caller, after_seconds):
        caller = await ask_again(tx, caller)
    caller.require(action)
    return caller


async def ask_again(tx: Transaction, caller: Caller) -> Caller:
    """Return the caller as it is now: with the roles of this moment, if what it proved itself by still counts.

    Raises NotAuthenticated if that has ended, or its user is disabled or gone, and NotFound for its project. Locks
    are about guesses, and end nothing that was proven.
    """
    proof = caller.proof
    if proof is not None and proof.kind == "key":
        key = await access_keys.find_proving(tx, proof.id, project_id=caller.project_id)
        if key is None:
            raise NotAuthenticated("the access key, or its user, was disabled or deleted, or has expired")
        if key.project_id is None:
            raise NotFound(f"project {caller.project_id!r} was disabled or deleted, or the user has no role there now")
        return holder_of(key, caller.source)
    token = await tokens.find_token(tx, proof.id) if proof is not None else None
    if token is None:
        raise NotAuthenticated("the token was revoked")
    check_alive(token)
    return caller_of(token, caller.source)


def _is_fresh(caller: Caller, seconds: float) -> bool:
    return time.monotonic() - caller.asked_at < seconds
