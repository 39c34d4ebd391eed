"""Uninstalls, and what is left of an install that is cancelled.

A release that is gone is a success, whoever removed it. What was made under its name since is left alone. Ours is an
``uninstalling`` revision with the number and the uid that were committed before the child started.
"""

import asyncio
from dataclasses import replace

import structlog

from pilothouse.cluster.client import ReleaseLabels, Secret
from pilothouse.cluster.storage import OPERATION_LABEL, PENDING, UNINSTALLING
from pilothouse.engine.base import UninstallRequest
from pilothouse.services.orders import InstallOrder, UninstallOrder
from pilothouse.services.release_locks import describe_lock
from pilothouse.worker.attempts import Attempt, Said, Seen, stored_in
from pilothouse.worker.manifests import read_objects_of
from pilothouse.worker.outcomes import Event, Outcome

log = structlog.get_logger(__name__)

_GONE = "Uninstallation complete"
#: A request that a killed child had sent can still take effect that long.
_SETTLE_SECONDS = 1.0


class Uninstall:
    """One attempt at removing a release."""

    def __init__(self, attempt: Attempt, order: UninstallOrder) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order

    async def run(self) -> Outcome:
        """Removes the release, or finds that it is gone."""
        seen = await self._attempt.look()
        if seen.newest is None:
            return Outcome("succeeded", _GONE, gone=True)
        if self._attempt.begun:
            if not seen.has_base_of(self._row):
                return Outcome("succeeded", f"{_GONE}; a release of the same name was made since")
            if seen.newest.status == UNINSTALLING and seen.newest.revision == self._row.base_revision:
                await _unlock_newest(self._attempt, seen.newest)
                again = "" if self._order.disable_hooks else "; hooks that ran before run again"
                await self._attempt.record("action_resumed", f"attempt {self._row.attempt} uninstalls again{again}")
                seen = await self._attempt.look()
        if seen.newest is None:
            return Outcome("succeeded", _GONE, gone=True)
        if seen.newest.status in PENDING:
            return await _failed_by_lock(self._attempt, seen.newest)
        outcome = await remove(
            self._attempt, seen.newest, disable_hooks=self._order.disable_hooks, wait=self._order.wait
        )
        if outcome.state == "succeeded" and self._order.disable_hooks and self._order.hooks:
            event = Event("hooks_not_run", f"{self._order.hooks} hooks not run")
            return replace(outcome, events=(event,))
        return outcome

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        seen = await self._attempt.look()
        newest = seen.newest
        if newest is None:
            return Outcome("succeeded", _GONE, gone=True)
        ours = self._attempt.begun and seen.has_base_of(self._row) and newest.revision == self._row.base_revision
        if ours and newest.status == UNINSTALLING:
            secret = await _unlock_newest(self._attempt, newest, why=text)
            return Outcome("failed", text, secret=secret)
        return Outcome("failed", text)


class CancelledInstall:
    """The end of an install that is being cancelled: its release is uninstalled, in as many attempts as it takes."""

    def __init__(self, attempt: Attempt, order: InstallOrder, *, include_hooks: bool) -> None:
        self._attempt = attempt
        self._row = attempt.row
        self._order = order
        self._include_hooks = include_hooks

    async def run(self) -> Outcome:
        """Removes what the install left."""
        seen = await self._attempt.look()
        if self._attempt.begun and not self._is_there(seen):
            await asyncio.sleep(_SETTLE_SECONDS)
            seen = await self._attempt.look()
        if seen.newest is None:
            return Outcome("cancelled", "cancelled; there was nothing to uninstall", gone=True)
        if not self._is_there(seen):
            if seen.newest.revision != self._row.base_revision:
                return Outcome("cancelled", "cancelled; the release that is there now was made by another program")
            if seen.newest.status in PENDING:
                return await _failed_by_lock(self._attempt, seen.newest)
        return await self._remove(seen.newest)

    async def _remove(self, newest: ReleaseLabels) -> Outcome:
        stored = stored_in(await self._attempt.read(newest.revision))
        if stored is not None:
            await self._attempt.remember_objects(await read_objects_of(stored))
        if newest.status in PENDING or newest.status == UNINSTALLING:
            await _unlock_newest(self._attempt, newest)
        outcome = await remove(
            self._attempt, newest, disable_hooks=not self._include_hooks, wait=self._order.wait, begin=False
        )
        if outcome.state == "succeeded":
            return replace(outcome, state="cancelled", text="cancelled and uninstalled")
        if outcome.state == "failed":
            text = f"cancelled, but the uninstall failed: {outcome.text}"
            return Outcome("failed", text, wrote_release=True, revision=newest.revision, secret=outcome.secret)
        return outcome

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after."""
        seen = await self._attempt.look()
        if seen.newest is None:
            return Outcome("cancelled", "cancelled and uninstalled", gone=True)
        if self._is_there(seen) and (seen.newest.status in PENDING or seen.newest.status == UNINSTALLING):
            await _unlock_newest(self._attempt, seen.newest, why=f"cancelled, but {text}")
        return Outcome("failed", f"cancelled, but {text}", wrote_release=True, revision=seen.newest.revision)

    def _is_there(self, seen: Seen) -> bool:
        newest = seen.newest
        return newest is not None and newest.labels.get(OPERATION_LABEL) == self._row.id


async def remove(
    attempt: Attempt, newest: ReleaseLabels, *, disable_hooks: bool, wait: str, begin: bool = True
) -> Outcome:
    """Uninstalls the release whose newest revision this is; the outcome by what is left of that revision."""
    row = attempt.row
    if begin:
        await attempt.begin(newest, revision=newest.revision)
    request = UninstallRequest(
        kubeconfig=attempt.cluster.kubeconfig,
        namespace=row.namespace,
        release_name=row.release_name,
        disable_hooks=disable_hooks,
        wait="ready" if wait == "ready" else "hooks",
        timeout_seconds=attempt.seconds,
    )
    return await _judge(attempt, newest, await attempt.run(request))


async def _judge(attempt: Attempt, newest: ReleaseLabels, said: Said) -> Outcome:
    if said.how == "unavailable":
        return Outcome("retry", said.text)
    # Helm removes the newest revision last; what went wrong before that did not keep the release
    text = f"{_GONE}; {said.text}" if said.text else _GONE
    absent_at = await attempt.find_absence()
    if absent_at is not None:
        return Outcome("succeeded", text, gone=True, absent_at=absent_at)
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if stored is None or stored.uid != newest.uid:
        return Outcome("succeeded", text)
    if said.how == "done":
        return Outcome("crashed", f"Helm reported success, but revision {newest.revision} is still there")
    if said.how in {"crashed", "unreachable"}:
        return Outcome("crashed" if said.how == "crashed" else "retry", said.text)
    if stored.status == UNINSTALLING:
        secret = await attempt.unlock(stored, why=said.text)
    return Outcome("failed", said.text, secret=secret)


async def _unlock_newest(
    attempt: Attempt, newest: ReleaseLabels, *, why: str = "The operation was interrupted"
) -> Secret | None:
    stored = stored_in(await attempt.read(newest.revision))
    if stored is None or stored.uid != newest.uid:
        return None
    return await attempt.unlock(stored, why=why)


async def _failed_by_lock(attempt: Attempt, newest: ReleaseLabels) -> Outcome:
    secret = await attempt.read(newest.revision)
    stored = stored_in(secret)
    if secret is None or stored is None:
        return Outcome("retry", "the release changed while it was looked at")
    return Outcome("failed", describe_lock(stored, secret, cluster_id=attempt.row.cluster_id))
