"""Tells what hooks and tests log, as events of the operation, while they run.

Lines are collected for a second and written together. Without lines nothing is asked and nothing written. No failure
here affects the operation: what could not be told is in its evidence, if it fails.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from pilothouse.chart_archive.documents import read_objects
from pilothouse.errors import ClusterUnavailable, DatabaseUnavailable, InvalidChart, NotFound
from pilothouse.kubernetes.helm_secrets import StoredRelease, decode_release
from pilothouse.kubernetes.readiness import mapping
from pilothouse.masking_thread import in_masking_thread
from pilothouse.redaction import Masks, masks_of_data
from pilothouse.store import operation_events
from pilothouse.worker.outcome import LeaseLost
from pilothouse.worker.progress.hook_pods import LogSource
from pilothouse.worker.progress.log_parts import LogParts, Room, SecretStarts

if TYPE_CHECKING:
    from pilothouse.worker.attempt import Attempt

log = structlog.get_logger(__name__)

#: Between two writes; before the first there is time for a few lines only.
_APART_SECONDS: Final = 1.0
_FIRST_SECONDS: Final = 0.3
#: Of one attempt, after which nothing more is told.
_MOST_LINES: Final = 5000
_MOST_BYTES: Final = 384 * 1024
#: What is left is written when the call has ended, if the database lets it be done in that time.
_LAST_SECONDS: Final = 3.0
_LARGEST_MANIFEST: Final = 32 * 1024 * 1024
_LONGEST_WORD: Final = 300


@dataclass
class _Known:
    """What is masked in the lines."""

    masks: Sequence[Masks]
    starts: SecretStarts = field(init=False)

    def __post_init__(self) -> None:
        self.starts = SecretStarts(self.masks)


class HookLogs:
    """Write the lines of the logs of one call's hooks; nothing once the attempt may not write any more."""

    def __init__(self, attempt: "Attempt") -> None:
        self._attempt = attempt
        self._logs: dict[LogSource, LogParts] = {}
        self._room = Room(_MOST_LINES, _MOST_BYTES)
        self._written: Counter[LogSource] = Counter()
        self._unwritten: tuple[LogSource, list[str]] | None = None
        self._cut_told: set[LogSource] = set()
        self._known: _Known | None = None
        self._news, self._closing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, source: LogSource, lines: Sequence[bytes]) -> None:
        """Take the next lines of a log; quick, and never blocks."""
        if lines:
            self._logs.setdefault(source, LogParts(self._room)).add(lines)
            self._news.set()
            self._task = self._task or asyncio.create_task(self._tell_now_and_then())

    def end(self, source: LogSource) -> None:
        """Note that the log has ended."""
        if parts := self._logs.get(source):
            parts.end()
            self._news.set()

    async def close(self) -> None:
        """Write what is left."""
        if self._task is None:
            return
        self._closing.set()
        self._news.set()
        try:
            await asyncio.wait([self._task], timeout=_LAST_SECONDS)
        finally:
            self._task.cancel()
            (ended,) = await asyncio.gather(self._task, return_exceptions=True)
        if ended is not None and not isinstance(ended, LeaseLost):
            log.info("hook_log_not_told", cause=str(ended) or type(ended).__name__)

    async def _tell_now_and_then(self) -> None:
        await self._pause(_FIRST_SECONDS)
        while True:
            await self._news.wait()
            self._news.clear()
            is_last = self._closing.is_set()  # before the look: what came before is among what is found
            try:
                while await self._tell() and self._closing.is_set():
                    pass
            except (ClusterUnavailable, DatabaseUnavailable) as error:  # may be back a second later
                log.info("hook_log_not_told", cause=str(error))
                self._news.set()
            if is_last:
                return
            await self._pause(_APART_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _tell(self) -> bool:
        """Write one event for each log that has lines; return whether any may have more."""
        self._attempt.check_held()
        if self._known is None:
            masks = await self._masks()
            self._known = await in_masking_thread(lambda: _Known(masks))
        known = self._known
        await self._write_lines()
        found = False
        for source, parts in list(self._logs.items()):
            lines = await in_masking_thread(parts.take, known.masks, known.starts) if parts.is_waiting else []
            if lines:
                found, self._unwritten = True, (source, lines)
                await self._write_lines()
            elif parts.is_cut and source not in self._cut_told:
                await self._write("hook_log_cut", f"{_name(source)}: what it logs from here on is not shown", source)
                self._cut_told.add(source)
        if found:
            self._news.set()
        return found

    async def _write_lines(self) -> None:
        """Write the lines that were taken last, until it is done."""
        if self._unwritten is None:
            return
        source, lines = self._unwritten
        last = next((line for line in reversed(lines) if line.strip()), "")[:_LONGEST_WORD]
        text = f"{_name(source)} logs: {last}" + (f" ({len(lines)} lines)" if len(lines) > 1 else "")
        await self._write(operation_events.HOOK_LOG, text, source, first=self._written[source] + 1, lines=lines)
        self._unwritten = None
        self._written[source] += len(lines)

    async def _write(self, kind: str, text: str, source: LogSource, **data: object) -> None:
        attempt = self._attempt
        attempt.check_held()
        async with attempt.context.database.autocommit() as connection:
            held = await operation_events.add_event_of_attempt(
                connection,
                attempt.row.id,
                attempt=attempt.row.attempt,
                kind=kind,
                text=text,
                data=asdict(source) | data,
            )
        if not held:
            raise LeaseLost

    async def _masks(self) -> list[Masks]:
        """Return the masks for the operation's values, and for the Secrets of its release, before and after."""
        attempt = self._attempt
        snapshot = await attempt.observe(allow_stale=True)
        if snapshot.newest is None:
            raise NotFound("the release, whose secrets would have to be masked, is gone")
        numbers = {snapshot.newest.revision, await attempt.find_last_deployed(snapshot) or snapshot.newest.revision}
        secrets = [secret for number in numbers if (secret := await attempt.read(number, allow_stale=True)) is not None]
        stored = await asyncio.to_thread(lambda: [decode_release(secret) for secret in secrets])
        for revision in stored:
            await attempt.known.learn(revision)
        documents = await asyncio.to_thread(
            lambda: [document for revision in stored for document in _secrets(revision)]
        )

        def make() -> Masks:
            data, plain = ([mapping(document.get(key)) for document in documents] for key in ("data", "stringData"))
            return masks_of_data(*data, plain=plain).prepare()

        return [attempt.masks(), await in_masking_thread(make)]


def _secrets(stored: StoredRelease) -> Iterable[dict[str, Any]]:
    """Yield the Secrets of the revision and its hooks."""
    for text in (stored.manifest, *stored.hook_manifests()):
        if "Secret" not in text:
            continue
        try:
            documents = read_objects(text.encode(), file="manifest", max_bytes=_LARGEST_MANIFEST)
        except (InvalidChart, UnicodeEncodeError):
            continue
        yield from (document for document in documents if document.get("kind") == "Secret")


def _name(source: LogSource) -> str:
    """Return the hook in words: Job migrate."""
    return source.hook.replace("/", " ", 1)
