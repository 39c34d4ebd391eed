"""Reads of the versions of charts that sources have: searches, lists, and one of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import TextClause, select, text

from pilothouse.store.database import Transaction
from pilothouse.store.signed_versions import SIGNATURE
from pilothouse.store.tables import source_versions

_SHOWN: Final = (
    *("name", "version", "order_key", "is_newest", "is_gone", "app_version", "description", "icon_url", "keywords"),
    *("deprecated", "released_at", "url", "digest", "moved_at", "moved_from", "moved_to"),
)


@dataclass(frozen=True, kw_only=True)
class SourceVersion:
    """One version of a chart of a source; ``chart_id`` and ``pulled_digest``: of the chart that was pulled.

    ``refused``: why it could not be verified, if that holds still. ``signature``: whether a key of the source has
    signed it, ``verified``, ``refused`` or ``unchecked``, empty if it has no keys. ``moved_at``: when it was
    found that its source has another archive than was pulled, with the digests of then.
    """

    name: str
    version: str
    order_key: str
    is_newest: bool
    is_gone: bool
    app_version: str
    description: str
    icon_url: str
    keywords: str
    deprecated: bool
    released_at: datetime | None
    url: str
    digest: str
    moved_at: datetime | None
    moved_from: str
    moved_to: str
    chart_id: str | None
    pulled_digest: str | None
    refused: str
    signature: str

    @property
    def is_prerelease(self) -> bool:
        """Return True if Helm takes the version only when it is asked for."""
        return not self.order_key.endswith("~")

    @property
    def marker(self) -> str:
        """Return its place in a list of versions."""
        return f"{self.order_key} {self.version}"


async def search(
    tx: Transaction, source_ids: list[str], *, words: str, prereleases: bool, after: str, limit: int
) -> list[tuple[str, SourceVersion]]:
    """Return charts by name, each with its source and its newest version, whose texts contain the words.

    Words with a slash are looked for in SOURCE/NAME, too.
    Without ``prereleases``, charts that have nothing else are left out. ``after``: name and source of the last one of
    the page before.
    """
    pattern = f"%{words.lower().replace('~', '~~').replace('%', '~%').replace('_', '~_')}%"
    name, _, source = after.partition(" ")
    params = {
        "of_sources": source_ids,
        "pattern": pattern,
        "of_both": "/" in words,
        "after_name": name,
        "after_source": source,
        "most": limit,
    }
    rows = (await tx.execute(_SEARCH_ALL if prereleases else _SEARCH, params)).mappings()
    return [(str(row["source_id"]), _version(row)) for row in rows]


@dataclass(frozen=True)
class VersionsSummary:
    """How many versions of a chart there are, and how many of them were refused; ``newest``: the one to propose.

    That is the newest stable one which was not refused, else the newest stable one, else the newest of all.
    """

    count: int
    refused: int
    newest: SourceVersion


async def list_versions(tx: Transaction, source_id: str, name: str, *, after: str, limit: int) -> list[SourceVersion]:
    """Return versions of a chart, the newest first, with those that are gone but were pulled.

    ``after``: ``marker`` of the last one of the page before; empty for the first page.
    """
    after_key, _, after_version = after.rpartition(" ")
    params = {"is_first": not after, "after_key": after_key, "after_version": after_version, "most": limit}
    rows = (await tx.execute(_LIST, {**_of(source_id, name), **params})).mappings()
    return [_version(row) for row in rows]


async def summarise(tx: Transaction, source_id: str, name: str) -> VersionsSummary | None:
    """Return what there is of a chart, those that are gone but were pulled included; None if there is nothing."""
    row = (await tx.execute(_SUMMARY, _of(source_id, name))).mappings().one_or_none()
    return VersionsSummary(row["count"], row["refused_count"], _version(row)) if row is not None else None


async def list_order_keys(tx: Transaction, source_id: str, name: str) -> dict[str, str]:
    """Return the order keys of the versions of a chart that are listed now, the newest first."""
    query = select(source_versions.c.version, source_versions.c.order_key).where(
        source_versions.c.source_id == source_id, source_versions.c.name == name, source_versions.c.is_gone.is_(False)
    )
    found = await tx.execute(query.order_by(source_versions.c.order_key.desc(), source_versions.c.version))
    return {row.version: row.order_key for row in found}


async def find_version(tx: Transaction, source_id: str, name: str, version: str) -> SourceVersion | None:
    """Return one version of a chart."""
    params = {**_of(source_id, name), "of_version": version}
    row = (await tx.execute(_FIND, params)).mappings().one_or_none()
    return _version(row) if row is not None else None


async def list_moved(tx: Transaction, source_id: str) -> list[SourceVersion]:
    """Return the versions of the source that this transaction has found to be moved."""
    rows = (await tx.execute(_LIST_MOVED, {"of_source": source_id})).mappings()
    return [_version(row) for row in rows]


def _version(row: Any) -> SourceVersion:
    return SourceVersion(**{name: row[name] for name in (*_SHOWN, "chart_id", "pulled_digest", "refused", "signature")})


def _of(source_id: str, name: str) -> dict[str, str]:
    return {"of_source": source_id, "of_name": name}


def _reading(versions: str, which: str, *, more: str = "") -> TextClause:
    """Return the statement that reads versions ``v`` of their sources ``s``, and ``more`` columns."""
    columns = ", ".join(f"v.{name}" for name in _SHOWN)
    return text(f"""
SELECT v.source_id, {columns}, c.id AS chart_id, c.digest AS pulled_digest, coalesce(r.reason, '') AS refused,
  {SIGNATURE} AS signature{more}
FROM {versions} v
JOIN chart_sources s ON s.id = v.source_id
LEFT JOIN charts c ON c.source_id = v.source_id AND c.name = v.name AND c.version = v.version
LEFT JOIN refused_versions r
  ON (r.source_id, r.name, r.version, r.digest) = (v.source_id, v.name, v.version, v.digest)
WHERE {which}
""")  # noqa: S608  # what is put in are names and conditions of our own


_OF_CHART = "v.source_id = :of_source AND v.name = :of_name"
_LIST = _reading(
    f"""(
  SELECT * FROM source_versions v WHERE {_OF_CHART} AND (:is_first OR v.order_key < :after_key
    OR v.order_key = :after_key AND v.version > :after_version)
  ORDER BY v.order_key DESC, v.version LIMIT :most
)""",  # noqa: S608  # as above
    "true ORDER BY v.order_key DESC, v.version",
)
_SUMMARY = _reading(
    "source_versions",
    f"""{_OF_CHART}
ORDER BY v.is_gone OR right(v.order_key, 1) <> '~' OR r.reason IS NOT NULL, v.is_newest DESC,
  v.order_key DESC, v.version LIMIT 1""",
    more=", count(*) OVER () AS count, count(r.reason) OVER () AS refused_count",
)
_FIND = _reading("source_versions", f"{_OF_CHART} AND v.version = :of_version")
_LIST_MOVED = _reading("source_versions", "v.source_id = :of_source AND v.moved_at = transaction_timestamp()")
_FOUND = """v.source_id = ANY(:of_sources)
  AND (lower(v.name || chr(10) || v.description || chr(10) || v.keywords) LIKE :pattern ESCAPE '~'
    OR :of_both AND lower(s.name || '/' || v.name) LIKE :pattern ESCAPE '~')
  AND (v.name, v.source_id) > (:after_name, :after_source)
ORDER BY v.name, v.source_id LIMIT :most"""
_SEARCH = _reading("(SELECT * FROM source_versions WHERE is_newest)", _FOUND)
_SEARCH_ALL = _reading(
    """(
  SELECT * FROM source_versions JOIN (
    SELECT DISTINCT ON (name, source_id) source_id, name, version FROM source_versions
    WHERE source_id = ANY(:of_sources) AND NOT is_gone ORDER BY name, source_id, order_key DESC, version
  ) newest USING (source_id, name, version)
)""",
    _FOUND,
)
