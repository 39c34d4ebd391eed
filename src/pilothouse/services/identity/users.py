"""Users of an account: created, enabled, and given roles and passwords by its administrators.

Administrators cannot disable, delete or demote themselves, so an account keeps at least the acting one.
"""

import re
import uuid
from dataclasses import dataclass, field

from pilothouse.auth import policy
from pilothouse.auth.passwords import generate_password
from pilothouse.errors import (
    AlreadyExists,
    Checks,
    Forbidden,
    InvalidArgument,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
)
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.passwords import Login, Passwords, check_password
from pilothouse.services.identity.standing import current_caller
from pilothouse.store import access_keys, audit, projects, roles
from pilothouse.store import users as store
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.roles import RoleRow
from pilothouse.store.users import UserRow

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True)
class User:
    """A user with its roles."""

    row: UserRow
    roles: list[RoleRow]


@dataclass(frozen=True)
class NewUser:
    """A created user; ``password`` is set if Pilothouse generated it, and shown only now."""

    user: User
    password: str | None = field(repr=False)


class Users:
    """Create, show and change the users of an account."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def list_users(self, caller: Caller) -> list[UserRow]:
        """Return the account's users by name."""
        caller.require_in_account("iam:users:listUsers")
        async with self._database.autocommit() as connection:
            return await store.list_users(connection, domain_id=caller.domain_id)

    async def list_roles(self, caller: Caller) -> dict[str, list[RoleRow]]:
        """Return the roles of the account's users by their ids, without those of their groups."""
        caller.require_in_account("iam:users:listUsers")
        caller.require_in_account("iam:users:getUser")
        async with self._database.autocommit() as connection:
            return await roles.list_of_domain(connection, caller.domain_id)

    async def show(self, caller: Caller, user_id: str) -> User:
        """Return one user with its roles: users may see themselves; NotFound for another account's."""
        if user_id != caller.user_id:
            caller.require_in_account("iam:users:getUser")
        async with self._database.autocommit() as connection:
            return User(await require_user(connection, caller, user_id), await roles.list_roles(connection, user_id))

    async def create(
        self, caller: Caller, *, name: str, password: str | None, grant: RoleRow | None = None, request_id: str
    ) -> NewUser:
        """Create a user, with one role or none; without a password one is generated.

        Raises InvalidRequest or AlreadyExists, and NotFound for a role in a project that there is not.
        """
        caller.require_in_account("iam:users:createUser")
        if grant is not None:
            caller.require_in_account("iam:permissions:grantRoleToUser")
        checks = Checks()
        checks.read(lambda: self.check_new(caller, name=name, password=password))
        if grant is not None:
            checks.read(lambda: check_role(grant.role))
        checks.end()
        chosen = None if password is not None else generate_password()
        password_hash = await self._passwords.hash(password or chosen or "", user_name=name, source=caller.source)
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            caller.require_in_account("iam:users:createUser")
            row = await store.add_user(
                tx, user_id=uuid.uuid4().hex, domain_id=caller.domain_id, name=name, password_hash=password_hash
            )
            if row is None:
                raise AlreadyExists(f"name: this account already has a user named {name!r}")
            await audit.record(
                tx, caller, "iam:users:createUser", target=row.id, target_name=name, request_id=request_id
            )
            if grant is not None:
                caller.require_in_account("iam:permissions:grantRoleToUser")
                await _grant(tx, caller, row, grant, request_id=request_id)
        return NewUser(User(row, [grant] if grant is not None else []), chosen)

    def check_new(self, caller: Caller, *, name: str, password: str | None) -> None:
        """Raise InvalidRequest with all that is wrong of a user that is to be created."""
        caller.require_in_account("iam:users:createUser")
        checks = Checks()
        if not _NAME.fullmatch(name):
            checks.refuse(
                f"name: {name!a} is not a user name: 1 to 64 letters, digits, '_', '.', '@' and '-', "
                "a letter or '_' first"
            )
        if password is not None:
            checks.read(lambda: check_password(password, user_name=name))
        checks.end()

    @retry_conflicts
    async def set_enabled(self, caller: Caller, user_id: str, *, enabled: bool, request_id: str) -> User:
        """Enable or disable a user, lift a lock and revoke its tokens; keys of a disabled user do not work either."""
        caller.require_in_account("iam:users:updateUser")
        _refuse_self(caller, user_id, "disable")
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:users:updateUser")
            row = await require_user(tx, caller, user_id)
            await store.set_enabled(tx, user_id, enabled=enabled)
            await audit.record(
                tx,
                caller,
                "iam:users:updateUser",
                target=user_id,
                target_name=row.name,
                detail="enable" if enabled else "disable",
                request_id=request_id,
            )
        return await self.show(caller, user_id)

    async def check_password(self, caller: Caller, user_id: str, *, password: str, current: str | None) -> UserRow:
        """Return the user; raise InvalidRequest with all that is wrong before the current password is looked at."""
        if user_id != caller.user_id:
            caller.require_in_account("iam:users:updateUser")
        async with self._database.autocommit() as connection:
            row = await require_user(connection, caller, user_id)
        if row.issuer:
            raise InvalidRequest(
                f"user {row.name!r} logs in at the identity provider {row.issuer}, and has no password here"
            )
        checks = Checks()
        if user_id == caller.user_id and current is None:
            checks.refuse("current_password: missing; to change your own password, give the current one")
        checks.read(lambda: check_password(password, user_name=row.name))
        checks.end()
        return row

    async def set_password(
        self,
        caller: Caller,
        user_id: str,
        *,
        password: str,
        current: str | None,
        end_keys: bool = False,
        request_id: str,
    ) -> None:
        """Replace a password, which revokes the user's tokens; one's own requires the current one.

        ``end_keys``: the user's access keys are disabled too.

        Raises InvalidRequest, Forbidden (also for a wrong current password) or Busy.
        """
        row = await self.check_password(caller, user_id, password=password, current=current)
        if user_id == caller.user_id:
            await self._prove_own(caller, current or "")
        password_hash = await self._passwords.hash(password, user_name=row.name, source=caller.source)
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            if user_id != caller.user_id:
                caller.require_in_account("iam:users:updateUser")
            await require_user(tx, caller, user_id)  # it may have been deleted since
            await store.set_password(tx, user_id, password_hash=password_hash)
            ended = await access_keys.disable_all(tx, user_id) if end_keys else 0
            await audit.record(
                tx,
                caller,
                "iam:users:updateUserPassword",
                target=user_id,
                target_name=row.name,
                detail=f"{ended} keys ended" if end_keys else "",
                request_id=request_id,
            )

    @retry_conflicts
    async def remove(self, caller: Caller, user_id: str, *, request_id: str) -> None:
        """Delete a user with its keys, tokens and roles; its audit rows stay."""
        caller.require_in_account("iam:users:deleteUser")
        _refuse_self(caller, user_id, "delete")
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:users:deleteUser")
            row = await require_user(tx, caller, user_id)
            await store.remove_user(tx, user_id)
            await audit.record(
                tx, caller, "iam:users:deleteUser", target=user_id, target_name=row.name, request_id=request_id
            )

    @retry_conflicts
    async def grant(self, caller: Caller, user_id: str, *, role: str, project_id: str | None, request_id: str) -> User:
        """Grant a role in a project, or (None) in the whole account; a new role revokes the user's tokens."""
        caller.require_in_account("iam:permissions:grantRoleToUser")
        check_role(role)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:permissions:grantRoleToUser")
            user = await require_user(tx, caller, user_id)
            await _grant(tx, caller, user, RoleRow(role, project_id), request_id=request_id)
        return await self.show(caller, user_id)

    @retry_conflicts
    async def withdraw(
        self, caller: Caller, user_id: str, *, role: str, project_id: str | None, request_id: str
    ) -> User:
        """Revoke a role and the user's tokens; NotFound if the user does not have it there."""
        caller.require_in_account("iam:permissions:revokeRoleFromUser")
        check_role(role)
        if project_id is None:
            _refuse_self(caller, user_id, "take account roles from")
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:permissions:revokeRoleFromUser")
            user = await require_user(tx, caller, user_id)
            await store.hold(tx, user_id)
            if not await roles.remove_role(tx, user_id=user_id, project_id=project_id, role=role):
                where = f"in project {project_id!r}" if project_id is not None else "in the whole account"
                raise NotFound(f"user {user_id} does not have the role {role!r} {where}")
            await store.end_tokens(tx, user_id)
            where = await name_project(tx, caller.domain_id, project_id)
            await audit.record(
                tx,
                caller,
                "iam:permissions:revokeRoleFromUser",
                target=_target(user_id, role, project_id),
                target_name=user.name,
                detail=f"{role} in {where}",
                request_id=request_id,
            )
        return await self.show(caller, user_id)

    async def _prove_own(self, caller: Caller, current: str) -> None:
        try:
            await self._passwords.prove(Login(password=current, user_id=caller.user_id, source=caller.source))
        except NotAuthenticated as error:
            # The request itself was authenticated: 401 would make clients look for other credentials.
            raise Forbidden(f"current_password: {error}") from error


async def require_user(tx: Transaction, caller: Caller, user_id: str) -> UserRow:
    """Return the user of the caller's account; NotFound for another account's."""
    row = await store.find_user(tx, user_id, domain_id=caller.domain_id)
    if row is None:
        raise NotFound(f"user {user_id!r} does not exist in this account")
    return row


async def _grant(tx: Transaction, caller: Caller, user: UserRow, grant: RoleRow, *, request_id: str) -> None:
    where = await name_project(tx, caller.domain_id, grant.project_id)
    await store.hold(tx, user.id)
    if await roles.add_role(tx, user_id=user.id, project_id=grant.project_id, role=grant.role):
        await store.end_tokens(tx, user.id)
        await audit.record(
            tx,
            caller,
            "iam:permissions:grantRoleToUser",
            target=_target(user.id, grant.role, grant.project_id),
            target_name=user.name,
            detail=f"{grant.role} in {where}",
            request_id=request_id,
        )


async def name_project(tx: Transaction, domain_id: str, project_id: str | None) -> str:
    """Return the display name of the account's project; None is the account. Raise NotFound."""
    if project_id is None:
        return "the whole account"
    row = await projects.find_project(tx, domain_id=domain_id, project_id=project_id)
    if row is None:
        raise NotFound(f"project {project_id!r} does not exist in this account")
    return f"project {row.name}"


def _refuse_self(caller: Caller, user_id: str, verb: str) -> None:
    if user_id == caller.user_id:
        raise InvalidRequest(f"you cannot {verb} yourself; another administrator of the account can")


def check_role(role: str) -> None:
    """Raise InvalidRequest for a name that is no role."""
    if role not in policy.ROLES:
        raise InvalidArgument(f"role: {role!r} is not one of {', '.join(policy.ROLES)}")


def _target(user_id: str, role: str, project_id: str | None) -> str:
    return f"{user_id} {role} {project_id or '*'}"
