"""Queries about access keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, bindparam, delete, false, func, insert, literal, or_, select, true, update

from pilothouse.store import lockout
from pilothouse.store.database import Transaction
from pilothouse.store.roles import STATED
from pilothouse.store.tables import access_keys, domains, projects, users
from pilothouse.store.users import hold


@dataclass(frozen=True)
class ProvingKeyRow:
    """One access key with its user and that user's roles; the secret is sealed.

    ``project_id`` is None if the user's account has no such project or has disabled it, or if it is not the key's own
    project and the user has no role there. ``roles`` are those that count in that project, ``account_roles`` the subset
    that counts in the whole account.
    """

    id: str
    secret_sealed: bytes
    failures: int
    locked: bool
    used_long_ago: bool
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str | None
    project_name: str | None
    roles: list[str]
    account_roles: list[str]
    policies: list[str]
    account_policies: list[str]


@dataclass(frozen=True)
class AccessKeyRow:
    """One access key without its secret, for display."""

    id: str
    user_id: str
    project_id: str
    enabled: bool
    locked_until: datetime | None
    created_at: datetime
    expires_at: datetime | None
    expired: bool
    last_used_at: datetime | None
    description: str


#: The last use is known to the minute: what is written at every request would be what costs most.
_DATED_EVERY = timedelta(minutes=1)

_FIND_PROVING = (
    select(
        access_keys.c.id,
        access_keys.c.secret_sealed,
        access_keys.c.failures,
        lockout.IS_LOCKED.label("locked"),
        func.coalesce(access_keys.c.last_used_at < func.clock_timestamp() - literal(_DATED_EVERY), true()).label(
            "used_long_ago"
        ),
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        domains.c.id.label("domain_id"),
        domains.c.name.label("domain_name"),
        projects.c.id.label("project_id"),
        projects.c.name.label("project_name"),
        *STATED.held(),
    )
    .join(users, users.c.id == access_keys.c.user_id)
    .join(domains, domains.c.id == users.c.domain_id)
    .outerjoin(
        projects,
        (projects.c.id == func.coalesce(bindparam("named_project", type_=Text), access_keys.c.project_id))
        & (projects.c.domain_id == users.c.domain_id)
        & projects.c.enabled
        # Its own project the holder knows; another one only by a role there.
        & or_(projects.c.id == access_keys.c.project_id, STATED.has_some_role()),
    )
    .where(access_keys.c.id == bindparam("access_key"), access_keys.c.enabled, users.c.enabled)
    .where(or_(access_keys.c.expires_at.is_(None), access_keys.c.expires_at > func.clock_timestamp()))
)
_SHOWN = select(
    access_keys.c.id,
    access_keys.c.user_id,
    access_keys.c.project_id,
    access_keys.c.enabled,
    access_keys.c.locked_until,
    access_keys.c.created_at,
    access_keys.c.expires_at,
    func.coalesce(access_keys.c.expires_at <= func.clock_timestamp(), false()).label("expired"),
    access_keys.c.last_used_at,
    access_keys.c.description,
)


async def find_proving(tx: Transaction, access_key: str, *, project_id: str | None) -> ProvingKeyRow | None:
    """Return the key, in that project or (None) in its own; None if it expired, or it or its user is disabled."""
    parameters = {"access_key": access_key, "named_project": project_id}
    row = (await tx.execute(_FIND_PROVING, parameters)).mappings().one_or_none()
    return ProvingKeyRow(**row) if row else None


async def find_access_key(tx: Transaction, access_key: str, *, domain_id: str) -> AccessKeyRow | None:
    """Return the key if it belongs to a user of that domain, enabled or not."""
    query = _SHOWN.join(users, users.c.id == access_keys.c.user_id).where(
        access_keys.c.id == access_key, users.c.domain_id == domain_id
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return _shown(row) if row else None


async def list_access_keys(tx: Transaction, user_id: str) -> list[AccessKeyRow]:
    """Return the user's keys, oldest first."""
    query = _SHOWN.where(access_keys.c.user_id == user_id).order_by(access_keys.c.created_at, access_keys.c.id)
    return [_shown(row) for row in (await tx.execute(query)).mappings()]


async def add_access_key(
    tx: Transaction,
    *,
    access_key: str,
    user_id: str,
    project_id: str,
    secret_sealed: bytes,
    expires_at: datetime | None = None,
    description: str = "",
) -> AccessKeyRow:
    """Insert an access key with its sealed secret; it never expires if ``expires_at`` is None."""
    statement = (
        insert(access_keys)
        .values(
            id=access_key,
            user_id=user_id,
            project_id=project_id,
            secret_sealed=secret_sealed,
            expires_at=expires_at,
            description=description,
        )
        .returning(*_SHOWN.selected_columns)
    )
    return _shown((await tx.execute(statement)).mappings().one())


async def set_enabled(tx: Transaction, access_key: str, *, enabled: bool) -> AccessKeyRow | None:
    """Enable or disable the key, reset its failures and lift a lock; return None if there is no such key."""
    statement = (
        update(access_keys)
        .where(access_keys.c.id == access_key)
        .values(enabled=enabled, failures=0, locked_until=None)
        .returning(*_SHOWN.selected_columns)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return _shown(row) if row else None


async def set_description(tx: Transaction, access_key: str, description: str) -> AccessKeyRow | None:
    """Set what the key is for; return None if there is no such key."""
    statement = (
        update(access_keys)
        .where(access_keys.c.id == access_key)
        .values(description=description)
        .returning(*_SHOWN.selected_columns)
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return _shown(row) if row else None


async def remove_access_key(tx: Transaction, access_key: str) -> bool:
    """Delete the key; return False if there is none."""
    return (await tx.execute(delete(access_keys).where(access_keys.c.id == access_key))).rowcount == 1


async def set_used(tx: Transaction, ages: Mapping[str, timedelta]) -> None:
    """Record when keys were last used, each that long ago; missing keys are skipped."""
    for key in sorted(ages):  # in one order, so that two processes do not wait for each other in a circle
        at = func.clock_timestamp() - literal(ages[key])
        newest = func.greatest(access_keys.c.last_used_at, at)
        await tx.execute(update(access_keys).where(access_keys.c.id == key).values(last_used_at=newest))


async def count_of_user(tx: Transaction, user_id: str, *, project_id: str) -> int:
    """Count the user's keys in the project; concurrent creators wait until this transaction ends."""
    await hold(tx, user_id)
    query = select(func.count()).where(access_keys.c.user_id == user_id, access_keys.c.project_id == project_id)
    return int((await tx.execute(query)).scalar_one())


async def disable_all(tx: Transaction, user_id: str) -> int:
    """Disable every key of the user; return how many were usable before."""
    statement = update(access_keys).where(access_keys.c.user_id == user_id, access_keys.c.enabled)
    return (await tx.execute(statement.values(enabled=False))).rowcount


def _shown(row: Mapping[Any, Any]) -> AccessKeyRow:
    return AccessKeyRow(**row)
