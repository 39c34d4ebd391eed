"""Queries about charts: one row per version and project, or source. Their archives: ``archives``."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import msgspec
import orjson
from sqlalchemy import bindparam, delete, func, insert, select, text, update

from pilothouse.errors import ChartReplaced, DamagedRow
from pilothouse.store.database import Transaction
from pilothouse.store.tables import charts


@dataclass(frozen=True, kw_only=True)
class ChartContent:
    """The part of a chart that an upload sets; ``visible`` None keeps the value, and a new chart is visible."""

    name: str
    version: str
    digest: str
    description: str
    icon_url: str
    instruction: str
    values_json: str
    source: str
    visible: bool | None


@dataclass(frozen=True)
class ChartRow:
    """One chart version of a project; the digest identifies its archive. ``source_id``: it was pulled from there."""

    id: str
    project_id: str
    name: str
    version: str
    digest: str
    description: str
    icon_url: str
    instruction: str
    values_json: str
    source: str
    visible: bool
    created_at: datetime
    updated_at: datetime
    source_id: str | None = None

    def default_values(self) -> dict[str, Any]:
        """Return the default values; raise DamagedRow if the row does not hold them."""
        self.check_values()
        values: dict[str, Any] = orjson.loads(self.values_json)
        return values

    def check_digest(self, digest: str) -> None:
        """Raise ChartReplaced if another archive is wanted than the one that it has; empty: any."""
        if digest and digest != self.digest:
            way = "look at what its source has now," if self.source_id is not None else "upload yours again,"
            raise ChartReplaced(
                f"chart.digest: chart {self.name!r} {self.version} ({self.id}) now has the archive {self.digest}, not "
                f"{digest}; nothing was done: {way} or send the digest of that one"
            )

    def check_values(self) -> None:
        """Raise DamagedRow if the values are no JSON object; they are not built for that."""
        try:
            if bytes(_raw_json.decode(self.values_json)).startswith(b"{"):
                return
        except (msgspec.MsgspecError, UnicodeError):
            pass
        raise DamagedRow(
            f"the stored default values of chart {self.name!r} {self.version} are damaged (charts.values_json, "
            f"id {self.id}); upload its archive again with PUT /v2/charts/{self.id}, or restore a backup"
        )


@dataclass(frozen=True)
class ChartVersion:
    """One chart version of a project without its values. ``source_id``: it was pulled from there."""

    id: str
    name: str
    version: str
    digest: str
    description: str
    source: str
    visible: bool
    created_at: datetime
    updated_at: datetime
    source_id: str | None


@dataclass(frozen=True)
class ChartCursor:
    """A chart's position in a list, newest first."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class ChartPage:
    """A page of a project's charts; ``rest``: where the next page starts, None at the end."""

    charts: list[ChartRow]
    rest: ChartCursor | None


#: Charts that were pulled from a source are listed there.
_UPLOADED = charts.c.source_id.is_(None)
_raw_json = msgspec.json.Decoder(msgspec.Raw)

_FIND = select(charts).where(charts.c.id == bindparam("chart_id"), charts.c.project_id == bindparam("of_project"))


async def lock_charts_of(tx: Transaction, project_id: str) -> None:
    """Lock the project's charts for other writers until the transaction ends, so that checks stay valid."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"charts/{project_id}"})


async def count_charts(tx: Transaction, project_id: str) -> int:
    """Count the project's chart quota usage: one per version."""
    query = select(func.count()).select_from(charts).where(charts.c.project_id == project_id, _UPLOADED)
    return (await tx.execute(query)).scalar_one()


async def find_chart(tx: Transaction, chart_id: str, *, project_id: str) -> ChartRow | None:
    """Return the chart if it belongs to that project."""
    row = (await tx.execute(_FIND, {"chart_id": chart_id, "of_project": project_id})).mappings().one_or_none()
    return ChartRow(**row) if row else None


async def find_chart_version(tx: Transaction, *, project_id: str, name: str, version: str) -> ChartRow | None:
    """Return the project's chart of that name and version."""
    query = select(charts).where(
        charts.c.project_id == project_id, charts.c.name == name, charts.c.version == version, _UPLOADED
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return ChartRow(**row) if row else None


async def list_versions(
    tx: Transaction, *, project_id: str, name: str, version: str, digest: str, limit: int, pulled: bool = False
) -> list[ChartVersion]:
    """Return the project's chart versions with that name, version and digest, newest first; empty: any.

    ``pulled``: those too that were pulled from a source.
    """
    params = {charts.c.name: name, charts.c.version: version, charts.c.digest: digest}
    query = (
        select(*(charts.c[field.name] for field in fields(ChartVersion)))
        .where(
            charts.c.project_id == project_id,
            *(() if pulled else (_UPLOADED,)),
            *(column == value for column, value in params.items() if value),
        )
        .order_by(charts.c.created_at.desc(), charts.c.id)
        .limit(limit)
    )
    return [ChartVersion(*row) for row in (await tx.execute(query)).all()]


async def read_page(tx: Transaction, *, project_id: str, after: ChartCursor | None, budget_bytes: int) -> ChartPage:
    """Return the project's charts after a position, newest first: about ``budget_bytes`` of them, at least one."""
    params = {
        "project_id": project_id,
        "created_at": after.created_at if after is not None else None,
        "id": after.id if after is not None else "",
        "budget": budget_bytes,
    }
    rows = (await tx.execute(_PAGE, params)).all()
    found = [ChartRow(*row[: len(_COLUMNS)]) for row in rows]
    more = bool(rows) and rows[0].following > len(found)
    return ChartPage(found, ChartCursor(found[-1].created_at, found[-1].id) if more else None)


async def add_chart(tx: Transaction, content: ChartContent, *, chart_id: str, project_id: str) -> ChartRow:
    """Insert a new chart; its archive must exist."""
    statement = insert(charts).values(id=chart_id, project_id=project_id, **_given(content)).returning(charts)
    return ChartRow(**(await tx.execute(statement)).mappings().one())


async def replace_chart(tx: Transaction, content: ChartContent, *, chart_id: str) -> ChartRow:
    """Replace the chart's content under the same id, with a new update time; the new archive must exist."""
    statement = (
        update(charts)
        .where(charts.c.id == chart_id)
        .values(updated_at=func.clock_timestamp(), **_given(content))
        .returning(charts)
    )
    return ChartRow(**(await tx.execute(statement)).mappings().one())


async def delete_chart(tx: Transaction, chart_id: str) -> None:
    """Delete the chart; operations that pinned its archive keep the archive."""
    await tx.execute(delete(charts).where(charts.c.id == chart_id))


_COLUMNS = [field.name for field in fields(ChartRow)]
# ruff: noqa: S608  # what is put into the statement are column names of our own
_PAGE = text(f"""
SELECT {", ".join(f"c.{name}" for name in _COLUMNS)}, weighed.following
FROM (
  SELECT keys.*, count(*) OVER () AS following, sum(size) OVER (ORDER BY created_at DESC, id) - size AS before
  FROM (
    SELECT id, created_at, octet_length(values_json) + octet_length(instruction) + octet_length(description) AS size
    FROM charts
    WHERE project_id = :project_id AND source_id IS NULL AND (
      CAST(:created_at AS timestamptz) IS NULL OR created_at < :created_at OR (created_at = :created_at AND id > :id)
    )
  ) keys
) weighed
JOIN charts c ON c.id = weighed.id
WHERE weighed.before < :budget
ORDER BY c.created_at DESC, c.id
""")


def _given(content: ChartContent) -> dict[str, Any]:
    return {name: value for name, value in vars(content).items() if value is not None}
