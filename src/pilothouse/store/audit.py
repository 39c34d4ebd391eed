"""Audit log: who did what, from where, through which request, and the outcome.

Rows are append-only: the database refuses changes, and deletes only old rows (``retention``). The row of an action is
inserted in the action's own transaction; what changes nothing (refusals, failed proofs, reads) is inserted in batches,
with a count of ``times``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from sqlalchemy import (
    ColumnElement,
    Interval,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
)

from pilothouse.store.database import Transaction
from pilothouse.store.tables import audit, clusters, operations, projects


class Outcome(StrEnum):
    """How it went: done, denied for lack of a role, or failed: for lack of a proof, or because it could not be done.

    What is begun beyond the database has a row before, ``started``, and another at its end, by the same request.
    """

    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"
    STARTED = "started"


class Actor(Protocol):
    """The originator of an action: who, from where, and for which project."""

    @property
    def user_id(self) -> str:
        """The user; empty for an unauthenticated client."""
        ...

    @property
    def user_name(self) -> str:
        """The user's name at that time."""
        ...

    @property
    def domain_id(self) -> str:
        """The account, whose administrators may see the row."""
        ...

    @property
    def project_id(self) -> str:
        """The project; empty if the action concerns none."""
        ...

    @property
    def project_name(self) -> str:
        """The project's name at that time."""
        ...

    @property
    def source(self) -> str:
        """The address that the request came from."""
        ...


@dataclass(frozen=True)
class Somebody:
    """An actor that is not a caller: an unauthenticated client, a user logging in, or the owner of the database."""

    user_id: str = ""
    user_name: str = ""
    domain_id: str = ""
    project_id: str = ""
    project_name: str = ""
    source: str = ""


@dataclass(frozen=True)
class AuditRow:
    """One row."""

    id: int
    at: datetime
    domain_id: str
    user_id: str
    user_name: str
    project_id: str
    project_name: str
    source: str
    action: str
    target: str
    target_name: str
    outcome: Outcome
    detail: str
    times: int
    request_id: str
    operation_id: str


@dataclass(frozen=True)
class AuditPlace:
    """A place in the list: behind the row of that time and id, whether it is still kept or not."""

    at: datetime
    id: int


@dataclass(frozen=True)
class AuditFilter:
    """Filter for rows; ``user``, ``project``, ``target`` are ids or names, and ``action`` may end in an asterisk.

    ``cluster`` (id or name, also of one that was removed) and ``namespace``: where the release is that something was
    done to. ``shown``: the outcome as people read it, which is the state of the operation that was ordered if that is
    kept.
    ``without``: not those that did one of these actions, nor dry runs; refusals of them count.
    """

    since: datetime | None = None
    until: datetime | None = None
    user: str | None = None
    project: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    shown: str | None = None
    source: str | None = None
    without: tuple[str, ...] = ()
    cluster: str | None = None
    namespace: str | None = None


#: Rows about clusters, which tell the ids of those that are not there any more.
_REGISTERED = audit.alias()
# Not as parameters: PostgreSQL would not see that their index has them all.
_ABOUT_CLUSTERS: Final[Sequence[ColumnElement[str]]] = (
    literal_column("'cce:cluster:create'"),
    literal_column("'cce:cluster:delete'"),
)
_COLUMNS = tuple(AuditRow.__dataclass_fields__)
_RECORD = insert(audit)
_GATHERED = insert(audit).values(at=func.clock_timestamp() - bindparam("age", type_=Interval))


async def record(
    tx: Transaction,
    actor: Actor,
    action: str,
    *,
    target: str,
    request_id: str,
    target_name: str = "",
    detail: str = "",
    operation_id: str = "",
    outcome: Outcome = Outcome.DONE,
) -> None:
    """Insert an audit row in the caller's transaction, so that it commits with the action."""
    row = {
        **names_of(actor),
        "action": action,
        "target": target,
        "target_name": target_name,
        "detail": detail,
        "request_id": request_id,
        "operation_id": operation_id,
        "outcome": outcome,
    }
    await tx.execute(_RECORD, row)


async def add_gathered(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of events that happened ``age`` ago, each the values of its columns."""
    await tx.execute(_GATHERED, list(rows))


async def find_clusters(tx: Transaction, named: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the ids of those clusters, each named by its project's id and its name."""
    if not named:
        return {}
    query = select(clusters.c.project_id, clusters.c.name, clusters.c.id)
    found = await tx.execute(query.where(tuple_(clusters.c.project_id, clusters.c.name).in_(list(named))))
    return {(row.project_id, row.name): row.id for row in found}


def names_of(actor: Actor) -> dict[str, str]:
    """Return the columns that identify the actor."""
    return {name: getattr(actor, name) for name in Somebody.__dataclass_fields__}


async def list_rows(
    tx: Transaction, filters: AuditFilter, *, domain_id: str, after: AuditPlace | None, limit: int
) -> list[AuditRow]:
    """Return the account's matching rows, newest first, at most ``limit`` of those after that place.

    By time, not by id: ids are in the order of writing, and what changed nothing is written later than it happened.
    """
    query = select(*(audit.c[name] for name in _COLUMNS)).where(
        audit.c.domain_id == domain_id, *_conditions(filters), *_places(filters, domain_id=domain_id)
    )
    if after is not None:
        query = query.where(tuple_(audit.c.at, audit.c.id) < tuple_(after.at, after.id))
    found = await tx.execute(query.order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit))
    return [AuditRow(**row) for row in found.mappings()]


def _places(filters: AuditFilter, *, domain_id: str) -> list[ColumnElement[bool]]:
    """Return the conditions of where the target is, which begins with cluster and namespace: ``release_key``."""
    found: list[ColumnElement[bool]] = []
    if filters.cluster is not None:
        own = select(clusters.c.id).join(projects, projects.c.id == clusters.c.project_id)
        named = own.where(projects.c.domain_id == domain_id, clusters.c.name == filters.cluster)
        place = func.split_part(audit.c.target, "/", 1)
        removed = select(_REGISTERED.c.target).where(
            _REGISTERED.c.domain_id == domain_id,
            _REGISTERED.c.action.in_(_ABOUT_CLUSTERS),
            _REGISTERED.c.target_name == filters.cluster,
        )
        found.append(or_(place == filters.cluster, place.in_(named), place.in_(removed)))
    if filters.namespace is not None:
        found.append(func.split_part(audit.c.target, "/", 2) == filters.namespace)
    return found


def _conditions(filters: AuditFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.since is not None:
        found.append(audit.c.at >= filters.since)
    if filters.until is not None:
        found.append(audit.c.at < filters.until)
    for text, columns in (
        (filters.user, (audit.c.user_id, audit.c.user_name)),
        (filters.project, (audit.c.project_id, audit.c.project_name)),
        (filters.target, (audit.c.target, audit.c.target_name)),
        (filters.outcome, (audit.c.outcome,)),
        (filters.source, (audit.c.source,)),
    ):
        if text is not None:
            found.append(or_(*(column == text for column in columns)))
    if filters.action is not None and filters.action.endswith("*"):
        found.append(audit.c.action.startswith(filters.action[:-1], autoescape=True))
    elif filters.action is not None:
        found.append(audit.c.action == filters.action)
    if filters.shown is not None:
        found.append(_is_shown_as(filters.shown))
    if filters.without:
        left_out = or_(audit.c.action.in_(filters.without), audit.c.detail.startswith("dry run"))
        found.append(or_(audit.c.outcome != Outcome.DONE, not_(left_out)))
    return found


def _is_shown_as(word: str) -> ColumnElement[bool]:
    kept = select(operations.c.id)
    if word == Outcome.DONE:
        return and_(audit.c.outcome == Outcome.DONE, audit.c.operation_id.not_in(kept))
    ended = and_(audit.c.outcome == Outcome.DONE, audit.c.operation_id.in_(kept.where(operations.c.state == word)))
    return or_(audit.c.outcome == word, ended)


async def list_states(tx: Transaction, operation_ids: Collection[str]) -> dict[str, str]:
    """Return the states of those of the operations that are kept still."""
    found = await tx.execute(select(operations.c.id, operations.c.state).where(operations.c.id.in_(operation_ids)))
    return {row.id: row.state for row in found}


async def list_cluster_names(tx: Transaction, cluster_ids: Collection[str], *, domain_id: str) -> dict[str, str]:
    """Return the names of those that are clusters of the account."""
    query = select(clusters.c.id, clusters.c.name).join(projects, projects.c.id == clusters.c.project_id)
    found = await tx.execute(query.where(clusters.c.id.in_(cluster_ids), projects.c.domain_id == domain_id))
    return {row.id: row.name for row in found}


def age(seconds: float) -> timedelta:
    """Convert seconds to the ``age`` that ``add_gathered`` takes."""
    return timedelta(seconds=seconds)
