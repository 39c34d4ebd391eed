"""Queries about plans: what was reviewed, sealed, until it is applied or expires."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    ScalarSelect,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
)

from pilothouse.errors import QuotaExceeded
from pilothouse.states import OperationState
from pilothouse.store.database import Transaction
from pilothouse.store.operations import as_interval
from pilothouse.store.places import Place, among
from pilothouse.store.tables import operations, plans


@dataclass(frozen=True)
class NewPlan:
    """A plan that is to be kept, in two parts: what an apply needs, and what only people look at."""

    id: str
    project_id: str
    user_id: str
    cluster_id: str
    namespace: str
    release_name: str
    action: str
    digest: str
    plan_sealed: bytes = field(repr=False)
    comparison_sealed: bytes | None = field(repr=False)


@dataclass(frozen=True)
class PlanRow(NewPlan):
    """A plan; ``operation_id`` is the operation that applies it, None if none does.

    ``comparison_sealed`` is None if it was not read, or if the plan is of a version that kept all in one part.
    """

    created_at: datetime
    expires_at: datetime
    is_expired: bool
    operation_id: str | None


@dataclass(frozen=True)
class PlannedAction:
    """What a plan does, and to which release."""

    action: str
    cluster_id: str
    namespace: str
    name: str


@dataclass(frozen=True)
class ListedPlanRow:
    """A plan as a list has it; ``namespace`` and ``release_name`` are empty if a version before has kept it."""

    id: str
    user_id: str
    cluster_id: str
    namespace: str
    release_name: str
    action: str
    created_at: datetime
    expires_at: datetime


async def keep(tx: Transaction, new: NewPlan, *, life_seconds: float, most: int, most_bytes: int) -> PlanRow:
    """Insert the plan; raise QuotaExceeded if the project has as many, or as large ones, or its user half of that.

    So nobody uses up what all others plan with. Expired ones do not count, but give way when the kept ones would be
    larger than that together. Concurrent requests can exceed both slightly.
    """
    params = {
        **{f"new_{name}": value for name, value in vars(new).items()},
        "new_bytes": len(new.plan_sealed) + len(new.comparison_sealed or b""),
        "life_seconds": life_seconds,
        "most": most,
        "most_bytes": most_bytes,
        "most_of_user": -(-most // 2),
        "most_bytes_of_user": -(-most_bytes // 2),
    }
    await tx.execute(_GIVE_WAY, {name: params[name] for name in ("new_project_id", "new_bytes", "most_bytes")})
    row = (await tx.execute(_KEEP, params)).mappings().one_or_none()
    if row is None:
        raise await _no_room(tx, params)
    return PlanRow(**vars(new), **row, is_expired=False, operation_id=None)


async def _no_room(tx: Transaction, params: dict[str, Any]) -> QuotaExceeded:
    settings = "(PILOTHOUSE_PLANS__PER_PROJECT, PILOTHOUSE_PLANS__BYTES_PER_PROJECT); wait until some expire"
    if (await tx.execute(select(_PROJECT_HAS_ROOM), params)).scalar_one():
        return QuotaExceeded(
            f"you have {params['most_of_user']} unexpired plans in this project, or with this one they are larger than "
            f"{params['most_bytes_of_user']} bytes: one user has at most half of what the project may have {settings}"
        )
    return QuotaExceeded(
        f"this project has {params['most']} unexpired plans, or with this one they are larger than "
        f"{params['most_bytes']} bytes, the limits {settings}"
    )


async def find(tx: Transaction, plan_id: str, *, project_id: str, whole: bool) -> PlanRow | None:
    """Return the plan with the operation that applies it; None if the project has none of that id.

    ``whole``: with the part that only people look at, which is the larger one.
    """
    params = {"wanted_id": plan_id, "of_project": project_id}
    row = (await tx.execute(_FIND_WHOLE if whole else _FIND, params)).mappings().one_or_none()
    return PlanRow(**{"comparison_sealed": None, **row}) if row is not None else None


async def find_action(tx: Transaction, plan_id: str, *, project_id: str) -> PlannedAction | None:
    """Return what applying the plan does; None if the project has none of that id."""
    params = {"wanted_id": plan_id, "of_project": project_id}
    row = (await tx.execute(_FIND_ACTION, params)).one_or_none()
    return PlannedAction(*row) if row is not None else None


async def list_places(tx: Transaction, *, project_id: str) -> list[Place]:
    """Return where the project has plans that have not expired."""
    columns = plans.c.cluster_id, plans.c.namespace
    found = await tx.execute(
        select(*columns).distinct().where(plans.c.project_id == project_id, plans.c.expires_at > _NOW)
    )
    return [(row.cluster_id, row.namespace) for row in found]


async def list_open(
    tx: Transaction, *, project_id: str, places: Sequence[Place] | None, limit: int
) -> list[ListedPlanRow]:
    """Return the project's plans that have neither expired nor been applied, newest first.

    Nor those over whose release an operation went since: they are refused. What other clients did is not known here.
    ``places``: only plans there, unless it is None.
    """
    query = _LIST_OPEN if places is None else _LIST_OPEN.where(among(plans, places))
    rows = await tx.execute(query, {"of_project": project_id, "most": limit})
    return [ListedPlanRow(**row) for row in rows.mappings()]


async def expire(tx: Transaction, *, limit: int) -> int:
    """Delete at most ``limit`` plans that expired a day ago: until then one is told apart from one that never was."""
    return (await tx.execute(_EXPIRE, {"most": limit})).rowcount


_KEPT_SECONDS = 24 * 3600.0
_NOW = func.clock_timestamp()
_LIVING = (plans.c.project_id == bindparam("new_project_id"), plans.c.expires_at > _NOW)
_NEW_BYTES = bindparam("new_bytes", type_=BigInteger)


_SIZE = func.coalesce(func.sum(plans.c.plan_bytes), literal_column("0"))


def _sum(what: ColumnElement[Any], *whose: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(what).select_from(plans).where(*_LIVING, *whose).scalar_subquery()


_OF_USER = plans.c.user_id == bindparam("new_user_id")
_PROJECT_HAS_ROOM = and_(
    bindparam("most", type_=Integer) > _sum(func.count()),
    bindparam("most_bytes", type_=BigInteger) >= _sum(_SIZE) + _NEW_BYTES,
)
_USER_HAS_ROOM = or_(
    _sum(func.count(), _OF_USER) == 0,  # one plan may be larger than half
    and_(
        bindparam("most_of_user", type_=Integer) > _sum(func.count(), _OF_USER),
        bindparam("most_bytes_of_user", type_=BigInteger) >= _sum(_SIZE, _OF_USER) + _NEW_BYTES,
    ),
)
_COLUMNS = tuple(NewPlan.__dataclass_fields__)
_GIVEN = {name: bindparam(f"new_{name}", type_=plans.c[name].type) for name in _COLUMNS}
_KEEP = (
    insert(plans)
    .from_select(
        [*_GIVEN, "plan_bytes", "expires_at"],
        select(*_GIVEN.values(), _NEW_BYTES, _NOW + as_interval(bindparam("life_seconds", type_=Double))).where(
            _PROJECT_HAS_ROOM, _USER_HAS_ROOM
        ),
    )
    .returning(plans.c.created_at, plans.c.expires_at)
)
_OF_PROJECT = plans.c.project_id == bindparam("new_project_id")
_ALL_BYTES = (
    select(func.coalesce(func.sum(plans.c.plan_bytes), literal_column("0"))).where(_OF_PROJECT).scalar_subquery()
)
_GIVE_WAY = delete(plans).where(
    _OF_PROJECT,
    plans.c.expires_at <= _NOW,
    bindparam("most_bytes", type_=BigInteger) < _ALL_BYTES + _NEW_BYTES,
    bindparam("most_bytes", type_=BigInteger) >= _NEW_BYTES,  # else nothing makes room for it
)
_WANTED = (plans.c.id == bindparam("wanted_id"), plans.c.project_id == bindparam("of_project"))
_FIND = (
    select(
        *(plans.c[name] for name in (*_COLUMNS[:-1], "created_at", "expires_at")),
        (plans.c.expires_at <= _NOW).label("is_expired"),
        operations.c.id.label("operation_id"),
    )
    .select_from(plans.outerjoin(operations, operations.c.plan_id == plans.c.id))
    .where(*_WANTED)
)
_FIND_WHOLE = _FIND.add_columns(plans.c.comparison_sealed)
_FIND_ACTION = select(plans.c.action, plans.c.cluster_id, plans.c.namespace, plans.c.release_name).where(*_WANTED)
_LATER = operations.alias("later")
_MOVED = (
    select(_LATER.c.id)
    .where(
        _LATER.c.cluster_id == plans.c.cluster_id,
        _LATER.c.namespace == plans.c.namespace,
        _LATER.c.release_name == plans.c.release_name,
        _LATER.c.created_at > plans.c.created_at,
        or_(_LATER.c.wrote_revision, _LATER.c.state.not_in((OperationState.FAILED, OperationState.CANCELLED))),
    )
    .exists()
)
_LIST_OPEN = (
    select(*(plans.c[name] for name in ListedPlanRow.__dataclass_fields__))
    .select_from(plans.outerjoin(operations, operations.c.plan_id == plans.c.id))
    .where(plans.c.project_id == bindparam("of_project"), plans.c.expires_at > _NOW, operations.c.id.is_(None), ~_MOVED)
    .order_by(plans.c.created_at.desc(), plans.c.id)
    .limit(bindparam("most", type_=Integer))
)
_EXPIRED = (
    select(plans.c.id)
    .where(plans.c.expires_at < _NOW - as_interval(_KEPT_SECONDS))
    .limit(bindparam("most", type_=Integer))
)
_EXPIRE = delete(plans).where(plans.c.id.in_(_EXPIRED))
