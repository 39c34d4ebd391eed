"""The statements that write to the release index: one revision, a page of them, or that a Secret was deleted.

One revision and a page leave the same rows. A page in one statement is cheaper for both sides than as many statements:
its text is one argument instead of twenty for each revision.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql

from pilothouse.states import Action
from pilothouse.store.chart_origins import inherited_chart
from pilothouse.store.cluster_watches import is_outside
from pilothouse.store.tables import cluster_watches, operations, release_revisions

#: What is read of a Secret; a new column needs a new epoch, see docs/dev/recipes.md.
READ_COLUMNS = (
    *("name", "revision", "problem", "uid", "status", "description", "chart_name", "chart_version"),
    *("first_deployed", "last_deployed", "deleted_at", "values_sealed", "values_size", "values_text_size"),
    *("app_version", "manager"),
)
_KEY = ("namespace", "secret", "resource_version")
_ORIGIN = ("origin_chart_id", "origin_description", "origin_operation_id")
_Given = Mapping[str, ColumnElement[Any]]

GIVEN: dict[str, BindParameter[Any]] = {
    name: bindparam(f"its_{name}", type_=release_revisions.c[name].type) for name in (*_KEY, *READ_COLUMNS)
}
#: Its operation had this revision in its row before its engine started: with the number, its label proves it.
HAS_REVISION = operations.c.revision == GIVEN["revision"]
_IN_EPOCH: BindParameter[int] = bindparam("in_epoch", type_=Integer)
_OBSERVED = and_(
    cluster_watches.c.cluster_id == bindparam("of_cluster"),
    or_(_IN_EPOCH.is_(None), cluster_watches.c.epoch == _IN_EPOCH),
)


def apply_one(has_revision: ColumnElement[bool], *conditions: ColumnElement[bool]) -> postgresql.Insert:
    """Build the statement that writes the revision ``GIVEN``, if it is newer than its row."""
    written_by = and_(_is_of(GIVEN, bindparam("its_operation_id")), has_revision)
    chart = func.coalesce(func.nullif(operations.c.chart_id, ""), inherited_chart(GIVEN))
    return _apply(GIVEN, chart, cluster_watches.outerjoin(operations, written_by), *conditions)


def page_rows(revisions: Iterable[Mapping[str, Any]]) -> str:
    """Return the argument ``rows`` of ``APPLY_PAGE``: of each revision its columns, and ``operation_id``."""
    return orjson.dumps(list(revisions), default=lambda data: base64.b64encode(data).decode()).decode()


def _mark_deleted() -> postgresql.Insert:
    """Build the statement that writes the tombstone of a Secret, unless its row is newer."""
    empty = {"name": "", "revision": 0, "uid": "", "status": "", "description": "", "chart_name": ""}
    insert = postgresql.insert(release_revisions).from_select(
        ["cluster_id", "epoch", *_KEY, "gone_at", "chart_version", *empty],
        select(
            cluster_watches.c.cluster_id,
            cluster_watches.c.epoch,
            *(GIVEN[name] for name in _KEY),
            func.clock_timestamp(),
            literal(""),
            *(literal(value) for value in empty.values()),
        ).where(_OBSERVED),
    )
    none = {"values_sealed": None, "values_size": 0, "values_text_size": 0}
    return _unless_newer(insert, {"gone_at": insert.excluded.gone_at, **none})


def _apply_page() -> postgresql.Insert:
    """Build the statement that writes all ``rows`` that are newer, in the order in which every writer locks them.

    It does not see itself: what a revision has of one below it is for ``chart_origins.inherit`` to write.
    """
    types = {name: release_revisions.c[name].type for name in (*_KEY, *READ_COLUMNS)}
    packed = {name for name, kind in types.items() if isinstance(kind, LargeBinary)}
    told = (column(name, Text() if name in packed else kind) for name, kind in types.items())
    page = func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON))
    rows = page.table_valued(*told, column("operation_id", Text())).render_derived(name="given", with_types=True)
    revision = {name: func.decode(rows.c[name], "base64") if name in packed else rows.c[name] for name in types}
    written_by = and_(_is_of(revision, rows.c.operation_id), operations.c.revision == revision["revision"])
    source = cluster_watches.join(rows, literal(value=True)).outerjoin(operations, written_by)
    order = revision["namespace"], func.length(revision["secret"]), revision["secret"]
    return _apply(revision, operations.c.chart_id, source, order=order)


def _is_of(revision: _Given, operation_id: ColumnElement[str]) -> ColumnElement[bool]:
    return and_(
        operations.c.id == operation_id,
        operations.c.cluster_id == cluster_watches.c.cluster_id,
        operations.c.namespace == revision["namespace"],
        operations.c.release_name == revision["name"],
        or_(operations.c.action == Action.INSTALL, operations.c.action == Action.UPGRADE),
    )


def _apply(
    revision: _Given,
    chart: ColumnElement[str],
    source: FromClause,
    *conditions: ColumnElement[bool],
    order: Iterable[ColumnElement[Any]] = (),
) -> postgresql.Insert:
    origin = (chart, operations.c.description, operations.c.id)
    insert = postgresql.insert(release_revisions).from_select(
        ["cluster_id", "epoch", *_KEY, *READ_COLUMNS, *_ORIGIN],
        select(
            cluster_watches.c.cluster_id,
            cluster_watches.c.epoch,
            *(revision[name] for name in (*_KEY, *READ_COLUMNS)),
            *(func.coalesce(one, "") for one in origin),
        )
        .select_from(source)
        .where(_OBSERVED, ~is_outside(revision["namespace"]), *conditions)
        .order_by(*order),
    )
    known, excluded = release_revisions.c, insert.excluded
    # An operation's record may have expired since; the row keeps what it said as long as the Secret is the same.
    kept = and_(excluded.origin_operation_id == "", known.uid == excluded.uid)
    return _unless_newer(
        insert,
        {
            **{name: excluded[name] for name in READ_COLUMNS},
            "gone_at": None,
            **{name: case((kept, known[name]), else_=excluded[name]) for name in _ORIGIN},
        },
    )


def _unless_newer(insert: postgresql.Insert, changed: dict[str, Any]) -> postgresql.Insert:
    known, excluded = release_revisions.c, insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[known.cluster_id, known.namespace, known.secret],
        set_={"epoch": excluded.epoch, "resource_version": excluded.resource_version, **changed},
        where=tuple_(known.epoch, known.resource_version) < tuple_(excluded.epoch, excluded.resource_version),
    )


APPLY = apply_one(HAS_REVISION)
APPLY_PAGE = _apply_page()
MARK_DELETED = _mark_deleted()
