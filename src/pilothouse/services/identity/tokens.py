"""Tokens: issued for a password or a token, shown to their owners, revoked when their basis changes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilothouse.auth.tokens import new_token, token_digest
from pilothouse.errors import NotAuthenticated, NotFound
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import caller_of, check_alive
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.identity.users import require_user
from pilothouse.settings import IdentitySettings
from pilothouse.store import audit, projects, tokens
from pilothouse.store.audit import Outcome, Somebody
from pilothouse.store.database import Database, Transaction
from pilothouse.store.provider_users import ProviderUserRow
from pilothouse.store.tokens import LivingToken, TokenRow
from pilothouse.store.users import LoginRow

_CREATE = "iam:tokens:create"
#: So long an expired token is still told apart from one that never was.
_REMEMBERED_SECONDS = 24 * 3600.0
_MOST_LISTED = 100


@dataclass(frozen=True)
class Scope:
    """The requested scope of a token: a project by id or name, else the domain, else unscoped."""

    project_id: str | None = None
    project_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    domain: bool = False


@dataclass(frozen=True)
class IssuedToken:
    """A new token; its text exists only here."""

    text: str = field(repr=False)
    row: TokenRow


@dataclass(frozen=True)
class _Basis:
    """What a token is issued for, and what that limits."""

    detail: str
    not_after: datetime | None = None
    proven_at: datetime | None = None


@dataclass(frozen=True)
class _Holder:
    """The holder of a token, in the form of a log-in."""

    id: str
    name: str
    domain_id: str
    domain_name: str
    generation: int


class Tokens:
    """Issue, show and revoke tokens."""

    def __init__(self, database: Database, passwords: Passwords, settings: IdentitySettings, notes: Audit) -> None:
        self._database = database
        self._passwords = passwords
        self._settings = settings
        self._notes = notes

    async def issue(self, login: Login, scope: Scope, *, request_id: str) -> IssuedToken:
        """Issue a token for the user with this password; deletes long-expired tokens along the way.

        Raises NotAuthenticated, Busy or NotFound (the domain, or a project in which the user has a role).
        """
        user = await self._passwords.prove(login)
        return await self._add(user, scope, _Basis("password"), request_id=request_id, source=login.source)

    async def issue_for(
        self, user: ProviderUserRow, *, proved_at: float | None, detail: str, request_id: str, source: str
    ) -> IssuedToken:
        """Issue a token without a project for a user that was proved in another way.

        ``proved_at``: when the user logged in there; without it the token proves nothing that has to be recent.
        ``detail`` is for the audit.
        """
        holder = _Holder(user.user_id, user.user_name, user.domain_id, user.domain_name, user.generation)
        basis = _Basis(detail, proven_at=datetime.fromtimestamp(proved_at or 0.0, UTC))
        return await self._add(holder, Scope(), basis, request_id=request_id, source=source)

    async def exchange(self, token: str, scope: Scope, *, request_id: str, source: str) -> IssuedToken:
        """Return a token of another scope for the holder of a valid one; it does not expire later than that.

        Raises NotAuthenticated or NotFound (the domain, or a project in which the user has a role). Source: Keystone
        identity API v3, "Token authentication with scoped authorization".
        """
        digest = token_digest(token)
        async with self._database.autocommit() as connection:
            row = await tokens.find_token(connection, digest) if digest is not None else None
        if row is None:
            self._notes.note(Somebody(source=source), _CREATE, outcome=Outcome.FAILED, detail="unknown token")
            raise NotAuthenticated("The token is unknown or was revoked.")
        try:
            check_alive(row)
        except NotAuthenticated:
            who = Somebody(user_id=row.user_id, user_name=row.user_name, domain_id=row.domain_id, source=source)
            self._notes.note(
                who,
                _CREATE,
                outcome=Outcome.FAILED,
                target=row.user_id,
                target_name=row.user_name,
                detail="token ended",
            )
            raise
        # With the generation of the old token: what ends that one until the new one is stored ends both.
        user = _Holder(row.user_id, row.user_name, row.domain_id, row.domain_name, row.generation)
        basis = _Basis("token", row.expires_at, row.proven_at)
        return await self._add(user, scope, basis, request_id=request_id, source=source)

    async def _add(
        self,
        user: "LoginRow | _Holder",
        scope: Scope,
        basis: _Basis,
        *,
        request_id: str,
        source: str,
    ) -> IssuedToken:
        text = new_token()
        digest = token_digest(text) or ""
        try:
            async with self._database.autocommit() as connection:
                kind, project_id = await _resolve(connection, user, scope)
        except NotFound:
            who = Somebody(user_id=user.id, user_name=user.name, domain_id=user.domain_id, source=source)
            self._notes.note(
                who,
                _CREATE,
                outcome=Outcome.DENIED,
                target=scope.project_id or scope.project_name or "",
                detail="the scope is not a project or domain of this user",
            )
            raise
        async with self._database.transaction() as tx:
            await tokens.sweep(tx, expired_seconds_ago=_REMEMBERED_SECONDS)
            await tokens.add_token(
                tx,
                digest=digest,
                user_id=user.id,
                generation=user.generation,
                scope=kind,
                project_id=project_id,
                life_seconds=self._settings.token_seconds,
                not_after=basis.not_after,
                proven_at=basis.proven_at,
            )
            await tokens.end_oldest(tx, user.id, most=self._settings.tokens_per_user)
            row = await tokens.read_token(tx, digest)
            await audit.record(
                tx,
                caller_of(row, source),
                _CREATE,
                target=user.id,
                target_name=user.name,
                detail=basis.detail,
                request_id=request_id,
            )
        return IssuedToken(text, row)

    async def show(self, caller: Caller, token: str) -> TokenRow:
        """Return a valid token of the caller or, for an administrator, of its account; NotFound or Forbidden."""
        digest = token_digest(token)
        async with self._database.autocommit() as connection:
            row = await tokens.find_token(connection, digest) if digest is not None else None
        if row is None or row.domain_id != caller.domain_id:
            raise NotFound("Could not find token: it is unknown, revoked, or of another account")
        try:
            check_alive(row)
        except NotAuthenticated as error:
            raise NotFound(f"Could not find token: {error}") from error
        if row.user_id != caller.user_id:
            caller.require_in_account("iam:tokens:get")
        return row

    async def revoke(self, caller: Caller, token: str, *, request_id: str) -> None:
        """Revoke a token of the caller or, with that right, of its account; NotFound or Forbidden.

        The right to see another user's token does not include revoking it.
        """
        row = await self.show(caller, token)
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            if row.user_id != caller.user_id:
                caller.require_in_account("iam:tokens:delete")
            await tokens.remove_token(tx, row.digest)
            await audit.record(
                tx,
                caller,
                "iam:tokens:delete",
                target=row.user_id,
                target_name=row.user_name,
                request_id=request_id,
            )

    async def list_living(self, caller: Caller, *, user_id: str | None = None) -> list[LivingToken]:
        """Return the newest valid tokens of the caller, or of another user of the account; none opens anything."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:tokens:list")
        async with self._database.autocommit() as connection:
            await require_user(connection, caller, owner)
            return await tokens.list_living(connection, owner, limit=_MOST_LISTED)

    async def end(self, caller: Caller, token_id: str, *, user_id: str | None = None, request_id: str) -> None:
        """Revoke a token of the caller, or of another user of the account, by the id that the list has."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:tokens:delete")
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            if owner != caller.user_id:
                caller.require_in_account("iam:tokens:delete")
            user = await require_user(tx, caller, owner)
            if not await tokens.remove_named(tx, owner, token_id):
                raise NotFound("the token does not exist, or has ended already")
            await audit.record(
                tx, caller, "iam:tokens:delete", target=owner, target_name=user.name, request_id=request_id
            )


async def _resolve(tx: Transaction, user: "LoginRow | _Holder", scope: Scope) -> tuple[str, str | None]:
    """Return the kind of scope and the project's id."""
    if scope.domain_id not in {None, user.domain_id} or scope.domain_name not in {None, user.domain_name}:
        raise NotFound(f"scope: the domain {scope.domain_name or scope.domain_id!r} is not the user's")
    if scope.project_id is None and scope.project_name is None:
        return ("domain" if scope.domain else "none"), None
    project = await projects.find_project(
        tx, domain_id=user.domain_id, project_id=scope.project_id, name=scope.project_name, for_user=user.id
    )
    if project is None or not project.enabled:
        named = scope.project_name if scope.project_id is None else scope.project_id
        raise NotFound(
            f"scope.project: {named!r} is not an enabled project in which user {user.name!r} has a role; an "
            "administrator of the account can grant one"
        )
    return "project", project.id
