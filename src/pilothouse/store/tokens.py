"""Queries about tokens, by the hash of their text, which is not stored."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Double, and_, bindparam, delete, func, insert, or_, select

from pilothouse.store.database import Transaction
from pilothouse.store.roles import STATED
from pilothouse.store.tables import domains, projects, tokens, users

_SWEPT_AT_ONCE = 1000


@dataclass(frozen=True)
class TokenRow:
    """One token with its user and that user's current roles.

    ``alive`` is False if the user or project is disabled, or password, keys or roles changed since it was issued;
    ``expired`` is by the database's clock. ``project_id`` and ``project_name`` are set if ``scope`` is "project".
    """

    digest: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    expired: bool
    alive: bool
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    generation: int
    proven_at: datetime
    proven_seconds_ago: float
    project_id: str | None
    project_name: str | None
    roles: list[str]
    account_roles: list[str]
    policies: list[str]
    account_policies: list[str]


@dataclass(frozen=True)
class LivingToken:
    """A token as it is shown to its user; ``id`` names it, and opens nothing."""

    id: str
    scope: str
    project_name: str | None
    issued_at: datetime
    expires_at: datetime


#: Of the hash, so much as tells a user's tokens apart.
_SHOWN = 16
_FIND = (
    select(
        tokens.c.digest,
        tokens.c.scope,
        tokens.c.issued_at,
        tokens.c.expires_at,
        (tokens.c.expires_at <= func.clock_timestamp()).label("expired"),
        and_(
            users.c.enabled,
            tokens.c.generation == users.c.generation,
            or_(tokens.c.project_id.is_(None), projects.c.enabled),
        ).label("alive"),
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        domains.c.id.label("domain_id"),
        domains.c.name.label("domain_name"),
        tokens.c.generation,
        tokens.c.proven_at,
        func.extract("epoch", func.clock_timestamp() - tokens.c.proven_at).cast(Double).label("proven_seconds_ago"),
        tokens.c.project_id,
        projects.c.name.label("project_name"),
        *STATED.held(),
    )
    .join(users, users.c.id == tokens.c.user_id)
    .join(domains, domains.c.id == users.c.domain_id)
    .outerjoin(projects, projects.c.id == tokens.c.project_id)
    .where(tokens.c.digest == bindparam("of_token"))
)


async def find_token(tx: Transaction, digest: str) -> TokenRow | None:
    """Return the token of that hash, valid or not."""
    row = (await tx.execute(_FIND, {"of_token": digest})).mappings().one_or_none()
    return TokenRow(**row) if row else None


async def read_token(tx: Transaction, digest: str) -> TokenRow:
    """Return the token of that hash, which the same transaction has added."""
    return TokenRow(**(await tx.execute(_FIND, {"of_token": digest})).mappings().one())


async def add_token(
    tx: Transaction,
    *,
    digest: str,
    user_id: str,
    generation: int,
    scope: str,
    project_id: str | None,
    life_seconds: float,
    not_after: datetime | None = None,
    proven_at: datetime | None = None,
) -> None:
    """Insert a token that is valid for so long by the database's clock, and not longer than ``not_after``.

    ``proven_at`` is when a password was given for it, if that is not now.
    """
    now = select(func.clock_timestamp().label("now")).cte("clock")
    statement = insert(tokens).from_select(
        ["digest", "user_id", "generation", "scope", "project_id", "issued_at", "expires_at", "proven_at"],
        select(
            bindparam("new_digest", digest),
            bindparam("new_user", user_id),
            bindparam("new_generation", generation),
            bindparam("new_scope", scope),
            bindparam("new_project", project_id, type_=tokens.c.project_id.type),
            now.c.now,
            # PostgreSQL's LEAST passes over NULL.
            func.least(
                now.c.now + timedelta(seconds=life_seconds),
                bindparam("not_after", not_after, type_=tokens.c.expires_at.type),
            ),
            func.coalesce(bindparam("proven_at", proven_at, type_=tokens.c.proven_at.type), now.c.now),
        ),
    )
    await tx.execute(statement)


async def end_oldest(tx: Transaction, user_id: str, *, most: int) -> int:
    """Delete all but the newest tokens of the user; return how many."""
    oldest = (
        select(tokens.c.digest)
        .where(tokens.c.user_id == user_id)
        .order_by(tokens.c.issued_at.desc(), tokens.c.digest)
        .offset(most)
        .with_for_update(skip_locked=True)  # another request that issues one ends them, too
        .cte("oldest")
    )
    return (await tx.execute(delete(tokens).where(tokens.c.digest.in_(select(oldest.c.digest))))).rowcount


async def remove_token(tx: Transaction, digest: str) -> bool:
    """Delete the token; return False if there is none."""
    return (await tx.execute(delete(tokens).where(tokens.c.digest == digest))).rowcount == 1


async def list_living(tx: Transaction, user_id: str, *, limit: int) -> list[LivingToken]:
    """Return the user's newest tokens that are valid."""
    query = (
        select(
            func.left(tokens.c.digest, _SHOWN).label("id"),
            tokens.c.scope,
            projects.c.name.label("project_name"),
            tokens.c.issued_at,
            tokens.c.expires_at,
        )
        .join(users, users.c.id == tokens.c.user_id)
        .outerjoin(projects, projects.c.id == tokens.c.project_id)
        .where(tokens.c.user_id == user_id, tokens.c.generation == users.c.generation)
        .where(tokens.c.expires_at > func.clock_timestamp(), or_(tokens.c.project_id.is_(None), projects.c.enabled))
        .order_by(tokens.c.issued_at.desc(), tokens.c.digest)
        .limit(limit)
    )
    return [LivingToken(**row) for row in (await tx.execute(query)).mappings()]


async def remove_named(tx: Transaction, user_id: str, token_id: str) -> bool:
    """Delete the user's token of that id; return False if there is none."""
    mine = delete(tokens).where(tokens.c.user_id == user_id, func.left(tokens.c.digest, _SHOWN) == token_id)
    return (await tx.execute(mine)).rowcount == 1


async def sweep(tx: Transaction, *, expired_seconds_ago: float) -> int:
    """Delete tokens that expired that long ago or earlier, at most 1,000; return how many."""
    long_ago = func.clock_timestamp() - timedelta(seconds=expired_seconds_ago)
    # Skipping locked rows: sweeps of several replicas neither wait for each other nor deadlock.
    some = (
        select(tokens.c.digest)
        .where(tokens.c.expires_at < long_ago)
        .limit(_SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("some")  # which runs once, so the limit holds
    )
    return (await tx.execute(delete(tokens).where(tokens.c.digest.in_(select(some.c.digest))))).rowcount
