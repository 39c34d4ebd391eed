"""The audit log: events that change nothing are buffered here and written asynchronously; administrators read the log.

Unauthenticated clients decide how often they fail, and clients how often they ask: repeats within a minute (reads: ten)
are one row with a counter, and only so many different events per minute get rows of their own. Events that a process
has buffered and not yet written are lost when it is killed: a few seconds of them, or their counters.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from pilothouse.auth.policy import READ_LOGS, READ_VALUES
from pilothouse.errors import DatabaseUnavailable
from pilothouse.metrics import AUDIT_EVENTS
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import AuditSettings
from pilothouse.store import access_keys
from pilothouse.store import audit as store
from pilothouse.store.audit import Actor, AuditFilter, AuditPlace, AuditRow, Outcome, Somebody
from pilothouse.store.database import Database, Transaction

log = structlog.get_logger(__name__)

_MINUTE: Final = 60.0
_MOST_TOLD_APART: Final = 20_000
_OTHERS: Final = "more than are told apart"
#: A release's key has cluster, namespace and name.
_OF_RELEASE: Final = 2
#: What was asked for may be of any length.
_LONGEST: Final = 300


#: Reads that are audited: they are many, and change nothing.
READS: Final = (READ_VALUES, READ_LOGS, "cce:chart:download", "pilothouse:audit:read")


@dataclass(frozen=True)
class _Kind:
    """The fields that make two events repeats of each other."""

    who: Somebody
    action: str
    outcome: Outcome
    target: str
    target_name: str
    detail: str


@dataclass
class _Gathered:
    """How often it happened since it was last written."""

    first: float
    request_id: str
    repeat_seconds: float
    times: int = 0
    written: float | None = None


@dataclass(frozen=True)
class AuditPage:
    """Rows, newest first; ``next`` is the place after which more follow, None at the end."""

    rows: list[AuditRow]
    next: AuditPlace | None


@dataclass(frozen=True)
class AuditContext:
    """What rows name by ids: the state of each operation that is kept still, and the names of clusters."""

    states: dict[str, str]
    clusters: dict[str, str]


class Audit:
    """Buffer events, write them periodically, and list the account's rows."""

    def __init__(
        self, database: Database, settings: AuditSettings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._settings = settings
        self._monotonic = monotonic
        self._gathered: dict[_Kind, _Gathered] = {}
        self._new: Counter[str] = Counter()
        self._minute = monotonic()
        self._used: dict[str, float] = {}

    def note(
        self,
        actor: Actor,
        action: str,
        *,
        outcome: Outcome = Outcome.DONE,
        target: str = "",
        target_name: str = "",
        detail: str = "",
        request_id: str = "",
        often: bool = False,
    ) -> None:
        """Buffer an event that changed nothing; ``often``: clients cause it constantly, so it is reported rarely."""
        AUDIT_EVENTS.labels(outcome.value).inc()
        texts = (text[:_LONGEST] for text in (target, target_name, detail))
        kind = _Kind(Somebody(**store.names_of(actor)), action, outcome, *texts)
        now = self._monotonic()
        if kind not in self._gathered and not self._may_tell_apart(kind, now):
            nobody = Somebody(domain_id=actor.domain_id) if outcome == Outcome.FAILED else replace(kind.who, source="")
            kind = _Kind(nobody, action, outcome, "", "", _OTHERS)
        repeat = self._settings.read_seconds if often else self._settings.repeat_seconds
        gathered = self._gathered.setdefault(kind, _Gathered(now, request_id, repeat))
        if not gathered.times:
            gathered.first, gathered.request_id = now, request_id
        gathered.times += 1

    def note_use(self, access_key: str) -> None:
        """Record that the key was proved just now."""
        self._used[access_key] = self._monotonic()

    async def keep_writing(self) -> None:
        """Write due events periodically until cancelled; tolerates an unavailable database."""
        while True:
            await asyncio.sleep(self._settings.gather_seconds)
            try:
                await self.write()
            except DatabaseUnavailable as error:
                log.warning("audit_waits", cause=str(error))
            except Exception:  # what one row makes impossible must not end the audit of this process
                log.exception("audit_not_written")

    async def write(self, *, all_of_it: bool = False) -> None:
        """Write due events, or ``all_of_it`` at the end; events that could not be written stay buffered."""
        now = self._monotonic()
        due = {
            kind: gathered
            for kind, gathered in self._gathered.items()
            if gathered.times
            and (all_of_it or gathered.written is None or now - gathered.written >= gathered.repeat_seconds)
        }
        used, self._used = self._used, {}
        if due or used:
            rows = [_row(kind, gathered, now) for kind, gathered in due.items()]
            counted = {kind: gathered.times for kind, gathered in due.items()}
            try:
                async with self._database.transaction() as tx:
                    if rows:
                        await _name_clusters(tx, rows)
                        await store.add_gathered(tx, rows)
                    if used:
                        await access_keys.set_used(tx, {key: store.age(now - at) for key, at in used.items()})
            except BaseException:
                self._used = used | self._used
                raise
            for kind, gathered in due.items():
                gathered.times -= counted[kind]
                gathered.written = now
        self._gathered = {
            kind: gathered
            for kind, gathered in self._gathered.items()
            if gathered.times or (gathered.written is not None and now - gathered.written < gathered.repeat_seconds)
        }

    async def list_rows(
        self, caller: Caller, filters: AuditFilter, *, after: AuditPlace | None, limit: int
    ) -> AuditPage:
        """Return the rows of the caller's account, for its administrators only.

        Pages one after the other have every row once that was there at the first of them, whatever comes meanwhile.
        """
        # A verb that no role for reading has: who did what is not for everybody who may look at things.
        caller.require_in_account("pilothouse:audit:read")
        async with self._database.autocommit() as connection:
            rows = await store.list_rows(connection, filters, domain_id=caller.domain_id, after=after, limit=limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        return AuditPage(rows[:limit], AuditPlace(last.at, last.id) if last is not None else None)

    async def tell_of(self, caller: Caller, rows: Sequence[AuditRow]) -> AuditContext:
        """Return what the rows of the caller's account name by ids."""
        caller.require_in_account("pilothouse:audit:read")
        orders = {row.operation_id for row in rows if row.operation_id}
        places = {row.target.partition("/")[0] for row in rows}
        async with self._database.autocommit() as connection:
            return AuditContext(
                await store.list_states(connection, orders),
                await store.list_cluster_names(connection, places, domain_id=caller.domain_id),
            )

    def _may_tell_apart(self, kind: _Kind, now: float) -> bool:
        if now - self._minute >= _MINUTE:
            self._minute = now
            self._new.clear()
        user_id = "" if kind.outcome == Outcome.FAILED else kind.who.user_id
        most = self._settings.user_kinds if user_id else self._settings.stranger_kinds
        if self._new[user_id] >= most or len(self._gathered) >= _MOST_TOLD_APART:
            return False
        self._new[user_id] += 1
        return True


async def _name_clusters(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    """Put the cluster's id into the targets of releases whose cluster was named: what was refused was not looked up."""
    named = [(row, row["target"].split("/")) for row in rows if row["target"].count("/") == _OF_RELEASE]
    found = await store.find_clusters(tx, {(row["project_id"], cluster) for row, (cluster, _, _) in named})
    for row, (cluster, namespace, name) in named:
        row["target"] = "/".join((found.get((row["project_id"], cluster), cluster), namespace, name))


def _row(kind: _Kind, gathered: _Gathered, now: float) -> dict[str, Any]:
    return {
        **vars(kind.who),
        "action": kind.action,
        "target": kind.target,
        "target_name": kind.target_name,
        "outcome": kind.outcome,
        "detail": kind.detail,
        "times": gathered.times,
        "request_id": gathered.request_id,
        "operation_id": "",
        "age": store.age(now - gathered.first),
    }
