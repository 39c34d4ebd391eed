"""Messages between parent and child of the engine, as plain data; ``frames`` carries them.

This module defines the protocol; the other side is ``engine/protocol.go``, and a test compares both. To add an action,
add one request class here, listed in ``REQUESTS``, one there, listed in ``actions``, and one function in
``engine/actions.go``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Generic, Literal, TypeVar

from pilothouse.states import Action

#: How many revisions of a release are kept: the vendor's number, which is also the default of the helm command.
MAX_HISTORY = 10

OutcomeT = TypeVar("OutcomeT")
#: The raw bytes of a request, or an open file that holds them, which is read from its beginning.
Body = bytes | BinaryIO


@dataclass(frozen=True, kw_only=True)
class Request(Generic[OutcomeT]):
    """One call of the engine; ``outcome_type`` is the answer of a successful call."""

    action: ClassVar[str]
    outcome_type: ClassVar[type[Any]]


@dataclass(frozen=True, kw_only=True)
class ReleaseOutcome:
    """The release that Helm reports as installed or upgraded, or the result of a dry run.

    Except for a dry run it is no proof: the release Secret is, and has to be read after the call. ``values`` is what
    the templates got: the defaults of the chart and of its enabled subcharts, with the caller's merged over them.
    ``manifest`` contains no hooks, as in ``helm get manifest``.
    """

    name: str
    namespace: str
    revision: int
    status: str
    description: str
    manifest: str
    notes: str
    first_deployed: str
    last_deployed: str
    chart_name: str
    chart_version: str
    app_version: str
    labels: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class InstallRequest(Request[ReleaseOutcome]):
    """Install a chart as a new release, or as the next revision with ``replace``.

    ``kubeconfig`` is the file's text; it may be empty for ``dry_run="client"``, which sends nothing. ``wait``:
    ``hooks`` (and ``none``, which Helm treats alike) returns after the hooks, ``ready`` when every object is ready.
    ``replace`` reuses the name of a failed or uninstalled release and leaves objects behind that only the old revision
    has. ``timeout_seconds`` is for each of Helm's waits; the deadline of the whole call is the pool's. ``show_hooks``
    is for dry runs: hooks are in the manifest, and owners of existing objects do not matter. ``crds``: the CRDs in
    ``crds/`` are skipped, created if missing, or replaced; they are served when the action begins.
    ``skip_schema_validation``: no ``values.schema.json`` is read, so it may refer to anything.
    """

    action = Action.INSTALL
    outcome_type = ReleaseOutcome

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    chart: bytes = field(repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    dry_run: Literal["none", "client", "server"] = "none"
    disable_hooks: bool = False
    show_hooks: bool = False
    replace: bool = False
    wait: Literal["none", "hooks", "ready"] = "none"
    timeout_seconds: float = 300.0
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    create_namespace: bool = False
    crds: Literal["skip", "create", "replace"] = "create"
    skip_schema_validation: bool = False


@dataclass(frozen=True, kw_only=True)
class UpgradeRequest(Request[ReleaseOutcome]):
    """Create the next revision of a release from a chart; the fields it shares with InstallRequest mean the same.

    ``reset_values`` starts from the chart's values alone; ``reuse_values`` merges ``values`` over everything that the
    release has now; with neither, empty ``values`` keep the release's own and others replace them. With ``prune``,
    revisions beyond the last ``MAX_HISTORY`` are removed, for which Helm reads them all once more. Without
    ``remove_namespace``, the Namespace that the release is in stays even if the new revision lacks it.
    """

    action = Action.UPGRADE
    outcome_type = ReleaseOutcome

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    chart: bytes = field(repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    dry_run: Literal["none", "server"] = "none"
    disable_hooks: bool = False
    show_hooks: bool = False
    reset_values: bool = False
    reuse_values: bool = False
    wait: Literal["none", "hooks", "ready"] = "none"
    timeout_seconds: float = 300.0
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    prune: bool = True
    crds: Literal["skip", "create", "replace"] = "skip"
    skip_schema_validation: bool = False
    remove_namespace: bool = False


@dataclass(frozen=True, kw_only=True)
class RollbackRequest(Request[None]):
    """Create the next revision of a release from an earlier one; only the release's Secret tells the result.

    ``to_revision`` must exist. A dry run checks that it does, and little else. The rest as in UpgradeRequest.
    """

    action = Action.ROLLBACK
    outcome_type = type(None)

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    to_revision: int
    dry_run: Literal["none", "server"] = "none"
    disable_hooks: bool = False
    wait: Literal["none", "hooks", "ready"] = "none"
    timeout_seconds: float = 300.0
    prune: bool = True
    remove_namespace: bool = False


@dataclass(frozen=True, kw_only=True)
class UninstallRequest(Request[str]):
    """Remove a release, its objects and its history; the outcome is Helm's note of what it kept, usually empty.

    With ``wait`` ``ready`` it returns when the objects are gone, else when their deletion was requested.
    """

    action = Action.UNINSTALL
    outcome_type = str

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    disable_hooks: bool = False
    wait: Literal["none", "hooks", "ready"] = "none"
    timeout_seconds: float = 300.0
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class RenderNameRequest(Request[str]):
    """Render a name template with the functions of a chart, without a cluster."""

    action = "render_name"
    outcome_type = str

    template: str


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One finding of Helm's lint about a file of the chart; ``severity`` is ``info``, ``warning`` or ``error``."""

    severity: str
    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class LintOutcome:
    """All findings of Helm's lint, in its order."""

    findings: tuple[LintFinding, ...]

    def __post_init__(self) -> None:
        plain = (one if isinstance(one, LintFinding) else LintFinding(**one) for one in self.findings)
        object.__setattr__(self, "findings", tuple(plain))


@dataclass(frozen=True, kw_only=True)
class LintRequest(Request[LintOutcome]):
    """Run Helm's lint on a chart with its own values; findings are an outcome, not an error.

    An open file is streamed and never completely in memory; the child gets its bytes.
    """

    action = "lint"
    outcome_type = LintOutcome

    chart: Body = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RenderedObject:
    """One object that a chart renders; ``name`` is empty if the server generates it.

    ``hook``: its hook annotation, comma-separated events; empty for an object of the manifest. ``defines``: the kinds
    of a CRD, each as ``group/version`` and kind.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    hook: str = ""
    defines: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "defines", tuple((version, kind) for version, kind in self.defines))

    def runs_at(self, *events: str) -> bool:
        """Return True if it is a hook of one of the events."""
        return not {one.strip().lower() for one in self.hook.split(",")}.isdisjoint(events)


@dataclass(frozen=True, kw_only=True)
class ReleasePart:
    """One part of a stored release, and approximately how many bytes of the release's Secret it takes."""

    name: str
    packed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of rendering a chart with the values, as far as possible without a cluster.

    ``crd_kinds`` are the kinds, as ``group/version`` and kind, in ``crds/``. ``packed_bytes`` is approximately the size
    of the release's Secret, with the largest ``parts`` of it, and ``unpacked_bytes`` approximately its unpacked size; 0
    if both are far below their limits.
    """

    objects: tuple[RenderedObject, ...]
    crd_kinds: tuple[tuple[str, str], ...]
    packed_bytes: int
    unpacked_bytes: int
    parts: tuple[ReleasePart, ...]

    def __post_init__(self) -> None:
        objects = (one if isinstance(one, RenderedObject) else RenderedObject(**one) for one in self.objects)
        parts = (one if isinstance(one, ReleasePart) else ReleasePart(**one) for one in self.parts)
        object.__setattr__(self, "objects", tuple(objects))
        object.__setattr__(self, "crd_kinds", tuple((version, kind) for version, kind in self.crd_kinds))
        object.__setattr__(self, "parts", tuple(parts))


@dataclass(frozen=True, kw_only=True)
class InspectRequest(Request[Inspection]):
    """Render a chart and describe the result; nothing is sent to any cluster.

    ``lookup`` finds nothing, and ``.Capabilities`` are the engine's own: a chart that asks the cluster may render other
    objects there.
    """

    action = "inspect"
    outcome_type = Inspection

    namespace: str
    release_name: str
    chart: bytes = field(repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    revision: int
    is_upgrade: bool
    skip_schema_validation: bool = False


#: What changes a release in the cluster.
ChangeRequest = InstallRequest | UpgradeRequest | RollbackRequest | UninstallRequest

_CLASSES: tuple[type[Request[Any]], ...] = (
    *(InstallRequest, UpgradeRequest, RollbackRequest, UninstallRequest),
    *(RenderNameRequest, LintRequest, InspectRequest),
)
REQUESTS: Mapping[str, type[Request[Any]]] = {cls.action: cls for cls in _CLASSES}


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One step that Helm reported while it ran.

    ``phase`` is ``render``, ``apply``, ``hook``, ``delete``, ``wait``, ``storage`` or ``left``; ``hook`` from the
    creation of a hook's objects to their end, ``left`` for what was not removed, with the reason as its ``message``.
    The object fields are empty if the step is not about a single object. ``done`` of ``total`` objects of the running
    batch (a chart's CRDs, each hook and its objects are separate batches); None where there is no number.
    """

    phase: str
    message: str
    object_kind: str = ""
    object_name: str = ""
    object_namespace: str = ""
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChildOptions:
    """Options of a starting child, without secrets, because they are on its command line."""

    channel_fd: int
    deadline_fd: int
    connections_fd: int
    parent_pid: int
    memory_bytes: int
    file_bytes: int
    chart_unpacked_bytes: int
    chart_file_bytes: int
    chart_files: int
    chart_depth: int
    qps: float
    burst: int
    parallel_objects: int
