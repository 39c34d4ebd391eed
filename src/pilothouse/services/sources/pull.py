"""Charts of sources, pulled when they are needed: checked like uploads, stored once per digest."""

import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC
from difflib import get_close_matches
from functools import partial
from typing import BinaryIO, Final

import structlog

from pilothouse.chart_archive.charts import ChartArchive
from pilothouse.chart_sources.fetch import spool
from pilothouse.chart_sources.registry import CHART_NAME
from pilothouse.errors import InvalidSource, NotFound, SourceUnavailable, TransactionConflict
from pilothouse.services.charts.archives import chart_content
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.charts.signatures import NotVerified, Signatures
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.sources.fetched import Signed, Version, bare, fetch_chart, is_unchanged
from pilothouse.services.sources.signed import judge
from pilothouse.services.sources.sync import SourceSync
from pilothouse.settings import SourceSettings
from pilothouse.store import (
    archives,
    chart_origins,
    charts,
    refused_versions,
    signed_versions,
    source_charts,
    source_versions,
    verifications,
)
from pilothouse.store import sources as store
from pilothouse.store.charts import ChartRow
from pilothouse.store.database import Database, Transaction
from pilothouse.store.source_charts import ComparedVersion, PulledVersion
from pilothouse.store.source_versions import SourceVersion
from pilothouse.store.sources import SourceRow
from pilothouse.store.verifications import NewVerification

log = structlog.get_logger(__name__)

_SHOWN_VERSIONS: Final = 5
_SHOWN_SOURCES: Final = 20
_LONGEST_ECHO: Final = 80
_TRIES: Final = 3
#: A version, and no range: a registry is asked for its tag without asking for all tags.
_EXACT: Final = re.compile(r"v?[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, kw_only=True)
class SourceReference:
    """A chart of a source: ``source`` is an id or a name, ``version`` a version or range; empty: the newest."""

    source: str
    name: str
    version: str = ""


@dataclass(frozen=True)
class _ChosenVersion:
    """The version that was chosen; ``known`` is what the source's list says of it, ``asked`` what was asked for."""

    name: str
    version: str
    known: SourceVersion | None
    asked: str

    def as_listed(self, row: SourceRow) -> Version:
        """Return it as its source lists it; raise NotFound if that is an index that does not."""
        if self.known is not None:
            return Version(self.name, self.version, self.known.url, self.known.digest)
        if row.kind != "oci":
            raise NotFound(f"source {row.name!r} has no chart {self.name} {self.version}")
        return Version(self.name, self.version)


class _Overtaken(TransactionConflict):
    """Something was pushed to the source by this server while a chart was pulled from it."""


class ChartPulls:
    """Choose and pull charts of a project's sources."""

    def __init__(
        self,
        database: Database,
        sync: SourceSync,
        checks: ChartChecks,
        signatures: Signatures,
        settings: SourceSettings,
    ) -> None:
        self._database = database
        self._sync = sync
        self._checks = checks
        self._signatures = signatures
        self._settings = settings

    async def find_source(self, caller: Caller, named: str) -> SourceRow:
        """Return the project's source of that id or name; NotFound names others to those who may list them."""
        async with self._database.autocommit() as connection:
            row = await store.find(connection, named, project_id=caller.project_id)
            if row is not None:
                return row
            others = []
            if caller.may("cce:source:list"):
                others = await store.list_sources(connection, project_id=caller.project_id)
        raise unknown_source(named, [other.name for other in others])

    async def choose(self, caller: Caller, reference: SourceReference) -> ChartRow:
        """Return the chart that the reference means, pulled unless it was before.

        Raises NotFound, InvalidSource, InvalidChart, SourceUnavailable, or Busy.
        """
        caller.require("cce:source:get")
        for _ in range(_TRIES - 1):
            try:
                return await self._choose(caller, reference)
            except _Overtaken:  # what was pulled may be what the push has replaced
                continue
        return await self._choose(caller, reference)

    async def _choose(self, caller: Caller, reference: SourceReference) -> ChartRow:
        row = await self.find_source(caller, reference.source)
        if not CHART_NAME.fullmatch(reference.name):
            raise NotFound(f"chart.name: {reference.name[:80]!r} is not the name of a chart")
        chosen = await self._choose_version(row, reference.name, reference.version)
        known = chosen.known
        if known is not None and known.chart_id is not None and _is_current(known):
            async with self._database.autocommit() as connection:
                found = await charts.find_chart(connection, known.chart_id, project_id=caller.project_id)
                # Keys may have been set since it was pulled.
                counts = found is not None and await source_charts.is_signed(connection, row, digest=found.digest)
            if found is not None and counts:
                return found
        pulled = await self._pull(row, chosen)
        await self._sync.look(row, name=pulled.name)  # a release of it will be told at once what is newer
        return pulled

    async def _choose_version(self, row: SourceRow, name: str, version_range: str) -> _ChosenVersion:
        async with self._database.autocommit() as connection:
            exact = (
                await source_versions.find_version(connection, row.id, name, version_range) if version_range else None
            )
        if exact is not None:
            return _ChosenVersion(name, version_range, exact, version_range)
        if row.kind == "oci":
            if _EXACT.fullmatch(version_range):
                return _ChosenVersion(name, version_range, None, version_range)
            await self.refresh_tags(row, name)
        async with self._database.autocommit() as connection:
            usable = list(await source_versions.list_order_keys(connection, row.id, name))
        if not usable:
            raise NotFound(f"chart.name: source {row.name!r} has no chart {name!r}; {_synchronised(row)}")
        _, chosen = await self._sync.order(usable, version_range, project_id=row.project_id)
        if not chosen:
            raise _no_version(row, name, version_range, usable)
        async with self._database.autocommit() as connection:
            known = await source_versions.find_version(connection, row.id, name, chosen)
        return _ChosenVersion(name, chosen, known, version_range)

    async def _fetch(self, row: SourceRow, chosen: _ChosenVersion, file: BinaryIO) -> Signed:
        """Write the chart into the file; raise NotFound with the versions that there are if it is not among them."""
        try:
            async with self._sync.fetching(row) as fetch:
                return await fetch_chart(fetch, row, chosen.as_listed(row), file)
        except NotFound as error:
            if row.kind != "oci":
                raise
            await self.refresh_tags(row, chosen.name)
            async with self._database.autocommit() as connection:
                listed = await source_versions.list_order_keys(connection, row.id, chosen.name)
            usable = [version for version in listed if version != chosen.version]
            raise (_no_version(row, chosen.name, chosen.version, usable) if usable else error) from error

    async def refresh_tags(self, row: SourceRow, name: str) -> None:
        """List the tags of a chart; if the registry cannot be asked, what is known of it has to do."""
        try:
            async with self._sync.fetching(row) as fetch:
                keys = await self._sync.list_tags(fetch, row, name)
        except SourceUnavailable as error:
            log.warning("source_unavailable", source=row.id, error=str(error))
            async with self._database.autocommit() as connection:
                if not await source_versions.list_versions(connection, row.id, name, after="", limit=1):
                    raise
            return
        async with self._database.transaction() as tx:
            if await store.hold(tx, row.id):
                await self._sync.keep_charts(tx, row.id, {name: keys or {}})
                await chart_origins.renew(tx, row.id, name=name)

    async def _pull(self, row: SourceRow, chosen: _ChosenVersion) -> ChartRow:
        with spool() as file:
            signed = await self._fetch(row, chosen, file)
            file.seek(0)
            chart = await self._checks.check(file, lint=False, project_id=row.project_id)
            if chart.name != chosen.name or chart.version.removeprefix("v") != chosen.version.removeprefix("v"):
                raise InvalidSource(
                    f"source {row.name!r} gives chart {chart.name} {chart.version} for {chosen.name} {chosen.version}; "
                    "an archive must hold the name and version under which it is listed"
                )
            try:
                verified = await judge(self._signatures, row, chart, signed, archive=file)
            except NotVerified as error:
                await self._note_refused(row, chosen, str(error), signed.evidence)
                raise NotVerified(f"{error}{_as_chosen(chosen)}") from error
            keys = await self._order_of(row, chosen)
            keep = partial(self._keep, keys=keys, manifest=signed.manifest, verified=verified)
            try:
                kept = await keep(row, chosen, chart, file)
            except _Overtaken:
                row = await self._pushed_elsewhere(row, chosen, signed)
                kept = await keep(row, chosen, chart, file)
        log.info("chart_pulled", source=row.id, chart=kept.name, version=kept.version, digest=kept.digest)
        return kept

    async def _order_of(self, row: SourceRow, chosen: _ChosenVersion) -> dict[str, str]:
        """Return the order key of a version that is not listed yet; nothing for others."""
        if chosen.known is not None:
            return {}
        return (await self._sync.order([chosen.version], chosen.version, project_id=row.project_id))[0]

    async def _pushed_elsewhere(self, row: SourceRow, chosen: _ChosenVersion, signed: Signed) -> SourceRow:
        """Return the source with the push of now, if it left what was fetched as it was; else raise _Overtaken."""
        async with self._database.autocommit() as connection:  # before the look: a later push counts again
            now = await store.find(connection, row.id, project_id=row.project_id)
        if now is None:
            raise _removed(row)
        async with self._sync.fetching(row) as fetch:
            if not await is_unchanged(fetch, row, chosen.as_listed(row), signed):
                raise _Overtaken(f"the chart was just replaced in source {row.name!r}; ask again")
        return replace(row, pushed_at=now.pushed_at)

    async def _note_refused(self, row: SourceRow, chosen: _ChosenVersion, reason: str, evidence: str) -> None:
        """Let the version be offered no more, as long as it stays so."""
        digest = chosen.known.digest if chosen.known is not None else ""
        keys = await self._order_of(row, chosen)
        async with self._database.transaction() as tx:
            if await store.hold(tx, row.id) and await store.has_keys_of(tx, row):
                found = {"name": chosen.name, "version": chosen.version, "digest": digest}
                if chosen.known is None:
                    await self._note_version(tx, row, chosen, keys)
                await refused_versions.note(tx, row.id, **found, reason=reason, evidence=evidence)
                await signed_versions.forget(tx, row.id, name=chosen.name, version=chosen.version)
                await chart_origins.renew(tx, row.id, name=chosen.name)

    async def _keep(
        self,
        row: SourceRow,
        chosen: _ChosenVersion,
        chart: ChartArchive,
        file: BinaryIO,
        *,
        keys: dict[str, str],
        manifest: str,
        verified: NewVerification | None,
    ) -> ChartRow:
        content = chart_content(chart, source=row.name)
        async with self._database.transaction() as tx:
            if not await store.hold(tx, row.id):
                raise _removed(row)
            if not await store.has_keys_of(tx, row):
                raise TransactionConflict(f"the keys of source {row.name!r} were just changed; ask again")
            if await store.was_pushed_to(tx, row):
                raise _Overtaken(f"a chart was just pushed to source {row.name!r}; ask again")
            await archives.add_archive(tx, digest=chart.digest, content=file, size=chart.size)
            if verified is not None:
                await verifications.record(tx, verified, project_id=row.project_id, digest=chart.digest)
            if chosen.known is None:
                await self._note_version(tx, row, chosen, keys)
            elif chosen.known.digest and bare(chosen.known.digest) != chart.digest:
                # It is the manifest's, and was compared; what is pulled next time is compared with the archive.
                await source_charts.set_digest(tx, row.id, chosen.known, digest=chart.digest)
            kept = await source_charts.keep_pulled(
                tx,
                replace(content, version=chosen.version),
                chart_id=str(uuid.uuid4()),
                project_id=row.project_id,
                source_id=row.id,
            )
            if row.kind == "oci":
                found = {"description": chart.description, "app_version": chart.app_version}
                await source_charts.describe(tx, row.id, chosen.name, chosen.version, **found)
                pulled = PulledVersion(chosen.name, chosen.version, chart.digest, chart.digest, manifest)
                await source_charts.note_compared(tx, row.id, ComparedVersion(pulled, chart.digest, manifest))
            await refused_versions.forget(tx, row.id, name=chosen.name, version=chosen.version)
            await chart_origins.renew(tx, row.id, name=chosen.name)
            await source_charts.drop_pulled(
                tx, project_id=row.project_id, most_bytes=self._settings.bytes_per_project, besides=kept.id
            )
        return kept

    async def _note_version(
        self, tx: Transaction, row: SourceRow, chosen: _ChosenVersion, keys: dict[str, str]
    ) -> None:
        """Add the version of a registry whose tags were not listed yet."""
        known = await source_versions.list_order_keys(tx, row.id, chosen.name)
        await source_charts.add_versions(tx, row.id, chosen.name, {**known, **keys})


def unknown_source(named: str, names: list[str]) -> NotFound:
    """Return that the project has no such source, and which one may be meant."""
    near = get_close_matches(named[:_LONGEST_ECHO], names, n=1)
    others = ", ".join(names[:_SHOWN_SOURCES])
    hint = f"; did you mean {near[0]}?" if near else f"; there are: {others}" if others else ""
    return NotFound(f"source {named[:_LONGEST_ECHO]!r} does not exist in this project{hint}")


def _removed(row: SourceRow) -> NotFound:
    return NotFound(f"source {row.name!r} was just removed")


def _is_current(known: SourceVersion) -> bool:
    """Return True if the archive that was pulled is the one that the source lists."""
    return known.is_gone or not known.digest or bare(known.digest) == known.pulled_digest


def _as_chosen(chosen: _ChosenVersion) -> str:
    """Return why no other version is taken in the place of one that is refused."""
    if chosen.asked.removeprefix("v") == chosen.version.removeprefix("v"):
        return ""
    what = "that is no prerelease" if chosen.asked in ("", "*") else f"that fits {chosen.asked[:80]!r}"
    return f"; it is the newest {what}, and none is taken in its place: name the version if another one is meant"


def _synchronised(row: SourceRow) -> str:
    if row.synced_at is None:
        return "it was never synchronised"
    return f"it was synchronised at {row.synced_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}; synchronise it for newer ones"


def _no_version(row: SourceRow, name: str, version_range: str, usable: list[str]) -> NotFound:
    """Return that no version of the chart is the wanted one, and which there are."""
    first = ", ".join(usable[:_SHOWN_VERSIONS])
    what = f"that fits {version_range[:80]!r}" if version_range else "that is not a prerelease"
    return NotFound(
        f"chart.version: source {row.name!r} has no version of chart {name!r} {what}; it has {first}"
        f"{' and others' if len(usable) > _SHOWN_VERSIONS else ''}; {_synchronised(row)}"
    )
