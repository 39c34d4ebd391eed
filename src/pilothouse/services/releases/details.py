"""One release with its parts, for the native API: what is shown of it, and what Helm stored of a revision.

The status comes from the index and the operations, so that it is there also while the cluster is not; the parts that
only Helm's Secret has (notes, labels, values, manifest, hooks) are read from the cluster.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pilothouse.auth.policy import READ_VALUES
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import Busy, ClusterDenied, ClusterUnavailable, CorruptRelease, NotFound, ReleaseMissing
from pilothouse.kubernetes.budget import keep
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, StoredRelease, read_release
from pilothouse.kubernetes.stored_chart_texts import StoredChartTexts, read_chart_texts
from pilothouse.masking_thread import in_masking_thread
from pilothouse.off_loop import off_loop
from pilothouse.redaction import WITHHELD
from pilothouse.services.charts.trust import without_source
from pilothouse.services.clusters import Clusters, cluster_error_context, unknown_cluster
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.causes import Cause, find_cause, find_chart_digest, find_last_change, find_underway
from pilothouse.services.releases.deployed import was_deployed
from pilothouse.services.releases.elsewhere import AtWork, list_all_changes, show_elsewhere
from pilothouse.services.releases.live import LiveReleases
from pilothouse.services.releases.masking import hide_in_notes, hide_in_text, is_ordinary
from pilothouse.services.releases.names import is_name, is_namespace, unknown_release, without_revision
from pilothouse.services.releases.pages import Release, weight
from pilothouse.services.releases.shown import ShownReleases
from pilothouse.states import LIVING_STATES, UNSETTLED, Action, OperationState
from pilothouse.store import operations, releases, verifications
from pilothouse.store.chart_origins import ChartOrigin, find_origin
from pilothouse.store.clusters import ClusterName
from pilothouse.store.database import Database
from pilothouse.store.drift import DriftLook, find_look
from pilothouse.store.operations import OperationRow
from pilothouse.store.release_changes import Change, list_changes
from pilothouse.store.releases import FoundRelease, ListedRelease, RevisionRow
from pilothouse.store.verifications import VerificationRow

#: What ``helm history`` shows at most.
_MOST_REVISIONS = 256
#: Descriptions of a history whose values are looked up, which may be large.
_MOST_MASKED = 10
Found = TypeVar("Found")
_SYSTEM_LABELS = frozenset({"name", "owner", "status", "version", "createdAt", "modifiedAt", OPERATION_LABEL})


@dataclass(frozen=True)
class ReleaseRef:
    """Where a release is; ``cluster`` is an id or a name."""

    cluster: str
    namespace: str
    name: str


@dataclass(frozen=True)
class ReleaseDetail:
    """A release as it is shown, or one of its revisions.

    ``changed_by``: what wrote the revision. ``underway``: the unfinished operation. ``elsewhere``: if there is none and
    the release is locked, what is at work on it through another registration of its cluster. ``problem``: why notes and
    labels could not be read; empty if they were. ``origin``: of the chart, for callers who may see sources.
    ``verification``: who signed the chart, None if nobody is known to. ``chart_id``: what it was made from, empty if
    that is not known. ``chart_digest``: of its archive, likewise. ``chart_deprecated``: the chart itself says that
    nobody maintains it. ``verification_missing``: nobody is known to have signed the chart, and the project takes
    verified charts only.
    """

    release: Release
    app_version: str
    manager: str
    notes: str
    labels: dict[str, str]
    changed_by: Cause | None
    underway: Change | None
    elsewhere: AtWork | None
    origin: ChartOrigin
    drift: DriftLook | None = None
    verification: VerificationRow | None = None
    problem: str = ""
    chart_id: str = ""
    chart_digest: str = ""
    chart_deprecated: bool = False
    verification_missing: bool = False


@dataclass(frozen=True)
class HistoryItem:
    """One revision of a history, with what wrote it, and the digest of the chart's archive if that is known.

    Of one that was uninstalled ``cause`` is what did that, and ``written_by`` what wrote it before.
    """

    revision: RevisionRow = field(repr=False)
    description: str
    cause: Cause | None
    written_by: Cause | None
    chart_digest: str

    @property
    def was_deployed(self) -> bool:
        """True if it ever was deployed, as far as its record and ours tell."""
        row, writer = self.revision, self.written_by
        failed = writer is not None and writer.cause in set(Action) and writer.state != OperationState.SUCCEEDED
        return was_deployed(row.name, row.status, row.description, failed=failed)


class ReleaseDetails:
    """Show one release of a project, and its history."""

    def __init__(self, database: Database, keys: MasterKeys, clusters: Clusters) -> None:
        self._database = database
        self._clusters = clusters
        self._live = LiveReleases(database, keys, clusters)
        self._shown = ShownReleases(keys)

    async def show(self, caller: Caller, place: ReleaseRef, *, revision: int | None = None) -> ReleaseDetail:
        """Return the release as it is now, or one of its revisions; NotFound if there is none.

        Notes and labels are those of the newest stored revision, and missing if the cluster cannot be read. For callers
        who may not read values, these are masked in texts.
        """
        caller.require("cce:release:get")
        cluster = await self._clusters.identify(place.cluster, project_id=caller.project_id)
        below = revision + 1 if revision is not None else None
        found, changes = await self._find(caller.project_id, cluster, place, revisions=1, below=below, with_values=True)
        row = found.revisions[0] if found.revisions else None
        if revision is not None and (row is None or row.revision != revision):
            raise unknown_revision(place, revision, row)
        detail = await self._detail(caller, place, found, changes, as_stored=revision is not None)
        if row is not None:
            detail = await self._with_stored(detail, row, hides=not caller.may(READ_VALUES))
        return detail if caller.may(READ_VALUES) else await asyncio.to_thread(_hidden, detail)

    async def show_head(self, caller: Caller, place: ReleaseRef) -> ReleaseDetail:
        """Return the release without its texts and values, for which no cluster is asked; NotFound if there is none."""
        caller.require("cce:release:get")
        cluster = await self._clusters.identify(place.cluster, project_id=caller.project_id)
        found, changes = await self._find(caller.project_id, cluster, place, revisions=1)
        detail = await self._detail(caller, place, found, changes, as_stored=False)
        bare = replace(detail.release, description="", status_description="", values_json=None)
        return replace(detail, release=bare)

    async def _detail(
        self, caller: Caller, place: ReleaseRef, found: FoundRelease, changes: list[Change], *, as_stored: bool
    ) -> ReleaseDetail:
        cluster = found.cluster
        row = found.revisions[0] if found.revisions else None
        release = await off_loop(
            lambda: self._release(cluster, row, found.operation, as_stored=as_stored),
            size=weight(ListedRelease(place.namespace, place.name, row, found.operation)),
        )
        if release is None:
            raise unknown_release(place.name, place.namespace, cluster_name=cluster.name)
        look, origin, chart_id = None, ChartOrigin(), _chart_of(release, row, found.operation)
        underway, elsewhere = find_underway(changes), None
        changes = await self._changes(caller, cluster, place, found.revisions[:1], changes)
        verified, digest = None, find_chart_digest(row, changes) if row is not None else ""
        async with self._database.autocommit() as connection:
            if row is not None:
                look = await find_look(connection, cluster.id, namespace=place.namespace, name=place.name)
            if underway is None and release.status in UNSETTLED and not as_stored:
                elsewhere = await show_elsewhere(
                    connection, caller, cluster.id, namespace=place.namespace, name=place.name
                )
            if digest:
                verified = await verifications.find(connection, project_id=caller.project_id, digest=digest)
            if chart_id and caller.may("cce:source:get"):
                origin = await find_origin(connection, chart_id, project_id=caller.project_id)
            is_missing = (
                verified is None and (await verifications.find_trust(connection, caller.project_id)).verified_only
            )
        return ReleaseDetail(
            release=replace(release, age_seconds=found.freshness.age_seconds),
            app_version=row.app_version if row is not None else "",
            manager=row.manager if row is not None else "",
            notes="",
            labels={},
            changed_by=find_last_change(row, changes) if row is not None else None,
            underway=underway,
            elsewhere=elsewhere,
            drift=look,
            origin=origin,
            verification=verified if caller.may("cce:source:get") else without_source(verified),
            chart_id=chart_id,
            chart_digest=digest,
            verification_missing=is_missing,
        )

    def _release(
        self, cluster: ClusterName, row: RevisionRow | None, operation: OperationRow | None, *, as_stored: bool
    ) -> Release | None:
        if as_stored and row is not None:
            return self._shown.from_row(cluster, row)
        release = self._shown.newest(cluster, row, operation)
        if release is not None and row is None and operation is not None and operation.state not in LIVING_STATES:
            return replace(release, revision=0)  # nothing but a failed install, of which nothing is left
        return release

    async def _with_stored(self, detail: ReleaseDetail, row: RevisionRow, *, hides: bool) -> ReleaseDetail:
        release = detail.release
        place = ReleaseRef(release.cluster_id, release.namespace, release.name)
        try:
            stored = await self.read_stored(place, row.revision)
        except (ClusterUnavailable, ClusterDenied, CorruptRelease, NotFound, Busy) as error:
            return replace(detail, problem=str(error))
        notes = await in_masking_thread(hide_in_notes, stored) if hides else stored.notes
        return replace(detail, notes=notes, labels=own_labels(stored), chart_deprecated=stored.chart_deprecated)

    async def show_history(self, caller: Caller, place: ReleaseRef) -> list[HistoryItem]:
        """Return the revisions that Helm keeps, newest first, with what wrote each; NotFound if there are none.

        For callers who may not read values, these are masked in the newest descriptions that are not Helm's usual ones,
        and older ones are withheld.
        """
        caller.require("cce:release:get")
        cluster = await self._clusters.identify(place.cluster, project_id=caller.project_id)
        found, changes = await self._find(caller.project_id, cluster, place, revisions=_MOST_REVISIONS)
        if not found.revisions:
            raise without_revision(place.name, place.namespace, cluster_name=cluster.name, shown=found.operation)
        said = {row.revision: row.origin_description or row.description or row.status for row in found.revisions}
        if not caller.may(READ_VALUES):
            hidden = [number for number, text in said.items() if not is_ordinary(text)]
            # without the index each would be read from the cluster
            most = _MOST_MASKED if found.freshness.listed and not found.freshness.truncated else 0
            for number in hidden[:most]:
                said[number] = await self._hide(caller, cluster, place, number, said[number])
            said |= dict.fromkeys(hidden[most:], WITHHELD)
        changes = await self._changes(caller, cluster, place, found.revisions, changes)
        return [
            HistoryItem(
                row,
                said[row.revision],
                find_last_change(row, changes),
                find_cause(row, changes),
                find_chart_digest(row, changes),
            )
            for row in found.revisions
        ]

    async def _changes(
        self,
        caller: Caller,
        cluster: ClusterName,
        place: ReleaseRef,
        rows: Sequence[RevisionRow],
        changes: list[Change],
    ) -> list[Change]:
        """Return the operations that may have written these: also of other registrations, if those do not tell."""
        if all(find_last_change(row, changes) and find_cause(row, changes) for row in rows):
            return changes
        async with self._database.autocommit() as connection:
            known = await list_all_changes(connection, caller, cluster.id, namespace=place.namespace, name=place.name)
        return changes if known is None else known

    async def _hide(self, caller: Caller, cluster: ClusterName, place: ReleaseRef, revision: int, text: str) -> str:
        """Return a description with the values of its revision masked."""
        found, _ = await self._find(
            caller.project_id, cluster, place, revisions=1, below=revision + 1, with_values=True
        )
        row = found.revisions[0] if found.revisions else None
        if row is None or row.revision != revision:
            return WITHHELD

        def hide() -> str:
            values = self._shown.from_row(cluster, row).values_json
            return hide_in_text(text, values, public=(place.name, place.namespace))

        return await asyncio.to_thread(hide)

    async def _find(
        self,
        project_id: str,
        cluster: ClusterName,
        place: ReleaseRef,
        *,
        revisions: int,
        below: int | None = None,
        with_values: bool = False,
    ) -> tuple[FoundRelease, list[Change]]:
        """Return revisions from the index, or from the cluster until the index is complete, and the operations."""
        namespace, name = place.namespace, place.name
        async with self._database.autocommit() as connection:
            changes = await list_changes(connection, cluster.id, namespace=namespace, name=name)
            found = await releases.find_release(
                connection,
                cluster.id,
                project_id=project_id,
                namespace=namespace,
                name=name,
                revisions=revisions,
                below=below,
                with_values=with_values,
            )
        if found is None:
            raise unknown_cluster(place.cluster)
        if not found.freshness.listed or found.freshness.truncated:
            rows = await self._live.read_revisions(cluster.id, namespace=namespace, name=name)
            rows = [row for row in rows if below is None or row.revision < below]
            found = replace(found, revisions=rows[:revisions])
        return found, changes

    async def locate(self, caller: Caller, place: ReleaseRef) -> ReleaseRef:
        """Return the place with the id of its cluster; NotFound if the project has no such cluster."""
        caller.require("cce:release:get")
        cluster = await self._clusters.identify(place.cluster, project_id=caller.project_id)
        return replace(place, cluster=cluster.id)

    async def find_stored(self, caller: Caller, place: ReleaseRef, revision: int | None) -> StoredRelease:
        """Return what Helm stored of a revision (None: the newest), else raise NotFound."""
        caller.require("cce:release:get")
        return await self.read_stored(await self.locate(caller, place), revision)

    async def find_before(self, caller: Caller, place: ReleaseRef, revision: int) -> int:
        """Return the number of the revision before that one, as the cluster has them, else raise NotFound."""
        caller.require("cce:release:get")
        cluster = await self._clusters.identify(place.cluster, project_id=caller.project_id)
        connection = await self._clusters.reach(cluster.id, project_id=None)
        with cluster_error_context(connection):
            client = self._clusters.client(connection)
            labels = await client.list_release_labels(namespace=place.namespace, name=place.name)
        before = max((entry.revision for entry in labels if entry.revision < revision), default=None)
        if before is None:
            raise NotFound(f"release {place.name!r} has no revision before {revision} to compare it with; pass from")
        return before

    async def read_stored(self, place: ReleaseRef, revision: int | None) -> StoredRelease:
        """Return what Helm stored of a revision (None: the newest) in the cluster of that id, else raise NotFound."""
        return await self._read(place, revision, read_release)

    async def read_chart(self, place: ReleaseRef) -> StoredChartTexts:
        """Return what the chart of the newest revision says of itself; raise NotFound, or CorruptRelease."""

        async def read(secret: Secret) -> StoredChartTexts:
            found = await asyncio.to_thread(read_chart_texts, secret)
            size = len(found.readme) + len(found.schema)
            keep(size, unpacked=size)
            return found

        return await self._read(place, None, read)

    async def _read(self, place: ReleaseRef, revision: int | None, read: Callable[[Secret], Awaitable[Found]]) -> Found:
        """Return what was read of the Secret of a revision."""
        if not is_namespace(place.namespace) or not is_name(place.name):
            raise ReleaseMissing(f"release {place.name!r} does not exist in namespace {place.namespace!r}")
        cluster = await self._clusters.reach(place.cluster, project_id=None)
        client = self._clusters.client(cluster)
        with cluster_error_context(cluster):
            if revision is None:
                labels = await client.list_release_labels(namespace=place.namespace, name=place.name)
                revision = max((entry.revision for entry in labels), default=None)
                if revision is None:
                    raise await self.explain_missing(place, cluster.name)
            secret = await client.find_release_secret(namespace=place.namespace, name=place.name, revision=revision)
            if secret is None:
                raise unknown_revision(place, revision, None)
            return await read(secret)

    async def explain_missing(self, place: ReleaseRef, cluster_name: str) -> NotFound:
        """Return the error for a release that the cluster of that id does not have."""
        async with self._database.autocommit() as connection:
            shown = await operations.find_shown(
                connection, cluster_id=place.cluster, namespace=place.namespace, release_name=place.name
            )
        return without_revision(place.name, place.namespace, cluster_name=cluster_name, shown=shown)


def own_labels(stored: StoredRelease) -> dict[str, str]:
    """Return the labels of a revision but those that Helm and Pilothouse set themselves."""
    return {name: value for name, value in stored.labels.items() if name not in _SYSTEM_LABELS}


def unknown_revision(place: ReleaseRef, revision: int, below: RevisionRow | None) -> NotFound:
    """Return the error for a revision that the release does not have; ``below`` is the next lower one."""
    hint = f"; the next lower one is {below.revision}" if below is not None else ""
    return NotFound(f"release {place.name!r} in namespace {place.namespace!r} has no revision {revision}{hint}")


def _chart_of(release: Release, row: RevisionRow | None, operation: OperationRow | None) -> str:
    """Return the id of the chart that is shown: the operation may have another one than the newest revision."""
    if row is not None and (release.chart_name, release.chart_version) == (row.chart_name, row.chart_version):
        return row.origin_chart_id
    return operation.chart_id if operation is not None else ""


def _hidden(detail: ReleaseDetail) -> ReleaseDetail:
    release = detail.release
    values, public = release.values_json, (release.name, release.namespace)
    return replace(
        detail, release=replace(release, description=hide_in_text(release.description, values, public=public))
    )
