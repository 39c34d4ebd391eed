"""Who calls: domains, projects, users, access keys."""

import uuid
from dataclasses import dataclass, field

from pilothouse.auth import passwords, policy
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import Forbidden, NotFound
from pilothouse.store import identity as store
from pilothouse.store.database import Database


@dataclass(frozen=True)
class Caller:
    """Who made a request, for which project, and with which roles there.

    ``account_roles`` is the part of ``roles`` that counts in the whole account: only they reach users and projects.
    """

    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str
    roles: frozenset[str] = frozenset()
    account_roles: frozenset[str] = frozenset()

    def require(self, action: str) -> None:
        """Returns if the caller's roles in its project allow the action, else raises Forbidden, which names it."""
        if not policy.allows(self.roles, action):
            raise self._forbidden(action, self.roles, "in this project")

    def require_in_account(self, action: str) -> None:
        """Like ``require`` for what concerns the whole account: a role in one project does not count."""
        if not policy.allows(self.account_roles, action):
            raise self._forbidden(action, self.account_roles, "in the whole account")

    def _forbidden(self, action: str, roles: frozenset[str], where: str) -> Forbidden:
        held = ", ".join(sorted(roles)) or "none"
        return Forbidden(
            f"Forbidden: user {self.user_name!r} lacks the permission {action} {where} (its roles: {held}); "
            "an administrator of the account can give it a role that has it"
        )


@dataclass(frozen=True)
class KeyHolder:
    """An enabled access key with its secret in the clear; keep it for the length of one request."""

    access_key: str
    secret_key: str = field(repr=False)
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str | None
    roles: frozenset[str]
    account_roles: frozenset[str]


@dataclass(frozen=True)
class FirstCredentials:
    """What first start made; the only time that the secrets are shown."""

    domain_name: str
    project_id: str
    project_name: str
    user_name: str
    password: str = field(repr=False)
    access_key: str
    secret_key: str = field(repr=False)


class Identity:
    """Finds and makes identities."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        self._database = database
        self._keys = keys

    async def find_key(self, access_key: str, project_id: str | None) -> KeyHolder | None:
        """The holder of an enabled access key, else None; in the project that the request names, or the key's own."""
        async with self._database.statements() as tx:
            row = await store.find_access_key(tx, access_key, project_id=project_id)
        if row is None:
            return None
        secret = self._keys.unseal(row.secret_sealed, context=_secret_context(row.id)).decode()
        return KeyHolder(
            access_key=row.id,
            secret_key=secret,
            user_id=row.user_id,
            user_name=row.user_name,
            domain_id=row.domain_id,
            domain_name=row.domain_name,
            project_id=row.project_id,
            roles=frozenset(row.roles),
            account_roles=frozenset(row.account_roles),
        )

    async def select_project(self, holder: KeyHolder, project_id: str | None) -> Caller:
        """The caller in the project that the key was found with; NotFound if the account has no such project."""
        if holder.project_id is None and project_id is None:
            raise NotFound(f"the project of access key {holder.access_key} is disabled; name another in X-Project-Id")
        if holder.project_id is None:
            raise NotFound(f"X-Project-Id {project_id!r} is not an enabled project of this account")
        return Caller(
            user_id=holder.user_id,
            user_name=holder.user_name,
            domain_id=holder.domain_id,
            domain_name=holder.domain_name,
            project_id=holder.project_id,
            roles=holder.roles,
            account_roles=holder.account_roles,
        )

    async def list_projects(self, caller: Caller, *, name: str | None = None) -> list[store.ProjectRow]:
        """The projects of the caller's domain, optionally only the one of that name."""
        async with self._database.statements() as tx:
            return await store.list_projects(tx, domain_id=caller.domain_id, name=name)

    async def create_first(self, *, region: str) -> FirstCredentials | None:
        """Makes domain, project (named after the region), user and access key in an empty database, else None."""
        first = FirstCredentials(
            domain_name="pilothouse",
            project_id=uuid.uuid4().hex,
            project_name=region,
            user_name="admin",
            password=passwords.generate_password(),
            access_key=passwords.generate_access_key(),
            secret_key=passwords.generate_secret_key(),
        )
        domain_id, user_id = uuid.uuid4().hex, uuid.uuid4().hex
        async with self._database.transaction() as tx:
            if await store.any_domain(tx) is not None:
                return None
            await store.add_domain(tx, domain_id=domain_id, name=first.domain_name)
            await store.add_project(
                tx,
                project_id=first.project_id,
                domain_id=domain_id,
                name=first.project_name,
                description="made at first start",
            )
            await store.add_user(
                tx,
                user_id=user_id,
                domain_id=domain_id,
                name=first.user_name,
                password_hash=passwords.hash_password(first.password),
            )
            await store.add_role(tx, user_id=user_id, project_id=None, role=policy.ADMINISTRATOR)
            await store.add_access_key(
                tx,
                access_key=first.access_key,
                user_id=user_id,
                project_id=first.project_id,
                secret_sealed=self._keys.seal(first.secret_key.encode(), context=_secret_context(first.access_key)),
            )
        return first


def _secret_context(access_key: str) -> str:
    return f"access-key:{access_key}"
