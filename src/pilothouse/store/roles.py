"""Queries about roles of users, per project and account."""

from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Label,
    Subquery,
    Text,
    and_,
    bindparam,
    delete,
    false,
    func,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from pilothouse.store.database import Transaction
from pilothouse.store.tables import (
    group_roles,
    groups,
    policies,
    policy_attachments,
    projects,
    role_assignments,
    users,
)


@dataclass(frozen=True)
class RoleRow:
    """One role of a user; ``project_id`` None: in the whole account."""

    role: str
    project_id: str | None


@dataclass(frozen=True)
class Carried:
    """The groups that a token carries; ``is_alone``: what its user was given itself counts only where it denies."""

    groups: tuple[str, ...]
    is_alone: bool = False


_MEMBERS = users.alias("members")
_MEMBERSHIPS = _MEMBERS.join(
    groups, (groups.c.domain_id == _MEMBERS.c.domain_id) & (groups.c.issuer == _MEMBERS.c.issuer)
)
_ATTACHED = policies.join(policy_attachments, policy_attachments.c.policy_id == policies.c.id)
_OF_MEMBER = _MEMBERS.c.id.label("user_id")


class Rights:
    """What users may do: by roles and policies of their own, and of those of their groups that count."""

    def __init__(self, counts: ColumnElement[bool], *, own: bool = True) -> None:
        """Take in ``counts`` whether a group of the member's account and issuer counts for the member.

        Without ``own`` what a user was given itself does not count.
        """
        counts_itself = true() if own else false()
        own_policies = select(
            policy_attachments.c.user_id, policy_attachments.c.project_id, policies.c.document
        ).select_from(_ATTACHED)
        own_policies = own_policies.where(policy_attachments.c.user_id.is_not(None))
        #: What is attached to users themselves and counts only where it denies.
        self._limits = own_policies.where(false() if own else true()).subquery("limits")
        #: Every policy that is attached to a user, or to one of its groups.
        self._policies = union_all(
            own_policies.where(counts_itself),
            select(_OF_MEMBER, policy_attachments.c.project_id, policies.c.document)
            .select_from(_MEMBERSHIPS.join(policy_attachments, policy_attachments.c.group_id == groups.c.id))
            .join(policies, policies.c.id == policy_attachments.c.policy_id)
            .where(counts),
        ).subquery("held_policies")
        #: Every role that a user holds: its own, and those of its groups.
        self._roles = union_all(
            select(role_assignments.c.user_id, role_assignments.c.project_id, role_assignments.c.role).where(
                counts_itself
            ),
            select(_OF_MEMBER, group_roles.c.project_id, group_roles.c.role)
            .select_from(_MEMBERSHIPS.join(group_roles, group_roles.c.group_id == groups.c.id))
            .where(counts),
        ).subquery("held")
        #: Where a user has a right: by a role, or by a policy, which may be one that only denies.
        self.seen = union_all(
            select(self._roles.c.user_id, self._roles.c.project_id),
            select(self._policies.c.user_id, self._policies.c.project_id),
        ).subquery("seen")

    def held(self) -> tuple[Label[list[str]], ...]:
        """Build the columns with the roles and policies of the row's user: in its project, and in the whole account."""
        return (
            self._held_roles(here=True).label("roles"),
            self._held_roles(here=False).label("account_roles"),
            _held_policies(self._policies, here=True).label("policies"),
            _held_policies(self._policies, here=False).label("account_policies"),
        )

    def limits(self) -> tuple[Label[list[str]], ...]:
        """Build the columns with the policies of the row's user that count only where they deny, as ``held``."""
        return (
            _held_policies(self._limits, here=True).label("limits"),
            _held_policies(self._limits, here=False).label("account_limits"),
        )

    def has_some_role(self) -> ColumnElement[bool]:
        """Build the condition that the row's user has a role that counts in the row's project."""
        counts = or_(self.seen.c.project_id.is_(None), self.seen.c.project_id == projects.c.id)
        query = select(self.seen.c.user_id).where(self.seen.c.user_id == users.c.id, counts)
        return query.correlate(users, projects).exists()

    def _held_roles(self, *, here: bool) -> ColumnElement[list[str]]:
        """Build a column with the roles of the row's user: in the whole account and, with ``here``, in its project."""
        counts: ColumnElement[bool] = self._roles.c.project_id.is_(None)
        if here:
            counts = or_(counts, self._roles.c.project_id == projects.c.id)
        query = select(func.array_agg(self._roles.c.role)).where(self._roles.c.user_id == users.c.id, counts)
        query = query.correlate(users, projects) if here else query.correlate(users)
        return func.coalesce(query.scalar_subquery(), postgresql.array([], type_=Text))


def _held_policies(attached: Subquery, *, here: bool) -> ColumnElement[list[str]]:
    """Build a column with those policies that are the row's user's, each once: as the roles."""
    counts: ColumnElement[bool] = attached.c.project_id.is_(None)
    if here:
        counts = or_(counts, attached.c.project_id == projects.c.id)
    each = func.array_agg(attached.c.document.distinct())
    query = select(each).where(attached.c.user_id == users.c.id, counts)
    query = query.correlate(users, projects) if here else query.correlate(users)
    return func.coalesce(query.scalar_subquery(), postgresql.array([], type_=Text))


#: The groups that the provider stated last, as long as they count.
STATED = Rights(and_(groups.c.name == func.any(_MEMBERS.c.groups), _MEMBERS.c.groups_until > func.clock_timestamp()))
_CARRIED = "carried_groups"
#: The groups that a token carries, which count for it alone; queries take them as ``carrying`` gives them.
_IS_CARRIED = groups.c.name == func.any(bindparam(_CARRIED, type_=ARRAY(Text)))
CARRIED = Rights(_IS_CARRIED)
#: The same without what the user was given itself.
ALONE = Rights(_IS_CARRIED, own=False)


def rights_of(carried: Carried | None) -> Rights:
    """Return the rights that count for whoever proved them: with the groups of a token, or (None) those stated last."""
    if carried is None:
        return STATED
    return ALONE if carried.is_alone else CARRIED


def carrying(carried: Carried | None) -> dict[str, list[str]]:
    """Return the parameters of a query with ``rights_of`` the same."""
    return {} if carried is None else {_CARRIED: list(carried.groups)}


async def list_roles(tx: Transaction, user_id: str) -> list[RoleRow]:
    """Return the user's roles: those in the whole account first, then by project."""
    query = (
        select(role_assignments.c.role, role_assignments.c.project_id)
        .where(role_assignments.c.user_id == user_id)
        .order_by(role_assignments.c.project_id.nulls_first(), role_assignments.c.role)
    )
    return [RoleRow(**row) for row in (await tx.execute(query)).mappings()]


async def list_of_domain(tx: Transaction, domain_id: str) -> dict[str, list[RoleRow]]:
    """Return the same of all users of the domain that have one, by their ids."""
    query = (
        select(role_assignments.c.user_id, role_assignments.c.role, role_assignments.c.project_id)
        .join(users, users.c.id == role_assignments.c.user_id)
        .where(users.c.domain_id == domain_id)
        .order_by(role_assignments.c.project_id.nulls_first(), role_assignments.c.role)
    )
    found: dict[str, list[RoleRow]] = {}
    for row in await tx.execute(query):
        found.setdefault(row.user_id, []).append(RoleRow(row.role, row.project_id))
    return found


async def has_role(tx: Transaction, user_id: str, *, project_id: str) -> bool:
    """Return True if some role of the user counts in the project."""
    counts = or_(STATED.seen.c.project_id.is_(None), STATED.seen.c.project_id == project_id)
    query = select(STATED.seen.c.user_id).where(STATED.seen.c.user_id == user_id, counts).limit(1)
    return (await tx.execute(query)).scalar_one_or_none() is not None


async def has_any_role(tx: Transaction, user_id: str) -> bool:
    """Return True if the user has a role anywhere."""
    query = select(STATED.seen.c.user_id).where(STATED.seen.c.user_id == user_id).limit(1)
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
