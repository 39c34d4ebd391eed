"""Sessions of the console: opened by a password or a token, and ended by whatever ends tokens.

A session is its user's, in all projects: which one a request acts in says its path. It opens the console only, so that
a stolen cookie cannot be used as a token, nor a token as a cookie.
"""

import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace

from pilothouse.auth.tokens import new_session, session_digest, token_digest
from pilothouse.errors import NotAuthenticated, NotFound
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import check_alive, named, session_caller
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.identity.users import require_user
from pilothouse.settings import IdentitySettings
from pilothouse.store import audit, sessions, tokens
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database, Transaction
from pilothouse.store.sessions import OpenSession, SessionRow

_CREATE, _DELETE = "iam:sessions:create", "iam:sessions:delete"
#: A session that was used so lately is not marked as used again.
_TOUCH_SECONDS = 30.0
_LONGEST_AGENT = 200


@dataclass(frozen=True)
class Opening:
    """Where a log-in comes from: the address, the browser as it calls itself, and the request."""

    source: str
    agent: str
    request_id: str


@dataclass(frozen=True)
class OpenedSession:
    """A new session; the text of its cookie exists only here."""

    text: str = field(repr=False)
    caller: Caller


@dataclass(frozen=True)
class Owner:
    """Whose a session is."""

    id: str
    name: str


class Sessions:
    """Open, find and end sessions."""

    def __init__(self, database: Database, passwords: Passwords, settings: IdentitySettings, notes: Audit) -> None:
        self._database = database
        self._passwords = passwords
        self._settings = settings
        self._notes = notes

    async def open_with_password(self, login: Login, opening: Opening) -> OpenedSession:
        """Open a session for the user with this password; raise NotAuthenticated or Busy."""
        user = await self._passwords.prove(replace(login, source=opening.source))
        async with self._database.transaction() as tx:
            return await self._add(tx, user.id, user.generation, opening, detail="password")

    async def open_with_token(self, token: str, opening: Opening) -> OpenedSession:
        """Open a session that ends with the token; raise NotAuthenticated."""
        digest = token_digest(token.strip())
        async with self._database.transaction() as tx:
            row = await tokens.find_token(tx, digest) if digest is not None else None
            if row is not None:
                try:
                    check_alive(row)
                except NotAuthenticated:
                    who, name = named(row, opening.source), row.user_name
                    self._notes.note(
                        who, _CREATE, outcome=Outcome.FAILED, target=row.user_id, target_name=name, detail="ended"
                    )
                    raise
                return await self._add(tx, row.user_id, row.generation, opening, token=row, detail="token")
        self._notes.note(Somebody(source=opening.source), _CREATE, outcome=Outcome.FAILED, detail="unknown token")
        raise NotAuthenticated("The token is unknown or was revoked.")

    async def open_for(self, user_id: str, generation: int, opening: Opening, *, detail: str) -> OpenedSession:
        """Open a session for a user that was proved in another way, of which ``detail`` tells the audit."""
        async with self._database.transaction() as tx:
            return await self._add(tx, user_id, generation, opening, detail=detail)

    async def _add(
        self,
        tx: Transaction,
        user_id: str,
        generation: int,
        opening: Opening,
        *,
        token: tokens.TokenRow | None = None,
        detail: str,
    ) -> OpenedSession:
        text = new_session()
        digest = session_digest(text) or ""
        await sessions.add_session(
            tx,
            digest=digest,
            session_id=uuid.uuid4().hex,
            user_id=user_id,
            generation=generation,
            life_seconds=self._settings.session_seconds,
            source=opening.source,
            agent=opening.agent.replace("\0", "")[:_LONGEST_AGENT],
            token_digest=token.digest if token is not None else None,
            not_after=token.expires_at if token is not None else None,
            proven_at=token.proven_at if token is not None else None,
        )
        await sessions.end_oldest(tx, user_id, most=self._settings.sessions_per_user)
        row = await sessions.find_session(tx, digest, project="")
        caller = self._caller(row, opening.source)
        if caller is None:
            raise NotAuthenticated("The user was changed during the log-in; log in again.")
        owner = Owner(caller.user_id, caller.user_name)
        await _record(tx, caller, owner, _CREATE, detail=detail, request_id=opening.request_id)
        return OpenedSession(text, caller)

    async def find(self, text: str, project: str, source: str, *, in_use: bool) -> Caller | None:
        """Return the caller of a session in the project of that id or name; None if the session is none or has ended.

        The caller has no project if it has no role in that one. ``in_use``: a person acts, which puts the idle end off.
        """
        digest = session_digest(text)
        if digest is None:
            return None
        async with self._database.autocommit() as connection:
            row = await sessions.find_session(connection, digest, project=project)
            caller = self._caller(row, source)
            if caller is not None and row is not None and in_use and row.idle_seconds > _TOUCH_SECONDS:
                await sessions.touch(connection, digest)
        return caller

    def _caller(self, row: SessionRow | None, source: str) -> Caller | None:
        return session_caller(row, source, idle_limit=self._settings.session_idle_seconds) if row is not None else None

    async def list_open(self, caller: Caller, *, user_id: str | None = None) -> list[OpenSession]:
        """Return the sessions of the caller, or of another user of the account, the last used first."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:sessions:list")
        async with self._database.autocommit() as connection:
            await require_user(connection, caller, owner)
            return await sessions.list_sessions(connection, owner, idle_seconds=self._settings.session_idle_seconds)

    async def find_own_id(self, caller: Caller) -> str:
        """Return the id of the session that the caller acts by; empty if it acts by another proof."""
        if caller.proof is None or caller.proof.kind != "session":
            return ""
        async with self._database.autocommit() as connection:
            row = await sessions.find_session(connection, caller.proof.id, project="")
        return row.id if row is not None else ""

    async def end(self, caller: Caller, session_id: str, *, user_id: str | None = None, request_id: str) -> None:
        """End a session of the caller, or of another user of the account; NotFound if there is none of that id."""
        async with self._database.transaction() as tx:
            caller, owner = await self._of_whom(tx, caller, user_id)
            if not await sessions.remove_session(tx, owner.id, session_id):
                raise NotFound("the session does not exist, or has ended already")
            await _record(tx, caller, owner, _DELETE, request_id=request_id)

    async def end_previous(self, caller: Caller, *, request_id: str) -> None:
        """End the session that the caller acts by, in place of which it has opened another; nothing if it has ended."""
        session_id = await self.find_own_id(caller)
        with suppress(NotAuthenticated, NotFound):
            await self.end(caller, session_id, request_id=request_id)

    async def end_all(self, caller: Caller, *, user_id: str | None = None, request_id: str) -> int:
        """End all sessions of the caller, this one too, or of another user of the account; return how many."""
        async with self._database.transaction() as tx:
            caller, owner = await self._of_whom(tx, caller, user_id)
            ended = await sessions.remove_all(tx, owner.id)
            await _record(tx, caller, owner, _DELETE, detail=f"all {ended}", request_id=request_id)
        return ended

    async def _of_whom(self, tx: Transaction, caller: Caller, user_id: str | None) -> tuple[Caller, Owner]:
        """Return the caller as it is now, and whose sessions it may end."""
        caller = await current_caller(tx, caller)
        if user_id is None or user_id == caller.user_id:
            return caller, Owner(caller.user_id, caller.user_name)
        caller.require_in_account(_DELETE)
        row = await require_user(tx, caller, user_id)
        return caller, Owner(row.id, row.name)


async def _record(
    tx: Transaction, caller: Caller, owner: Owner, action: str, *, detail: str = "", request_id: str
) -> None:
    await audit.record(
        tx, caller, action, target=owner.id, target_name=owner.name, detail=detail, request_id=request_id
    )
