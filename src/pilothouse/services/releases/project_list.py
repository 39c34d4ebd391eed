"""Lists of releases over all clusters of a project, from the index alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from pilothouse.services.clusters import unknown_cluster
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.elsewhere import list_elsewhere
from pilothouse.settings import ReleaseSettings
from pilothouse.states import UNSETTLED
from pilothouse.store import release_lists as store
from pilothouse.store.database import Database
from pilothouse.store.release_lists import RELEASE_FIELDS, ReleaseFilter, ReleaseItem, ReleaseSort

R = TypeVar("R")


@dataclass(frozen=True)
class ProjectPage(Generic[R]):
    """A page of a list; ``next`` is where the next one begins, None at the end.

    ``totals``: how many releases have each status; None unless requested. ``incomplete``: names of the clusters whose
    index lacks releases, of those in which the caller may list some. ``elsewhere``: cluster, namespace and name of
    those on which an operation of another registration of the API server is at work; only of a page of items.
    """

    releases: Sequence[R]
    next: tuple[Any, ...] | None
    totals: Mapping[str, int] | None
    incomplete: list[str]
    elsewhere: frozenset[tuple[str, str, str]] = frozenset()


class ProjectReleases:
    """List the releases of all clusters of a project."""

    def __init__(self, database: Database, settings: ReleaseSettings) -> None:
        self._database = database
        self._settings = settings

    async def list_releases(
        self, caller: Caller, filters: ReleaseFilter, *, sort: ReleaseSort, limit: int, totals: bool
    ) -> ProjectPage[ReleaseItem]:
        """Return a page of the matching releases; NotFound for a cluster that the project does not have.

        The totals are those of every status: the filter's own statuses do not count for them. Callers who may not list
        sources are not told of them.
        """
        caller.require_somewhere("cce:release:list")
        page = await self.list_rows(caller, filters, RELEASE_FIELDS, sort=sort, limit=limit, totals=totals)
        items = [ReleaseItem(*row[: len(RELEASE_FIELDS)]) for row in page.releases]
        elsewhere = await self._elsewhere(caller, items)
        return ProjectPage(items, page.next, page.totals, page.incomplete, elsewhere)

    async def _elsewhere(self, caller: Caller, items: Sequence[ReleaseItem]) -> frozenset[tuple[str, str, str]]:
        """Return which of these look locked and are at work elsewhere."""
        stuck = {
            (item.cluster_id, item.namespace, item.name)
            for item in items
            if not item.operation_id and item.status in UNSETTLED
        }
        if not stuck:
            return frozenset()
        async with self._database.autocommit() as connection:
            return await list_elsewhere(connection, caller.project_id) & stuck

    async def list_rows(
        self,
        caller: Caller,
        wanted: ReleaseFilter,
        fields: Sequence[str],
        *,
        sort: ReleaseSort,
        limit: int,
        totals: bool,
    ) -> ProjectPage[Sequence[Any]]:
        """Return the same page as rows that begin with those fields; others may follow."""
        caller.require_somewhere("cce:release:list")
        if wanted.update_available is not None or wanted.update_unknown or wanted.source:
            caller.require("cce:source:list")
        project_id = caller.project_id
        wanted = replace(wanted, hide_addons=self._settings.hide_addons)
        async with self._database.autocommit() as connection:
            index = await store.find_project_index(connection, project_id=project_id, cluster=wanted.cluster)
            if wanted.cluster and not index.clusters:
                raise unknown_cluster(wanted.cluster)
            all_places = partial(store.list_places, connection, project_id=project_id)
            if (places := await caller.limited_to("cce:release:list", all_places)) is not None:
                wanted = replace(wanted, places=tuple(places))
            if wanted.locked:
                wanted = replace(wanted, elsewhere=tuple(await list_elsewhere(connection, project_id)))
            columns = (*fields, *(column for column in sort.columns if column not in fields))
            found = await store.list_rows(
                connection,
                columns,
                project_id=project_id,
                filters=wanted,
                sort=sort,
                limit=limit + 1,
                with_sources=caller.may("cce:source:list"),
            )
            counted = None
            if totals:
                every = replace(wanted, statuses=())
                counted = await store.count_statuses(connection, project_id=project_id, filters=every)
        last = found[limit - 1] if len(found) > limit else None
        return ProjectPage(
            found[:limit],
            tuple(last[columns.index(column)] for column in sort.columns) if last is not None else None,
            counted,
            [name for cluster_id, name in index.incomplete if caller.at(cluster_id).may_somewhere("cce:release:list")],
        )
