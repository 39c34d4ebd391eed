"""Synchronisation of a source: its index is read by a child, or the tags of its charts are listed."""

import asyncio
import base64
import gzip
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.chart_sources.fetch import Fetch, fetching, spool
from pilothouse.chart_sources.registry import Repository, refuse_more
from pilothouse.chart_sources.repository import IndexState, fetch_index
from pilothouse.engine.chart_lists import OrderVersionsRequest, ReadIndexRequest
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import (
    Busy,
    EngineCrashed,
    EngineTimeout,
    HelmError,
    InvalidSource,
    NotFound,
    PilothouseError,
    SourceDenied,
    SourceUnavailable,
)
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.services.charts.signatures import Signatures
from pilothouse.services.sources.fetched import Version, compare, fetch_signed, find_replaced
from pilothouse.services.sources.records import origin_of
from pilothouse.services.sources.signed import Looked, look_at
from pilothouse.settings import Settings
from pilothouse.shares import FairSlots
from pilothouse.store import (
    chart_origins,
    described_versions,
    refused_versions,
    signed_versions,
    source_charts,
    source_versions,
)
from pilothouse.store import sources as store
from pilothouse.store.database import Database, Transaction
from pilothouse.store.described_versions import DescribedVersion
from pilothouse.store.refused_versions import RefusedVersion
from pilothouse.store.source_charts import ComparedVersion
from pilothouse.store.sources import SourceRow

log = structlog.get_logger(__name__)

#: Charts of a registry whose tags are listed: each takes a request.
_MOST_CHARTS: Final = 500
#: Pulled versions whose tags are compared, and refused ones that are looked at again: each takes a request or more.
_MOST_PULLED: Final = 100
_MOST_REFUSED: Final = 20
#: Versions whose signature is looked at before they are offered, and those of one chart.
_MOST_LOOKED: Final = 50
_MOST_OF_A_CHART: Final = 5
#: How long a pull waits for that.
_LOOK_SECONDS: Final = 5.0
_MOST_ROW_BYTES: Final = 64 * 1024 * 1024
_PAUSE_SECONDS: Final = 5.0
_UNFORESEEN: Final = "its answer cannot be processed; the log of Pilothouse has the cause"
#: How long a process has a source for itself, beyond what it may fetch and read.
_SPARE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Found:
    """What a source has: rows of an index as JSON arrays, or versions with their keys by chart.

    ``state`` is of the index; None if it is the known one, or there is none. ``compared``: what a registry has under
    versions that were pulled, ``replaced``: what it has no more as it was pushed. ``looked``: what was refused, with
    what signs it by now, or as before if nobody tells.
    """

    state: IndexState | None = None
    batches: list[str] = field(default_factory=list, repr=False)
    charts: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    compared: list[ComparedVersion] = field(default_factory=list, repr=False)
    replaced: list[DescribedVersion] = field(default_factory=list, repr=False)
    looked: dict[RefusedVersion, str] = field(default_factory=dict, repr=False)


class SourceSync:
    """Read what sources have, and keep it."""

    def __init__(self, database: Database, keys: MasterKeys, engine: EnginePool, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._engine = engine
        self._signatures = Signatures(engine, settings.engine)
        self._settings = settings.sources
        # What the source lists is fetched, and then what is compared.
        self._alone_seconds = 2 * settings.sources.fetch_seconds + settings.sources.index_seconds + _SPARE_SECONDS
        self._queue_seconds = settings.engine.queue_seconds
        self._answer_seconds = settings.engine.answer_seconds
        self._resolver = Resolver(settings.cluster)
        self._slots = FairSlots(
            settings.sources.fetches,
            what="this server is fetching from chart sources at capacity",
            most_waiting=settings.engine.waiting_per_project,
            most=max(1, settings.sources.fetches // 4),
        )
        self._taking = asyncio.Lock()
        self._syncing: set[str] = set()

    @asynccontextmanager
    async def fetching(self, row: SourceRow) -> AsyncIterator[Fetch]:
        """Open requests to the source for the block; Busy if too many others are open."""
        try:
            async with (
                self._slots.hold(row.project_id, seconds=self._queue_seconds),
                fetching(origin_of(row, keys=self._keys), self._settings, self._resolver.of(row.project_id)) as fetch,
            ):
                yield fetch
        except SourceDenied as error:
            raise SourceDenied(_denied(row, error)) from error

    async def read(self, row: SourceRow, *, names: Iterable[str] = ()) -> Found:
        """Return what the source has, and write nothing; ``names`` are charts of a registry that are known."""
        if row.kind == "oci":
            return await self._read_registry(row, names)
        with spool() as file:
            async with self.fetching(row) as fetch:
                state = await fetch_index(fetch, IndexState(row.etag, row.last_modified), into=file)
            if state is None:
                return Found()
            return Found(state, await self._read_index(row, file))

    async def keep(self, tx: Transaction, source_id: str, found: Found) -> None:
        """Replace the versions of the source by those that were found, and record that it answered."""
        state = found.state
        if state is not None:
            await source_charts.clear(tx, source_id)
            for batch in found.batches:
                await source_charts.add_rows(tx, source_id, batch)
            await source_charts.mark_moved(tx, source_id)
        await self.keep_charts(tx, source_id, found.charts)
        for compared in found.compared:
            await source_charts.note_compared(tx, source_id, compared)
        for replaced in found.replaced:
            await described_versions.forget(tx, source_id, replaced)
        for refused, evidence in found.looked.items():
            if await refused_versions.look(tx, source_id, refused, evidence=evidence):
                log.info("refused_version_changed", source=source_id, chart=refused.name, version=refused.version)
        await refused_versions.forget_unlisted(tx, source_id)
        await signed_versions.forget_unlisted(tx, source_id)
        for moved in await source_versions.list_moved(tx, source_id):
            told = {"was": moved.moved_from, "digest": moved.moved_to or "no chart"}
            log.warning("version_moved", source=source_id, chart=moved.name, version=moved.version, **told)
        await chart_origins.renew(tx, source_id)
        await store.end_sync(tx, source_id, **(vars(state) if state is not None else {}))

    async def keep_charts(self, tx: Transaction, source_id: str, charts: Mapping[str, dict[str, str]]) -> None:
        """Replace the versions of charts of a registry; raise InvalidSource if the source has too many then."""
        for name, keys in charts.items():
            await source_charts.clear_chart(tx, source_id, name)
            await source_charts.add_versions(tx, source_id, name, keys)
        if charts:
            refuse_more(await source_charts.count(tx, source_id), self._settings, where="the registry")

    async def sync(self, row: SourceRow) -> None:
        """Bring the known versions up to date; Busy if another process is doing so."""
        async with self._database.autocommit() as connection:
            if not await store.begin_sync(connection, row.id, seconds=self._alone_seconds):
                raise Busy(f"source {row.name!r} is being synchronised; retry shortly")
        await self.sync_taken(row)

    @asynccontextmanager
    async def alone(self, row: SourceRow) -> AsyncIterator[None]:
        """Have the source for this process in the block, without a trace of how it ends; Busy if another one has it."""
        async with self._database.autocommit() as connection:
            if not await store.begin_sync(connection, row.id, seconds=self._alone_seconds):
                raise Busy(f"source {row.name!r} is being synchronised; retry shortly")
        try:
            yield
        finally:
            async with self._database.autocommit() as connection:
                await store.release(connection, row.id)

    async def sync_taken(self, row: SourceRow) -> None:
        """Do the same for a source that this process has for itself; a failure is recorded, and raised.

        If it is cancelled the source is given back.
        """
        try:
            await self._renew(row)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(row))
            raise
        except Exception as error:
            problem = str(error) if isinstance(error, PilothouseError) else _UNFORESEEN
            async with self._database.autocommit() as connection:
                await store.end_sync(connection, row.id, problem=problem.replace("\0", ""))
            raise

    async def _give_back(self, row: SourceRow) -> None:
        with suppress(PilothouseError):  # the end of its time gives it back as well
            async with self._database.autocommit() as connection:
                await store.release(connection, row.id)

    async def ask(self, row: SourceRow) -> Found:
        """Return what a source has by now that is known with its charts."""
        async with self._database.autocommit() as connection:
            names = await source_charts.list_names(connection, row.id) if row.kind == "oci" else []
            pulled = await source_charts.list_pulled(connection, row.id, limit=_MOST_PULLED) if names else []
            most = _MOST_PULLED - len(pulled) if names else 0
            described = await described_versions.list_described(connection, row.id, limit=most)
            refused = await refused_versions.list_refused(connection, row.id, limit=_MOST_REFUSED)
        found = await self.read(row, names=names)
        if pulled or described or refused:
            try:
                async with self.fetching(row) as fetch:  # with a time of its own
                    async for version in compare(fetch, pulled):
                        found.compared.append(version)
                    async for other in find_replaced(fetch, described):
                        found.replaced.append(other)
                    await _look(fetch, row, refused, found.looked)
            except (Busy, SourceUnavailable) as error:  # what the source lists is known, and counts
                log.info("versions_not_compared", source=row.id, error=str(error))
        return found

    async def _renew(self, row: SourceRow) -> None:
        found = await self.ask(row)
        async with self._database.transaction() as tx:
            if not await store.hold(tx, row.id):
                raise NotFound(f"source {row.name!r} was just removed")
            await self.keep(tx, row.id, found)
        await self.look(row)

    async def look(self, row: SourceRow, *, name: str = "") -> None:
        """Look whether the newest versions of charts that releases were made from are signed, if the source has keys.

        Or those of one chart, for a short time. What cannot be told now is looked at with the next synchronisation.
        """
        if row.verification == "none":
            return
        async with self._database.autocommit() as connection:
            limits = {"each": _MOST_OF_A_CHART, "limit": _MOST_CHARTS}
            candidates = await signed_versions.list_candidates(connection, row.id, name=name, **limits)
        if all(candidate.known for candidate in candidates):
            return
        looked: list[Looked] = []
        try:
            async with asyncio.timeout(_LOOK_SECONDS if name else None), self.fetching(row) as fetch:
                async for version in look_at(fetch, row, candidates, self._signatures, most=_MOST_LOOKED):
                    looked.append(version)  # noqa: PERF401  # what was found before an error counts
        except (PilothouseError, TimeoutError) as error:
            log.info("signatures_not_told", source=row.id, error=str(error))
        if looked:
            await self._keep_looked(row, looked, name=name)

    async def _keep_looked(self, row: SourceRow, looked: list[Looked], *, name: str) -> None:
        async with self._database.transaction() as tx:
            if not await store.hold(tx, row.id) or not await store.has_keys_of(tx, row):
                return
            for look in looked:
                version = {"name": look.candidate.name, "version": look.candidate.version}
                told = {**version, "digest": look.candidate.digest}
                if look.reason:
                    await refused_versions.note(tx, row.id, **told, reason=look.reason, evidence=look.evidence)
                    await signed_versions.forget(tx, row.id, **version)
                else:
                    await signed_versions.note(tx, row.id, **told)
            await chart_origins.renew(tx, row.id, name=name)

    async def keep_syncing(self) -> None:
        """Synchronise the sources that are due, of several projects at a time, one of each, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, self._settings.fetches // 2)):
                group.create_task(self._keep_syncing())

    async def _keep_syncing(self) -> None:
        while True:
            try:
                if await self._sync_due():
                    continue
            except PilothouseError as error:
                log.warning("source_not_synchronised", error=str(error))
            except Exception:  # of one source, which may not end this for all
                log.exception("source_not_synchronised")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _sync_due(self) -> bool:
        """Synchronise a source of a project none of whose sources is being synchronised; return False without one."""
        async with self._taking, self._database.autocommit() as connection:
            row = await store.take_due(connection, seconds=self._alone_seconds, besides=self._syncing)
            if row is None:
                return False
            self._syncing.add(row.project_id)
        try:
            await self.sync_taken(row)
        finally:
            self._syncing.discard(row.project_id)
        return True

    async def order(self, versions: list[str], version_range: str, *, project_id: str) -> tuple[dict[str, str], str]:
        """Return the order keys of what is a version, and which of them Helm takes for what is wanted."""
        try:
            outcome = await self._engine.run(
                OrderVersionsRequest(versions=tuple(versions), wanted=version_range),
                deadline_seconds=self._answer_seconds,
                queue_seconds=self._queue_seconds,
                share=project_id,
            )
        except HelmError as error:
            raise InvalidSource(f"chart.version: {version_range[:80]!r} is no version and no range: {error}") from error
        keys = {version: key for version, key in zip(versions, outcome.keys, strict=True) if key}
        return keys, outcome.chosen

    async def list_tags(self, fetch: Fetch, row: SourceRow, name: str) -> dict[str, str] | None:
        """Return the versions of a chart in a registry with their order keys; None if there is no such chart."""
        versions = await Repository(fetch, fetch.origin.url, name).list_versions()
        if versions is None:
            return None
        keys, _ = await self.order(list(dict.fromkeys(versions)), "", project_id=row.project_id)
        return keys

    async def _read_registry(self, row: SourceRow, names: Iterable[str]) -> Found:
        charts: dict[str, dict[str, str]] = {}
        async with self.fetching(row) as fetch:
            await Repository(fetch, fetch.origin.url, "").ping()
            listed = await Repository(fetch, fetch.origin.url, "").list_names(most=_MOST_CHARTS)
            for name in list(dict.fromkeys([*names, *listed]))[:_MOST_CHARTS]:
                charts[name] = await self.list_tags(fetch, row, name) or {}
                refuse_more(sum(map(len, charts.values())), self._settings, where=row.url)
        return Found(charts=charts)

    async def _read_index(self, row: SourceRow, file: BinaryIO) -> list[str]:
        try:
            outcome = await self._engine.run(
                ReadIndexRequest(index=file),
                deadline_seconds=self._settings.index_seconds,
                queue_seconds=self._queue_seconds,
                share=row.project_id,
            )
        except (HelmError, EngineCrashed, EngineTimeout) as error:
            raise InvalidSource(f"{row.url}/index.yaml cannot be read as the index of a repository: {error}") from error
        refuse_more(outcome.count, self._settings, where=f"{row.url}/index.yaml")
        return await asyncio.to_thread(_batches, outcome.rows)


async def _look(fetch: Fetch, row: SourceRow, refused: list[RefusedVersion], looked: dict[RefusedVersion, str]) -> None:
    """Find what signs refused versions by now; one of which that cannot be told stays as it is, and comes last then."""
    for version in refused:
        looked[version] = version.evidence
        try:
            signed = await fetch_signed(fetch, row, Version(version.name, version.version, version.url, version.digest))
            looked[version] = signed.evidence
        except Busy:
            del looked[version]
            raise
        except PilothouseError as error:
            log.info(
                "refused_version_unread", source=row.id, chart=version.name, version=version.version, error=str(error)
            )


def _batches(rows: str) -> list[str]:
    """Return the rows as JSON arrays; they are not parsed here."""
    with gzip.open(io.BytesIO(base64.b64decode(rows))) as packed:
        text = packed.read(_MOST_ROW_BYTES)
        if packed.read(1):
            raise InvalidSource(f"the index has more than {_MOST_ROW_BYTES} bytes of names and texts, the limit")
    lines = text.decode().rstrip("\n").split("\n") if text else []
    step = source_charts.BATCH
    return [f"[{','.join(lines[start : start + step])}]" for start in range(0, len(lines), step)]


def _denied(row: SourceRow, error: SourceDenied) -> str:
    """Return what a source says that refuses what it was asked, and which credentials to give."""
    has_credentials = row.credentials_sealed is not None
    problem = str(error)
    if error.asked:
        why = "refuses the credentials given for it" if has_credentials else "needs credentials, and has none"
        problem = f"{error.asked}: it {why}"
    if row.synced_at is not None:
        which = "others" if has_credentials else "some"
        return f"{problem}; 'pilothouse source update {row.name} --username NAME' gives it {which}"
    return (
        f"{problem}; {'check the user name and the password' if has_credentials else 'give a user name and a password'}"
    )
