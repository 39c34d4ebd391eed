"""Groups of identity providers: which roles they give here, to whoever the provider says is in them."""

import uuid
from collections.abc import Mapping
from typing import Final

from pilothouse.errors import AlreadyExists, Checks, InvalidRequest, NotFound, QuotaExceeded
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller
from pilothouse.services.identity.users import check_role, name_project
from pilothouse.store import audit
from pilothouse.store import groups as store
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.groups import GroupRow

_LONGEST: Final = 256
_MOST: Final = 1000
_CREATE, _DELETE = "iam:groups:createGroup", "iam:groups:deleteGroup"
_GRANT, _REVOKE = "iam:permissions:grantRoleToGroup", "iam:permissions:revokeRoleFromGroup"


class Groups:
    """Create, show and change the groups of an account."""

    def __init__(self, database: Database, issuers: Mapping[str, str]) -> None:
        """``issuers`` of the providers that are set up, by the providers' names."""
        self._database = database
        self._issuers = issuers

    @property
    def providers(self) -> list[str]:
        """The names of the providers that are set up."""
        return list(self._issuers)

    def provider_of(self, row: GroupRow) -> str:
        """Return the name of the group's provider; empty if it is not set up any more."""
        return next((name for name, issuer in self._issuers.items() if issuer == row.issuer), "")

    async def list_groups(self, caller: Caller) -> list[GroupRow]:
        """Return the account's groups by name."""
        caller.require_in_account("iam:groups:listGroups")
        async with self._database.autocommit() as connection:
            return await store.list_groups(connection, domain_id=caller.domain_id)

    async def show(self, caller: Caller, group_id: str) -> GroupRow:
        """Return one group; NotFound for another account's."""
        caller.require_in_account("iam:groups:getGroup")
        async with self._database.autocommit() as connection:
            return await _find(connection, caller, group_id)

    async def create(self, caller: Caller, *, name: str, provider: str | None, request_id: str) -> GroupRow:
        """Create a group without roles; raise InvalidRequest, AlreadyExists or QuotaExceeded."""
        caller.require_in_account(_CREATE)
        checks = Checks()
        if not 0 < len(name) <= _LONGEST or "\0" in name:
            checks.refuse(f"name: 1 to {_LONGEST} characters, as the provider names the group")
        issuer, group_id = checks.read(lambda: self._issuer(provider)) or "", uuid.uuid4().hex
        checks.end()
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_CREATE)
            if await store.count_groups(tx, domain_id=caller.domain_id) >= _MOST:
                raise QuotaExceeded(f"this account has {_MOST} groups already, the most that there may be")
            if not await store.add_group(tx, group_id=group_id, domain_id=caller.domain_id, issuer=issuer, name=name):
                raise AlreadyExists(f"name: this account already has the group {name!r} of {issuer}")
            await audit.record(
                tx, caller, _CREATE, target=group_id, target_name=name, detail=issuer, request_id=request_id
            )
            return await _find(tx, caller, group_id)

    async def remove(self, caller: Caller, group_id: str, *, request_id: str) -> None:
        """Delete a group: its members lose its roles at once."""
        caller.require_in_account(_DELETE)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_DELETE)
            row = await _find(tx, caller, group_id)
            await _refuse_own(tx, caller, group_id, "delete")
            await store.remove_group(tx, group_id)
            await audit.record(tx, caller, _DELETE, target=group_id, target_name=row.name, request_id=request_id)

    @retry_conflicts
    async def grant(
        self, caller: Caller, group_id: str, *, role: str, project_id: str | None, request_id: str
    ) -> GroupRow:
        """Grant a role to the members of a group, in a project or (None) in the whole account."""
        caller.require_in_account(_GRANT)
        check_role(role)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_GRANT)
            row = await _find(tx, caller, group_id)
            await _refuse_own(tx, caller, group_id, "grant a role to")
            where = await name_project(tx, caller.domain_id, project_id)
            await store.hold(tx, group_id)
            if await store.add_role(tx, group_id=group_id, project_id=project_id, role=role):
                await _record(tx, caller, _GRANT, row, f"{role} in {where}", request_id=request_id)
            return await _find(tx, caller, group_id)

    @retry_conflicts
    async def withdraw(
        self, caller: Caller, group_id: str, *, role: str, project_id: str | None, request_id: str
    ) -> GroupRow:
        """Revoke a role of a group; NotFound if the group does not have it there."""
        caller.require_in_account(_REVOKE)
        check_role(role)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_REVOKE)
            row = await _find(tx, caller, group_id)
            await _refuse_own(tx, caller, group_id, "revoke a role of")
            await store.hold(tx, group_id)
            if not await store.remove_role(tx, group_id=group_id, project_id=project_id, role=role):
                where = f"in project {project_id!r}" if project_id is not None else "in the whole account"
                raise NotFound(f"group {row.name!r} does not have the role {role!r} {where}")
            where = await name_project(tx, caller.domain_id, project_id)
            await _record(tx, caller, _REVOKE, row, f"{role} in {where}", request_id=request_id)
            return await _find(tx, caller, group_id)

    def _issuer(self, provider: str | None) -> str:
        if not self._issuers:
            raise InvalidRequest("provider: no identity provider is set up; see 'Single sign-on' in the documentation")
        if provider is None and len(self._issuers) == 1:
            return next(iter(self._issuers.values()))
        if provider is None or provider not in self._issuers:
            raise InvalidRequest(f"provider: name one of {', '.join(self._issuers)}")
        return self._issuers[provider]


async def _find(tx: Transaction, caller: Caller, group_id: str) -> GroupRow:
    row = await store.find_group(tx, group_id, domain_id=caller.domain_id)
    if row is None:
        raise NotFound(f"group {group_id!r} does not exist in this account")
    return row


async def _refuse_own(tx: Transaction, caller: Caller, group_id: str, verb: str) -> None:
    """Raise InvalidRequest for a group of the caller's own: its roles and policies are the caller's.

    Who comes with a token that carries its groups may have another that carries others of its provider.
    """
    is_any = caller.carried is not None
    if group_id in await store.groups_of_user(tx, caller.user_id, is_any=is_any):
        which = "that another token of yours may be in" if is_any else "that you are in"
        raise InvalidRequest(f"you cannot {verb} a group {which}; another administrator of the account can")


async def _record(tx: Transaction, caller: Caller, action: str, row: GroupRow, detail: str, *, request_id: str) -> None:
    await audit.record(tx, caller, action, target=row.id, target_name=row.name, detail=detail, request_id=request_id)
