"""Queries about domains, projects, users and access keys."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select

from pilothouse.store.database import Transaction
from pilothouse.store.tables import access_keys, domains, projects, users


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
    """One access key with the user it stands for; the secret is sealed."""

    id: str
    secret_sealed: bytes
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str


_FIND_ACCESS_KEY = (
    select(
        access_keys.c.id,
        access_keys.c.secret_sealed,
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        domains.c.id.label("domain_id"),
        domains.c.name.label("domain_name"),
        access_keys.c.project_id,
    )
    .join(users, users.c.id == access_keys.c.user_id)
    .join(domains, domains.c.id == users.c.domain_id)
    .where(access_keys.c.id == bindparam("access_key"), access_keys.c.enabled, users.c.enabled)
)


async def find_access_key(tx: Transaction, access_key: str) -> AccessKeyRow | None:
    """The key if it and its user are enabled, else None."""
    row = (await tx.execute(_FIND_ACCESS_KEY, {"access_key": access_key})).mappings().one_or_none()
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
