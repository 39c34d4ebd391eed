"""Queries about charts and their archives, which are stored once per digest."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects import postgresql

from pilothouse.store.database import Transaction
from pilothouse.store.tables import chart_archives, charts


@dataclass(frozen=True)
class ChartRow:
    """One chart version of a project; the archive is found by its digest."""

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


_FIND = select(charts).where(charts.c.id == bindparam("chart_id"), charts.c.project_id == bindparam("of_project"))
_READ_ARCHIVE = select(chart_archives.c.content).where(chart_archives.c.digest == bindparam("of_digest"))


async def lock_charts_of(tx: Transaction, project_id: str) -> None:
    """Serialises uploads of one project until the transaction ends, so that its quota is counted exactly."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"charts/{project_id}"})


async def add_archive(tx: Transaction, *, digest: str, content: bytes) -> None:
    """Stores an archive unless one of that digest is there."""
    await tx.execute(
        postgresql.insert(chart_archives)
        .values(digest=digest, content=content, size=len(content))
        .on_conflict_do_nothing(index_elements=[chart_archives.c.digest])
    )


async def read_archive(tx: Transaction, digest: str) -> bytes | None:
    """The archive's bytes."""
    return (await tx.execute(_READ_ARCHIVE, {"of_digest": digest})).scalar_one_or_none()


async def count_charts(tx: Transaction, project_id: str) -> int:
    """How many units of the chart quota the project uses: one per version."""
    query = select(func.count()).select_from(charts).where(charts.c.project_id == project_id)
    return (await tx.execute(query)).scalar_one()


async def find_chart(tx: Transaction, chart_id: str, *, project_id: str) -> ChartRow | None:
    """The chart, if it belongs to that project."""
    row = (await tx.execute(_FIND, {"chart_id": chart_id, "of_project": project_id})).mappings().one_or_none()
    return ChartRow(**row) if row else None


async def find_chart_version(tx: Transaction, *, project_id: str, name: str, version: str) -> ChartRow | None:
    """The project's chart of that name and version."""
    query = select(charts).where(charts.c.project_id == project_id, charts.c.name == name, charts.c.version == version)
    row = (await tx.execute(query)).mappings().one_or_none()
    return ChartRow(**row) if row else None


async def list_charts(tx: Transaction, *, project_id: str) -> list[ChartRow]:
    """The project's charts, newest first."""
    query = select(charts).where(charts.c.project_id == project_id).order_by(charts.c.created_at.desc(), charts.c.id)
    return [ChartRow(**row) for row in (await tx.execute(query)).mappings()]


async def put_chart(
    tx: Transaction,
    *,
    chart_id: str,
    project_id: str,
    name: str,
    version: str,
    digest: str,
    description: str,
    icon_url: str,
    instruction: str,
    values_json: str,
    visible: bool,
) -> ChartRow:
    """Inserts the chart, or replaces the content of the one with that name and version, which keeps its id."""
    content = {
        "digest": digest,
        "description": description,
        "icon_url": icon_url,
        "instruction": instruction,
        "values_json": values_json,
        "visible": visible,
    }
    statement = (
        postgresql.insert(charts)
        .values(id=chart_id, project_id=project_id, name=name, version=version, **content)
        .on_conflict_do_update(
            index_elements=[charts.c.project_id, charts.c.name, charts.c.version],
            set_={**content, "updated_at": func.clock_timestamp()},
        )
        .returning(charts)
    )
    return ChartRow(**(await tx.execute(statement)).mappings().one())
