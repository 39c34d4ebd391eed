"""The charts that sources have, as they were when they were synchronised last: searches, versions, and one of them."""

import asyncio
from dataclasses import dataclass, field

from pilothouse.errors import ArchiveGone, NotFound
from pilothouse.services.charts.texts import read_texts
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.sources.pull import ChartPulls, SourceReference, unknown_source
from pilothouse.settings import ChartLimits
from pilothouse.store import archives, source_versions, verifications
from pilothouse.store import sources as store
from pilothouse.store.charts import ChartRow
from pilothouse.store.database import Database
from pilothouse.store.source_versions import SourceVersion, VersionsSummary
from pilothouse.store.sources import SourceRow
from pilothouse.store.verifications import VerificationRow


@dataclass(frozen=True)
class FoundChart:
    """A chart that was searched for: its newest version, and the name of its source."""

    source: str
    version: SourceVersion
    marker: str


@dataclass(frozen=True)
class ChartDetails:
    """One version of a chart of a source, with the texts in its archive."""

    source: str
    version: SourceVersion
    chart: ChartRow
    verification: VerificationRow | None
    readme: str = field(repr=False)
    values: str = field(repr=False)
    schema: str = field(repr=False)


@dataclass(frozen=True)
class VersionsPage:
    """A page of the versions of a chart; ``next``: the marker behind which the next one begins, empty at the end."""

    versions: list[SourceVersion]
    next: str


class SourceCharts:
    """Search, list and show the charts of a project's sources."""

    def __init__(self, database: Database, pulls: ChartPulls, limits: ChartLimits) -> None:
        self._database = database
        self._pulls = pulls
        self._limits = limits

    async def search(
        self, caller: Caller, named: str, *, words: str, prereleases: bool, after: str, limit: int
    ) -> list[FoundChart]:
        """Return charts by name whose name, description or keywords hold the words; ``named`` empty: of all sources."""
        caller.require("cce:source:list")
        async with self._database.autocommit() as connection:
            rows = await store.list_sources(connection, project_id=caller.project_id)
            if named:
                every, rows = rows, [row for row in rows if named in (row.id, row.name)]
                if not rows:
                    raise unknown_source(named, [row.name for row in every])
            names = {row.id: row.name for row in rows}
            found = await source_versions.search(
                connection, list(names), words=words, prereleases=prereleases, after=after, limit=limit
            )
        return [FoundChart(names[source_id], version, f"{version.name} {source_id}") for source_id, version in found]

    async def list_versions(self, caller: Caller, named: str, name: str, *, after: str, limit: int) -> VersionsPage:
        """Return a page of the versions of a chart, the newest first; NotFound if there is no such chart."""
        caller.require("cce:source:get")
        row = await self._pulls.find_source(caller, named)
        async with self._database.autocommit() as connection:
            found = await source_versions.list_versions(connection, row.id, name, after=after, limit=limit + 1)
        if not found and not after:
            raise _no_chart(row, name)
        return VersionsPage(found[:limit], found[limit - 1].marker if len(found) > limit else "")

    async def summarise_versions(self, caller: Caller, named: str, name: str) -> VersionsSummary:
        """Return how many versions a chart has, and which one to propose, else raise NotFound."""
        caller.require("cce:source:get")
        row = await self._pulls.find_source(caller, named)
        async with self._database.autocommit() as connection:
            found = await source_versions.summarise(connection, row.id, name)
        if found is None:
            raise _no_chart(row, name)
        return found

    async def show_version(self, caller: Caller, reference: SourceReference) -> ChartDetails:
        """Return one version with the texts in its archive, which is pulled unless it was before."""
        caller.require("cce:source:get")
        source = await self._pulls.find_source(caller, reference.source)
        chart = await self._pulls.choose(caller, reference)
        async with self._database.autocommit() as connection:
            version = await source_versions.find_version(connection, source.id, chart.name, chart.version)
            content = await archives.read_archive(connection, chart.digest)
            verified = await verifications.find(connection, project_id=caller.project_id, digest=chart.digest)
        if version is None or content is None:
            raise ArchiveGone(f"chart {chart.name} {chart.version} was just replaced; retry")
        readme, values, schema = await asyncio.to_thread(read_texts, content, limits=self._limits)
        return ChartDetails(source.name, version, chart, verified, readme, values, schema)


def _no_chart(row: SourceRow, name: str) -> NotFound:
    return NotFound(f"source {row.name!r} has no chart {name[:80]!r}")
