"""Charts: archives checked before they are stored, stored once per digest, counted per version."""

import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import orjson

from pilothouse.chart_archive.charts import ChartArchive
from pilothouse.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound, QuotaExceeded
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.charts.trust import NO_KEYS, Trust
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing, require_still
from pilothouse.settings import EngineSettings
from pilothouse.shares import FairSlots
from pilothouse.store import archives, audit, verifications
from pilothouse.store import charts as store
from pilothouse.store.charts import ChartContent, ChartCursor, ChartPage, ChartRow, ChartVersion
from pilothouse.store.database import Database, Transaction
from pilothouse.store.verifications import NewVerification

#: Projects whose charts change at a time: that many connections, of the sixteen that a process may have.
_CHANGES = 4
#: Of one list that is read at a time; the driver, the rows and the answer each have these bytes once more.
_PAGE_BYTES = 512 * 1024
#: Lists, of as many projects, that are read at a time: it takes milliseconds, and all others wait without the bytes.
_LISTS = 2


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An archive at its beginning, and the keys of the form's ``parameters``; ``visible`` None: not given.

    ``warnings`` are those of Helm's lint, once the archive was checked. ``provenance_ends``: what became of the
    provenance, if that is to be told: ``added`` to an archive that the project had before, or ``known`` with it, each
    with the fingerprint of the key; or ``unread``, as the project trusts no key.
    """

    archive: BinaryIO
    override: bool = False
    skip_lint: bool = False
    visible: bool | None = None
    source: str = ""
    provenance: str = field(default="", repr=False)
    warnings: list[str] = field(default_factory=list)
    provenance_ends: dict[Literal["added", "known", "unread"], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """A chart's archive being sent: exactly ``size`` bytes in ``pieces``."""

    chart: ChartRow
    size: int
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True)
class Quota:
    """Limit and usage of a project's chart versions."""

    limit: int
    used: int


class Charts:
    """The charts of a project."""

    def __init__(
        self,
        database: Database,
        checks: ChartChecks,
        trust: Trust,
        standing: Standing,
        *,
        quota: int,
        quota_bytes: int,
        engine_settings: EngineSettings,
    ) -> None:
        """``engine_settings`` limit how long a project's changes wait for each other, and how many of them."""
        self._database = database
        self._checks = checks
        self._trust = trust
        self._standing = standing
        self._wait_seconds = engine_settings.queue_seconds
        # A project's changes wait for each other in any case. Here they do so without a connection to the database.
        self._changing = FairSlots(
            _CHANGES,
            what="this server is storing charts at capacity",
            most=1,
            most_waiting=engine_settings.waiting_per_project,
        )
        self._listing = FairSlots(_LISTS, what="this server is listing charts at capacity", most_waiting=sys.maxsize)
        self._quota = quota
        self._quota_bytes = quota_bytes

    async def upload(self, caller: Caller, upload: Upload, *, request_id: str) -> ChartRow:
        """Store the archive under the name and version of its Chart.yaml; ``override`` replaces, and keeps the id.

        If it is there with the same archive, a provenance that counts is added to it, and nothing else is changed.
        Raises InvalidChart, AlreadyExists (that name and version, without ``override``), QuotaExceeded or Busy.
        """
        caller.require("cce:chart:upload")
        chart = await self._checks.check(
            upload.archive, lint=not upload.skip_lint, project_id=caller.project_id, warnings=upload.warnings
        )
        verified = await self._trust.judge(chart, upload.archive, upload.provenance, project_id=caller.project_id)
        content = chart_content(chart, source=upload.source, visible=upload.visible)
        async with self._change(caller) as tx:
            taken = await _find_version(tx, caller, chart)
            is_same = taken is not None and taken.digest == chart.digest
            if taken is not None and not upload.override and verified is not None and is_same:
                detail = await _add_provenance(tx, upload, verified, chart, project_id=caller.project_id)
                await _record(tx, caller, "cce:chart:upload", taken, request_id=request_id, detail=detail)
                return taken
            if taken is not None and not upload.override:
                there = f"chart {chart.name} {chart.version} already exists (id {taken.id})"
                if upload.provenance and is_same:
                    raise AlreadyExists(
                        f"{there}, with this archive; the provenance (.prov) beside it was not looked at, as "
                        f"{NO_KEYS}, then upload it again"
                    )
                raise AlreadyExists(
                    f'{there}; upload it with parameters {{"override": true}} to replace it, or raise the version in '
                    "Chart.yaml"
                )
            if taken is None:
                await self._check_quota(tx, caller)
            await self._add_archive(tx, caller, chart, upload, verified)
            if taken is None:
                row = await store.add_chart(tx, content, chart_id=str(uuid.uuid4()), project_id=caller.project_id)
            else:
                row = await store.replace_chart(tx, content, chart_id=taken.id)
            await _record(tx, caller, "cce:chart:upload", row, request_id=request_id)
        _note_unread(upload, verified)
        return row

    async def update(self, caller: Caller, chart_id: str, upload: Upload, *, request_id: str) -> ChartRow:
        """Replace the chart's content, and possibly its version; the id stays. Operations keep their archive.

        Raises InvalidChart, InvalidRequest (the archive has another name), NotFound, AlreadyExists (another chart has
        that version) or Busy.
        """
        caller.require("cce:chart:update")
        await self._find(caller, chart_id)
        chart = await self._checks.check(
            upload.archive, lint=not upload.skip_lint, project_id=caller.project_id, warnings=upload.warnings
        )
        verified = await self._trust.judge(chart, upload.archive, upload.provenance, project_id=caller.project_id)
        async with self._change(caller) as tx:
            old = await _find_uploaded(tx, caller, chart_id)
            if chart.name != old.name:
                raise InvalidRequest(
                    f"Chart.yaml: name is {chart.name!r}, and this is chart {old.name!r}; an update keeps the name: "
                    "upload the other chart as a new one"
                )
            taken = await _find_version(tx, caller, chart)
            if taken is not None and taken.id != old.id:
                raise AlreadyExists(
                    f"chart {chart.name} {chart.version} already exists (id {taken.id}); update or delete that one, "
                    "or raise the version in Chart.yaml"
                )
            await self._add_archive(tx, caller, chart, upload, verified)
            content = chart_content(chart, source=upload.source, visible=upload.visible)
            row = await store.replace_chart(tx, content, chart_id=old.id)
            await _record(tx, caller, "cce:chart:update", row, request_id=request_id)
        _note_unread(upload, verified)
        return row

    async def delete(self, caller: Caller, chart_id: str, *, request_id: str) -> ChartRow:
        """Delete the chart and return it; releases and operations made from it are not affected."""
        caller.require("cce:chart:delete")
        async with self._change(caller) as tx:
            row = await _find_uploaded(tx, caller, chart_id)
            await store.delete_chart(tx, row.id)
            await _record(tx, caller, "cce:chart:delete", row, request_id=request_id)
        return row

    @asynccontextmanager
    async def listed(self, caller: Caller, *, after: ChartCursor | None = None) -> AsyncIterator[ChartPage]:
        """Hold a few of the project's charts, newest first, for the block: those that follow a place, or the first.

        Projects take turns, so leave the block soon.
        """
        caller.require("cce:chart:list")
        again = self._standing.again_seconds
        caller = await self._standing.require(caller, "cce:chart:list", after_seconds=again)
        async with self._listing.hold(caller.project_id, seconds=None):
            async with self._database.autocommit() as connection:
                await require_still(connection, caller, "cce:chart:list", after_seconds=again)
                page = await store.read_page(
                    connection, project_id=caller.project_id, after=after, budget_bytes=_PAGE_BYTES
                )
            yield page

    async def list_versions(
        self, caller: Caller, *, name: str, version: str, digest: str, limit: int, pulled: bool = False
    ) -> list[ChartVersion]:
        """Return the project's chart versions with that name, version and digest, newest first; empty: any.

        ``pulled``: those too that were pulled from a source.
        """
        caller.require("cce:chart:list")
        params = {"name": name, "version": version, "digest": digest}
        async with self._database.autocommit() as connection:
            return await store.list_versions(
                connection, project_id=caller.project_id, **params, limit=limit, pulled=pulled
            )

    async def list_signers(self, caller: Caller, digests: Sequence[str]) -> dict[str, str]:
        """Return by digest who signed those of the archives that a key verifies which the project trusts."""
        caller.require("cce:chart:list")
        async with self._database.autocommit() as connection:
            return await verifications.list_signers(connection, project_id=caller.project_id, digests=digests)

    async def show(self, caller: Caller, chart_id: str) -> ChartRow:
        """Return one chart of the project with its values, else raise NotFound."""
        caller.require("cce:chart:get")
        return await self._find(caller, chart_id)

    async def read_schema(self, caller: Caller, chart_id: str) -> bytes:
        """Return the chart's ``values.schema.json``; raise NotFound without one, and Busy."""
        caller.require("cce:chart:get")
        async with self._database.autocommit() as connection:
            chart = await _find(connection, caller, chart_id)
            archive = await archives.read_archive(connection, chart.digest)
        schema = await self._checks.read_schema(archive, project_id=caller.project_id) if archive is not None else b""
        if not schema:
            raise NotFound(f"chart {chart.name} {chart.version} has no values.schema.json")
        return schema

    async def read_readme(self, caller: Caller, chart: ChartRow) -> str:
        """Return the chart's README as it is in the archive; empty if it has none."""
        caller.require("cce:chart:get")
        async with self._database.autocommit() as connection:
            content = await archives.read_archive(connection, chart.digest) if chart.instruction else None
        return await self._checks.read_readme(content, project_id=caller.project_id) if content is not None else ""

    async def download(self, caller: Caller, chart_id: str) -> Download:
        """Return the chart's archive, byte for byte as uploaded; NotFound if the project has no such chart.

        It is read while it is sent. If the chart is deleted meanwhile it is still sent completely, because unused
        archives are kept for a while.
        """
        caller.require("cce:chart:download")
        async with self._database.autocommit() as connection:
            chart = await _find(connection, caller, chart_id)
            size = await archives.find_size(connection, chart.digest)
        if size is None:
            raise NotFound(f"chart {chart_id!r} was just deleted")
        return Download(chart, size, self._read(caller, chart.digest, size))

    async def quota(self, caller: Caller, project_id: str) -> Quota:
        """Return the quota of the caller's own project; Forbidden for any other."""
        caller.require("cce:chart:getQuota")
        if project_id != caller.project_id:
            raise Forbidden(
                "Forbidden: the project in the path is not that of these credentials; "
                f"request the quotas of {caller.project_id}"
            )
        async with self._database.autocommit() as connection:
            return Quota(limit=self._quota, used=await store.count_charts(connection, caller.project_id))

    @asynccontextmanager
    async def _change(self, caller: Caller) -> AsyncIterator[Transaction]:
        """Open a transaction with an exclusive lock on the project's charts; Busy after waiting too long for it."""
        async with (
            self._changing.hold(caller.project_id, seconds=self._wait_seconds),
            self._database.transaction() as tx,
        ):
            await store.lock_charts_of(tx, caller.project_id)
            yield tx

    async def _find(self, caller: Caller, chart_id: str) -> ChartRow:
        async with self._database.autocommit() as connection:
            return await _find(connection, caller, chart_id)

    async def _read(self, caller: Caller, digest: str, size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, archives.PIECE_BYTES):
            again = self._standing.again_seconds
            caller = await self._standing.require(caller, "cce:chart:download", after_seconds=again)
            async with self._database.autocommit() as connection:
                piece = await archives.read_piece(connection, digest, start=start)
            if piece is None:
                raise NotFound("the chart was deleted while it was sent")
            yield piece

    async def _add_archive(
        self, tx: Transaction, caller: Caller, chart: ChartArchive, upload: Upload, verified: NewVerification | None
    ) -> None:
        """Store the archive if the project's quota allows it; ``lock_charts_of`` keeps other counts out meanwhile."""
        used = await archives.count_bytes(tx, project_id=caller.project_id, besides=chart.digest)
        if used + chart.size > self._quota_bytes:
            raise QuotaExceeded(
                f"Insufficient chart quota: the archives of this project have {used} bytes, with this one "
                f"{used + chart.size}, and may have {self._quota_bytes}; delete charts, or wait some minutes until "
                "archives that were replaced or deleted are collected"
            )
        await archives.add_archive(tx, digest=chart.digest, content=upload.archive, size=chart.size)
        await archives.note_project(tx, project_id=caller.project_id, digest=chart.digest)
        if verified is not None:
            await verifications.record(tx, verified, project_id=caller.project_id, digest=chart.digest)

    async def _check_quota(self, tx: Transaction, caller: Caller) -> None:
        if await store.count_charts(tx, caller.project_id) >= self._quota:
            raise QuotaExceeded(
                f"Insufficient chart quota: this project has {self._quota} chart versions, the limit; delete one first"
            )


def compact_json(values: object) -> str:
    """Return JSON as strings in the API have it: compact, keys sorted, non-ASCII unescaped."""
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def chart_content(chart: ChartArchive, *, source: str, visible: bool | None = None) -> ChartContent:
    """Return what is stored of a chart besides its archive."""
    return ChartContent(
        name=chart.name,
        version=chart.version,
        digest=chart.digest,
        description=chart.description,
        icon_url=chart.icon_url,
        instruction=chart.readme_name,
        values_json=compact_json(chart.values),
        source=source,
        visible=visible,
    )


async def _add_provenance(
    tx: Transaction, upload: Upload, verified: NewVerification, chart: ChartArchive, *, project_id: str
) -> str:
    """Add it to the archive that is stored, unless it has one by that key; return what the audit tells."""
    is_known = await verifications.has(tx, verified, project_id=project_id, digest=chart.digest)
    await verifications.record(tx, verified, project_id=project_id, digest=chart.digest)
    upload.provenance_ends["known" if is_known else "added"] = verified.fingerprint
    what = "signed by the same key before" if is_known else f"added, signed by {verified.fingerprint}"
    return f"provenance of the stored archive {what}"


def _note_unread(upload: Upload, verified: NewVerification | None) -> None:
    if upload.provenance and verified is None:
        upload.provenance_ends["unread"] = "true"


async def _find(tx: Transaction, caller: Caller, chart_id: str) -> ChartRow:
    row = await store.find_chart(tx, chart_id, project_id=caller.project_id)
    if row is None:
        raise NotFound(f"chart {chart_id!r} does not exist in this project")
    return row


async def _find_uploaded(tx: Transaction, caller: Caller, chart_id: str) -> ChartRow:
    row = await _find(tx, caller, chart_id)
    if row.source_id is not None:
        raise InvalidRequest(
            f"chart {row.name} {row.version} ({chart_id}) was pulled from a source; change it there, or remove that"
        )
    return row


async def _find_version(tx: Transaction, caller: Caller, chart: ChartArchive) -> ChartRow | None:
    return await store.find_chart_version(tx, project_id=caller.project_id, name=chart.name, version=chart.version)


async def _record(
    tx: Transaction, caller: Caller, action: str, row: ChartRow, *, request_id: str, detail: str = ""
) -> None:
    """Insert the audit row of a change that is about to be committed, if the caller may still make it."""
    await require_still(tx, caller, action)
    name = f"{row.name}-{row.version}"
    await audit.record(tx, caller, action, target=row.id, target_name=name, detail=detail, request_id=request_id)
