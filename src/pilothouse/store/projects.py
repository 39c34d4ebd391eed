"""Queries about domains (the vendor also says accounts) and their projects."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from pilothouse.store.database import Transaction
from pilothouse.store.roles import Carried, carrying, rights_of
from pilothouse.store.tables import domains, projects, tokens


@dataclass(frozen=True)
class ProjectRow:
    """One project and its domain."""

    id: str
    name: str
    description: str
    domain_id: str
    domain_name: str
    enabled: bool


_SHOWN = select(
    projects.c.id,
    projects.c.name,
    projects.c.description,
    projects.c.domain_id,
    domains.c.name.label("domain_name"),
    projects.c.enabled,
).join(domains, domains.c.id == projects.c.domain_id)


async def find_project(
    tx: Transaction,
    *,
    domain_id: str,
    project_id: str | None = None,
    name: str | None = None,
    for_user: str | None = None,
    carried: Carried | None = None,
) -> ProjectRow | None:
    """Return the domain's project of that id or name; optionally only if a user has a role in it.

    ``carried``: what a token carries, which then counts instead of the groups stated last.
    """
    query = _SHOWN.where(projects.c.domain_id == domain_id)
    if for_user is not None:
        query = query.where(_has_role(for_user, carried))
    query = query.where(projects.c.id == project_id) if project_id is not None else query.where(projects.c.name == name)
    row = (await tx.execute(query, carrying(carried))).mappings().one_or_none()
    return ProjectRow(**row) if row else None


async def list_projects(
    tx: Transaction,
    *,
    domain_id: str,
    name: str | None = None,
    enabled: bool | None = None,
    for_user: str | None = None,
    carried: Carried | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> list[ProjectRow]:
    """Return the domain's projects by name, optionally only those in which a user has a role, as ``find_project``."""
    query = _SHOWN.where(projects.c.domain_id == domain_id).order_by(projects.c.name).offset(offset).limit(limit)
    if name is not None:
        query = query.where(projects.c.name == name)
    if enabled is not None:
        query = query.where(projects.c.enabled == enabled)
    if for_user is not None:
        query = query.where(_has_role(for_user, carried))
    return [ProjectRow(**row) for row in (await tx.execute(query, carrying(carried))).mappings()]


def _has_role(user_id: str, carried: Carried | None) -> ColumnElement[bool]:
    seen = rights_of(carried).seen
    counts = or_(seen.c.project_id.is_(None), seen.c.project_id == projects.c.id)
    return exists().where(seen.c.user_id == user_id, counts)


async def add_project(tx: Transaction, *, project_id: str, domain_id: str, name: str, description: str) -> bool:
    """Insert a project; return False if the domain has one of that name."""
    statement = (
        postgresql.insert(projects)
        .values(id=project_id, domain_id=domain_id, name=name, description=description)
        .on_conflict_do_nothing(index_elements=[projects.c.domain_id, projects.c.name])
        .returning(projects.c.id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def set_enabled(tx: Transaction, project_id: str, *, enabled: bool) -> None:
    """Enable or disable the project; either way its tokens are deleted."""
    await tx.execute(update(projects).where(projects.c.id == project_id).values(enabled=enabled))
    await tx.execute(delete(tokens).where(tokens.c.project_id == project_id))


async def remove_project(tx: Transaction, project_id: str) -> bool:
    """Delete the project with the roles in it; return False if something else still belongs to it."""
    try:
        async with tx.begin_nested():
            await tx.execute(delete(projects).where(projects.c.id == project_id))
    except IntegrityError:
        return False
    return True


async def any_domain(tx: Transaction) -> str | None:
    """Return the id of any domain, or None in a database that was never set up."""
    return (await tx.execute(select(domains.c.id).limit(1))).scalar_one_or_none()


async def find_domain(tx: Transaction, *, domain_id: str | None, name: str | None) -> str | None:
    """Return the id of the domain of that id or name, if there is one."""
    if domain_id is None and name is None:
        return None
    query = select(domains.c.id).where(domains.c.id == domain_id if domain_id is not None else domains.c.name == name)
    return (await tx.execute(query)).scalar_one_or_none()


async def add_domain(tx: Transaction, *, domain_id: str, name: str) -> None:
    """Insert a domain."""
    await tx.execute(insert(domains).values(id=domain_id, name=name))
