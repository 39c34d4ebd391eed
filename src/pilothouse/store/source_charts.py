"""Queries about the charts of sources: what an index or a registry lists, and what was pulled."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, TextClause, and_, bindparam, case, delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from pilothouse.store.charts import ChartContent, ChartRow
from pilothouse.store.database import Transaction
from pilothouse.store.described_versions import IS_DESCRIBED
from pilothouse.store.source_versions import SourceVersion
from pilothouse.store.sources import NewSource
from pilothouse.store.tables import chart_origins, chart_verifications, charts, source_versions

#: Rows of an index in one statement.
BATCH: Final = 2000


async def clear(tx: Transaction, source_id: str) -> None:
    """Forget the versions of the source; those that were pulled are marked as gone until they are added again."""
    await tx.execute(_CLEAR, {"of_source": source_id})
    await tx.execute(_MARK_GONE, {"of_source": source_id})


async def clear_chart(tx: Transaction, source_id: str, name: str) -> None:
    """Do the same for one chart of a registry; versions that are described are marked, too."""
    await tx.execute(_CLEAR_CHART, _of(source_id, name))
    await tx.execute(text(f"{_MARK_GONE.text} AND name = :of_name"), _of(source_id, name))


async def add_rows(tx: Transaction, source_id: str, rows: str) -> None:
    """Add versions, a JSON array as ``engine/sources.go`` writes them."""
    await tx.execute(_ADD_ROWS, {"of_source": source_id, "given": rows})


async def mark_moved(tx: Transaction, source_id: str) -> None:
    """Mark those versions of an index, of which all rows were added, that have another digest than was pulled."""
    for statement in _MARK_IN_INDEX:
        await tx.execute(statement, {"of_source": source_id})


async def add_versions(tx: Transaction, source_id: str, name: str, keys: dict[str, str]) -> None:
    """Add the versions of a chart of which only order keys are known; the newest stable one is marked.

    Of those that are gone, what was pulled is kept.
    """
    newest = max((key for key in keys.values() if key.endswith("~")), default="")
    rows = [
        {"source_id": source_id, "name": name, "version": version, "order_key": key, "is_newest": key == newest}
        for version, key in keys.items()
        if key
    ]
    for start in range(0, len(rows), BATCH):
        statement = insert(source_versions).values(rows[start : start + BATCH])
        changed = {column: statement.excluded[column] for column in ("order_key", "is_newest", "is_gone")}
        await tx.execute(statement.on_conflict_do_update(index_elements=["source_id", "name", "version"], set_=changed))
    await tx.execute(_DROP_GONE, _of(source_id, name))


async def count(tx: Transaction, source_id: str) -> int:
    """Return how many versions the source has."""
    query = select(func.count()).select_from(source_versions)
    query = query.where(source_versions.c.source_id == source_id, source_versions.c.is_gone.is_(False))
    return int((await tx.execute(query)).scalar_one())


async def list_names(tx: Transaction, source_id: str) -> list[str]:
    """Return the names of the charts that are known of the source."""
    query = select(source_versions.c.name).distinct().where(source_versions.c.source_id == source_id)
    return list((await tx.execute(query)).scalars())


@dataclass(frozen=True)
class PulledVersion:
    """A version that was pulled from a registry, with the digest of its archive.

    ``seen``: that of the archive that was seen last under its tag, in the manifest of that digest; empty: no chart.
    ``manifest`` is empty while it is not known.
    """

    name: str
    version: str
    digest: str
    seen: str
    manifest: str


@dataclass(frozen=True)
class ComparedVersion:
    """A version that was pulled, and the digests of the archive and manifest that its registry has under it by now."""

    pulled: PulledVersion
    digest: str
    manifest: str


async def list_pulled(tx: Transaction, source_id: str, *, limit: int) -> list[PulledVersion]:
    """Return what is listed and was pulled, the last ones first."""
    # Once it was pulled anew, what had been found before does not say what is there.
    is_moved = and_(source_versions.c.moved_at.is_not(None), charts.c.digest == source_versions.c.moved_from)
    seen = case((is_moved, source_versions.c.moved_to), else_=charts.c.digest)
    columns = (source_versions.c.name, source_versions.c.version, charts.c.digest, seen, source_versions.c.manifest)
    query = select(*columns).join(charts, _IS_PULLED)
    query = query.where(source_versions.c.source_id == source_id, source_versions.c.is_gone.is_(False))
    found = await tx.execute(query.order_by(charts.c.updated_at.desc(), charts.c.id).limit(limit))
    return [PulledVersion(*row) for row in found]


async def note_compared(tx: Transaction, source_id: str, found: ComparedVersion) -> None:
    """Note what a registry has under a version that was pulled, unless another archive of it was pulled since."""
    params = {**_of(source_id, found.pulled.name), "of_version": found.pulled.version, "then": found.pulled.digest}
    for statement in _MARK_ONE:
        await tx.execute(statement, {**params, "now": found.digest})
    await tx.execute(_SET_MANIFEST, {**params, "seen_in": found.manifest})


async def set_digest(tx: Transaction, source_id: str, known: SourceVersion, *, digest: str) -> None:
    """Replace the digest of a version, unless another one was listed meanwhile."""
    statement = update(source_versions).where(
        source_versions.c.source_id == source_id,
        source_versions.c.name == known.name,
        source_versions.c.version == known.version,
        source_versions.c.digest == known.digest,
    )
    await tx.execute(statement.values(digest=digest))


async def describe(tx: Transaction, source_id: str, name: str, version: str, **found: str) -> None:
    """Fill in what a registry does not list of a version: its description, and the version of its application."""
    statement = update(source_versions).where(
        source_versions.c.source_id == source_id,
        source_versions.c.name == name,
        source_versions.c.version == version,
    )
    await tx.execute(statement.values(found))


async def keep_pulled(
    tx: Transaction, content: ChartContent, *, chart_id: str, project_id: str, source_id: str
) -> ChartRow:
    """Insert the pulled chart, or replace its content under the same id; its archive must exist.

    One that was dropped gets the id back by which releases know it.
    """
    values = {key: value for key, value in vars(content).items() if value is not None}
    known = {**_of(source_id, content.name), "of_version": content.version}
    before = (await tx.execute(_FIND_ORIGIN, known)).scalar_one_or_none()
    statement = insert(charts).values(id=before or chart_id, project_id=project_id, source_id=source_id, **values)
    changed = {key: statement.excluded[key] for key in values}
    row = await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["source_id", "name", "version"],
            index_where=charts.c.source_id.is_not(None),
            set_={**changed, "updated_at": func.clock_timestamp()},
        ).returning(charts)
    )
    return ChartRow(**row.mappings().one())


async def has_any_in_registry(tx: Transaction, source_id: str) -> bool:
    """Return whether the index of the source lists a chart that lies in a registry."""
    listed = exists().where(source_versions.c.source_id == source_id, source_versions.c.url.like("oci://%"))
    return bool((await tx.execute(select(listed))).scalar_one())


async def drop_unsigned(tx: Transaction, row: NewSource) -> None:
    """Delete the pulled charts of the source that none of its keys has signed; all are kept if it has none.

    They are pulled and verified again when they are needed.
    """
    if row.verification != "none":
        await tx.execute(delete(charts).where(charts.c.source_id == row.id, ~_is_signed(row)))


async def is_signed(tx: Transaction, row: NewSource, *, digest: str) -> bool:
    """Return whether a pulled chart of the source was signed by one of the keys that it has now, if it has any."""
    if row.verification == "none":
        return True
    found = exists().where(charts.c.source_id == row.id, charts.c.digest == digest, _is_signed(row))
    return bool((await tx.execute(select(found))).scalar_one())


def _is_signed(row: NewSource) -> ColumnElement[bool]:
    return exists().where(
        chart_verifications.c.project_id == charts.c.project_id,
        chart_verifications.c.digest == charts.c.digest,
        chart_verifications.c.kind == row.verification,
        ~chart_verifications.c.of_revision,
        chart_verifications.c.signing_key.in_(row.trusted),
    )


async def drop_pulled(tx: Transaction, *, project_id: str, most_bytes: int, besides: str) -> int:
    """Delete the project's charts that were pulled longest ago until the others fit; return how many.

    Operations keep their archives. The chart with the id ``besides`` stays.
    """
    params = {"of_project": project_id, "most_bytes": most_bytes, "besides": besides}
    return (await tx.execute(_DROP, params)).rowcount


def _of(source_id: str, name: str) -> dict[str, str]:
    return {"of_source": source_id, "of_name": name}


_OF_SOURCE = source_versions.c.source_id == bindparam("of_source")
_IS_PULLED = and_(
    charts.c.source_id == source_versions.c.source_id,
    charts.c.name == source_versions.c.name,
    charts.c.version == source_versions.c.version,
)
_CLEAR = delete(source_versions).where(_OF_SOURCE, ~exists().where(_IS_PULLED))
_CLEAR_CHART = _CLEAR.where(source_versions.c.name == bindparam("of_name"), ~IS_DESCRIBED)
_DROP_GONE = _CLEAR.where(source_versions.c.name == bindparam("of_name"), source_versions.c.is_gone)
_MARK_GONE = text("UPDATE source_versions SET is_gone = true, is_newest = false WHERE source_id = :of_source")


_OF_PULLED = "c.source_id = v.source_id AND c.name = v.name AND c.version = v.version AND v.source_id = :of_source"
_OF_ONE = f"{_OF_PULLED} AND v.name = :of_name AND v.version = :of_version AND c.digest = :then"
_BARE = "lower(replace(v.digest, 'sha256:', ''))"
# What an index lists in a registry may have the digest of a manifest.
_OF_INDEX = f"{_OF_PULLED} AND NOT v.is_gone AND v.digest <> '' AND v.url NOT LIKE 'oci://%'"


def _moving(which: str, now: str) -> tuple[TextClause, TextClause]:
    """Return the statements that mark the versions which have another archive than was pulled, and that again."""
    back = text(f"""
UPDATE source_versions v SET moved_at = NULL, moved_from = '', moved_to = '' FROM charts c
WHERE {which} AND v.moved_at IS NOT NULL AND c.digest = v.moved_from AND c.digest = {now}
""")  # noqa: S608  # what is put in are conditions of our own
    moved = text(f"""
UPDATE source_versions v SET moved_at = transaction_timestamp(), moved_from = c.digest, moved_to = {now} FROM charts c
WHERE {which} AND c.digest <> {now} AND (v.moved_at IS NULL OR (v.moved_from, v.moved_to) <> (c.digest, {now}))
""")  # noqa: S608  # as above
    return back, moved


_MARK_IN_INDEX, _MARK_ONE = _moving(_OF_INDEX, _BARE), _moving(_OF_ONE, ":now")
_SET_MANIFEST = text(f"""
UPDATE source_versions v SET manifest = :seen_in FROM charts c WHERE {_OF_ONE} AND v.manifest <> :seen_in
""")  # noqa: S608  # what is put in is a condition of our own
_FIND_ORIGIN = (
    select(chart_origins.c.chart_id)
    .where(
        chart_origins.c.source_id == bindparam("of_source"),
        chart_origins.c.name == bindparam("of_name"),
        chart_origins.c.version == bindparam("of_version"),
    )
    .limit(1)
)
_ADD_ROWS = text("""
INSERT INTO source_versions (source_id, name, version, order_key, is_newest, app_version, description, icon_url,
  keywords, deprecated, released_at, url, digest)
SELECT :of_source, name, version, order_key, is_newest, app_version, description, icon_url, keywords, deprecated,
  CAST(nullif(released_at, '') AS timestamptz), url, digest
FROM json_to_recordset(CAST(:given AS json)) AS row(name text, version text, order_key text, is_newest boolean,
  app_version text, description text, icon_url text, keywords text, deprecated boolean, released_at text, url text,
  digest text)
ON CONFLICT (source_id, name, version) DO UPDATE SET
  order_key = excluded.order_key, is_newest = excluded.is_newest, is_gone = false, app_version = excluded.app_version,
  description = excluded.description, icon_url = excluded.icon_url, keywords = excluded.keywords,
  deprecated = excluded.deprecated, released_at = excluded.released_at, url = excluded.url, digest = excluded.digest
""")


_DROP = text("""
DELETE FROM charts WHERE id IN (
  SELECT id FROM (
    SELECT c.id, sum(a.size) OVER (ORDER BY c.id = :besides DESC, c.updated_at DESC, c.id) AS used
    FROM charts c JOIN chart_archives a ON a.digest = c.digest
    WHERE c.project_id = :of_project AND c.source_id IS NOT NULL
  ) weighed WHERE used > :most_bytes AND id <> :besides
)
""")
