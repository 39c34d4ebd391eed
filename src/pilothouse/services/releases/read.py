"""Read side of releases: show, list and history.

The cluster's Helm storage is the truth about releases, and the index is a copy of it: reads use only the index, and the
cluster itself until the index has its first complete list. An unfinished operation overlays the revisions, and so does
an install that failed before Helm wrote a revision, until the release exists or is created again.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace

from pilothouse.auth.policy import READ_VALUES
from pilothouse.auth.sealing import MasterKeys
from pilothouse.off_loop import off_loop
from pilothouse.services.clusters import Clusters, unknown_cluster
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.live import LiveReleases
from pilothouse.services.releases.names import unknown_release
from pilothouse.services.releases.pages import (
    PAGE_BYTES,
    PAGE_RELEASES,
    START,
    HistoryPage,
    HistoryRest,
    ReadPage,
    Release,
    ReleaseList,
    fitting,
    shown_size,
    weight,
)
from pilothouse.services.releases.resources import ReleaseResources
from pilothouse.services.releases.shown import ShownReleases
from pilothouse.settings import ReleaseSettings
from pilothouse.states import LIVING_STATES
from pilothouse.store import charts, releases
from pilothouse.store.database import Database
from pilothouse.store.releases import FoundRelease, ListedRelease, Page, RevisionRow

#: What ``helm history`` shows at most.
_MOST_REVISIONS = 256
#: The vendor's add-ons are releases of this name.
_ADDON = "cceaddon-"


@dataclass
class _Asking:
    """Who reads a list, as it is now: rights can end meanwhile."""

    caller: Caller


class ReleaseView:
    """Show and list the releases of a project's clusters."""

    def __init__(
        self,
        database: Database,
        keys: MasterKeys,
        clusters: Clusters,
        settings: ReleaseSettings,
        standing: Standing,
    ) -> None:
        self._database = database
        self._standing = standing
        self._settings = settings
        self._shown = ShownReleases(keys)
        self._live = LiveReleases(database, keys, clusters)
        self._resources = ReleaseResources(clusters)

    async def show(self, caller: Caller, cluster_id: str, *, namespace: str, name: str) -> Release:
        """Return the newest revision, or what an operation is making of it; NotFound if there is neither."""
        caller.require("cce:release:get")
        found = await self._find(caller, cluster_id, namespace=namespace, name=name, revisions=1)
        newest = found.revisions[0] if found.revisions else None
        release = await off_loop(
            lambda: self._shown.newest(found.cluster, newest, found.operation),
            size=weight(ListedRelease(namespace, name, newest, found.operation)),
        )
        if release is None:
            raise unknown_release(name, namespace, cluster_name=found.cluster.name)
        return replace(release, age_seconds=found.freshness.age_seconds)

    async def add_resources(self, caller: Caller, release: Release) -> Release:
        """Return the release with its live objects, read from the cluster, or with the reason why they are unknown.

        While a revision is being written, they are those of the newest stored one. For callers who may not read values,
        the release's values are masked in them.
        """
        hide = not caller.may(READ_VALUES)
        resources = await self._resources.of_release(
            release.cluster_id, namespace=release.namespace, name=release.name, hide_values=hide
        )
        return replace(release, resources_json=resources, resources_hide_values=hide)

    async def show_history(
        self, caller: Caller, cluster_id: str, *, namespace: str, name: str, rest: HistoryRest | None = None
    ) -> HistoryPage:
        """Return every revision that Helm keeps, newest first, led by the one that an operation is writing.

        Page by page: the first one, or the rest after one. NotFound if there is neither a revision nor an operation.
        """
        caller.require("cce:release:get")
        if rest is not None:
            await self._require_still(caller, rest)
        most = rest.most if rest is not None else _MOST_REVISIONS
        found, rows = await self._find_revisions(
            caller, cluster_id, namespace=namespace, name=name, revisions=most, rest=rest
        )
        page = await off_loop(
            lambda: self._history_page(found, rest),
            size=sum(revision.values_text_size for revision in found.revisions) + shown_size(found.operation),
        )
        if rest is None and not page:
            raise unknown_release(name, namespace, cluster_name=found.cluster.name)
        age, left = found.freshness.age_seconds, None
        if found.more:
            below = found.revisions[-1].revision
            late = next((release for release in page if release.revision < below), None)
            page = [release for release in page if release.revision >= below]
            shows_values = caller.may(READ_VALUES)
            left = HistoryRest(below, most - len(found.revisions), rows, late, shows_values=shows_values)
        return HistoryPage([replace(release, age_seconds=age) for release in page], left)

    async def _require_still(self, caller: Caller, rest: HistoryRest) -> None:
        """Return if the caller may still read the rest: reading a history can take long."""
        again = self._standing.again_seconds
        caller = await self._standing.require(caller, "cce:release:get", after_seconds=again)
        if rest.shows_values:
            caller.require(READ_VALUES)

    def _history_page(self, found: FoundRelease, rest: HistoryRest | None) -> list[Release]:
        """Return the revisions, with the one being written in the place of its number, which may be a lower one."""
        revisions = {row.revision: self._shown.from_row(found.cluster, row) for row in found.revisions}
        newest = found.revisions[0] if found.revisions else None
        underway = rest.underway if rest is not None else self._shown.overlay(found.cluster, newest, found.operation)
        if underway is not None:
            revisions[underway.revision] = underway
        return [revisions[number] for number in sorted(revisions, reverse=True)]

    async def list_releases(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str | None,
        chart_id: str | None,
        with_values: bool = True,
    ) -> ReleaseList:
        """Return every release of the cluster; optionally of one namespace or one chart, or without values."""
        caller.require_somewhere("cce:release:list")
        asking = _Asking(caller)
        async with self._database.autocommit() as connection:
            found = await releases.find_index(connection, cluster_id, project_id=caller.project_id)
            if found is None:
                raise unknown_cluster(cluster_id)
            chart = None
            if chart_id is not None:
                chart = await charts.find_chart(connection, chart_id, project_id=caller.project_id)

        async def read(after: tuple[str, str], limit: int) -> Page:
            async with self._database.autocommit() as connection:
                return await releases.read_page(
                    connection,
                    cluster_id,
                    namespace=namespace,
                    after=after,
                    limit=limit,
                    budget_bytes=PAGE_BYTES,
                    with_values=with_values,
                )

        def show(listed: ListedRelease) -> Release | None:
            if self._settings.hide_addons and listed.name.startswith(_ADDON):
                return None
            now = asking.caller
            if now.policies and not now.at(cluster_id, listed.namespace).may("cce:release:list"):
                return None
            release = self._shown.newest(found.cluster, listed.revision, listed.operation)
            if chart_id is None or release is None:
                return release
            return release if _is_of_chart(release, listed, chart_id, chart) else None

        if found.freshness.listed:
            still = self._while_allowed(asking, read, with_values=with_values)
            return ReleaseList(still, show, age_seconds=found.freshness.age_seconds)
        live = await self._read_live(cluster_id, namespace, read)
        return ReleaseList(self._while_allowed(asking, live, with_values=with_values), show, age_seconds=None)

    def _while_allowed(self, asking: _Asking, read: ReadPage, *, with_values: bool) -> ReadPage:
        """Return the same pages while the caller may see them: reading a list can take long."""
        shows_values = with_values and asking.caller.may(READ_VALUES)

        async def read_allowed(after: tuple[str, str], limit: int) -> Page:
            asking.caller = caller = await self._standing.ask(asking.caller, after_seconds=self._standing.again_seconds)
            caller.require_somewhere("cce:release:list")
            if shows_values:
                caller.require(READ_VALUES)
            return await read(after, limit)

        return read_allowed

    async def _find(
        self, caller: Caller, cluster_id: str, *, namespace: str, name: str, revisions: int
    ) -> FoundRelease:
        found, _ = await self._find_revisions(
            caller, cluster_id, namespace=namespace, name=name, revisions=revisions, rest=None
        )
        return found

    async def _find_revisions(
        self,
        caller: Caller,
        cluster_id: str,
        *,
        namespace: str,
        name: str,
        revisions: int,
        rest: HistoryRest | None,
    ) -> tuple[FoundRelease, list[RevisionRow] | None]:
        """Return the release with a page of its revisions, and all of them if they were read from the cluster."""
        async with self._database.autocommit() as connection:
            found = await releases.find_release(
                connection,
                cluster_id,
                project_id=caller.project_id,
                namespace=namespace,
                name=name,
                revisions=revisions,
                below=rest.below if rest is not None else None,
                budget_bytes=PAGE_BYTES,
            )
        if found is None:
            raise unknown_cluster(cluster_id)
        if rest is not None and rest.rows is not None:
            rows = [row for row in rest.rows if row.revision < rest.below]
        elif rest is not None or (found.freshness.listed and not found.freshness.truncated):
            return found, None
        else:
            # The operation was read before the cluster: one that ends in between is then found as a revision.
            rows = await self._live.read_revisions(cluster_id, namespace=namespace, name=name)
        rows = rows[:revisions]
        page = rows[: fitting([row.values_text_size for row in rows])]
        return replace(found, revisions=page, more=len(page) < len(rows)), rows

    async def _read_live(self, cluster_id: str, namespace: str | None, read: ReadPage) -> ReadPage:
        """Return a list from the cluster, in memory; the incomplete index contributes only the operations."""
        listed: dict[tuple[str, str], ListedRelease] = {}
        after, more = START, True
        while more:
            page = await read(after, PAGE_RELEASES)
            listed |= {(release.namespace, release.name): replace(release, revision=None) for release in page.releases}
            more = page.more
            after = (page.releases[-1].namespace, page.releases[-1].name) if page.releases else after
        for row in await self._live.read_newest(cluster_id, namespace=namespace):
            key = (row.namespace, row.name)
            operation = listed[key].operation if key in listed else None
            listed[key] = ListedRelease(*key, revision=row, operation=operation)
        keys = sorted(listed)

        async def read_from_memory(after: tuple[str, str], limit: int) -> Page:
            start = bisect_right(keys, after)
            found = [listed[key] for key in keys[start : start + limit]]
            found = found[: fitting(list(map(weight, found)))]
            return Page(found, more=start + len(found) < len(keys))

        return read_from_memory


def _is_of_chart(release: Release, listed: ListedRelease, chart_id: str, chart: charts.ChartRow | None) -> bool:
    """Compare by the id that an operation recorded; for foreign revisions, by the chart's name and version."""
    recorded = listed.revision.origin_chart_id if listed.revision is not None else ""
    if listed.operation is not None and (listed.operation.state in LIVING_STATES or listed.revision is None):
        recorded = listed.operation.chart_id
    if recorded:
        return recorded == chart_id
    return chart is not None and (release.chart_name, release.chart_version) == (chart.name, chart.version)
