"""Charts of a project, sent to one of its registries, so that they are another project's source."""

import asyncio
import io
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import orjson
import structlog

from pilothouse.chart_archive.charts import read_config
from pilothouse.chart_sources.publishing import NewChart, Published, publish
from pilothouse.chart_sources.registry import Repository
from pilothouse.errors import InvalidArgument, InvalidRequest, NotFound, PilothouseError
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.charts.trust import Trust
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.services.sources.pull import ChartPulls
from pilothouse.services.sources.sync import SourceSync
from pilothouse.settings import Settings
from pilothouse.store import archives, audit, charts, described_versions, source_versions, verifications
from pilothouse.store import sources as store
from pilothouse.store.audit import Outcome
from pilothouse.store.commands import require_verified
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.described_versions import DescribedVersion
from pilothouse.store.sources import SourceRow

log = structlog.get_logger(__name__)

_LONGEST_REASON: Final = 500


@dataclass(frozen=True, kw_only=True)
class PushChart:
    """A chart that is to be pushed; ``digest``: only with that archive. ``replace``: whatever has its version there.

    ``provenance``: the provenance file that goes with it; empty: that by which it was verified here, if it was.
    """

    chart_id: str
    digest: str | None = None
    replace: bool = False
    provenance: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class PushArchive:
    """An archive, at its beginning, that is to be pushed without being stored here; the rest is as in PushChart."""

    archive: BinaryIO
    replace: bool = False
    provenance: str = field(default="", repr=False)


@dataclass(frozen=True)
class _Packed:
    """A chart with what is sent of it; ``digest`` is that of its archive in hex."""

    name: str
    version: str
    digest: str
    archive: bytes = field(repr=False)
    provenance: str = field(repr=False)


@dataclass(frozen=True)
class _Noted:
    """What the audit tells of a push, in a row before it and another at its end."""

    caller: Caller
    source: SourceRow
    detail: str
    request_id: str

    async def record(self, tx: Transaction, outcome: Outcome, reason: str = "") -> None:
        """Insert a row with that outcome."""
        await audit.record(
            tx,
            self.caller,
            "cce:source:push",
            target=self.source.id,
            target_name=self.source.name,
            detail=f"{self.detail}: {reason[:_LONGEST_REASON]}" if reason else self.detail,
            request_id=self.request_id,
            outcome=outcome,
        )


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

    def __init__(
        self,
        database: Database,
        sync: SourceSync,
        pulls: ChartPulls,
        settings: Settings,
        *,
        checks: ChartChecks,
        trust: Trust,
    ) -> None:
        self._database = database
        self._sync = sync
        self._pulls = pulls
        self._checks = checks
        self._trust = trust
        self._most_bytes = settings.sources.archive_bytes
        self._limits = settings.charts

    async def push(self, caller: Caller, named: str, request: PushChart, *, request_id: str) -> PushedChart:
        """Send the chart to the source, a registry, under its name and version.

        Raises NotFound (source, chart), ChartReplaced, AlreadyExists if the registry has another chart there,
        SourceUnavailable, InvalidSource, or Busy; and Forbidden for a chart that is not verified, in a project that
        takes verified ones only.
        """
        caller.require("cce:source:push")
        caller.require("cce:chart:download")
        row = await self._pulls.find_source(caller, named)
        packed = await self._read(caller, request)
        _require_registry(row)
        return await self._push(caller, row, packed, replace=request.replace, request_id=request_id)

    async def push_archive(self, caller: Caller, named: str, request: PushArchive, *, request_id: str) -> PushedChart:
        """Send an archive that is not stored here, checked like an upload; raise InvalidChart, or what ``push`` does.

        A project that takes verified charts only sends no others: one of its keys, or of the source's, must have
        signed it.
        """
        caller.require("cce:source:push")
        row = await self._pulls.find_source(caller, named)
        _require_registry(row)
        archive, project_id = request.archive, caller.project_id
        self._refuse_larger(archive.seek(0, io.SEEK_END), where="content")
        archive.seek(0)
        chart = await self._checks.check(archive, lint=False, project_id=project_id)
        _refuse_other_provenance(chart.name, chart.version, chart.digest, provenance=request.provenance)
        await self._trust.judge_pushed(chart, archive, request.provenance, to=row)
        archive.seek(0)
        content = await asyncio.to_thread(archive.read)
        packed = _Packed(chart.name, chart.version, chart.digest, content, request.provenance)
        return await self._push(caller, row, packed, replace=request.replace, request_id=request_id)

    async def _push(
        self, caller: Caller, row: SourceRow, chart: _Packed, *, replace: bool, request_id: str
    ) -> PushedChart:
        config = await asyncio.to_thread(read_config, chart.archive, limits=self._limits)
        new = NewChart(
            name=chart.name,
            version=chart.version,
            archive=chart.archive,
            config=config,
            provenance=chart.provenance.encode(),
        )
        detail = f"{chart.name} {chart.version} sha256:{chart.digest}{', replacing' if replace else ''}"
        noted = _Noted(caller, row, detail, request_id)
        async with self._database.transaction() as tx:  # before anything leaves this server
            await require_still(tx, caller, "cce:source:push")
            await noted.record(tx, Outcome.STARTED)
        sent = asyncio.Event()
        try:
            async with self._sync.fetching(row) as fetch:
                repository = Repository(fetch, fetch.origin.url, chart.name, actions="pull,push")
                published = await publish(repository, new, replace=replace, sending=sent.set)
        except BaseException as error:
            await asyncio.shield(self._note_failure(noted, chart, error, sent=sent.is_set()))
            raise
        log.info("chart_pushed", source=row.id, chart=chart.name, version=chart.version, digest=published.digest)
        # It is in the registry: whoever waits for the answer may be gone by now.
        await asyncio.shield(self._note(noted, chart, published, config))
        reference = f"{row.url}/{chart.name}:{chart.version.replace('+', '_')}"
        return PushedChart(
            row.name, chart.name, chart.version, chart.digest, reference, published.digest, published.created
        )

    async def _read(self, caller: Caller, request: PushChart) -> _Packed:
        async with self._database.autocommit() as connection:
            chart = await charts.find_chart(connection, request.chart_id, project_id=caller.project_id)
            if chart is not None:
                chart.check_digest(request.digest or "")
                await require_verified(connection, chart)
            archive = await archives.read_archive(connection, chart.digest) if chart is not None else None
            digest = chart.digest if chart is not None else ""
            verified = await verifications.find(connection, project_id=caller.project_id, digest=digest)
        if chart is None or archive is None:
            raise NotFound(f"chart.id: chart {request.chart_id!r} does not exist in this project")
        self._refuse_larger(len(archive), where="chart.id")
        _refuse_other_provenance(chart.name, chart.version, chart.digest, provenance=request.provenance)
        kept = verified.provenance if verified is not None and not verified.of_revision else ""
        return _Packed(chart.name, chart.version, chart.digest, archive, request.provenance or kept)

    def _refuse_larger(self, size: int, *, where: str) -> None:
        if size > self._most_bytes:
            raise InvalidRequest(
                f"{where}: the chart has {size} bytes; sources take and give at most {self._most_bytes} "
                "(PILOTHOUSE_SOURCES__ARCHIVE_BYTES)"
            )

    async def _note_failure(self, noted: _Noted, chart: _Packed, error: BaseException, *, sent: bool) -> None:
        """Tell the audit why, and raise nothing in the place of that; ``sent``: the registry may have the chart."""
        reason = str(error) if isinstance(error, PilothouseError) else "of an error that the log has"
        if isinstance(error, asyncio.CancelledError):
            reason = "it was interrupted: the registry may have the chart, or a part of it"
        try:
            await self._record(noted, Outcome.FAILED, reason)
            if sent:
                await self._outdate(noted.source, chart, created=True)
        except Exception:  # the one before says more to the caller
            log.exception("push_not_noted", source=noted.source.id, chart=chart.name, version=chart.version)

    async def _note(self, noted: _Noted, chart: _Packed, published: Published, config: bytes) -> None:
        """Tell the audit, and list the chart's versions anew; the next synchronisation does that if this fails."""
        row = noted.source
        await self._record(noted, Outcome.DONE, "" if published.created else "it was there")
        await self._outdate(row, chart, created=published.created)
        try:
            await self._pulls.refresh_tags(row, chart.name)
        except PilothouseError as error:
            log.warning("source_unavailable", source=row.id, error=str(error))
        await self._describe(row, chart, published, config)

    @retry_conflicts
    async def _describe(self, row: SourceRow, chart: _Packed, published: Published, config: bytes) -> None:
        """Keep what a registry does not list of a version."""
        told = orjson.loads(config)
        pushed = DescribedVersion(chart.name, chart.version, published.digest)
        found = {"description": told.get("description", ""), "app_version": told.get("appVersion", "")}
        async with self._database.transaction() as tx:
            if await store.hold(tx, row.id):
                await described_versions.note_pushed(tx, row.id, pushed, **found)

    @retry_conflicts
    async def _record(self, noted: _Noted, outcome: Outcome, reason: str) -> None:
        """Tell the audit alone: whoever holds the source does not undo that."""
        async with self._database.transaction() as tx:
            await noted.record(tx, outcome, reason)

    @retry_conflicts
    async def _outdate(self, row: SourceRow, chart: _Packed, *, created: bool) -> None:
        """Drop what was pulled and is another archive than the one that is there now, or may be."""
        async with self._database.transaction() as tx:
            if created:  # pulls that have begun before are repeated from here on, or are stored by now
                await store.note_push(tx, row.id)
            known = await source_versions.find_version(tx, row.id, chart.name, chart.version)
            if known is not None and known.chart_id is not None and known.pulled_digest != chart.digest:
                await charts.delete_chart(tx, known.chart_id)  # it is pulled again when it is needed


def _require_registry(row: SourceRow) -> None:
    if row.kind != "oci":
        raise InvalidRequest(f"source {row.name!r} is an HTTP repository; charts are pushed to registries (oci://)")


def _refuse_other_provenance(name: str, version: str, digest: str, *, provenance: str) -> None:
    if provenance and digest not in provenance:
        raise InvalidArgument(
            f"provenance: it is of another archive: it does not name the digest of {name} {version}, {digest}"
        )
