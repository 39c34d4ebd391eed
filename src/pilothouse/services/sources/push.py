"""Charts of a project, sent to one of its registries, so that they are another project's source."""

import asyncio
from dataclasses import dataclass, field

import structlog

from pilothouse.chart_archive.charts import read_config
from pilothouse.chart_sources.publishing import NewChart, publish
from pilothouse.chart_sources.registry import Repository
from pilothouse.errors import InvalidRequest, NotFound, PilothouseError
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.sources.pull import ChartPulls
from pilothouse.services.sources.sync import SourceSync
from pilothouse.settings import Settings
from pilothouse.store import archives, audit, charts, verifications
from pilothouse.store.charts import ChartRow
from pilothouse.store.database import Database
from pilothouse.store.sources import SourceRow

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PushChart:
    """A chart that is to be pushed; ``digest``: only with that archive. ``replace``: whatever has its version there.

    ``provenance``: the provenance file that goes with it; empty: that by which it was verified here, if it was.
    """

    chart_id: str
    digest: str | None = None
    replace: bool = False
    provenance: str = field(default="", repr=False)


@dataclass(frozen=True)
class PushedChart:
    """A chart that the registry has under ``reference``; ``created`` is False if it had the same before."""

    source: str
    name: str
    version: str
    digest: str
    reference: str
    manifest_digest: str
    created: bool


class ChartPushes:
    """Push charts to registries with the credentials of their sources."""

    def __init__(self, database: Database, sync: SourceSync, pulls: ChartPulls, settings: Settings) -> None:
        self._database = database
        self._sync = sync
        self._pulls = pulls
        self._most_bytes = settings.sources.archive_bytes
        self._limits = settings.charts

    async def push(self, caller: Caller, named: str, request: PushChart, *, request_id: str) -> PushedChart:
        """Send the chart to the source, a registry, under its name and version.

        Raises NotFound (source, chart), ChartReplaced, AlreadyExists if the registry has another chart there,
        SourceUnavailable, InvalidSource, or Busy.
        """
        caller.require("cce:source:push")
        caller.require("cce:chart:download")
        row = await self._pulls.find_source(named, project_id=caller.project_id)
        chart, archive, provenance = await self._read(caller, request)
        if row.kind != "oci":
            raise InvalidRequest(f"source {row.name!r} is an HTTP repository; charts are pushed to registries (oci://)")
        config = await asyncio.to_thread(read_config, archive, limits=self._limits)
        new = NewChart(
            name=chart.name, version=chart.version, archive=archive, config=config, provenance=provenance.encode()
        )
        async with self._database.transaction() as tx:  # before anything leaves this server
            await require_still(tx, caller, "cce:source:push")
            detail = f"{chart.name} {chart.version} sha256:{chart.digest}{', replacing' if request.replace else ''}"
            await audit.record(
                tx, caller, "cce:source:push", target=row.id, target_name=row.name, detail=detail, request_id=request_id
            )
        async with self._sync.fetching(row) as fetch:
            repository = Repository(fetch, fetch.origin.url, chart.name, actions="pull,push")
            published = await publish(repository, new, replace=request.replace)
        log.info("chart_pushed", source=row.id, chart=chart.name, version=chart.version, digest=published.digest)
        await self._note(row, chart)
        reference = f"{row.url}/{chart.name}:{chart.version.replace('+', '_')}"
        return PushedChart(
            row.name, chart.name, chart.version, chart.digest, reference, published.digest, published.created
        )

    async def _read(self, caller: Caller, request: PushChart) -> tuple[ChartRow, bytes, str]:
        async with self._database.autocommit() as connection:
            chart = await charts.find_chart(connection, request.chart_id, project_id=caller.project_id)
            if chart is not None:
                chart.check_digest(request.digest or "")
            archive = await archives.read_archive(connection, chart.digest) if chart is not None else None
            digest = chart.digest if chart is not None else ""
            verified = await verifications.find(connection, project_id=caller.project_id, digest=digest)
        if chart is None or archive is None:
            raise NotFound(f"chart.id: chart {request.chart_id!r} does not exist in this project")
        if len(archive) > self._most_bytes:
            raise InvalidRequest(
                f"chart.id: the chart has {len(archive)} bytes; sources take and give at most {self._most_bytes} "
                "(PILOTHOUSE_SOURCES__ARCHIVE_BYTES)"
            )
        if request.provenance and chart.digest not in request.provenance:
            raise InvalidRequest(
                f"provenance: it is of another archive: it does not name the digest of {chart.name} {chart.version}, "
                f"{chart.digest}"
            )
        kept = verified.provenance if verified is not None and not verified.of_revision else ""
        return chart, archive, request.provenance or kept

    async def _note(self, row: SourceRow, chart: ChartRow) -> None:
        """List the chart's versions anew; the next synchronisation does it if this fails."""
        try:
            await self._pulls.refresh_tags(row, chart.name)
        except PilothouseError as error:
            log.warning("source_unavailable", source=row.id, error=str(error))
