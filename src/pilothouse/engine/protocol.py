"""Messages between parent and child of the engine, as plain data; ``frames`` carries them.

This module defines the protocol; the other side is ``engine/protocol.go``, and a test compares both. To add an action,
add one request class, listed in ``REQUESTS`` here, one there, listed in ``actions``, and one function in
``engine/actions.go``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse.engine.chart_lists import OrderVersionsRequest, ReadIndexRequest
from pilothouse.engine.inspection import Inspection, LintOutcome
from pilothouse.engine.request import Body, Request
from pilothouse.engine.signatures import ReadKeysRequest, VerifyProvenanceRequest, VerifySignaturesRequest
from pilothouse.engine.tested import RunTestsOutcome
from pilothouse.states import Action

#: How many revisions of a release are kept: the vendor's number, which is also the default of the helm command.
MAX_HISTORY = 10

#: Until what an action waits; ``jobs`` is ``ready`` with Jobs completed.
Wait = Literal["none", "hooks", "ready", "jobs"]
Cascade = Literal["background", "foreground", "orphan"]
#: How a layer of values is written: as a file of values, as an object, or as the flag of that name.
LayerKind = Literal["yaml", "object", "set", "set_string", "set_json", "set_literal"]


@dataclass(frozen=True)
class ValuesLayer:
    """A part of the values: later ones win, and a null removes. ``name`` is for errors; an object's text is JSON."""

    kind: LayerKind
    text: str = field(repr=False)
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class ReleaseOutcome:
    """The release that Helm reports as installed or upgraded, or the result of a dry run.

    Except for a dry run it is no proof: the release Secret is, and has to be read after the call. ``values`` is what
    the templates got: the defaults of the chart and of its enabled subcharts, with the caller's merged over them.
    ``manifest`` contains no hooks, as in ``helm get manifest``; ``hooks``, of dry runs only, have the fields that Helm
    stores of one.
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
    hooks: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PlannedHook:
    """A hook of a plan, with the path of its template; all else about it is in its annotations."""

    path: str
    manifest: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PlannedRelease:
    """The revision that was reviewed: the action makes exactly this one, or is refused with HelmPlanError."""

    revision: int
    manifest: str = field(repr=False)
    notes: str = field(repr=False)
    hooks: tuple[PlannedHook, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class InstallRequest(Request[ReleaseOutcome]):
    """Install a chart as a new release, or as the next revision with ``replace``.

    ``kubeconfig`` is the file's text; it may be empty for ``dry_run="client"``, which sends nothing. ``wait``:
    ``hooks`` (and ``none``, which Helm treats alike) returns after the hooks, ``ready`` when every object is ready.
    ``replace`` reuses the name of a failed or uninstalled release and leaves objects behind that only the old revision
    has. ``timeout_seconds`` is for each of Helm's waits; the deadline of the whole call is the pool's. ``show_hooks``
    is for dry runs: hooks are in the manifest, and owners of existing objects do not matter. ``crds``: the CRDs in
    ``crds/`` are skipped, created if missing, or replaced; they are served when the action begins.
    ``skip_schema_validation``: no ``values.schema.json`` is read, so it may refer to anything. ``layers`` are merged
    over ``values``. ``take_ownership``: existing objects become the release's, whoever owns them. ``force_replace``:
    objects are replaced instead of applied on the server's side.
    ``planned``: the texts that are used instead of what the templates would render now.
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
    wait: Wait = "none"
    timeout_seconds: float = 300.0
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    create_namespace: bool = False
    crds: Literal["skip", "create", "replace"] = "create"
    skip_schema_validation: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    take_ownership: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    planned: PlannedRelease | None = None


@dataclass(frozen=True, kw_only=True)
class UpgradeRequest(Request[ReleaseOutcome]):
    """Create the next revision of a release from a chart; the fields it shares with InstallRequest mean the same.

    ``reset_values`` starts from the chart's values alone; ``reuse_values`` merges ``values`` over everything that the
    release has now, ``reset_then_reuse_values`` over its own values and the chart's; with none of these, empty
    ``values`` keep the release's own and others replace them. Revisions beyond the last ``max_history`` are removed,
    for which Helm reads them all once more; 0 removes none. Without ``remove_namespace``, the Namespace that the
    release is in stays even if the new revision lacks it. ``only_revision``: the number that the next one must have, 0
    for any; if it has another, HelmPlanError, and the release is as it was.
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
    wait: Wait = "none"
    timeout_seconds: float = 300.0
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    max_history: int = MAX_HISTORY
    crds: Literal["skip", "create", "replace"] = "skip"
    skip_schema_validation: bool = False
    remove_namespace: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    take_ownership: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    reset_then_reuse_values: bool = False
    only_revision: int = 0
    planned: PlannedRelease | None = None


@dataclass(frozen=True, kw_only=True)
class RollbackRequest(Request[None]):
    """Create the next revision of a release from an earlier one; only the release's Secret tells the result.

    ``to_revision`` must exist. A dry run checks that it does, and little else. ``revision`` is the number of the next
    one, 0 for any: if it is taken, HelmRevisionTakenError, and nothing was done. The rest as in UpgradeRequest.
    """

    action = Action.ROLLBACK
    outcome_type = type(None)

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    to_revision: int
    revision: int = 0
    dry_run: Literal["none", "server"] = "none"
    disable_hooks: bool = False
    wait: Wait = "none"
    timeout_seconds: float = 300.0
    max_history: int = MAX_HISTORY
    remove_namespace: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    planned: PlannedRelease | None = None


@dataclass(frozen=True, kw_only=True)
class UninstallRequest(Request[str]):
    """Remove a release, its objects and its history; the outcome is Helm's note of what it kept, usually empty.

    With ``wait`` ``ready`` it returns when the objects are gone, else when their deletion was requested. With
    ``keep_history``, its revisions stay, the newest as uninstalled. ``cascade``: what becomes of dependents.
    """

    action = Action.UNINSTALL
    outcome_type = str

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    disable_hooks: bool = False
    wait: Wait = "none"
    timeout_seconds: float = 300.0
    description: str = ""
    keep_history: bool = False
    cascade: Cascade = "background"


@dataclass(frozen=True, kw_only=True)
class RunTestsRequest(Request[RunTestsOutcome]):
    """Run the tests of ``revision``, which has to be the newest, as ``helm test`` does.

    Their end is stored in the revision, unless another program changed that meanwhile. ``include`` and ``exclude`` are
    names of tests; without ``include``, all are run that are not excluded.
    """

    action = Action.TEST
    outcome_type = RunTestsOutcome

    kubeconfig: str = field(repr=False)
    namespace: str
    release_name: str
    revision: int
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    timeout_seconds: float = 300.0


@dataclass(frozen=True, kw_only=True)
class RenderNameRequest(Request[str]):
    """Render a name template with the functions of a chart, without a cluster."""

    action = "render_name"
    outcome_type = str

    template: str


@dataclass(frozen=True, kw_only=True)
class RenderOutcome:
    """What a chart renders; ``hooks`` have the fields that Helm stores of one."""

    name: str
    manifest: str = field(repr=False)
    notes: str = field(repr=False)
    hooks: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RenderRequest(Request[RenderOutcome]):
    """Render a chart as ``helm template`` does.

    Without ``kubeconfig`` nothing is asked of any cluster, and ``kube_version`` and ``api_versions`` tell what it would
    serve; with it, ``lookup`` finds what is there. Without ``release_name`` and ``name_template``, Helm's own name is
    used. ``show_only`` are patterns of template paths inside the chart.
    """

    action = "render"
    outcome_type = RenderOutcome

    kubeconfig: str = field(default="", repr=False)
    namespace: str
    release_name: str = ""
    name_template: str = ""
    chart: bytes = field(repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    kube_version: str = ""
    api_versions: tuple[str, ...] = ()
    include_crds: bool = False
    is_upgrade: bool = False
    disable_hooks: bool = False
    skip_tests: bool = False
    show_only: tuple[str, ...] = ()
    skip_schema_validation: bool = False


@dataclass(frozen=True, kw_only=True)
class LintRequest(Request[LintOutcome]):
    """Run Helm's lint on a chart with its own values; findings are an outcome, not an error.

    An open file is streamed and never completely in memory; the child gets its bytes.
    """

    action = "lint"
    outcome_type = LintOutcome

    chart: Body = field(repr=False)


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
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class MergedValues:
    """What layers make of values."""

    values: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MergeValuesRequest(Request[MergedValues]):
    """Merge layers into values, without a chart and without a cluster."""

    action = "merge_values"
    outcome_type = MergedValues

    layers: tuple[ValuesLayer, ...] = field(repr=False)


#: What changes a release in the cluster.
ChangeRequest = InstallRequest | UpgradeRequest | RollbackRequest | UninstallRequest | RunTestsRequest

_CLASSES: tuple[type[Request[Any]], ...] = (
    *(InstallRequest, UpgradeRequest, RollbackRequest, UninstallRequest, RunTestsRequest),
    *(RenderNameRequest, RenderRequest, LintRequest, InspectRequest, MergeValuesRequest),
    *(ReadIndexRequest, OrderVersionsRequest),
    *(ReadKeysRequest, VerifyProvenanceRequest, VerifySignaturesRequest),
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
