"""Results of an attempt at an operation, and of an engine call in it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse.kubernetes.client import Secret
from pilothouse.states import OperationState
from pilothouse.worker.steps import EngineStatus


class LeaseLost(Exception):
    """The attempt may no longer act: its lease is lost, or the operation is being cancelled."""


@dataclass(frozen=True)
class EngineResult:
    """Result of one engine call."""

    status: EngineStatus
    text: str = ""


@dataclass(frozen=True)
class Event:
    """An event worth showing to a person; ``data`` is its machine-readable form."""

    kind: str
    text: str
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """Final (``succeeded``, ``failed``, ``cancelled``), or not: ``retry``, or ``crashed``, which counts.

    ``wrote_revision``: the operation left a revision, ``revision``, in which Helm's storage records the result.
    ``secret`` is the release's newest Secret as read after the action, None if it was not read; ``gone`` says that the
    release has no Secret any more, and ``absent_at`` at which resourceVersion that was observed, if known. ``unseen``:
    the cluster could not be read, and something of the operation may remain there. ``is_undone``: it has failed, and
    what it wrote is undone before it ends.
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
    is_undone: bool = False
