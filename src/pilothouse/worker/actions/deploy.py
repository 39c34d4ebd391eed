"""Installs, upgrades and rollbacks: the three actions that make a new revision.

The states in which a release is found, and what is done then:

- the revision that an earlier attempt of this operation began is there, and final: it is recorded;
- it is there, and locked (its writer died): it is unlocked, and the action is done again, as a further revision;
- it is there, and failed because the cluster could not be reached: the action is done again in the same way;
- somebody else's lock: nothing is done, the operation has failed;
- anything else: the action is done.

In doubt a revision is somebody else's. Ours has exactly the number that was committed before the child started, a
status that the action writes, and the operation's id as a label; a rollback carries the labels of its target, so
there Helm's own words and the unchanged base decide.
"""

import asyncio
from typing import ClassVar

import structlog

from pilothouse.engine.helm_errors import tells_of_unreachable
from pilothouse.engine.protocol import MAX_HISTORY, ChangeRequest, InstallRequest, RollbackRequest, UpgradeRequest
from pilothouse.kubernetes.client import ReleaseLabels, Secret
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, PENDING, UNINSTALLING, StoredRelease
from pilothouse.services.releases.commands import InstallOrder, RollbackOrder, UpgradeOrder
from pilothouse.services.releases.locks import describe_lock
from pilothouse.states import OperationState, ReleaseStatus
from pilothouse.worker.actions.hooks import end_interrupted
from pilothouse.worker.actions.post_actions import prune_history, remove_orphans, restart_workloads, supersede_older
from pilothouse.worker.attempt import Attempt, Said, Seen, stored_in
from pilothouse.worker.outcome import Event, Outcome

log = structlog.get_logger(__name__)

_SUCCEEDED = frozenset({ReleaseStatus.DEPLOYED, ReleaseStatus.SUPERSEDED})
_FINAL = _SUCCEEDED | {ReleaseStatus.FAILED}


class Deployment:
    """One attempt at an action that makes a revision; each action fills in what is its own."""

    pending: ClassVar[str]
    hook_events: ClassVar[tuple[str, str]]
    disable_hooks: bool
    #: Whether what the action writes carries the operation's label.
    labelled: ClassVar[bool] = True

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._row = attempt.row

    async def run(self) -> Outcome:
        """Carries the action out, or finds that an earlier attempt did."""
        seen = await self.look()
        if self._attempt.begun:
            found, stored = await self._find_written(self._row.revision or 0, seen)
            if found is not None and stored is not None and self.is_of_earlier_attempt(stored, seen):
                outcome = await self._resume(stored, found, seen)
                if outcome is not None:
                    return outcome
                seen = await self._attempt.look()
        return await self._act(seen)

    async def look(self) -> Seen:
        """The release before the action: all its revisions, or the one that was deployed a moment ago."""
        return await self._attempt.look_at_base()

    async def end(self, text: str) -> Outcome:
        """The failure that nothing more is tried after: what is ours and locked is unlocked."""
        seen = await self._attempt.look()
        secret, stored = None, None
        if self._attempt.begun and self._row.revision:
            secret, stored = await self._find_written(self._row.revision, seen)
        if stored is None or not self.is_of_earlier_attempt(stored, seen):
            return Outcome(OperationState.FAILED, text)
        if stored.status in _FINAL and not stored.unlocked:
            return self._recorded(stored, secret)
        if stored.status == self.pending:
            secret = await end_interrupted(self._attempt, stored, why=text)
        return Outcome(OperationState.FAILED, text, wrote_release=True, revision=stored.revision, secret=secret)

    def request(self, newest: ReleaseLabels | None) -> ChangeRequest | str:
        """The engine's request, or why there can be none."""
        raise NotImplementedError

    def is_ours(self, stored: StoredRelease) -> bool:
        """Whether a revision of the expected number was written by this operation."""
        return stored.labels.get(OPERATION_LABEL) == self._row.id

    async def follow_up(self, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
        """What belongs to the action and Helm does not do, once the revision is deployed; it may be done again."""
        del stored, seen
        return ()

    def is_of_earlier_attempt(self, stored: StoredRelease, seen: Seen) -> bool:
        """The same with the statuses that the action writes, and with what else is known of it."""
        del seen
        return self.is_ours(stored) and stored.status in _FINAL | {self.pending}

    async def _resume(self, stored: StoredRelease, secret: Secret, seen: Seen) -> Outcome | None:
        """What an earlier attempt left: final is recorded, locked is unlocked; None when the action is to be done.

        A revision that failed because the cluster could not be reached is not final: nobody has judged it.
        """
        log.info("operation_resumed", operation_id=self._row.id, attempt=self._row.attempt, found=stored.status)
        if stored.unlocked:
            return None  # by an attempt that died before it could act again
        if stored.status in _FINAL and not _was_cut_off(stored):
            return await self._conclude(stored, secret, seen)
        secret_after = await end_interrupted(self._attempt, stored) if stored.status not in _FINAL else secret
        if seen.newest is not None and seen.newest.revision != stored.revision:
            text = f"interrupted; revision {seen.newest.revision} was made by another program since"
            return Outcome(
                OperationState.FAILED, text, wrote_release=True, revision=stored.revision, secret=secret_after
            )
        again = "" if self.disable_hooks else "; hooks that ran before run again"
        await self._attempt.record(
            "action_resumed", f"attempt {self._row.attempt} does the {self._row.action} again{again}"
        )
        return None

    async def _act(self, seen: Seen) -> Outcome:
        newest = seen.newest
        if newest is not None and (newest.status in PENDING or newest.status == UNINSTALLING):
            secret = await self._attempt.read(newest.revision)
            stored = stored_in(secret)
            if secret is not None and stored is not None:
                return Outcome(OperationState.FAILED, describe_lock(stored, secret, cluster_id=self._row.cluster_id))
        request = self.request(newest)
        if isinstance(request, str):
            return Outcome(OperationState.FAILED, request)
        revision = newest.revision + 1 if newest is not None else 1
        looking = asyncio.create_task(self._attempt.find_problem(request, revision=revision))
        try:
            await self._attempt.begin(seen, revision=revision)
            problem = await looking
        finally:
            looking.cancel()
        if problem is not None:
            return _unfinished(problem) or Outcome(OperationState.FAILED, problem.text)
        return await self._judge(revision, await self._attempt.run(request), seen)

    async def _judge(self, revision: int, said: Said, seen: Seen) -> Outcome:
        """The outcome by the revision's Secret; the engine's words count where there is none of ours."""
        if said.how == "done" and self.labelled:
            # What has our label and is deployed is so by our last write, however old this look is.
            secret = await self._attempt.read(revision, lately=True)
            stored = stored_in(secret)
            if secret is not None and stored is not None and self.is_ours(stored) and stored.status in _SUCCEEDED:
                return await self._conclude(stored, secret, seen)
        secret, stored = await self._find_written(revision, surely=said.how == "done")
        if secret is None or stored is None or not self.is_ours(stored):
            return _unfinished(said) or Outcome(
                OperationState.FAILED, said.text or f"Helm reported success, but stored no revision {revision}"
            )
        if stored.status in _FINAL and not (said.how == "unreachable" and _was_cut_off(stored)):
            return await self._conclude(stored, secret, seen)
        unfinished = _unfinished(said, stored)
        if unfinished is not None:
            return unfinished
        secret = await end_interrupted(self._attempt, stored, why=said.text)
        return Outcome(OperationState.FAILED, said.text, wrote_release=True, revision=stored.revision, secret=secret)

    async def _find_written(
        self, revision: int, seen: Seen | None = None, *, surely: bool = False
    ) -> tuple[Secret | None, StoredRelease | None]:
        """Our revision: the one of that number, or one after it where another program has taken that since we looked.

        What has that number, if none is known to be ours. ``surely``: there is one, for Helm said so.
        """
        secret = await self._attempt.read(revision)
        stored = stored_in(secret)
        if (stored is not None and self.is_ours(stored)) or not (self.labelled or surely):
            return secret, stored
        seen = seen or await self._attempt.look()
        later = [one for one in seen.revisions if one.revision > revision]
        if self.labelled:
            ours = seen.find_labelled(self._row.id, after=revision)
            later = [ours] if ours is not None else []
        for one in later:
            further = await self._attempt.read(one.revision)
            written = stored_in(further)
            if written is not None and self.is_ours(written):
                return further, written
        return secret, stored

    async def _conclude(self, stored: StoredRelease, secret: Secret, seen: Seen) -> Outcome:
        events = await self.follow_up(stored, seen) if stored.status in _SUCCEEDED else ()
        left_out = stored.count_hooks(*self.hook_events) if self.disable_hooks else 0
        if left_out:
            events = (*events, Event("hooks_not_run", f"{left_out} hooks not run"))
        return self._recorded(stored, secret, events=events)

    def _recorded(self, stored: StoredRelease, secret: Secret | None, *, events: tuple[Event, ...] = ()) -> Outcome:
        return Outcome(
            OperationState.SUCCEEDED if stored.status in _SUCCEEDED else OperationState.FAILED,
            stored.description,
            wrote_release=True,
            revision=stored.revision,
            secret=secret,
            events=events,
        )

    async def _remove_orphans_of_failed(self, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
        before = [one for one in seen.revisions if one.revision < stored.revision]
        if before and before[-1].status == ReleaseStatus.FAILED:
            return await remove_orphans(self._attempt, stored, seen)
        return ()

    def _archive_is_gone(self) -> str:
        return f"chart {self._row.chart_name} {self._row.chart_version} is gone from the database"

    def _release_is_gone(self) -> str:
        return f"release {self._row.release_name!r} no longer exists"


def _was_cut_off(stored: StoredRelease) -> bool:
    """Whether Helm says that the revision failed because the cluster could not be reached."""
    return stored.status == ReleaseStatus.FAILED and tells_of_unreachable(stored.description)


def _unfinished(said: Said, stored: StoredRelease | None = None) -> Outcome | None:
    """What is to be tried again: a dead child, a last write that is lost, no engine, or a cluster out of reach.

    The last counts as a crash once Helm has stored the failure: each further attempt then leaves a revision.
    """
    if said.how == "crashed":
        return Outcome("crashed", said.text)
    if said.how == "unavailable":
        return Outcome("retry", said.text)
    if said.how == "unreachable":
        return Outcome("crashed" if stored is not None and stored.status in _FINAL else "retry", said.text)
    if said.how == "done" and stored is not None:
        return Outcome("crashed", "Helm reported success, but its last write did not arrive")
    return None


class Install(Deployment):
    """A first revision, or with ``replace`` one over a failed or uninstalled release."""

    pending = ReleaseStatus.PENDING_INSTALL
    hook_events = ("pre-install", "post-install")

    def __init__(self, attempt: Attempt, order: InstallOrder) -> None:
        super().__init__(attempt)
        self._order = order
        self.disable_hooks = order.disable_hooks

    async def look(self) -> Seen:
        """Not asked again by the first attempt where the acceptance found the name free: Helm refuses a taken one."""
        if self._row.attempt == 1 and self._row.base_revision is None and not self._order.replace:
            return Seen(())
        return await self._attempt.look()

    def request(self, newest: ReleaseLabels | None) -> ChangeRequest | str:
        """An install; what this operation itself left behind is replaced without being asked."""
        archive = self._attempt.archive
        if archive is None:
            return self._archive_is_gone()
        own = newest is not None and newest.labels.get(OPERATION_LABEL) == self._row.id
        return InstallRequest(
            kubeconfig=self._attempt.cluster.kubeconfig,
            namespace=self._row.namespace,
            release_name=self._row.release_name,
            chart=archive,
            values=self._order.values,
            disable_hooks=self._order.disable_hooks,
            replace=self._order.replace or own,
            wait=self._order.wait,
            timeout_seconds=self._attempt.seconds,
            labels={OPERATION_LABEL: self._row.id},
            create_namespace=self._attempt.settings.cluster.create_namespaces,
            crds=self._order.crds,
            skip_schema_validation=self._order.skip_schema_validation,
        )

    async def follow_up(self, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
        """Nothing is left of the revisions in whose place it is, and of history no more than Helm keeps."""
        if not seen.revisions:
            return ()
        await supersede_older(self._attempt, stored, seen)
        return (
            *await remove_orphans(self._attempt, stored, seen),
            *await prune_history(self._attempt, stored, seen),
        )


class Upgrade(Deployment):
    """The next revision from a chart."""

    pending = ReleaseStatus.PENDING_UPGRADE
    hook_events = ("pre-upgrade", "post-upgrade")

    def __init__(self, attempt: Attempt, order: UpgradeOrder) -> None:
        super().__init__(attempt)
        self._order = order
        self.disable_hooks = order.disable_hooks

    def request(self, newest: ReleaseLabels | None) -> ChangeRequest | str:
        """An upgrade of whatever is the newest revision now."""
        archive = self._attempt.archive
        if archive is None:
            return self._archive_is_gone()
        if newest is None:
            return self._release_is_gone()
        return UpgradeRequest(
            kubeconfig=self._attempt.cluster.kubeconfig,
            namespace=self._row.namespace,
            release_name=self._row.release_name,
            chart=archive,
            values=self._order.values,
            disable_hooks=self._order.disable_hooks,
            reset_values=self._order.reset_values,
            reuse_values=self._order.reuse_values,
            wait=self._order.wait,
            timeout_seconds=self._attempt.seconds,
            labels={OPERATION_LABEL: self._row.id},
            prune=newest.revision >= MAX_HISTORY,
            crds=self._order.crds,
            skip_schema_validation=self._order.skip_schema_validation,
            remove_namespace=self._order.remove_namespace,
        )

    async def follow_up(self, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
        """The revision before is superseded, nothing is left of failed ones; with ``recreate``, workloads restart."""
        await supersede_older(self._attempt, stored, seen)
        removed = await self._remove_orphans_of_failed(stored, seen)
        return (*removed, *(await restart_workloads(self._attempt, stored) if self._order.recreate else ()))


class Rollback(Deployment):
    """The next revision as a copy of an earlier one, its labels included."""

    labelled = False
    pending = ReleaseStatus.PENDING_ROLLBACK
    hook_events = ("pre-rollback", "post-rollback")

    def __init__(self, attempt: Attempt, order: RollbackOrder) -> None:
        super().__init__(attempt)
        self._order = order
        self.disable_hooks = order.disable_hooks

    def request(self, newest: ReleaseLabels | None) -> ChangeRequest | str:
        """A rollback to the revision that the request named, or that was the one before it then."""
        if newest is None:
            return self._release_is_gone()
        return RollbackRequest(
            kubeconfig=self._attempt.cluster.kubeconfig,
            namespace=self._row.namespace,
            release_name=self._row.release_name,
            to_revision=self._order.to_revision,
            disable_hooks=self._order.disable_hooks,
            wait=self._order.wait,
            timeout_seconds=self._attempt.seconds,
            prune=newest.revision >= MAX_HISTORY,
            remove_namespace=self._order.remove_namespace,
        )

    async def follow_up(self, stored: StoredRelease, seen: Seen) -> tuple[Event, ...]:
        """Nothing is left of a failed revision before it and of what that one replaced; with ``recreate`` as above.

        Helm compares with the newest revision only: after a failed one, as an attempt that died leaves it, what the
        revision before that had would stay.
        """
        await supersede_older(self._attempt, stored, seen)
        removed = await self._remove_orphans_of_failed(stored, seen)
        return (*removed, *(await restart_workloads(self._attempt, stored) if self._order.recreate else ()))

    def is_ours(self, stored: StoredRelease) -> bool:
        """By Helm's words for a rollback: another writer of the same number made our call fail, or was no rollback."""
        return stored.unlocked or stored.description.startswith("Rollback ")

    def is_of_earlier_attempt(self, stored: StoredRelease, seen: Seen) -> bool:
        """Only while the revision before it is the very one that was committed."""
        base = seen.find(self._row.base_revision)
        unchanged = base is not None and (
            base.resource_version == self._row.base_version or base.status == ReleaseStatus.SUPERSEDED
        )
        return seen.has_base_of(self._row) and unchanged and super().is_of_earlier_attempt(stored, seen)
