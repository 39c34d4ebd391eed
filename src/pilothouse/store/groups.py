"""Queries about groups of identity providers, and the roles that they give to their members."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import delete, func, select, true
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.roles import RoleRow
from pilothouse.store.tables import group_roles, groups, users


@dataclass(frozen=True)
class GroupRow:
    """One group with its roles."""

    id: str
    issuer: str
    name: str
    created_at: datetime
    roles: Sequence[RoleRow] = ()


_SHOWN = select(groups.c.id, groups.c.issuer, groups.c.name, groups.c.created_at)


async def list_groups(tx: Transaction, *, domain_id: str) -> list[GroupRow]:
    """Return the domain's groups by name, with their roles."""
    query = _SHOWN.where(groups.c.domain_id == domain_id).order_by(groups.c.name, groups.c.issuer)
    found = [GroupRow(**row) for row in (await tx.execute(query)).mappings()]
    held: dict[str, list[RoleRow]] = {}
    of_all = (
        select(group_roles.c.group_id, group_roles.c.role, group_roles.c.project_id)
        .join(groups, groups.c.id == group_roles.c.group_id)
        .where(groups.c.domain_id == domain_id)
        .order_by(group_roles.c.project_id.nulls_first(), group_roles.c.role)
    )
    for row in (await tx.execute(of_all)).mappings():
        held.setdefault(row["group_id"], []).append(RoleRow(row["role"], row["project_id"]))
    return [replace(group, roles=held.get(group.id, [])) for group in found]


async def find_group(tx: Transaction, group_id: str, *, domain_id: str) -> GroupRow | None:
    """Return the group with its roles if it is the domain's."""
    return next((group for group in await list_groups(tx, domain_id=domain_id) if group.id == group_id), None)


async def count_groups(tx: Transaction, *, domain_id: str) -> int:
    """Count the domain's groups."""
    return int((await tx.execute(select(func.count()).where(groups.c.domain_id == domain_id))).scalar_one())


async def groups_of_user(tx: Transaction, user_id: str, *, is_any: bool = False) -> frozenset[str]:
    """Return the ids of the groups that the user was last said to be in, also if that does not count any more.

    ``is_any``: those that it could be in, which are all of its provider's.
    """
    named = true() if is_any else groups.c.name == func.any(users.c.groups)
    query = (
        select(groups.c.id)
        .join(users, (users.c.domain_id == groups.c.domain_id) & (users.c.issuer == groups.c.issuer))
        .where(users.c.id == user_id, named)
    )
    return frozenset((await tx.execute(query)).scalars())


async def hold(tx: Transaction, group_id: str) -> None:
    """Let others who change the group wait until the transaction ends."""
    await tx.execute(select(groups.c.id).where(groups.c.id == group_id).with_for_update())


async def add_group(tx: Transaction, *, group_id: str, domain_id: str, issuer: str, name: str) -> bool:
    """Insert a group; return False if the domain has it already."""
    statement = (
        postgresql.insert(groups)
        .values(id=group_id, domain_id=domain_id, issuer=issuer, name=name)
        .on_conflict_do_nothing()
        .returning(groups.c.id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def remove_group(tx: Transaction, group_id: str) -> None:
    """Delete the group with its roles."""
    await tx.execute(delete(groups).where(groups.c.id == group_id))


async def add_role(tx: Transaction, *, group_id: str, project_id: str | None, role: str) -> bool:
    """Grant the group the role in the project, or (None) in the whole account; return False if already granted."""
    statement = postgresql.insert(group_roles).values(group_id=group_id, project_id=project_id, role=role)
    added = await tx.execute(statement.on_conflict_do_nothing().returning(group_roles.c.id))
    return added.scalar_one_or_none() is not None


async def remove_role(tx: Transaction, *, group_id: str, project_id: str | None, role: str) -> bool:
    """Revoke the role; return False if the group does not have it there."""
    statement = delete(group_roles).where(
        group_roles.c.group_id == group_id,
        group_roles.c.role == role,
        group_roles.c.project_id.is_(None) if project_id is None else group_roles.c.project_id == project_id,
    )
    return (await tx.execute(statement)).rowcount > 0
