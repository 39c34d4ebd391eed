"""Queries about users."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, null, select, update
from sqlalchemy.dialects import postgresql

from pilothouse.store import password_failures
from pilothouse.store.database import Transaction
from pilothouse.store.tables import access_keys, domains, users
from pilothouse.store.tables import password_failures as failures


@dataclass(frozen=True)
class UserRow:
    """One user, for display."""

    id: str
    domain_id: str
    name: str
    enabled: bool
    locked_until: datetime | None
    created_at: datetime
    issuer: str


@dataclass(frozen=True)
class LoginRow:
    """The data of a user that a log-in needs."""

    id: str
    name: str
    domain_id: str
    domain_name: str
    password_hash: str
    enabled: bool
    generation: int
    failures: int
    locked: bool


_SHOWN = select(
    users.c.id,
    users.c.domain_id,
    users.c.name,
    users.c.enabled,
    password_failures.LOCKED_UNTIL.label("locked_until"),
    users.c.created_at,
    users.c.issuer,
)
_LOGIN = (
    select(
        users.c.id,
        users.c.name,
        users.c.domain_id,
        domains.c.name.label("domain_name"),
        users.c.password_hash,
        users.c.enabled,
        users.c.generation,
        func.coalesce(failures.c.failures, 0).label("failures"),
        password_failures.IS_LOCKED.label("locked"),
    )
    .join(domains, domains.c.id == users.c.domain_id)
    .outerjoin(failures, password_failures.HERE)
)


async def find_login(
    tx: Transaction,
    *,
    address: str,
    user_id: str | None = None,
    name: str | None = None,
    domain_id: str | None = None,
    domain_name: str | None = None,
) -> LoginRow | None:
    """Return the user of that id, or of that name in the domain of that id or name; enabled or not.

    Failures and lock are those of the address.
    """
    query = _LOGIN
    for column, value in (
        (users.c.id, user_id),
        (users.c.name, name),
        (domains.c.id, domain_id),
        (domains.c.name, domain_name),
    ):
        if value is not None:
            query = query.where(column == value)
    row = (await tx.execute(query, {"from_address": address})).mappings().one_or_none()
    return LoginRow(**row) if row else None


async def find_user(tx: Transaction, user_id: str, *, domain_id: str) -> UserRow | None:
    """Return the user if it belongs to that domain."""
    query = _SHOWN.where(users.c.id == user_id, users.c.domain_id == domain_id)
    row = (await tx.execute(query)).mappings().one_or_none()
    return _shown(row) if row else None


async def list_users(tx: Transaction, *, domain_id: str) -> list[UserRow]:
    """Return the domain's users by name."""
    query = _SHOWN.where(users.c.domain_id == domain_id).order_by(users.c.name)
    return [_shown(row) for row in (await tx.execute(query)).mappings()]


async def add_user(tx: Transaction, *, user_id: str, domain_id: str, name: str, password_hash: str) -> UserRow | None:
    """Insert a user; return None if the domain has one of that name."""
    statement = (
        postgresql.insert(users)
        .values(id=user_id, domain_id=domain_id, name=name, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=[users.c.domain_id, users.c.name])
        .returning(
            users.c.id,
            users.c.domain_id,
            users.c.name,
            users.c.enabled,
            null().label("locked_until"),
            users.c.created_at,
            users.c.issuer,
        )
    )
    row = (await tx.execute(statement)).mappings().one_or_none()
    return _shown(row) if row else None


async def set_password(tx: Transaction, user_id: str, *, password_hash: str) -> None:
    """Replace the password, lift the locks, and revoke the user's tokens."""
    await _change(tx, user_id, password_hash=password_hash)
    await password_failures.forget(tx, user_id)


async def replace_hash(tx: Transaction, user_id: str, *, old: str, new: str) -> None:
    """Store another hash of the same password, unless the password has changed meanwhile; tokens stay valid."""
    where = (users.c.id == user_id, users.c.password_hash == old)
    await tx.execute(update(users).where(*where).values(password_hash=new))


async def set_enabled(tx: Transaction, user_id: str, *, enabled: bool) -> None:
    """Enable or disable the user, lift the locks, and revoke the user's tokens."""
    await _change(tx, user_id, enabled=enabled)
    await password_failures.forget(tx, user_id)


async def end_tokens(tx: Transaction, user_id: str) -> None:
    """Revoke all tokens of a user whose rights changed."""
    await _change(tx, user_id)


async def hold(tx: Transaction, user_id: str) -> None:
    """Let others who change the user wait until the transaction ends; before rows that belong to the user."""
    await tx.execute(select(users.c.id).where(users.c.id == user_id).with_for_update())


async def remove_user(tx: Transaction, user_id: str) -> None:
    """Delete the user with its access keys, roles and tokens."""
    await hold(tx, user_id)
    await tx.execute(delete(access_keys).where(access_keys.c.user_id == user_id))
    await tx.execute(delete(users).where(users.c.id == user_id))


async def _change(tx: Transaction, user_id: str, **values: object) -> None:
    statement = update(users).where(users.c.id == user_id)
    await tx.execute(statement.values(generation=users.c.generation + 1, **values))


def _shown(row: Mapping[Any, Any]) -> UserRow:
    return UserRow(**row)
