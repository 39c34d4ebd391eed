"""Updates before they are queued: the request, the release that it is about, and what is to come of it."""

from dataclasses import dataclass, field
from typing import Any

from pilothouse.engine.protocol import ValuesLayer, Wait
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.releases.commands import PLAIN, Crds, HelmOptions, RollbackCommand, UpgradeCommand
from pilothouse.services.releases.locks import Seen
from pilothouse.services.releases.stored_charts import StoredChart
from pilothouse.services.releases.submit import OperationRequest, base_of
from pilothouse.states import ReleaseStatus


@dataclass(frozen=True, kw_only=True)
class UpdateRelease:
    """A request to update a release, with checked types; ``Updates.update`` applies the rules.

    ``action``: ``upgrade`` or ``rollback``; empty, as Terraform sends it, is an upgrade. ``replace`` keeps the
    release's own values under the new ones, ``reset_values`` drops them and takes precedence. ``reset_then_reuse``: the
    chart's values, the user's own of now, and the new ones. ``values`` are those that ``layers``, if any, make.
    ``only_succeeded``: no rollback to a revision that was never deployed. ``revision_field``: how errors name it.
    ``chart_digest``: only with that archive. ``stored_chart``: in place of ``chart_id``.
    ``hides_values``: who asks may not read values. ``seen``: only if the release is still that. ``base_revision``: only
    while that is the newest revision.
    """

    chart_id: str = ""
    chart_digest: str = ""
    action: str = ""
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    dry_run: bool = False
    no_hooks: bool = False
    include_hooks: bool = False
    replace: bool = False
    reset_values: bool = False
    recreate: bool = False
    release_version: int = 0
    wait: Wait | None = None
    timeout_seconds: int | None = None
    crds: Crds | None = None
    skip_schema_validation: bool = False
    remove_namespace: bool = False
    layers: tuple[ValuesLayer, ...] = field(default=(), repr=False)
    reset_then_reuse: bool = False
    options: HelmOptions = PLAIN
    only_succeeded: bool = False
    revision_field: str = "parameters.release_version"
    stored_chart: StoredChart | None = None
    hides_values: bool = False
    seen: Seen | None = None
    base_revision: int | None = None

    def disables_hooks(self, *, on_update: bool) -> bool:
        """Apply the vendor's literal rule: no hooks unless they are requested, and never with ``no_hooks``."""
        return self.no_hooks or not (self.include_hooks or on_update)


@dataclass(frozen=True)
class UpdateTarget:
    """The release to be updated, as it was found."""

    cluster: ClusterConnection
    namespace: str
    name: str
    stored: list[StoredRelease]
    observed_at: float
    warning: str | None

    @property
    def newest(self) -> StoredRelease:
        """The revision that Helm acts on."""
        return self.stored[-1]

    @property
    def current(self) -> StoredRelease:
        """The revision whose values Helm keeps: the deployed one, or the newest if none is."""
        return next(
            (stored for stored in reversed(self.stored) if stored.status == ReleaseStatus.DEPLOYED), self.newest
        )

    def operation(
        self,
        request: UpdateRelease,
        order: UpgradeCommand | RollbackCommand,
        *,
        chart_digest: str | None = None,
        chart_id: str,
        chart_name: str,
        chart_version: str,
        status_description: str,
    ) -> OperationRequest:
        """Return the operation that carries out the order on the release, with the chart that is shown."""
        return OperationRequest(
            namespace=self.namespace,
            release_name=self.name,
            order=order,
            chart_digest=chart_digest,
            chart_revision=request.stored_chart.revision if request.stored_chart is not None else None,
            chart_id=chart_id,
            chart_name=chart_name,
            chart_version=chart_version,
            include_hooks=request.include_hooks,
            revision=self.newest.revision + 1,
            **base_of(self.newest),
            description=request.options.description,
            status_description=status_description,
            timeout_seconds=request.timeout_seconds,
            warning=self.warning,
        )


@dataclass(frozen=True)
class UpdatePlan:
    """What is to come of an update; ``values``: what a dry run made of it, None if none was requested."""

    operation: OperationRequest
    values: dict[str, Any] | None = field(repr=False)
