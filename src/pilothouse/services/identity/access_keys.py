"""Access keys: users manage their own, administrators of the account all; a secret is shown once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilothouse.auth.passwords import generate_access_key, generate_secret_key
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import (
    Checks,
    Forbidden,
    InvalidArgument,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    QuotaExceeded,
)
from pilothouse.services.identity.bootstrap import Caller, seal_secret
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.services.identity.standing import current_caller
from pilothouse.settings import IdentitySettings
from pilothouse.store import access_keys as store
from pilothouse.store import audit, projects, roles, users
from pilothouse.store.access_keys import AccessKeyRow
from pilothouse.store.database import Database, Transaction
from pilothouse.store.projects import ProjectRow
from pilothouse.store.users import UserRow

_UPDATE = "iam:credentials:updateCredential"
_LONGEST_DESCRIPTION = 255


@dataclass(frozen=True)
class AccessKeyRequest:
    """A key to be created; by default the caller's, in the caller's project, without expiry."""

    user_id: str | None = None
    project_id: str | None = None
    expires_at: datetime | None = None
    description: str = ""
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class NewAccessKey:
    """A created key and its secret, which is shown only now."""

    row: AccessKeyRow
    secret_key: str = field(repr=False)


class AccessKeys:
    """Create, show, disable and delete access keys."""

    def __init__(self, database: Database, keys: MasterKeys, passwords: Passwords, settings: IdentitySettings) -> None:
        self._database = database
        self._keys = keys
        self._passwords = passwords
        self._settings = settings

    async def list_keys(self, caller: Caller, *, user_id: str | None) -> list[AccessKeyRow]:
        """Return the keys of the caller, or of another user of the account, oldest first."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:credentials:listCredentials")
        async with self._database.autocommit() as connection:
            if await users.find_user(connection, owner, domain_id=caller.domain_id) is None:
                raise NotFound(f"user {owner!r} does not exist in this account")
            return await store.list_access_keys(connection, owner)

    async def show(self, caller: Caller, access_key: str) -> AccessKeyRow:
        """Return one key without its secret; NotFound for another account's."""
        return await self._find(caller, access_key, action="iam:credentials:getCredential")

    async def create(self, caller: Caller, request: AccessKeyRequest, *, request_id: str) -> NewAccessKey:
        """Create a key for the caller or another user; in a project of the account where none is named.

        The caller proves itself with its password, or a token or session of a log-in a few minutes ago. Raises
        NotFound, InvalidRequest, Forbidden (no proof, or another owner has no role there), QuotaExceeded or Busy.
        """
        owner_id = request.user_id or caller.user_id
        if owner_id != caller.user_id:
            caller.require_in_account("iam:credentials:createCredential")
        project_id, checks = request.project_id or caller.project_id, Checks()
        if not project_id:
            raise InvalidArgument("project_id: missing; name the project that the key acts in")
        async with self._database.autocommit() as connection:
            owner, project = await _find_owner(connection, caller, owner_id, project_id)
        checks.read(lambda: _check_expiry(request.expires_at))
        checks.read(lambda: _check_description(request.description))
        checks.read(lambda: self._check_proof(caller, request.password))
        checks.end()
        await self._prove(caller, request.password)
        access_key, secret_key = generate_access_key(), generate_secret_key()
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            if owner_id != caller.user_id:
                caller.require_in_account("iam:credentials:createCredential")
            most = self._settings.keys_per_project
            if await store.count_of_user(tx, owner.id, project_id=project.id) >= most:
                raise QuotaExceeded(
                    f"user {owner.name!r} has {most} access keys in project {project.name!r}, the limit; delete one "
                    "first"
                )
            await _find_owner(tx, caller, owner_id, project_id)
            row = await store.add_access_key(
                tx,
                access_key=access_key,
                user_id=owner.id,
                project_id=project.id,
                secret_sealed=seal_secret(secret_key, keys=self._keys, access_key=access_key),
                expires_at=request.expires_at,
                description=request.description,
            )
            await audit.record(
                tx,
                caller,
                "iam:credentials:createCredential",
                target=access_key,
                target_name=owner.name,
                detail=f"in project {project.name}",
                request_id=request_id,
            )
        return NewAccessKey(row, secret_key)

    async def check_change(self, caller: Caller, access_key: str) -> None:
        """Return if the caller may enable and disable the key, else raise NotFound or Forbidden."""
        await self._find(caller, access_key, action=_UPDATE)

    async def change(
        self,
        caller: Caller,
        access_key: str,
        *,
        enabled: bool | None = None,
        description: str | None = None,
        request_id: str,
    ) -> AccessKeyRow:
        """Change what is not None. Enabling also lifts a lock; disabling revokes the tokens of the key's user."""
        if enabled is None and description is None:
            raise InvalidArgument("nothing to change; send enabled, description, or both")
        _check_description(description or "")
        found = await self._find(caller, access_key, action=_UPDATE)
        row: AccessKeyRow | None = found
        done = []
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            _check_owner(caller, found, _UPDATE)
            if enabled is not None:
                row = await store.set_enabled(tx, access_key, enabled=enabled)
                done.append("enable" if enabled else "disable")
            if description is not None:
                row = await store.set_description(tx, access_key, description)
                done.append("describe")
            if row is None:
                raise _unknown(access_key)
            if enabled is False:
                await users.end_tokens(tx, found.user_id)
            await self._record(tx, caller, _UPDATE, found, detail=", ".join(done), request_id=request_id)
        return row

    async def remove(self, caller: Caller, access_key: str, *, request_id: str) -> None:
        """Delete a key, which revokes the tokens of its user."""
        action = "iam:credentials:deleteCredential"
        found = await self._find(caller, access_key, action=action)
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            _check_owner(caller, found, action)
            if not await store.remove_access_key(tx, access_key):
                raise _unknown(access_key)
            await users.end_tokens(tx, found.user_id)
            await self._record(tx, caller, action, found, request_id=request_id)

    def _check_proof(self, caller: Caller, password: str | None) -> None:
        if caller.carried is not None or (password is None and not self._has_just_logged_in(caller)):
            raise InvalidRequest(_without_proof(caller, minutes=self._settings.key_proof_seconds / 60))

    def _has_just_logged_in(self, caller: Caller) -> bool:
        fresh = self._settings.key_proof_seconds
        age = caller.proof.age_seconds if caller.proof is not None else None
        return not fresh or (age is not None and age <= fresh)

    async def _prove(self, caller: Caller, password: str | None) -> None:
        if password is None or self._has_just_logged_in(caller):
            return
        try:
            await self._passwords.prove(Login(password=password, user_id=caller.user_id, source=caller.source))
        except NotAuthenticated as error:
            # The request itself was authenticated: 401 would make clients look for other credentials.
            raise Forbidden(f"password: {error}") from error

    @staticmethod
    async def _record(
        tx: Transaction, caller: Caller, action: str, row: AccessKeyRow, *, detail: str = "", request_id: str
    ) -> None:
        owner = await users.find_user(tx, row.user_id, domain_id=caller.domain_id)
        await audit.record(
            tx,
            caller,
            action,
            target=row.id,
            target_name=owner.name if owner is not None else "",
            detail=detail,
            request_id=request_id,
        )

    async def _find(self, caller: Caller, access_key: str, *, action: str) -> AccessKeyRow:
        async with self._database.autocommit() as connection:
            row = await store.find_access_key(connection, access_key, domain_id=caller.domain_id)
        if row is None:
            raise _unknown(access_key)
        _check_owner(caller, row, action)
        return row


async def _find_owner(tx: Transaction, caller: Caller, user_id: str, project_id: str) -> tuple[UserRow, ProjectRow]:
    """Return the key's owner and project; Forbidden where another user would have no rights with it.

    A project in which the caller itself has no role does not exist for it.
    """
    owner = await users.find_user(tx, user_id, domain_id=caller.domain_id)
    if owner is None:
        raise NotFound(f"user {user_id!r} does not exist in this account")
    project = await projects.find_project(
        tx, domain_id=caller.domain_id, project_id=project_id, for_user=caller.user_id, carried=caller.carried
    )
    if project is None:
        raise NotFound(f"project {project_id!r} does not exist in this account")
    if not await roles.has_role(tx, owner.id, project_id=project.id):
        raise Forbidden(
            f"user {owner.name!r} has no role in project {project.name!r}; an administrator of the account can grant "
            "one, and then a key"
        )
    return owner, project


def _check_owner(caller: Caller, row: AccessKeyRow, action: str) -> None:
    """Raise Forbidden unless the key is the caller's, or it may do that to any; a part of a user's rights owns none."""
    if row.user_id != caller.user_id or (caller.carried is not None and caller.carried.is_alone):
        caller.require_in_account(action)


def _check_expiry(moment: datetime | None) -> None:
    if moment is not None and moment <= datetime.now(UTC):
        raise InvalidArgument(f"expires_at: {moment.isoformat()} is in the past; use a future time, or none")


def _check_description(text: str) -> None:
    if len(text) > _LONGEST_DESCRIPTION or not text.isprintable():
        raise InvalidArgument(f"description: at most {_LONGEST_DESCRIPTION} printable characters, on one line")


def _without_proof(caller: Caller, *, minutes: float) -> str:
    """Return what somebody is to do whose request does not show that a person has just logged in."""
    if caller.carried is not None:
        return (
            "a token whose provider can revoke it makes no access key, which would outlive it; use the console, or a "
            "token of this server"
        )
    if caller.proof is not None and caller.proof.kind == "bearer":
        return (
            "to create an access key, log in to the console at the identity provider and create it there within "
            f"{minutes:g} min, or send a token whose claim auth_time says that you logged in less than that ago"
        )
    return (
        "password: missing; to create an access key, send your own password, or use a token obtained with it less than "
        f"{minutes:g} min ago"
    )


def _unknown(access_key: str) -> NotFound:
    return NotFound(f"access key {access_key!r} does not exist in this account")
