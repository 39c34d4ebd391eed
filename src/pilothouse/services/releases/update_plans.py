"""Updates before they are queued: the request, the release that it is about, and what is to come of it."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.services.clusters import ClusterConnection
from pilothouse.services.releases.commands import Crds, RollbackCommand, UpgradeCommand, Wait
from pilothouse.states import ReleaseStatus

OrderT = TypeVar("OrderT", bound=UpgradeCommand | RollbackCommand)


@dataclass(frozen=True, kw_only=True)
class UpdateRelease:
    """A request to update a release, with checked types; ``Updates.update`` applies the rules.

    ``action``: ``upgrade`` or ``rollback``; empty, as Terraform sends it, is an upgrade. ``replace`` keeps the
    release's own values under the new ones, ``reset_values`` drops them and takes precedence.
    """

    chart_id: str = ""
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
        return next((one for one in reversed(self.stored) if one.status == ReleaseStatus.DEPLOYED), self.newest)


@dataclass(frozen=True, kw_only=True)
class UpdatePlan(Generic[OrderT]):
    """What is to come of an update; ``pending`` is the status that Helm gives the revision first."""

    order: OrderT
    chart_digest: str | None = None
    chart_id: str
    chart_name: str
    chart_version: str
    pending: ReleaseStatus
    status_description: str
