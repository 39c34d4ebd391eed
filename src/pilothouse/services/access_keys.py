"""Access keys: everybody manages its own, administrators of the account everybody's; a secret is shown once."""

from dataclasses import dataclass, field

from pilothouse.auth.passwords import generate_access_key, generate_secret_key
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import InvalidRequest, NotFound
from pilothouse.services.identity import Caller, seal_secret
from pilothouse.store import access_keys as store
from pilothouse.store import audit, projects, users
from pilothouse.store.access_keys import AccessKeyRow
from pilothouse.store.database import Database


@dataclass(frozen=True)
class NewAccessKey:
    """A key that was made, and its secret, which is shown only now."""

    row: AccessKeyRow
    secret_key: str = field(repr=False)


class AccessKeys:
    """Makes, shows, disables and deletes access keys."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        self._database = database
        self._keys = keys

    async def list_keys(self, caller: Caller, *, user_id: str | None) -> list[AccessKeyRow]:
        """The keys of the caller, or of another user of the account, oldest first."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:credentials:listCredentials")
        async with self._database.statements() as tx:
            if await users.find_user(tx, owner, domain_id=caller.domain_id) is None:
                raise NotFound(f"user {owner!r} does not exist in this account")
            return await store.list_access_keys(tx, owner)

    async def show(self, caller: Caller, access_key: str) -> AccessKeyRow:
        """One key, without its secret; NotFound for another account's."""
        return await self._find(caller, access_key, action="iam:credentials:getCredential")

    async def create(
        self, caller: Caller, *, user_id: str | None, project_id: str | None, request_id: str
    ) -> NewAccessKey:
        """A key for the caller or another user, that acts in a project of the account where none is named."""
        owner = user_id or caller.user_id
        if owner != caller.user_id:
            caller.require_in_account("iam:credentials:createCredential")
        wanted = project_id or caller.project_id
        if not wanted:
            raise InvalidRequest("project_id: missing; name the project that the key acts in")
        access_key, secret_key = generate_access_key(), generate_secret_key()
        async with self._database.transaction() as tx:
            if await users.find_user(tx, owner, domain_id=caller.domain_id) is None:
                raise NotFound(f"user {owner!r} does not exist in this account")
            if await projects.find_project(tx, domain_id=caller.domain_id, project_id=wanted) is None:
                raise NotFound(f"project {wanted!r} does not exist in this account")
            row = await store.add_access_key(
                tx,
                access_key=access_key,
                user_id=owner,
                project_id=wanted,
                secret_sealed=seal_secret(secret_key, keys=self._keys, access_key=access_key),
            )
            await audit.record_by(
                tx, caller, "iam:credentials:createCredential", target=access_key, request_id=request_id
            )
        return NewAccessKey(row, secret_key)

    async def set_enabled(self, caller: Caller, access_key: str, *, enabled: bool, request_id: str) -> AccessKeyRow:
        """Enables or disables a key, and lifts a lock; disabling ends the tokens of its user."""
        action = "iam:credentials:updateCredential"
        found = await self._find(caller, access_key, action=action)
        async with self._database.transaction() as tx:
            row = await store.set_enabled(tx, access_key, enabled=enabled)
            if row is None:
                raise _unknown(access_key)
            if not enabled:
                await users.end_tokens(tx, found.user_id)
            await audit.record_by(tx, caller, action, target=access_key, request_id=request_id)
        return row

    async def remove(self, caller: Caller, access_key: str, *, request_id: str) -> None:
        """Deletes a key, which ends the tokens of its user."""
        action = "iam:credentials:deleteCredential"
        found = await self._find(caller, access_key, action=action)
        async with self._database.transaction() as tx:
            if not await store.remove_access_key(tx, access_key):
                raise _unknown(access_key)
            await users.end_tokens(tx, found.user_id)
            await audit.record_by(tx, caller, action, target=access_key, request_id=request_id)

    async def _find(self, caller: Caller, access_key: str, *, action: str) -> AccessKeyRow:
        async with self._database.statements() as tx:
            row = await store.find_access_key(tx, access_key, domain_id=caller.domain_id)
        if row is None:
            raise _unknown(access_key)
        if row.user_id != caller.user_id:
            caller.require_in_account(action)
        return row


def _unknown(access_key: str) -> NotFound:
    return NotFound(f"access key {access_key!r} does not exist in this account")
