"""The chart sources of a project: added, listed, searched, removed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import (
    AlreadyExists,
    Busy,
    Checks,
    InvalidArgument,
    InvalidRequest,
    InvalidSource,
    NotFound,
    PilothouseError,
    QuotaExceeded,
    SourceDenied,
    SourceUntrusted,
)
from pilothouse.services.charts.signatures import Signatures, TrustedKeys
from pilothouse.services.charts.trust import SET_TRUST
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller, require_still
from pilothouse.services.sources.pull import ChartPulls
from pilothouse.services.sources.records import (
    AddSource,
    ChangeSource,
    Source,
    VerificationKind,
    check_name,
    checked_url,
    describe_authorities,
    describe_change,
    describe_source,
    new_source,
    refuse_other_authorities,
    seal_credentials,
    shown_source,
    unsaved_source,
    verification_of,
)
from pilothouse.services.sources.sync import Found, SourceSync
from pilothouse.settings import Settings
from pilothouse.store import (
    audit,
    chart_origins,
    refused_versions,
    signed_versions,
    source_charts,
)
from pilothouse.store import sources as store
from pilothouse.store.audit import Outcome
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.sources import NewSource, SourceRow

_CHANGE: Final = "cce:source:update"
_LONGEST_REASON: Final = 500


class Sources:
    """Add, list, synchronise and remove the chart sources of a project."""

    def __init__(
        self,
        database: Database,
        keys: MasterKeys,
        sync: SourceSync,
        pulls: ChartPulls,
        *,
        signatures: Signatures,
        settings: Settings,
    ) -> None:
        self._database = database
        self._keys = keys
        self._sync = sync
        self._pulls = pulls
        self._signatures = signatures
        self._settings = settings.sources

    async def add(self, caller: Caller, request: AddSource, *, request_id: str) -> Source:
        """Store a source after it answered, with what it has.

        One with keys takes the right to change what is trusted, too. Raises InvalidRequest, AlreadyExists,
        QuotaExceeded, and what a synchronisation raises.
        """
        caller.require("cce:source:create")
        checks = Checks()
        checks.read(lambda: check_name(request.name))
        checks.read(lambda: checked_url(request.kind, request.url))
        checks.read(lambda: self._check_interval(request.sync_seconds))
        keys = self._read_keys(caller, request.verification, request.verification_keys)
        found_keys = await checks.wait(keys) or TrustedKeys()
        checks.end()
        new = new_source(request, found_keys, project_id=caller.project_id, keys=self._keys)
        async with self._database.autocommit() as connection:
            await self._check_new(connection, new)  # before a source is asked for nothing
        user = request.credentials.username if request.credentials is not None else ""
        detail = describe_source(new.url, user, verification=new.verification, trusted=new.trusted)
        nowhere = replace(new, id="")
        async with self._failure_noted(caller, "cce:source:create", nowhere, request_id=request_id, detail=detail):
            with _given_now():
                found = await self._sync.read(unsaved_source(new))
        async with self._database.transaction() as tx:
            caller = await current_caller(tx, caller)
            if new.verification != "none":
                caller.require(SET_TRUST)
            await store.lock_project(tx, caller.project_id)
            await self._check_new(tx, new)
            if new.trusted:
                await store.hold_all(tx, caller.project_id)
            await store.add(tx, new)
            await self._sync.keep(tx, new.id, found)
            await _require_signable(tx, new)
            if new.trusted:  # its keys count for charts of other sources, too
                await chart_origins.renew_all(tx, caller.project_id)
            await self._record(tx, caller, "cce:source:create", new, request_id=request_id, detail=detail)
            row = await store.find_by_id(tx, new.id)
        if row is None:
            raise NotFound(f"source {request.name!r} was just removed")
        return shown_source(row, keys=self._keys)

    async def list_sources(self, caller: Caller) -> list[Source]:
        """Return the project's sources by name."""
        caller.require("cce:source:list")
        async with self._database.autocommit() as connection:
            rows = await store.list_sources(connection, project_id=caller.project_id)
        return [shown_source(row, keys=self._keys) for row in rows]

    async def show(self, caller: Caller, named: str) -> Source:
        """Return the project's source of that id or name, else raise NotFound."""
        caller.require("cce:source:get")
        row = await self._pulls.find_source(caller, named)
        authorities = await asyncio.to_thread(describe_authorities, row.ca)
        kind, project_id = verification_of(row), row.project_id
        now = TrustedKeys(row.trusted, row.unusable)
        if kind != "none":
            now = await self._signatures.look_at_keys(kind, row.verification_keys, now, project_id=project_id)
        return replace(shown_source(row, keys=self._keys), authorities=authorities, **vars(now))

    async def sync(self, caller: Caller, named: str, *, request_id: str) -> Source:
        """Synchronise a source now and return it; raise SourceUnavailable, InvalidSource or Busy."""
        caller.require("cce:source:sync")
        row = await self._pulls.find_source(caller, named)
        async with self._failure_noted(caller, "cce:source:sync", row, request_id=request_id):
            await self._sync.sync(row)
        async with self._database.transaction() as tx:
            await self._record(tx, caller, "cce:source:sync", row, request_id=request_id)
        return await self.show(caller, row.id)

    async def change(self, caller: Caller, named: str, change: ChangeSource, *, request_id: str) -> Source:
        """Replace what the change names; new credentials or authorities are tried first, as when it was added.

        How its charts are verified takes the right to change what is trusted, too. Charts that were pulled, and that
        none of its keys has signed, are dropped. Raises InvalidRequest, Busy, and what a synchronisation raises.
        """
        caller.require(_CHANGE)
        row = await self._pulls.find_source(caller, named)
        changes = await self._read_changes(caller, row, change)
        if not changes:
            raise InvalidArgument("nothing to change: send credentials, ca, verification or sync_seconds")
        changed = replace(row, **changes)
        username = change.credentials.username if change.credentials is not None else ""
        keep = partial(self._keep_changed, caller, changed, changes, username=username, request_id=request_id)
        if {"credentials_sealed", "ca"} & changes.keys():
            detail = describe_change(row, changes, username=username)
            async with self._sync.alone(row):
                async with self._failure_noted(caller, _CHANGE, row, request_id=request_id, detail=detail):
                    with _given_now(credentials="credentials_sealed" in changes):
                        found = await self._sync.ask(changed)
                await keep(found)
        else:
            await keep(None)
        now = await self._pulls.find_source(caller, row.id)
        await self._sync.look(now)
        return shown_source(now, keys=self._keys)

    async def _read_changes(self, caller: Caller, row: SourceRow, change: ChangeSource) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        checks = Checks()
        if change.credentials is not None:
            changes["credentials_sealed"] = seal_credentials(change.credentials, keys=self._keys, source_id=row.id)
        if change.ca is not None:
            changes["ca"] = change.ca
            checks.read(lambda: _refuse_authorities(row, changes))
        if (seconds := change.sync_seconds) is not None:
            checks.read(lambda: self._check_interval(seconds))
            changes["sync_seconds"] = seconds
        if change.verification is not None:
            caller.require(SET_TRUST)
            keys = self._read_keys(caller, change.verification, change.verification_keys)
            found = await checks.wait(keys) or TrustedKeys()
            changes |= {"verification": change.verification, "verification_keys": change.verification_keys}
            changes |= {"trusted": list(found.trusted), "unusable": list(found.unusable)}
        checks.end()
        return changes

    @retry_conflicts
    async def _keep_changed(
        self,
        caller: Caller,
        row: SourceRow,
        changes: dict[str, Any],
        found: Found | None,
        *,
        username: str,
        request_id: str,
    ) -> None:
        async with self._database.transaction() as tx:
            if "verification" in changes:
                await store.hold_all(tx, row.project_id)
            before = await store.find_to_change(tx, row.id)
            if before is None:
                raise NotFound(f"source {row.name!r} was just removed")
            _refuse_authorities(before, changes)  # it may have got a password since
            await store.change(tx, row.id, changes)
            if found is not None:
                await self._sync.keep(tx, row.id, found)
            if "verification" in changes:
                await require_still(tx, caller, SET_TRUST)
                await _require_signable(tx, row)
                await source_charts.drop_unsigned(tx, row)
                await refused_versions.forget(tx, row.id)
                await signed_versions.forget(tx, row.id)
                await chart_origins.renew_all(tx, row.project_id)
            detail = describe_change(before, changes, username=username)
            await self._record(tx, caller, _CHANGE, row, request_id=request_id, detail=detail)

    @retry_conflicts
    async def remove(self, caller: Caller, named: str, *, request_id: str) -> None:
        """Delete a source and what was pulled from it; releases and operations are not affected.

        They go on to tell where their charts came from.
        """
        caller.require("cce:source:delete")
        row = await self._pulls.find_source(caller, named)
        async with self._database.transaction() as tx:
            await store.hold_all(tx, row.project_id)
            await chart_origins.keep_removed(tx, row.id)
            if not await store.remove(tx, row.id):
                raise NotFound(f"source {named[:80]!r} does not exist in this project")
            await chart_origins.renew_all(tx, row.project_id)  # its keys count no more, for charts of others neither
            detail = describe_source(row.url, "", verification=row.verification, trusted=row.trusted)
            await self._record(tx, caller, "cce:source:delete", row, request_id=request_id, detail=detail)

    def _check_interval(self, seconds: int) -> None:
        if 0 < seconds < self._settings.sync_seconds_least:
            raise InvalidArgument(
                f"sync_seconds: at least {self._settings.sync_seconds_least}, or 0 to synchronise only when asked"
            )

    async def _read_keys(self, caller: Caller, kind: VerificationKind, keys: str) -> TrustedKeys:
        """Return the fingerprints of a source's keys, which only those set who may change what is trusted."""
        if kind == "none":
            if keys:
                raise InvalidArgument("verification: keys are for the kinds pgp and cosign")
            return TrustedKeys()
        caller.require(SET_TRUST)
        if not keys.strip():
            raise InvalidArgument(f"keys: missing; {kind} takes the public keys by which its charts are signed")
        return await self._signatures.read_keys(kind, keys, project_id=caller.project_id)

    async def _check_new(self, tx: Transaction, new: NewSource) -> None:
        if await store.find(tx, new.name, project_id=new.project_id) is not None:
            raise AlreadyExists(f"name: this project already has a source named {new.name!r}")
        if await store.count(tx, new.project_id) >= self._settings.per_project:
            raise QuotaExceeded(
                f"Insufficient source quota: this project has {self._settings.per_project} sources, the limit; remove "
                "one first"
            )

    @asynccontextmanager
    async def _failure_noted(
        self, caller: Caller, action: str, row: NewSource, *, request_id: str, detail: str = ""
    ) -> AsyncIterator[None]:
        """Tell the audit why the block failed, unless it is only to be repeated."""
        try:
            yield
        except Busy:
            raise
        except PilothouseError as error:
            told = ": ".join(filter(None, [detail, str(error)[:_LONGEST_REASON]]))
            async with self._database.transaction() as tx:
                await self._record(tx, caller, action, row, request_id=request_id, detail=told, outcome=Outcome.FAILED)
            raise

    async def _record(
        self,
        tx: Transaction,
        caller: Caller,
        action: str,
        row: NewSource,
        *,
        request_id: str,
        detail: str = "",
        outcome: Outcome = Outcome.DONE,
    ) -> None:
        await require_still(tx, caller, action)
        named = {"target": row.id, "target_name": row.name}
        await audit.record(tx, caller, action, **named, detail=detail, request_id=request_id, outcome=outcome)


@contextmanager
def _given_now(*, credentials: bool = True) -> Iterator[None]:
    """Make it the caller's mistake if the source does not take what they have given for it, authorities at least."""
    try:
        yield
    except (SourceDenied, SourceUntrusted) as error:
        if isinstance(error, SourceDenied) and not credentials:
            raise
        raise InvalidSource(str(error)) from error


def _refuse_authorities(row: SourceRow, changes: dict[str, Any]) -> None:
    if "ca" in changes and "credentials_sealed" not in changes:
        refuse_other_authorities(row, changes["ca"])


async def _require_signable(tx: Transaction, row: NewSource) -> None:
    """Raise InvalidRequest if none of the charts can have the signature that the source is to ask for."""
    if row.kind == "http" and row.verification == "cosign" and not await source_charts.has_any_in_registry(tx, row.id):
        raise InvalidRequest(
            "verification: cosign signs charts in registries, and none of this repository lies in one; take pgp, or "
            "the registry as the source"
        )
