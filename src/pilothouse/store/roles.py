"""Queries about roles of users, per project and account."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, delete, func, or_, select
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.tables import projects, role_assignments, users


@dataclass(frozen=True)
class RoleRow:
    """One role of a user; ``project_id`` None: in the whole account."""

    role: str
    project_id: str | None


def held_roles(*, here: bool) -> ColumnElement[list[str]]:
    """Build a column with the roles of the row's user: in the whole account and, with ``here``, in its project."""
    counts: ColumnElement[bool] = role_assignments.c.project_id.is_(None)
    if here:
        counts = or_(counts, role_assignments.c.project_id == projects.c.id)
    query = select(func.array_agg(role_assignments.c.role)).where(role_assignments.c.user_id == users.c.id, counts)
    query = query.correlate(users, projects) if here else query.correlate(users)
    return func.coalesce(query.scalar_subquery(), postgresql.array([], type_=Text))


def has_some_role() -> ColumnElement[bool]:
    """Build the condition that the row's user has a role that counts in the row's project."""
    counts = or_(role_assignments.c.project_id.is_(None), role_assignments.c.project_id == projects.c.id)
    query = select(role_assignments.c.id).where(role_assignments.c.user_id == users.c.id, counts)
    return query.correlate(users, projects).exists()


async def list_roles(tx: Transaction, user_id: str) -> list[RoleRow]:
    """Return the user's roles: those in the whole account first, then by project."""
    query = (
        select(role_assignments.c.role, role_assignments.c.project_id)
        .where(role_assignments.c.user_id == user_id)
        .order_by(role_assignments.c.project_id.nulls_first(), role_assignments.c.role)
    )
    return [RoleRow(**row) for row in (await tx.execute(query)).mappings()]


async def has_role(tx: Transaction, user_id: str, *, project_id: str) -> bool:
    """Return True if some role of the user counts in the project."""
    query = select(role_assignments.c.id).where(role_assignments.c.user_id == user_id, _counts_in(project_id)).limit(1)
    return (await tx.execute(query)).scalar_one_or_none() is not None


async def add_role(tx: Transaction, *, user_id: str, project_id: str | None, role: str) -> bool:
    """Grant the user the role in the project, or (None) in the whole account; return False if already granted."""
    statement = postgresql.insert(role_assignments).values(user_id=user_id, project_id=project_id, role=role)
    added = await tx.execute(statement.on_conflict_do_nothing().returning(role_assignments.c.id))
    return added.scalar_one_or_none() is not None


async def remove_role(tx: Transaction, *, user_id: str, project_id: str | None, role: str) -> bool:
    """Revoke the role; return False if the user does not have it there."""
    statement = delete(role_assignments).where(
        role_assignments.c.user_id == user_id,
        role_assignments.c.role == role,
        role_assignments.c.project_id.is_(None) if project_id is None else role_assignments.c.project_id == project_id,
    )
    return (await tx.execute(statement)).rowcount > 0


def _counts_in(project_id: str) -> ColumnElement[bool]:
    return or_(role_assignments.c.project_id.is_(None), role_assignments.c.project_id == project_id)
