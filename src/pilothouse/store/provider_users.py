"""Queries about users of identity providers, who are known by issuer and subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Text, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from pilothouse.store.database import Transaction
from pilothouse.store.roles import ALONE, CARRIED, STATED, Carried, Rights, carrying
from pilothouse.store.tables import domains, group_roles, groups, policy_attachments, projects, users

_NOW = func.clock_timestamp()


@dataclass(frozen=True)
class ProviderUserRow:
    """One user of a provider, in the project that it was looked up for.

    ``project_id`` is None if the user has no role in that project, or has one in several and none was asked for.
    ``limits`` are policies that count only where they deny.
    """

    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    enabled: bool
    generation: int
    groups: list[str]
    groups_stated_at: datetime | None
    groups_until: datetime | None
    project_id: str | None
    project_name: str | None
    roles: list[str]
    account_roles: list[str]
    policies: list[str]
    account_policies: list[str]
    limits: list[str]
    account_limits: list[str]


_OF_PROJECT = bindparam("of_project", type_=Text)


def _shown(rights: Rights) -> Select[Any]:
    """Build the query of a user with the rights in each project that it could act in, the first two of them."""
    return (
        select(
            users.c.id.label("user_id"),
            users.c.name.label("user_name"),
            domains.c.id.label("domain_id"),
            domains.c.name.label("domain_name"),
            users.c.enabled,
            users.c.generation,
            users.c.groups,
            users.c.groups_stated_at,
            users.c.groups_until,
            projects.c.id.label("project_id"),
            projects.c.name.label("project_name"),
            *rights.held(),
            *rights.limits(),
        )
        .join(domains, domains.c.id == users.c.domain_id)
        .outerjoin(
            projects,
            and_(
                projects.c.domain_id == users.c.domain_id,
                projects.c.enabled,
                or_(_OF_PROJECT.is_(None), projects.c.id == _OF_PROJECT),
                rights.has_some_role(),
            ),
        )
        .where(users.c.issuer != "")
        .order_by(projects.c.id)
        .limit(2)
    )


_OF_SUBJECT = and_(
    users.c.domain_id == bindparam("of_domain"),
    users.c.issuer == bindparam("of_issuer"),
    users.c.subject == bindparam("of_subject"),
)
_OF_USER = users.c.id == bindparam("of_user")
_FIND, _FIND_AGAIN = _shown(STATED).where(_OF_SUBJECT), _shown(STATED).where(_OF_USER)
_FIND_CARRIED, _FIND_CARRIED_AGAIN = _shown(CARRIED).where(_OF_SUBJECT), _shown(CARRIED).where(_OF_USER)
_FIND_ALONE, _FIND_ALONE_AGAIN = _shown(ALONE).where(_OF_SUBJECT), _shown(ALONE).where(_OF_USER)


async def find_user(
    tx: Transaction,
    *,
    domain_id: str,
    issuer: str,
    subject: str,
    project_id: str | None,
    carried: Carried | None = None,
) -> ProviderUserRow | None:
    """Return the user, enabled or not, in that project, or (None) in the only one in which it has a role.

    ``carried``: what a token carries, which then counts instead of the groups stated last.
    """
    query = _FIND if carried is None else _FIND_ALONE if carried.is_alone else _FIND_CARRIED
    parameters = {"of_domain": domain_id, "of_issuer": issuer, "of_subject": subject, "of_project": project_id}
    return _one((await tx.execute(query, {**parameters, **carrying(carried)})).mappings().all())


async def find_again(
    tx: Transaction, user_id: str, *, project_id: str | None, carried: Carried | None = None
) -> ProviderUserRow | None:
    """Return the same by the user's id."""
    query = _FIND_AGAIN if carried is None else _FIND_ALONE_AGAIN if carried.is_alone else _FIND_CARRIED_AGAIN
    parameters = {"of_user": user_id, "of_project": project_id, **carrying(carried)}
    return _one((await tx.execute(query, parameters)).mappings().all())


async def add_user(tx: Transaction, *, user_id: str, domain_id: str, name: str, issuer: str, subject: str) -> bool:
    """Insert a user without a password; return False if the domain has that name, or the subject, already."""
    statement = (
        postgresql.insert(users)
        .values(id=user_id, domain_id=domain_id, name=name, password_hash="", issuer=issuer, subject=subject)
        .on_conflict_do_nothing()
        .returning(users.c.id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def state_groups(
    tx: Transaction, user_id: str, *, names: Sequence[str], stated_at: datetime, until: datetime
) -> bool:
    """Store which groups the provider says the user is in; return False if it has said something newer."""
    statement = (
        update(users)
        .where(
            users.c.id == user_id,
            or_(users.c.groups_stated_at.is_(None), users.c.groups_stated_at <= stated_at),
        )
        .values(groups=list(names), groups_stated_at=stated_at, groups_until=until)
        .returning(users.c.id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def have_rights(tx: Transaction, names: Sequence[str], *, domain_id: str, issuer: str) -> bool:
    """Return True if one of the groups has a role or a policy somewhere."""
    some = exists().where(
        groups.c.domain_id == domain_id,
        groups.c.issuer == issuer,
        groups.c.name == func.any(bindparam("names", list(names), type_=ARRAY(Text))),
        or_(
            exists().where(group_roles.c.group_id == groups.c.id),
            exists().where(policy_attachments.c.group_id == groups.c.id),
        ),
    )
    return bool((await tx.execute(select(some))).scalar_one())


def _one(rows: Sequence[Mapping[Any, Any]]) -> ProviderUserRow | None:
    """Return the user of one row for each project that it could act in."""
    if not rows:
        return None
    found = ProviderUserRow(**rows[0])
    if len(rows) == 1:
        return found
    return replace(
        found,
        project_id=None,
        project_name=None,
        roles=found.account_roles,
        policies=found.account_policies,
        limits=found.account_limits,
    )
