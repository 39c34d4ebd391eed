"""Queries about domains, projects, users and access keys."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, func, insert, or_, select
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.tables import access_keys, domains, projects, role_assignments, users


@dataclass(frozen=True)
class ProjectRow:
    """One project and the domain it belongs to."""

    id: str
    name: str
    description: str
    domain_id: str
    domain_name: str
    enabled: bool


@dataclass(frozen=True)
class AccessKeyRow:
    """One access key with the user it stands for and that user's roles; the secret is sealed.

    ``project_id`` is None if the user's account has no such project, or has disabled it. ``roles`` counts in that
    project, ``account_roles`` is the part of it that counts everywhere.
    """

    id: str
    secret_sealed: bytes
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str | None
    roles: list[str]
    account_roles: list[str]


_ROLES = select(func.array_agg(role_assignments.c.role)).where(role_assignments.c.user_id == users.c.id)
_NO_ROLES = postgresql.array([], type_=Text)
_ACCOUNT_ROLES = func.coalesce(
    _ROLES.where(role_assignments.c.project_id.is_(None)).correlate(users).scalar_subquery(), _NO_ROLES
)
_ROLES_HERE = func.coalesce(
    _ROLES.where(or_(role_assignments.c.project_id.is_(None), role_assignments.c.project_id == projects.c.id))
    .correlate(users, projects)
    .scalar_subquery(),
    _NO_ROLES,
)

_FIND_ACCESS_KEY = (
    select(
        access_keys.c.id,
        access_keys.c.secret_sealed,
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        domains.c.id.label("domain_id"),
        domains.c.name.label("domain_name"),
        projects.c.id.label("project_id"),
        _ROLES_HERE.label("roles"),
        _ACCOUNT_ROLES.label("account_roles"),
    )
    .join(users, users.c.id == access_keys.c.user_id)
    .join(domains, domains.c.id == users.c.domain_id)
    .outerjoin(
        projects,
        (projects.c.id == func.coalesce(bindparam("named_project", type_=Text), access_keys.c.project_id))
        & (projects.c.domain_id == users.c.domain_id)
        & projects.c.enabled,
    )
    .where(access_keys.c.id == bindparam("access_key"), access_keys.c.enabled, users.c.enabled)
)


async def find_access_key(tx: Transaction, access_key: str, *, project_id: str | None) -> AccessKeyRow | None:
    """The key if it and its user are enabled, else None; in that project, or (None) in the key's own."""
    parameters = {"access_key": access_key, "named_project": project_id}
    row = (await tx.execute(_FIND_ACCESS_KEY, parameters)).mappings().one_or_none()
    return AccessKeyRow(**row) if row else None


async def list_projects(
    tx: Transaction, *, domain_id: str, name: str | None = None, project_id: str | None = None
) -> list[ProjectRow]:
    """Projects of one domain by name, optionally just one of them."""
    query = (
        select(
            projects.c.id,
            projects.c.name,
            projects.c.description,
            projects.c.domain_id,
            domains.c.name.label("domain_name"),
            projects.c.enabled,
        )
        .join(domains, domains.c.id == projects.c.domain_id)
        .where(projects.c.domain_id == domain_id)
        .order_by(projects.c.name)
    )
    if name is not None:
        query = query.where(projects.c.name == name)
    if project_id is not None:
        query = query.where(projects.c.id == project_id)
    return [ProjectRow(**row) for row in (await tx.execute(query)).mappings()]


async def any_domain(tx: Transaction) -> str | None:
    """The id of some domain, or None in a database that was never set up."""
    return (await tx.execute(select(domains.c.id).limit(1))).scalar_one_or_none()


async def add_domain(tx: Transaction, *, domain_id: str, name: str) -> None:
    """Inserts a domain."""
    await tx.execute(insert(domains).values(id=domain_id, name=name))


async def add_project(tx: Transaction, *, project_id: str, domain_id: str, name: str, description: str) -> None:
    """Inserts a project."""
    values: dict[str, Any] = {"id": project_id, "domain_id": domain_id, "name": name, "description": description}
    await tx.execute(insert(projects).values(values))


async def add_user(tx: Transaction, *, user_id: str, domain_id: str, name: str, password_hash: str) -> None:
    """Inserts a user."""
    await tx.execute(insert(users).values(id=user_id, domain_id=domain_id, name=name, password_hash=password_hash))


async def add_access_key(
    tx: Transaction, *, access_key: str, user_id: str, project_id: str, secret_sealed: bytes
) -> None:
    """Inserts an access key; its secret comes sealed."""
    await tx.execute(
        insert(access_keys).values(id=access_key, user_id=user_id, project_id=project_id, secret_sealed=secret_sealed)
    )


async def add_role(tx: Transaction, *, user_id: str, project_id: str | None, role: str) -> None:
    """Gives the user the role in the project, or (None) in the whole account; giving it twice changes nothing."""
    statement = postgresql.insert(role_assignments).values(user_id=user_id, project_id=project_id, role=role)
    await tx.execute(statement.on_conflict_do_nothing())
