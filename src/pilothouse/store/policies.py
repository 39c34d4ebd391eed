"""Queries about policies, and what they are attached to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.tables import policies, policy_attachments


@dataclass(frozen=True)
class AttachmentRow:
    """Where a policy counts: for a user or for a group, in a project or (None) in the whole account."""

    user_id: str | None
    group_id: str | None
    project_id: str | None


@dataclass(frozen=True)
class PolicyRow:
    """One policy, and what it is attached to."""

    id: str
    name: str
    document: str
    created_at: datetime
    attachments: Sequence[AttachmentRow] = ()


_SHOWN = select(policies.c.id, policies.c.name, policies.c.document, policies.c.created_at)
_ATTACHMENT = (policy_attachments.c.user_id, policy_attachments.c.group_id, policy_attachments.c.project_id)


async def list_policies(tx: Transaction, *, domain_id: str, policy_id: str | None = None) -> list[PolicyRow]:
    """Return the domain's policies by name, or the one of that id."""
    query = _SHOWN.where(policies.c.domain_id == domain_id).order_by(policies.c.name)
    if policy_id is not None:
        query = query.where(policies.c.id == policy_id)
    found = [PolicyRow(**row) for row in (await tx.execute(query)).mappings()]
    attached: dict[str, list[AttachmentRow]] = {}
    of_all = (
        select(policy_attachments.c.policy_id, *_ATTACHMENT)
        .where(policy_attachments.c.policy_id.in_([policy.id for policy in found]))
        .order_by(policy_attachments.c.id)
    )
    for row in (await tx.execute(of_all)).mappings():
        attachment = AttachmentRow(row["user_id"], row["group_id"], row["project_id"])
        attached.setdefault(row["policy_id"], []).append(attachment)
    return [replace(policy, attachments=attached.get(policy.id, [])) for policy in found]


async def find_policy(tx: Transaction, policy_id: str, *, domain_id: str) -> PolicyRow | None:
    """Return the policy if it is the domain's."""
    return next(iter(await list_policies(tx, domain_id=domain_id, policy_id=policy_id)), None)


async def count_policies(tx: Transaction, *, domain_id: str) -> int:
    """Count the domain's policies."""
    return int((await tx.execute(select(func.count()).where(policies.c.domain_id == domain_id))).scalar_one())


async def add_policy(tx: Transaction, *, policy_id: str, domain_id: str, name: str, document: str) -> bool:
    """Insert a policy; return False if the domain has one of that name."""
    statement = (
        postgresql.insert(policies)
        .values(id=policy_id, domain_id=domain_id, name=name, document=document)
        .on_conflict_do_nothing()
        .returning(policies.c.id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def hold(tx: Transaction, policy_id: str, *, document: str) -> bool:
    """Keep what the policy says until the transaction ends; return False if that is another document now."""
    query = select(policies.c.id).where(policies.c.id == policy_id, policies.c.document == document)
    return (await tx.execute(query.with_for_update())).scalar_one_or_none() is not None


async def replace_document(tx: Transaction, policy_id: str, *, document: str) -> None:
    """Replace what the policy says."""
    await tx.execute(update(policies).where(policies.c.id == policy_id).values(document=document))


async def remove_policy(tx: Transaction, policy_id: str) -> None:
    """Delete the policy, and take it from whoever has it."""
    await tx.execute(delete(policies).where(policies.c.id == policy_id))


async def count_attached(tx: Transaction, where: AttachmentRow) -> int:
    """Count the policies of the user or group."""
    query = select(func.count()).where(_same(policy_attachments.c.user_id, where.user_id))
    return int((await tx.execute(query.where(_same(policy_attachments.c.group_id, where.group_id)))).scalar_one())


async def attach(tx: Transaction, policy_id: str, where: AttachmentRow) -> bool:
    """Attach the policy; return False if it is attached there already."""
    statement = postgresql.insert(policy_attachments).values(policy_id=policy_id, **vars(where))
    added = await tx.execute(statement.on_conflict_do_nothing().returning(policy_attachments.c.id))
    return added.scalar_one_or_none() is not None


async def detach(tx: Transaction, policy_id: str, where: AttachmentRow) -> bool:
    """Take the policy away; return False if it is not attached there."""
    statement = delete(policy_attachments).where(
        policy_attachments.c.policy_id == policy_id,
        *(_same(column, value) for column, value in zip(_ATTACHMENT, vars(where).values(), strict=True)),
    )
    return (await tx.execute(statement)).rowcount > 0


async def detach_all(tx: Transaction, user_id: str) -> None:
    """Take every policy from a user."""
    await tx.execute(delete(policy_attachments).where(policy_attachments.c.user_id == user_id))


def _same(column: ColumnElement[str | None], value: str | None) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value
