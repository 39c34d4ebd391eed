"""Releases in the native API: what lists and single releases answer."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pilothouse.api.v1.models import Milliseconds, View
from pilothouse.states import Action, OperationState

Age = Annotated[float, AfterValidator(lambda age: round(max(0.0, age), 1))]
#: Whatever a field of an object may hold.
AnyJson = Annotated[
    Any, WithJsonSchema({"type": ["object", "array", "string", "number", "boolean", "null"]}, mode="serialization")
]


class ReleaseSummary(View):
    """A release in a list. With `fields` only the first four are always there.

    `status` is Helm's word, or what an operation is making of it. `updated_at`: when it was last deployed, or when the
    operation was accepted or failed. `manager`: the program besides Helm that its marks name; empty for none.
    `operation_id`: the unfinished operation; empty for none. `age_seconds`: since the cluster last confirmed this; null
    if it never did.
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
    manager: str = ""
    operation_id: str = ""
    age_seconds: Age | None = None


class CauseView(View):
    """What wrote a revision: `cause` is the operation's action, or `cancel` if the revision undoes it.

    `user_name` is empty if the user no longer exists.
    """

    cause: str
    operation_id: str
    request_id: str
    user_id: str
    user_name: str


class HistoryView(View):
    """A revision that Helm keeps, and what wrote it; `changed_by` as for a release."""

    revision: int
    status: str
    description: str
    chart_name: str
    chart_version: str
    app_version: str
    updated_at: Milliseconds | None
    changed_by: CauseView | None


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


class FieldDifferenceView(View):
    """A field that differs, by its JSON pointer; `old` or `new` is null where there is none."""

    path: str
    change: Literal["added", "changed", "removed"]
    old: AnyJson
    new: AnyJson


class ObjectDifferenceView(View):
    """An object of either revision; `fields` are those that differ, for a changed object only."""

    api_version: str
    kind: str
    namespace: str
    name: str
    change: Literal["added", "changed", "removed", "unchanged"]
    fields: list[FieldDifferenceView]


class DiffSummaryView(View):
    """How many objects there are of each change."""

    added: int
    changed: int
    removed: int
    unchanged: int


class RevisionDiffView(View):
    """The objects of two revisions, compared: those of the new one first, in its order, then those that are gone."""

    from_revision: int
    to_revision: int
    summary: DiffSummaryView
    objects: list[ObjectDifferenceView]


class UnderwayView(View):
    """The unfinished operation of a release; it has at most one."""

    id: Annotated[str, Field(validation_alias="operation_id")]
    action: Action
    state: OperationState
    text: str
    user_id: str
    user_name: str
    created_at: Milliseconds


class ReleaseDetailView(View):
    """A release as it is now, or one of its revisions.

    `status` and `description` are Helm's, or those of the operation that is at work on it or failed before Helm wrote
    anything. `notes` and `labels` are those of the newest stored revision, read from the cluster; `problem` says why
    they could not be read, and is empty otherwise. `changed_by`: null if another Helm client wrote the revision, or if
    the record of the operation has expired. `age_seconds`: since the cluster last confirmed the rest.
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
    app_version: str
    created_at: Milliseconds
    updated_at: Milliseconds
    labels: dict[str, str]
    notes: str
    manager: str
    changed_by: CauseView | None
    operation: UnderwayView | None
    age_seconds: Age | None
    problem: str
