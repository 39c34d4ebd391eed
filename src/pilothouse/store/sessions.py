"""Queries about sessions of the console, by the hash of their cookie, which is not stored."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, Double, and_, bindparam, case, delete, func, insert, or_, select, update

from pilothouse.store.database import Transaction
from pilothouse.store.roles import STATED
from pilothouse.store.tables import domains, projects, sessions, tokens, users

_SWEPT_AT_ONCE = 1000
_NOW = func.clock_timestamp()


@dataclass(frozen=True)
class SessionRow:
    """One session with its user, and the user's current roles in the project that it was looked up for.

    ``alive`` is False if the user, or the project of the token that opened it, is disabled, or password, keys or roles
    changed since it was opened; ``expired`` is by the database's clock. ``project_id`` is None if no project was asked
    for, or the user has no role in it.
    """

    digest: str
    id: str
    expires_at: datetime
    expired: bool
    idle_seconds: float
    alive: bool
    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    proven_seconds_ago: float
    project_id: str | None
    project_name: str | None
    roles: list[str]
    account_roles: list[str]
    policies: list[str]
    account_policies: list[str]


@dataclass(frozen=True)
class OpenSession:
    """A session as it is shown to its user."""

    id: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    source: str
    agent: str


_OF_TOKEN = projects.alias("of_token")
_PROJECT: BindParameter[str] = bindparam("of_project")
_FIND = (
    select(
        sessions.c.digest,
        sessions.c.id,
        sessions.c.expires_at,
        (sessions.c.expires_at <= _NOW).label("expired"),
        func.extract("epoch", _NOW - sessions.c.used_at).cast(Double).label("idle_seconds"),
        and_(
            users.c.enabled,
            sessions.c.generation == users.c.generation,
            or_(_OF_TOKEN.c.id.is_(None), _OF_TOKEN.c.enabled),
        ).label("alive"),
        users.c.id.label("user_id"),
        users.c.name.label("user_name"),
        domains.c.id.label("domain_id"),
        domains.c.name.label("domain_name"),
        func.extract("epoch", _NOW - sessions.c.proven_at).cast(Double).label("proven_seconds_ago"),
        projects.c.id.label("project_id"),
        projects.c.name.label("project_name"),
        *STATED.held(),
    )
    .join(users, users.c.id == sessions.c.user_id)
    .join(domains, domains.c.id == users.c.domain_id)
    .outerjoin(tokens, tokens.c.digest == sessions.c.token_digest)
    .outerjoin(_OF_TOKEN, _OF_TOKEN.c.id == tokens.c.project_id)
    .outerjoin(
        projects,
        and_(
            projects.c.domain_id == domains.c.id,
            projects.c.enabled,
            or_(projects.c.id == _PROJECT, projects.c.name == _PROJECT),
            STATED.has_some_role(),
        ),
    )
    .where(sessions.c.digest == bindparam("of_session"))
    .order_by(case((projects.c.id == _PROJECT, 0), else_=1))
    .limit(1)
)


async def find_session(tx: Transaction, digest: str, *, project: str) -> SessionRow | None:
    """Return the session of that hash, valid or not; ``project`` is an id or a name, or empty."""
    row = (await tx.execute(_FIND, {"of_session": digest, "of_project": project})).mappings().one_or_none()
    return SessionRow(**row) if row else None


async def add_session(
    tx: Transaction,
    *,
    digest: str,
    session_id: str,
    user_id: str,
    generation: int,
    life_seconds: float,
    source: str,
    agent: str,
    token_digest: str | None = None,
    not_after: datetime | None = None,
    proven_at: datetime | None = None,
) -> None:
    """Insert a session that lasts for so long by the database's clock, and not longer than ``not_after``.

    With ``token_digest`` it ends with that token. ``proven_at``: when a password was given for it, if that is not now.
    """
    life = _NOW + timedelta(seconds=life_seconds)
    await tx.execute(
        insert(sessions).values(
            digest=digest,
            id=session_id,
            user_id=user_id,
            generation=generation,
            token_digest=token_digest,
            proven_at=_NOW if proven_at is None else proven_at,
            expires_at=life if not_after is None else func.least(life, not_after),
            source=source,
            agent=agent,
        )
    )


async def touch(tx: Transaction, digest: str) -> None:
    """Record that the session is in use."""
    await tx.execute(update(sessions).where(sessions.c.digest == digest).values(used_at=_NOW))


async def list_sessions(tx: Transaction, user_id: str, *, idle_seconds: float) -> list[OpenSession]:
    """Return the user's sessions that have not ended, the last used first."""
    columns = [getattr(sessions.c, name) for name in OpenSession.__dataclass_fields__]
    query = (
        select(*columns)
        .join(users, users.c.id == sessions.c.user_id)
        .where(sessions.c.user_id == user_id, sessions.c.generation == users.c.generation)
        .where(sessions.c.expires_at > _NOW, sessions.c.used_at > _NOW - timedelta(seconds=idle_seconds))
        .order_by(sessions.c.used_at.desc(), sessions.c.id)
    )
    return [OpenSession(**row) for row in (await tx.execute(query)).mappings()]


async def remove_session(tx: Transaction, user_id: str, session_id: str) -> bool:
    """Delete the user's session of that id; return False if there is none."""
    mine = delete(sessions).where(sessions.c.user_id == user_id, sessions.c.id == session_id)
    return (await tx.execute(mine)).rowcount == 1


async def remove_all(tx: Transaction, user_id: str) -> int:
    """Delete all sessions of the user; return how many."""
    return (await tx.execute(delete(sessions).where(sessions.c.user_id == user_id))).rowcount


async def end_oldest(tx: Transaction, user_id: str, *, most: int) -> int:
    """Delete all but the newest sessions of the user; return how many."""
    oldest = (
        select(sessions.c.digest)
        .where(sessions.c.user_id == user_id)
        .order_by(sessions.c.created_at.desc(), sessions.c.digest)
        .offset(most)
        .with_for_update(skip_locked=True)  # another log-in ends them, too
        .cte("oldest")
    )
    return (await tx.execute(delete(sessions).where(sessions.c.digest.in_(select(oldest.c.digest))))).rowcount


async def sweep(tx: Transaction, *, expired_seconds_ago: float) -> int:
    """Delete sessions that ended that long ago or earlier, at most 1,000; return how many."""
    # Skipping locked rows: sweeps of several replicas neither wait for each other nor deadlock.
    some = (
        select(sessions.c.digest)
        .where(sessions.c.expires_at < _NOW - timedelta(seconds=expired_seconds_ago))
        .limit(_SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("some")  # which runs once, so the limit holds
    )
    return (await tx.execute(delete(sessions).where(sessions.c.digest.in_(select(some.c.digest))))).rowcount
