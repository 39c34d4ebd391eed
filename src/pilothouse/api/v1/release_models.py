"""Releases in the native API: what lists and single releases answer."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pilothouse.api.v1.evidence import KubernetesEventView
from pilothouse.api.v1.models import Milliseconds, View
from pilothouse.api.v1.verification import VerificationView
from pilothouse.kubernetes.health import Health
from pilothouse.states import Action, OperationState


def rounded_age(age: float) -> float:
    """Return an age as answers tell it: clocks that disagree make none negative."""
    return round(max(0.0, age), 1)


Age = Annotated[float, AfterValidator(rounded_age)]
#: Whatever a field of an object may hold. Generators of clients read no array without items.
AnyJson = Annotated[
    Any,
    WithJsonSchema(
        {"type": ["object", "array", "string", "number", "boolean", "null"], "items": {}}, mode="serialization"
    ),
]


class ReleaseSummary(View):
    """A release in a list. With `fields` only the first four are always there.

    `revision`: 0 for an install that has failed and left none. `status` is Helm's word, or what an operation is
    making of it. `updated_at`: when it was last deployed, or when the operation was accepted or failed.
    `uninstalled_at`: when it was uninstalled with its history kept (by Helm itself: when that began); null if it
    was not. `manager`: the program besides Helm that its marks name; empty for none. `operation_id`: the unfinished
    operation; empty for none. `age_seconds`: since the cluster last confirmed this; null if it never did.
    `drifted`: whether the last look found drift; null without a look at what is deployed now. `source`: the name of
    the one that the chart was taken from; empty if it is not known, or the caller may not list sources.
    `source_removed_at`: when that source was removed, of which no updates are known then; null if it is there.
    `update_available`: the newest version there that is no prerelease, if it is newer than the release's;
    `update_deprecated`: it is marked as deprecated.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    revision: int = 0
    status: str = ""
    chart_name: str = ""
    chart_version: str = ""
    app_version: str = ""
    updated_at: Annotated[Milliseconds, Field(default_factory=lambda: datetime.now(UTC))]  # always given: not required
    uninstalled_at: Milliseconds | None = None
    manager: str = ""
    operation_id: str = ""
    age_seconds: Age | None = None
    drifted: bool | None = None
    source: str = ""
    source_removed_at: Milliseconds | None = None
    update_available: str = ""
    update_deprecated: bool = False


class CauseView(View):
    """What wrote a revision: `cause` is the operation's action, or why the revision undoes it.

    That is `cancel` if somebody cancelled it, `rollback_on_failure` if it failed and was to be undone then. `user_name`
    is that of who ordered it, empty if the user no longer exists. Of an uninstalled release it is what uninstalled it.
    `state` is the operation's: a revision is deployed, and its operation failed, if checks failed after that. `at` is
    when the operation ended.
    """

    cause: str
    operation_id: str
    request_id: str
    user_id: str
    user_name: str
    state: OperationState
    at: Milliseconds | None


class HistoryView(View):
    """A revision that Helm keeps, and what wrote it; `changed_by` and `chart_digest` as for a release."""

    revision: int
    status: str
    description: str
    chart_name: str
    chart_version: str
    app_version: str
    updated_at: Milliseconds | None
    changed_by: CauseView | None
    chart_digest: str


class ValuesView(View):
    """The values of a revision: of the user (`helm get values`), of the chart, or both merged."""

    revision: int
    layer: str
    values: dict[str, Any]


class ManifestView(View):
    """The rendered objects of a revision, without hooks."""

    revision: int
    manifest: Annotated[str, Field(validation_alias="text")]


class NotesView(View):
    """What the chart says to the user."""

    revision: int
    notes: Annotated[str, Field(validation_alias="text")]


class HookRunView(View):
    """The last run of a hook, with Helm's words and times."""

    phase: str
    started_at: str | None
    completed_at: str | None


class HookView(View):
    """A hook as Helm stored it."""

    name: str
    kind: str
    path: str
    events: Annotated[list[str], BeforeValidator(lambda found: found or [])]
    weight: int
    delete_policies: Annotated[list[str], BeforeValidator(lambda found: found or [])]
    manifest: str
    last_run: HookRunView | None


class HooksView(View):
    """The hooks of a revision."""

    revision: int
    hooks: list[HookView]


class ResourceView(View):
    """A live object, and what was made for it.

    `ready` of `wanted`: replicas; of a Job completions, of a pod containers; null for kinds without. `message`: why it
    is not healthy, or could not be read. `images`: of the pods that it describes. `children`: each as this one.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    health: Health
    message: str
    ready: int | None
    wanted: int | None
    images: list[str]
    created_at: str
    children: list["ResourceView"]


class HealthSummaryView(View):
    """How many objects of the manifest have each health."""

    degraded: int
    missing: int
    unknown: int
    progressing: int
    terminating: int
    suspended: int
    healthy: int


class ResourcesView(View):
    """The live objects of a revision, in the order of its manifest; `health` is the worst of theirs."""

    revision: int
    health: Health
    summary: HealthSummaryView
    objects: list[ResourceView]
    problems: list[str]


class PodContainerView(View):
    """A container; ``started``: it runs or has run, so that there is a log. ``failed``: it is not well."""

    name: str
    state: str
    started: bool
    failed: bool
    restarts: int


class ReleasePodView(View):
    """A pod of a release; ``problem``: why it is not well, empty if it is."""

    namespace: str
    name: str
    phase: str
    problem: str
    containers: list[PodContainerView]
    events: list[KubernetesEventView]


class LogView(View):
    """The last lines of a container's log, oldest first; ``cut``: there was no room for all that were wanted."""

    namespace: str
    pod: str
    container: str
    previous: bool
    lines: list[str]
    cut: bool


class FieldDifferenceView(View):
    """A field that differs, by its JSON pointer; `old` or `new` is null where there is none."""

    path: str
    change: Literal["added", "changed", "removed"]
    old: AnyJson
    new: AnyJson


class ObjectDifferenceView(View):
    """An object of either side; `fields` are those that differ, for a changed object only.

    `problem`: why it could not be compared, or not as a whole; empty if it was.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    change: Literal["added", "changed", "removed", "unchanged", "unknown"]
    fields: list[FieldDifferenceView]
    problem: str


class DiffSummaryView(View):
    """How many objects there are of each change."""

    added: int
    changed: int
    removed: int
    unchanged: int
    unknown: int


class RevisionDiffView(View):
    """The objects of two revisions, compared: those of the new one first, in its order, then those that are gone.

    With the live objects: those of the revision first, then those that are not in it; `to_revision` is null, and
    `problems` says what was not looked at. `uncreated`: how many of the removed ones are no drift, because the revision
    failed and may never have created them.
    """

    from_revision: int
    to_revision: int | None
    summary: DiffSummaryView
    uncreated: int = 0
    objects: list[ObjectDifferenceView]
    problems: list[str]


class IgnoreRuleView(View):
    """What is no drift: the field of a JSON pointer, and what is below it."""

    pointer: str
    group: str
    kind: str
    name: str


class IgnoreRulesView(View):
    """The rules of a release about what is no drift."""

    rules: list[IgnoreRuleView]


class UnderwayView(View):
    """The unfinished operation of a release; it has at most one."""

    id: Annotated[str, Field(validation_alias="operation_id")]
    action: Action
    state: OperationState
    text: str
    user_id: str
    user_name: str
    created_at: Milliseconds


class ElsewhereView(View):
    """What Pilothouse does to a release through another registration of its API server, of which the caller may know.

    All is empty if that is another project's, or the caller may not see releases there. `state` may be a final one for
    some seconds, until it is read that the release is not locked any more.
    """

    operation_id: str
    action: str
    state: str
    cluster_name: str


class DriftLookView(View):
    """What the last look at the drift of a release found: how many objects of each change.

    `revision`: the one that was compared with the cluster. `problem`: why the last try found nothing; empty if it did.
    `outdated`: an operation, or Helm, has changed the release since, and nobody looked; lists show no drift then.
    `removed`: without those of a failed revision, which may never have created them.
    """

    drifted: bool
    outdated: bool
    revision: int
    looked_at: Milliseconds
    added: int
    changed: int
    removed: int
    unknown: int
    problem: str


class ReleaseDetailView(View):
    """A release as it is now, or one of its revisions.

    `revision`: 0 for an install that has failed and left none in the cluster. `status` and `description` are Helm's, or
    those of the operation that is at work on it or failed before Helm wrote anything. `notes` and `labels` are those of
    the newest stored revision, read from the cluster; `problem` says why they could not be read, and is empty
    otherwise. `elsewhere`: not null if the release is locked by no other program, but by an operation of Pilothouse
    through another registration of its API server. `changed_by`: null if another Helm client wrote the revision, or if
    the record of the operation has expired. `age_seconds`: since the cluster last confirmed the rest. `drift`: of the
    last look, periodic or with `diff?to=live`; null if there was none. `source`, `source_removed_at`,
    `update_available`, `update_deprecated`: as in lists. `source_url`: its address, or that which it had.
    `update_refused`: the newest version there, if it is newer still and was refused,
    as no key of the source signed it, or would be, as the project takes verified charts only. `update_unchecked`: a
    newer version still of a source with keys, of which it is not known yet whether one of them has signed it.
    `source_problem`: why the source could not be synchronised last, `source_failed_at` when; updates are those that it
    had before, as of `source_synced_at`. `chart_digest`: SHA-256
    of the archive that it was made from, `verification`: who signed that; empty and null if it is not known.
    `verification_missing`: null is too little, as the project takes verified charts only; what runs stays as it is.
    `chart_deprecated`: the chart says that it is not maintained any more; false too while its revision cannot be read.
    """

    cluster_id: str
    cluster_name: str
    namespace: str
    name: str
    revision: int
    status: str
    description: str
    chart_name: str
    chart_version: str
    chart_deprecated: bool
    app_version: str
    created_at: Milliseconds
    updated_at: Milliseconds
    labels: dict[str, str]
    notes: str
    manager: str
    changed_by: CauseView | None
    operation: UnderwayView | None
    elsewhere: ElsewhereView | None
    drift: DriftLookView | None
    source: str
    source_url: str
    source_removed_at: Milliseconds | None
    source_problem: str
    source_failed_at: Milliseconds | None
    source_synced_at: Milliseconds | None
    chart_digest: str
    update_available: str
    update_deprecated: bool
    update_refused: str
    update_unchecked: str
    verification: VerificationView | None
    verification_missing: bool
    age_seconds: Age | None
    problem: str
