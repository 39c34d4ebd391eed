"""Bodies of the writes of releases, by Helm's names; each says which request of a service it is."""

from typing import Annotated, Any, ClassVar, Final

import orjson
from pydantic import AfterValidator, FailFast, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from pilothouse.api.v1.models import Body
from pilothouse.engine.protocol import MAX_HISTORY, Cascade, ValuesLayer, Wait
from pilothouse.http.json_bodies import RELEASE, JsonLimits
from pilothouse.services.releases.commands import Check, Crds, HelmOptions
from pilothouse.services.releases.delete import DeleteRelease
from pilothouse.services.releases.deploy import REMOVED, DeployRelease, ValuesMode, at_least_ready
from pilothouse.services.releases.update_plans import UpdateRelease
from pilothouse.states import Action

#: Helm's flags are given once each; nobody types more layers.
_MOST_LAYERS: Final = 100
_KINDS: Final = ("yaml", "object", "set", "set_string", "set_json", "set_literal")

Seconds = Annotated[int, Field(ge=1, le=10**6)]
Checks = Annotated[list[Check], Field(max_length=1), FailFast()]
Filters = Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100), FailFast()]


class Chart(Body):
    """The chart to install: an uploaded one by its `id`, or one of a `source` by its `name` and `version`.

    `version`: a version or a range such as `~1.2`; empty: the newest that is no prerelease. What was chosen is pinned
    by its digest. `digest`: the SHA-256 of the archive in lower-case hex; if the chart has another one by now, the
    answer is 409, and nothing is done. Without it, whatever the chart has is taken.
    """

    id: str = ""
    source: Annotated[str, Field(max_length=255)] = ""
    name: Annotated[str, Field(max_length=255)] = ""
    version: Annotated[str, Field(max_length=255)] = ""
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _check_reference(self) -> "Chart":
        _check_named(self)
        return self


def _check_named(chart: Chart) -> None:
    if bool(chart.id) == bool(chart.source and chart.name) or (
        chart.id and (chart.source or chart.name or chart.version)
    ):
        raise PydanticCustomError("one_chart", "must have either id, or source and name")


class ReleaseChart(Chart):
    """The chart to install: as `Chart`, or the one that a `revision` of the release stores.

    `digest`, `source`, `name` and `version` do not go with a `revision`. Helm stores a chart without its subcharts, so
    that the `revision` of one that has some is refused.
    """

    revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    @model_validator(mode="after")
    def _check_reference(self) -> "ReleaseChart":
        others = (self.id, self.source, self.name, self.version, self.digest)
        if self.revision is None:
            _check_named(self)
        elif any(others):
            raise PydanticCustomError("one_chart", "revision goes with none of id, source, name, version, digest")
        return self


class Layer(Body):
    """A part of the values: exactly one of the first six; `name` is for errors, such as the name of a file.

    `yaml` is read like a file of `--values`, `object` is the same as JSON; the others are read like the flag of that
    name. A null removes a value.
    """

    yaml: str | None = None
    object: dict[str, Any] | None = None
    set: str | None = None
    set_string: str | None = None
    set_json: str | None = None
    set_literal: str | None = None
    name: Annotated[str, Field(max_length=255)] = ""

    @model_validator(mode="after")
    def _check(self) -> "Layer":
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise PydanticCustomError("one_kind", "must have exactly one of {kinds}", {"kinds": ", ".join(_KINDS)})
        return self

    def as_layer(self, index: int) -> ValuesLayer:
        """Return it with the name that errors have."""
        name = f"values[{index}]" + (f" ({self.name})" if self.name else "")
        for kind in _KINDS:
            value = getattr(self, kind)
            if isinstance(value, dict):
                return ValuesLayer("object", orjson.dumps(value).decode(), name)
            if value is not None:
                return ValuesLayer(kind, value, name)
        raise AssertionError("a layer has a kind")


def _check_labels(labels: dict[str, Any]) -> dict[str, Any]:
    """Refuse the first that is no text: pydantic would build an error for each."""
    for name, value in labels.items():
        if value is not None and not isinstance(value, str):
            raise PydanticCustomError("label", "{name} must be a string or null", {"name": name[:80]})
    return labels


_TEXT_OR_NULL: Final = {"anyOf": [{"type": "string"}, {"type": "null"}]}
Labels = Annotated[
    dict[str, Any],
    AfterValidator(_check_labels),
    WithJsonSchema({"type": "object", "additionalProperties": _TEXT_OR_NULL, "maxProperties": 50}),
]
Layers = Annotated[list[Layer], Field(max_length=_MOST_LAYERS), FailFast()]


class DeployOptions(Body):
    """Helm's options, by the names of its flags.

    `wait`: until what the operation waits: only for hooks (`none` and `hooks` are the same), for ready objects, or for
    completed Jobs too; without it, as the cluster is set. `timeout_seconds`: without it, the server's limit. `crds`:
    what happens to those in `crds/`: without it, an install creates them, and an upgrade skips them. `take_ownership`:
    existing objects become the release's, whosever they are. `force_conflicts`: fields that others manage are taken
    over. `force_replace`: objects are replaced. `labels`: of the revision; null removes one. `history_max`: 0 is no
    limit. `rollback_on_failure`: an upgrade that fails is rolled back to the revision that was deployed, and an install
    is uninstalled, before the operation ends as failed; it waits for ready objects at least. `cleanup_on_fail`: what a
    failed upgrade created is deleted. `checks`: with `test`, the tests of the chart run as the last part of the
    operation, which fails if one of them does; it waits for ready objects before.
    """

    wait: Wait | None = None
    timeout_seconds: Seconds | None = None
    no_hooks: bool = False
    crds: Crds | None = None
    take_ownership: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    skip_schema_validation: bool = False
    labels: Labels = Field(default_factory=dict, max_length=50)
    description: Annotated[str, Field(max_length=1000)] = ""
    history_max: Annotated[int, Field(ge=0, le=1000)] = MAX_HISTORY
    create_namespace: bool = False
    rollback_on_failure: bool = False
    cleanup_on_fail: bool = False
    checks: Checks = Field(default_factory=list)


class DeployReleaseBody(Body):
    """What the release is to become.

    `values`: layers, of which later ones win. `values_mode`: what is below them: the chart's values (`replace`), all
    that the release has now (`reuse`), or the chart's and the user's own of now (`reset_then_reuse`). `base_revision`:
    only over that revision, the newest of the release: if it has another one by now, or was uninstalled, the answer is
    409; one that comes before it is carried out has the operation fail. Nothing is done then.
    """

    limits: ClassVar[JsonLimits] = RELEASE

    chart: ReleaseChart
    values: Layers = Field(default_factory=list)
    values_mode: ValuesMode = "replace"
    options: DeployOptions = DeployOptions()
    base_revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    def as_request(self, chart: Chart) -> DeployRelease:
        """Return the request that it is, with the chart by id."""
        options = self.options
        return DeployRelease(
            chart_id=chart.id,
            chart_revision=self.chart.revision,
            chart_digest=chart.digest or "",
            base_revision=self.base_revision,
            layers=tuple(layer.as_layer(index) for index, layer in enumerate(self.values)),
            values_mode=self.values_mode,
            wait=options.wait,
            timeout_seconds=options.timeout_seconds,
            no_hooks=options.no_hooks,
            crds=options.crds,
            skip_schema_validation=options.skip_schema_validation,
            options=HelmOptions(
                take_ownership=options.take_ownership,
                force_conflicts=options.force_conflicts,
                force_replace=options.force_replace,
                labels={name: REMOVED if value is None else value for name, value in options.labels.items()},
                description=options.description,
                history_max=options.history_max,
                create_namespace=options.create_namespace,
                rollback_on_failure=options.rollback_on_failure,
                cleanup_on_fail=options.cleanup_on_fail,
                checks=tuple(options.checks),
            ),
        )


class RollbackOptions(Body):
    """Helm's options of a rollback; each means the same as for `PUT`."""

    wait: Wait | None = None
    timeout_seconds: Seconds | None = None
    no_hooks: bool = False
    force_conflicts: bool = False
    force_replace: bool = False
    history_max: Annotated[int, Field(ge=0, le=1000)] = MAX_HISTORY
    checks: Checks = Field(default_factory=list)


class RollbackReleaseBody(Body):
    """The revision to go back to; without it, the last one before the newest that was deployed."""

    revision: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    options: RollbackOptions = RollbackOptions()

    def as_request(self) -> UpdateRelease:
        """Return the request that it is."""
        options = self.options
        return UpdateRelease(
            action=Action.ROLLBACK,
            release_version=self.revision or 0,
            only_succeeded=True,
            revision_field="revision",
            no_hooks=options.no_hooks,
            include_hooks=not options.no_hooks,
            wait=at_least_ready(options.wait) if options.checks else options.wait,
            timeout_seconds=options.timeout_seconds,
            options=HelmOptions(
                force_conflicts=options.force_conflicts,
                force_replace=options.force_replace,
                history_max=options.history_max,
                checks=tuple(options.checks),
            ),
        )


class RunTestsOptions(Body):
    """Without `timeout_seconds`, the server's limit."""

    timeout_seconds: Seconds | None = None


class RunTestsBody(Body):
    """Which tests to run, in Helm's words: `name=TEST`, or `!name=TEST` for all but that; without filters, all."""

    filters: Filters = Field(default_factory=list)
    options: RunTestsOptions = RunTestsOptions()


class DeleteOptions(Body):
    """Helm's options of an uninstall.

    `wait`: `ready` until the objects are gone. `keep_history`: the revisions stay, the newest as uninstalled.
    `cascade`: what becomes of the objects' dependents. `description`: of the revision that stays.
    """

    wait: Wait | None = None
    timeout_seconds: Seconds | None = None
    no_hooks: bool = False
    keep_history: bool = False
    cascade: Cascade = "background"
    description: Annotated[str, Field(max_length=1000)] = ""


class DeleteReleaseBody(Body):
    """How to delete the release; no body means all defaults."""

    options: DeleteOptions = DeleteOptions()

    def as_request(self) -> DeleteRelease:
        """Return the request that it is."""
        return DeleteRelease(**dict(self.options))


class UnlockReleaseBody(Body):
    """Why the release's writer is known to be dead; it is stored with the revision."""

    reason: str
