"""How an attempt at an operation ended, and a call of the engine in it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse.kubernetes.client import Secret
from pilothouse.states import OperationState
from pilothouse.worker.state import EngineStatus


class LeaseLost(Exception):
    """The attempt may no longer act: its lease is lost, or the operation is being cancelled."""


@dataclass(frozen=True)
class EngineResult:
    """How a call of the engine ended, and in which words."""

    how: EngineStatus
    text: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened on the way and that a person may want to know; ``data`` is the same for programs."""

    kind: str
    text: str
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """Final (``succeeded``, ``failed``, ``cancelled``), or not: ``retry``, or ``crashed``, which counts.

    ``wrote_revision``: the operation left a revision, ``revision``, by which Helm's storage tells how it went.
    ``secret`` is the release's newest Secret as it was read after the action, None if it was not read; ``gone`` says
    that the release has no Secret any more, and ``absent_at`` at which resourceVersion that was seen, if it is known.
    ``unseen``: the cluster could not be looked at, and something of the operation may be left there.
    """

    state: Literal[OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED, "retry", "crashed"]
    text: str
    wrote_revision: bool = False
    revision: int | None = None
    secret: Secret | None = field(default=None, repr=False)
    gone: bool = False
    absent_at: int | None = None
    events: tuple[Event, ...] = ()
    unseen: bool = False
