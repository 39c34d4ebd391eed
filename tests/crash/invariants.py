"""What must hold whatever died: one function for each promise, which gives what broke it, in words, or nothing."""

import itertools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.deployment import FINAL, Noted
from tests.crash.oracles import Objects, Revision, Witness, Write
from tests.crash.releases import ActionName

_HELD = frozenset({"running", "cancelling"})
#: A process that wakes up may send that long before its watchdog has had a turn.
_WAKE_SECONDS = 0.5
_GONE, _NOT_DEPLOYED = "gone", "not deployed"
#: What becomes of the release, by the action and its end; else it is deployed, unless the action has failed.
_PROMISED: dict[tuple[ActionName, str], str] = {
    ("uninstall", "succeeded"): _GONE,
    ("uninstall-keep", "succeeded"): "uninstalled",
    ("apply-uninstall", "succeeded"): _GONE,
    ("install", "failed"): _NOT_DEPLOYED,
    ("apply-install", "failed"): _NOT_DEPLOYED,
    ("cancel", "cancelled"): _GONE,
    ("cancel-keep", "cancelled"): _NOT_DEPLOYED,
    ("cancel-uninstall", "succeeded"): _GONE,
    ("cancel-uninstall-keep", "succeeded"): "uninstalled",
    ("undo-install", "failed"): _GONE,
    ("undo-upgrade", "failed"): "deployed",
    ("undo-checks", "failed"): "deployed",
    ("cleanup-upgrade", "failed"): "failed",
}


@dataclass(frozen=True)
class Sent:
    """Which process sent a request, by the proxy, and when: a worker itself, or an engine child of the worker."""

    worker_pid: int
    at: float
    by_child: bool


@dataclass(frozen=True)
class Ending:
    """How an operation ended, and what the oracles then said."""

    action: ActionName
    state: str
    history: Sequence[Noted]
    revisions: Sequence[Revision]
    objects: Objects
    #: In the operation's own words.
    text: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether what a cancelled install had created was to stay."""
        return self.action == "cancel-keep" and self.state == "cancelled"


def ended(history: Sequence[Noted], *, seconds: float) -> list[str]:
    """Every accepted operation comes to an end."""
    if history and history[-1].state in FINAL:
        return []
    last = history[-1] if history else "no operation"
    return [f"not final {seconds:.0f} s after the last fault: {last}"]


def one_attempt_at_a_time(history: Sequence[Noted]) -> list[str]:
    """Check that attempts are numbered one after the other, each is held by one worker, and an end is an end."""
    found = []
    holders: dict[int, str] = {}
    for before, after in itertools.pairwise(history):
        if before.state in FINAL and (after.state, after.attempt) != (before.state, before.attempt):
            found.append(f"it was {before.state} and then {after.state}")
        if after.attempt not in {before.attempt, before.attempt + 1}:
            found.append(f"attempt {before.attempt} was followed by attempt {after.attempt}")
        if after.attempt == before.attempt + 1 and before.state in _HELD and before.worker:
            found.append(f"attempt {after.attempt} began while attempt {before.attempt} was {before.state}")
    found += [
        f"attempt {one.attempt} was held by {holders[one.attempt]} and by {one.worker}"
        for one in history
        if one.worker and holders.setdefault(one.attempt, one.worker) != one.worker
    ]
    return found


def fenced(
    history: Sequence[Noted], writes: Sequence[Write], senders: dict[str, Sent], *, woke_at: float | None
) -> tuple[list[str], list[str]]:
    """After attempt N+1's first write there is no write of attempt N or earlier.

    The second list is the documented remainder, which no fence can keep out: what was under way in the network when
    its attempt lost the operation, and what a process sends at the moment in which it wakes up.
    """
    taken: dict[int, tuple[float, int]] = {}
    for one in history:
        if one.worker_pid:
            taken.setdefault(one.attempt, (one.at.timestamp(), one.worker_pid))
    found: list[str] = []
    remainder: list[str] = []
    newest = 0
    for write in writes:
        sent = senders.get(write.audit_id)
        if sent is None or not write.arrived or _is_repair(write, sent, history):
            continue
        attempts = [
            number for number, (at, pid) in taken.items() if pid == sent.worker_pid and at <= sent.at + _WAKE_SECONDS
        ]
        attempt = max(attempts, default=0)
        if attempt >= newest:
            newest = attempt
            continue
        whose = f"attempt {attempt}" if attempt else f"no attempt, but process {sent.worker_pid}"
        text = f"{write} of {whose} after the first write of attempt {newest}"
        lost_at = min(at for number, (at, _) in taken.items() if number > attempt)
        woke = woke_at is not None and woke_at <= sent.at <= woke_at + _WAKE_SECONDS
        (remainder if woke or sent.at < lost_at else found).append(text)
    return found, remainder


def _is_repair(write: Write, sent: Sent, history: Sequence[Noted]) -> bool:
    """Return True for a write of a repair, which belongs to no attempt: it comes after the operation's end."""
    ended = history[-1].state in FINAL and history[-1].at.timestamp() < sent.at
    return ended and not sent.by_child and write.resource != "secrets"


def no_lock_left(revisions: Sequence[Revision]) -> list[str]:
    """No revision is left pending or uninstalling."""
    stuck = [one for one in revisions if one.status.startswith("pending") or one.status == "uninstalling"]
    return [f"revision {one.number} is left {one.status}" for one in stuck]


def one_deployed(revisions: Sequence[Revision]) -> list[str]:
    """Never two revisions are deployed."""
    deployed = [one.number for one in revisions if one.status == "deployed"]
    return [f"revisions {deployed} are deployed at once"] if len(deployed) > 1 else []


def ends_as_promised(ending: Ending) -> list[str]:
    """Success is deployed, or gone; a cancelled install is gone, an upgrade deployed; a failed install is not."""
    if ending.action.startswith("apply") and "the plan was not applied" in ending.text:
        return [f"nobody else wrote anything, but {ending.text}"]
    if ending.action.startswith(("undo", "cleanup")) and ending.state != "failed":
        return [f"the {ending.action}, which was to fail, {ending.state}"]
    usual = "deployed" if ending.state in {"succeeded", "cancelled"} else ""
    wanted = _PROMISED.get((ending.action, ending.state), usual)
    newest = ending.revisions[-1] if ending.revisions else None
    found = newest.status if newest is not None else _GONE
    right = found != "deployed" if wanted == _NOT_DEPLOYED else found == wanted
    if not wanted or right:
        return []
    return [f"the {ending.action} {ending.state} and is to be {wanted}, but the newest revision is {newest}"]


def objects_match(witness: Witness, ending: Ending) -> list[str]:
    """After success and cancel the objects are those of the deployed revision; after failure none but its and ours.

    What was cleaned up after a failure has left none of ours.
    """
    deployed = [one.number for one in ending.revisions if one.status == "deployed"]
    wanted = witness.manifest(deployed[-1]) if deployed else {}
    if ending.state != "failed" and not ending.is_kept:
        return _differences(wanted, ending.objects)
    newest = ending.revisions[-1].number if ending.revisions else None
    allowed = dict(wanted)
    if newest is not None and newest not in deployed and ending.action != "cleanup-upgrade":
        allowed |= witness.manifest(newest)
    return [
        f"{kind}/{name} is of no revision that counts" for kind, name in ending.objects if (kind, name) not in allowed
    ]


def helm_goes_on(witness: Witness, chart: Path) -> list[str]:
    """Return the helm command can act on the release, and the next upgrade converges."""
    try:
        witness.helm(
            "upgrade", witness.release, str(chart), "--install", "--no-hooks", "-n", witness.namespace,
            "--timeout", "30s",
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        return [f"helm cannot upgrade it: {error.stderr.strip()[-400:]}"]
    revisions = witness.history()
    problems = one_deployed(revisions) + no_lock_left(revisions)
    problems += _differences(witness.manifest(revisions[-1].number), witness.objects())
    return [f"after an upgrade by helm: {one}" for one in problems]


def _differences(wanted: Objects, found: Objects) -> list[str]:
    return [
        *(f"{kind}/{name} is missing" for kind, name in wanted.keys() - found.keys()),
        *(f"{kind}/{name} is left over" for kind, name in found.keys() - wanted.keys()),
        *(
            f"{kind}/{name} holds {found[kind, name]} and not {wanted[kind, name]}"
            for kind, name in wanted.keys() & found.keys()
            if wanted[kind, name] != found[kind, name]
        ),
    ]
