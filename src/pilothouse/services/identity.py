"""Who calls: domains, projects, users, access keys."""

import uuid
from dataclasses import dataclass, field

from pilothouse.auth import passwords
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotFound
from pilothouse.store import identity as store
from pilothouse.store.database import Database


@dataclass(frozen=True)
class Caller:
    """Who made a request, and for which project."""

    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str


@dataclass(frozen=True)
class KeyHolder:
    """An enabled access key with its secret in the clear; keep it for the length of one request."""

    access_key: str
    secret_key: str = field(repr=False)
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    default_project_id: str


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

    async def find_key(self, access_key: str) -> KeyHolder | None:
        """The holder of an enabled access key, else None."""
        async with self._database.statements() as tx:
            row = await store.find_access_key(tx, access_key)
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
            default_project_id=row.project_id,
        )

    async def select_project(self, holder: KeyHolder, project_id: str | None) -> Caller:
        """The caller in the project it named, or in the key's own; NotFound if the domain has no such project."""
        if project_id is not None and project_id != holder.default_project_id:
            async with self._database.statements() as tx:
                found = await store.list_projects(tx, domain_id=holder.domain_id, project_id=project_id)
            if not found or not found[0].enabled:
                raise NotFound(f"X-Project-Id {project_id!r} is not a project of this account")
        return Caller(
            user_id=holder.user_id,
            user_name=holder.user_name,
            domain_id=holder.domain_id,
            domain_name=holder.domain_name,
            project_id=project_id or holder.default_project_id,
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
