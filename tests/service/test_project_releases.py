"""Lists of releases over all clusters of a project: which, in which order, in which parts, on a real PostgreSQL."""

import itertools
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotFound
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.index import LONGEST_LISTED, LONGEST_MANAGER, cut
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.releases.read import ReleaseView
from pilothouse.settings import ClusterSettings, ReleaseSettings
from pilothouse.store import cluster_watches, clusters, drift, release_index
from pilothouse.store.database import Database
from pilothouse.store.release_index import DeletedSecret, NewRevision
from pilothouse.store.release_lists import SORTS, ReleaseFilter, ReleaseItem, ReleaseSort
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
KEYS = MasterKeys({bytes(8): bytes(32)})
NAMES = ("alpha", "beta", "gamma")


@dataclass(frozen=True)
class Project:
    """A caller, and its clusters ``alpha``, ``beta`` and ``gamma``; the last has not been listed yet."""

    caller: Caller
    database: Database

    def id_of(self, cluster: str) -> str:
        return f"{cluster}-{self.caller.project_id}"

    async def add(self, cluster: str, *releases: tuple[str, str, int, str], epoch: int | None = None, **other: Any):
        """Revisions by namespace, name, number and status."""
        async with self.database.transaction() as tx:
            rows = [revision(*one, **other) for one in releases]
            await release_index.apply_revisions(tx, self.id_of(cluster), rows, epoch=epoch)

    async def listed(
        self, sort: str = "cluster", *, limit: int = 100, hide_addons: bool = False, **conditions: Any
    ) -> list[ReleaseItem]:
        """All pages of a list."""
        lists = ProjectReleases(self.database, ReleaseSettings(hide_addons=hide_addons))
        found: list[ReleaseItem] = []
        order: tuple[Any, ...] | None = ()
        while order is not None:
            page = await lists.list_releases(
                self.caller,
                ReleaseFilter(**conditions),
                sort=ReleaseSort(sort.lstrip("-"), descending=sort.startswith("-"), after=order),
                limit=limit,
                totals=False,
            )
            found += [replace(one, age_seconds=None) for one in page.releases]
            order = page.next
        return found

    async def names(self, sort: str = "cluster", **conditions: Any) -> list[str]:
        return [f"{one.cluster_name}/{one.namespace}/{one.name}" for one in await self.listed(sort, **conditions)]


def revision(namespace: str, name: str, number: int, status: str, **other: Any) -> NewRevision:
    usual: dict[str, Any] = {
        "chart_name": "web",
        "chart_version": "1.0.0",
        "last_deployed": LONG_AGO,
        "deleted_at": None,
        "manager": "",
        "problem": "",
        "resource_version": 10 + number,
    }
    return NewRevision(
        namespace=namespace,
        secret=f"sh.helm.release.v1.{name}.v{number}",
        name=name,
        revision=number,
        uid="uid",
        status=status,
        description="Install complete",
        first_deployed=LONG_AGO,
        values_sealed=None,
        values_text_size=0,
        app_version="7",
        operation_id="",
        **usual | other,
    )


@pytest.fixture
async def project(database: Database) -> AsyncIterator[Project]:
    caller, _, _ = await add_project(database, KEYS)
    made = Project(caller, database)
    async with database.transaction() as tx:
        for name in NAMES:
            await clusters.add_cluster(
                tx,
                cluster_id=made.id_of(name),
                project_id=caller.project_id,
                name=name,
                server="https://x.test",
                kubeconfig_sealed=b"sealed",
            )
            await cluster_watches.add_cluster_watch(tx, made.id_of(name))
            if name != "gamma":
                await cluster_watches.note_listed(tx, made.id_of(name), epoch=0, resource_version=1)
    yield made
    async with database.transaction() as tx:
        for name in NAMES:
            await clusters.remove_cluster(tx, made.id_of(name), project_id=caller.project_id)


async def fill(project: Project) -> None:
    await project.add("beta", ("shop", "web", 1, "superseded"), ("shop", "web", 2, "deployed"))
    await project.add("beta", ("default", "db", 1, "failed"), chart_name="pg", last_deployed=LONG_AGO + timedelta(1))
    await project.add("alpha", ("shop", "web-2", 7, "deployed"), manager="Flux HelmRelease 'web' in namespace 'shop'")
    await project.add("alpha", ("kube-system", "cceaddon-npd", 1, "deployed"), chart_version="2.0")
    await project.add("alpha", ("kube-system", "op", 1, "deployed"), manager="Database 'main' in namespace 'shop'")


async def test_each_release_of_every_cluster_is_listed_once_with_its_newest_revision(project: Project):
    await fill(project)
    found = [(one.cluster_name, one.namespace, one.name, one.revision, one.status) for one in await project.listed()]
    assert found == [
        ("alpha", "kube-system", "cceaddon-npd", 1, "deployed"),
        ("alpha", "kube-system", "op", 1, "deployed"),
        ("alpha", "shop", "web-2", 7, "deployed"),
        ("beta", "default", "db", 1, "failed"),
        ("beta", "shop", "web", 2, "deployed"),
    ]
    assert {one.cluster_id for one in await project.listed(cluster="beta")} == {project.id_of("beta")}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"cluster": "beta"}, ["db", "web"]),
        ({"namespace": "shop"}, ["web-2", "web"]),
        ({"name": "web"}, ["web-2", "web"]),
        ({"name": "%"}, []),
        ({"statuses": ("failed", "unknown")}, ["db"]),
        ({"chart": "pg"}, ["db"]),
        ({"chart": "web-2.0"}, ["cceaddon-npd"]),
        ({"chart": "web-"}, []),
        ({"manager": "flux"}, ["web-2"]),
        ({"manager": "argocd"}, []),
        ({"manager": "operator"}, ["op"]),
        ({"manager": "none", "namespace": "shop"}, ["web"]),
        ({"changed_since": LONG_AGO + timedelta(hours=1)}, ["db"]),
        ({"hide_addons": True, "cluster": "alpha"}, ["op", "web-2"]),
    ],
)
async def test_filters(project: Project, conditions: dict[str, Any], expected: list[str]):
    await fill(project)
    assert [one.name for one in await project.listed(**conditions)] == expected


async def test_a_cluster_is_named_by_its_id_or_its_name(project: Project):
    await fill(project)
    assert await project.names(cluster=project.id_of("alpha")) == await project.names(cluster="alpha")
    stranger, _, _ = await add_project(project.database, KEYS)
    for named in ("nowhere", project.id_of("alpha"), "alpha"):
        with pytest.raises(NotFound, match=named):
            await Project(stranger, project.database).listed(cluster=named)
    assert await Project(stranger, project.database).listed() == []


@pytest.mark.parametrize("sort", [*SORTS, *(f"-{one}" for one in SORTS)])
async def test_pages_are_the_list_in_its_order(project: Project, sort: str):
    await fill(project)
    await accept(
        project.database,
        new_install(project.caller.project_id, "u", cluster_id=project.id_of("alpha"), namespace="shop"),
    )
    whole = await project.listed(sort)
    columns = SORTS[sort.lstrip("-")]
    shown = [{**vars(one), "changed_at": one.uninstalled_at or one.updated_at} for one in whole]
    keys = [tuple(one[column] for column in columns) for one in shown]
    assert keys == sorted(keys, reverse=sort.startswith("-"))
    assert len(whole) == 6
    for limit in (1, 2, 5):
        assert await project.listed(sort, limit=limit) == whole


async def test_totals_count_what_the_other_filters_leave(project: Project):
    await fill(project)
    lists = ProjectReleases(project.database, ReleaseSettings())
    for wanted, totals in (
        (ReleaseFilter(), {"deployed": 4, "failed": 1}),
        (ReleaseFilter(cluster="beta", statuses=("failed",)), {"deployed": 1, "failed": 1}),
    ):
        page = await lists.list_releases(project.caller, wanted, sort=ReleaseSort("name"), limit=1, totals=True)
        assert page.totals == totals
        assert page.incomplete == ([] if wanted.cluster else ["gamma"])


@pytest.mark.parametrize(("denied", "named"), [("alpha", ["gamma"]), ("gamma", [])])
async def test_a_cluster_that_the_caller_may_not_list_is_not_named_as_incomplete(
    project: Project, denied: str, named: list[str]
):
    deny = {
        "Effect": "Deny",
        "Action": ["cce:release:list"],
        "Resource": ["*"],
        "Condition": {"StringEquals": {"cce:ClusterId": project.id_of(denied)}},
    }
    caller = replace(project.caller, policies=(json.dumps({"Version": "5.0", "Statement": [deny]}),))
    lists = ProjectReleases(project.database, ReleaseSettings())
    page = await lists.list_releases(caller, ReleaseFilter(), sort=ReleaseSort("cluster"), limit=1, totals=False)
    assert page.incomplete == named


OPERATIONS = [
    {"action": action, "state": state, "keep_resources": keep, "revision": number, "base_revision": base}
    for action, state, keep, number, base in itertools.product(
        ("install", "upgrade", "rollback", "uninstall"),
        ("queued", "cancelling", "failed", "succeeded"),
        (False, True),
        (None, 3),
        (None, 2),
    )
]


@pytest.mark.parametrize("stored", [None, "deployed", "failed", "superseded", "uninstalled"])
async def test_what_overlays_a_release_is_shown_as_in_the_list_of_its_cluster(project: Project, stored: str | None):
    """SQL and ``ShownReleases`` say the same of every operation over every status."""
    cluster_id, database = project.id_of("alpha"), project.database
    ended = datetime.now(UTC)
    for number, different in enumerate(OPERATIONS):
        name = f"r{number:03}"
        if stored:
            await project.add("alpha", ("shop", name, 1, "superseded"), ("shop", name, 2, stored))
        new = new_install(
            project.caller.project_id, "u", cluster_id=cluster_id, namespace="shop", release_name=name, chart_name="own"
        )
        await accept(database, new)
        with psycopg.connect(database.dsn(), autocommit=True) as connection:
            done = ended if different["state"] in {"failed", "succeeded"} else None
            settings = ", ".join(f"{column} = %({column})s" for column in different)
            connection.execute(
                f"UPDATE operations SET {settings}, finished_at = %(done)s WHERE id = %(id)s",  # noqa: S608
                {**different, "done": done, "id": new.id},
            )
    services = Clusters(database, KEYS, ClusterClients(ClusterSettings()), ClusterSettings())
    view = ReleaseView(database, KEYS, services, ReleaseSettings(), Standing(database, again_seconds=9))
    found = await view.list_releases(project.caller, cluster_id, namespace=None, chart_id=None, with_values=False)
    page = await found.read_page(limit=1000)
    assert page.last is None
    # the vendor's list has no word for a release without a revision
    expected = [
        (
            *(one.name, 0 if (stored, one.status) == (None, "failed") else one.revision, one.status),
            *(one.chart_name, one.chart_version, one.updated_at),
        )
        for one in page.releases
    ]
    listed = [
        (one.name, one.revision, one.status, one.chart_name, one.chart_version, one.updated_at)
        for one in await project.listed(limit=1000)
    ]
    assert listed == expected
    assert len(listed) > (0 if stored is None else 100)


@pytest.mark.parametrize("limit", [1, 100])
async def test_an_uninstalled_release_counts_from_when_it_was_uninstalled(project: Project, limit: int):
    begun = datetime(2026, 11, 1, tzinfo=UTC)
    hours = {"kept": 0, "unknown": 1, "by-helm": 0, "stuck": 0, "runs": 2, "again": 4}
    by_helm = {"kept": 2, "by-helm": 5, "stuck": 6}
    for name, hour in hours.items():
        status = {"runs": "deployed", "again": "deployed", "stuck": "uninstalling"}.get(name, "uninstalled")
        deleted_at = begun + timedelta(hours=by_helm[name]) if name in by_helm else None
        last_deployed = begun + timedelta(hours=hour)
        await project.add("alpha", ("shop", name, 1, status), last_deployed=last_deployed, deleted_at=deleted_at)
    for name in ("kept", "again"):
        new = new_install(
            project.caller.project_id, "u", cluster_id=project.id_of("alpha"), namespace="shop", release_name=name
        )
        await accept(project.database, new)
        with psycopg.connect(project.database.dsn(), autocommit=True) as connection:
            connection.execute(
                "UPDATE operations SET action = 'uninstall', state = 'succeeded', finished_at = %s WHERE id = %s",
                [begun + timedelta(hours=3), new.id],
            )
    found = await project.listed("-updated", limit=limit)
    assert [one.name for one in found] == ["stuck", "by-helm", "again", "kept", "runs", "unknown"]
    ended = {one.name: one.uninstalled_at and (one.uninstalled_at - begun) // timedelta(hours=1) for one in found}
    assert ended == {"stuck": 6, "by-helm": 5, "again": None, "kept": 3, "runs": None, "unknown": None}
    assert [one.updated_at - begun for one in found if one.name == "kept"] == [timedelta()]
    since = begun + timedelta(hours=2, minutes=30)
    assert [one.name for one in await project.listed("updated", changed_since=since)] == [
        *("kept", "again", "by-helm", "stuck")
    ]


async def test_the_indexes_of_all_clusters_are_told_at_once_as_each_alone(project: Project):
    await project.add("beta", ("shop", "web", 1, "deployed"), ("shop", "odd", 1, "deployed"))
    await project.add("beta", ("shop", "bad", 1, ""), ("shop", "worse", 2, ""), problem="it is no release")
    services = Clusters(project.database, KEYS, ClusterClients(ClusterSettings()), ClusterSettings())
    assert await services.list_names(project.caller) == {project.id_of(name): name for name in NAMES}
    together = await services.list_indexes(project.caller)
    assert together.keys() == {project.id_of(name) for name in NAMES}
    for cluster_id, one in together.items():
        alone = await services.show_index(project.caller, cluster_id)
        assert replace(one.freshness, age_seconds=None) == replace(alone.freshness, age_seconds=None)
        assert one.unreadable.count == alone.unreadable.count == (2 if cluster_id == project.id_of("beta") else 0)
    assert [together[project.id_of(name)].freshness.listed for name in NAMES] == [True, True, False]


async def test_a_release_whose_newest_revision_was_deleted_is_still_listed(project: Project):
    """Superseded revisions are left out of the index of the newest ones, until one of them is the newest."""
    await project.add(
        "alpha", *(("shop", "web", number, "superseded") for number in (1, 2)), ("shop", "web", 3, "failed")
    )
    async with project.database.transaction() as tx:
        gone = DeletedSecret("shop", "sh.helm.release.v1.web.v3", 99)
        await release_index.mark_deleted(tx, project.id_of("alpha"), [gone], epoch=0)
    assert [(one.revision, one.status) for one in await project.listed()] == [(2, "unknown")]
    await project.add("alpha", ("shop", "web", 4, "deployed"))
    assert [(one.revision, one.status) for one in await project.listed()] == [(4, "deployed")]


async def test_a_superseded_revision_that_is_alone_is_listed(project: Project):
    await project.add("alpha", ("shop", "web", 5, "superseded"))
    assert [(one.revision, one.status) for one in await project.listed()] == [(5, "unknown")]


@pytest.mark.parametrize("kept", [("web", 1), ("web", 2)])
async def test_a_list_of_the_cluster_finds_what_is_the_newest_now(project: Project, kept: tuple[str, int]):
    await project.add("alpha", ("shop", "web", 1, "superseded"), ("shop", "web", 2, "deployed"))
    secret = f"sh.helm.release.v1.{kept[0]}.v{kept[1]}"
    async with project.database.transaction() as tx:
        await release_index.mark_missing_deleted(
            tx, project.id_of("alpha"), epoch=0, resource_version=99, kept=[("shop", secret)]
        )
    assert [one.revision for one in await project.listed()] == [kept[1]]
    query = "SELECT revision FROM release_revisions WHERE cluster_id = %s AND exposed"
    with psycopg.connect(project.database.dsn()) as connection:
        exposed = connection.execute(query, [project.id_of("alpha")]).fetchall()
    assert exposed == ([(1,)] if kept[1] == 1 else [])


async def test_a_secret_that_becomes_unreadable_uncovers_the_revision_before_it(project: Project):
    await project.add("alpha", ("shop", "web", 1, "superseded"), ("shop", "web", 2, "deployed"))
    damaged = revision("shop", "web", 2, "", resource_version=50)
    async with project.database.transaction() as tx:
        rows = [NewRevision(**vars(damaged) | {"name": "", "revision": 0, "problem": "damaged"})]
        await release_index.apply_revisions(tx, project.id_of("alpha"), rows)
    assert [(one.revision, one.status) for one in await project.listed()] == [(1, "unknown")]


async def test_the_longest_texts_that_are_read_of_a_secret_can_be_listed(project: Project):
    """They are in an index, whose entries PostgreSQL limits: random ones, which it cannot compress."""
    chance = random.Random(1)  # noqa: S311 - no secret

    def any_text(longest: int) -> str:
        found = cut("".join(chr(chance.randrange(0x10000, 0x110000)) for _ in range(longest)), longest)
        assert longest - 3 <= len(found.encode()) <= longest
        return found

    names = ("chart_name", "chart_version", "app_version")
    texts: dict[str, Any] = {name: any_text(LONGEST_LISTED) for name in names}
    texts["manager"] = any_text(LONGEST_MANAGER)
    row = replace(revision("n" * 63, "r" * 253, 2**31 - 1, any_text(LONGEST_LISTED)), **texts)
    async with project.database.transaction() as tx:
        await release_index.apply_revisions(tx, project.id_of("alpha"), [row])
    [listed] = await project.listed()
    assert {name: getattr(listed, name) for name in texts} == texts


async def test_drift_of_the_last_look_is_shown_and_filtered_by(project: Project):
    await project.add(
        "alpha",
        *(("shop", name, 2, "deployed") for name in ("changed", "clean", "newer", "unseen")),
        ("shop", "failed", 3, "failed"),
    )
    await project.add("beta", ("shop", "unreadable", 2, "deployed"))
    nothing = {"added": 0, "changed": 0, "removed": 0, "unknown": 1}
    looks = {"changed": (2, 1), "clean": (2, 0), "newer": (1, 1), "failed": (2, 1)}
    async with project.database.transaction() as tx:
        for name, (number, changed) in looks.items():
            found = nothing | {"changed": changed}
            await drift.record_look(
                tx, project.id_of("alpha"), namespace="shop", name=name, revision=number, found=found
            )
        await drift.record_look(
            tx, project.id_of("beta"), namespace="shop", name="unreadable", revision=2, found=nothing
        )
        await drift.record_problem(
            tx, project.id_of("beta"), namespace="shop", name="unreadable", problem="no right to patch"
        )
    assert {one.name: one.drifted for one in await project.listed()} == {
        "changed": True,
        "clean": False,
        "failed": True,
        "newer": None,
        "unreadable": None,
        "unseen": None,
    }
    for sort in ("cluster", "-updated"):
        assert {one.name for one in await project.listed(sort, drifted=True, limit=1)} == {"changed", "failed"}
        assert [one.name for one in await project.listed(sort, drifted=False)] == ["clean"]
        unlooked = {one.name for one in await project.listed(sort, unlooked=True, limit=1)}
        assert unlooked == {"newer", "unreadable", "unseen"}


async def test_a_look_at_what_is_deployed_no_more_tells_nothing(project: Project):
    rows = {
        "failed-since": (("superseded", 1), ("deployed", 2), ("failed", 3)),
        "mended-since": (("superseded", 1), ("superseded", 2), ("deployed", 3), ("failed", 4)),
        "uninstalled": (("superseded", 1), ("uninstalled", 2)),
        "never-deployed": (("failed", 2), ("failed", 3)),
    }
    for name, revisions in rows.items():
        await project.add("alpha", *(("shop", name, number, status) for status, number in revisions))
    found, alpha = {"added": 0, "changed": 1, "removed": 0, "unknown": 0}, project.id_of("alpha")
    async with project.database.transaction() as tx:
        for name in rows:
            await drift.record_look(tx, alpha, namespace="shop", name=name, revision=2, found=found)
        looks = {name: await drift.find_look(tx, alpha, namespace="shop", name=name) for name in rows}
    assert {one.name: one.drifted for one in await project.listed()} == {
        "failed-since": True,
        "mended-since": None,
        "never-deployed": True,
        "uninstalled": None,
    }
    assert await project.names(drifted=True) == ["alpha/shop/failed-since", "alpha/shop/never-deployed"]
    assert await project.names(drifted=False) == []
    assert await project.names(unlooked=True) == ["alpha/shop/mended-since"]
    async with project.database.transaction() as tx:
        due = await drift.find_due(tx, alpha, older_seconds=3600)
    assert due == drift.DueLook("shop", "mended-since")
    assert {name: look.outdated for name, look in looks.items() if look is not None} == {
        "failed-since": False,
        "mended-since": True,
        "never-deployed": False,
        "uninstalled": True,
    }


async def test_an_uninstalled_release_whose_next_install_failed_shows_no_drift_of_before(project: Project):
    await project.add("alpha", ("shop", "web", 1, "uninstalled"))
    found, alpha = {"added": 0, "changed": 1, "removed": 0, "unknown": 0}, project.id_of("alpha")
    async with project.database.transaction() as tx:
        await drift.record_look(tx, alpha, namespace="shop", name="web", revision=1, found=found)
    new = new_install(
        project.caller.project_id, "u", cluster_id=alpha, namespace="shop", release_name="web", chart_name="web"
    )
    await accept(project.database, new)
    with psycopg.connect(project.database.dsn(), autocommit=True) as connection:
        connection.execute(
            "UPDATE operations SET state = 'failed', base_revision = 1, finished_at = now() WHERE id = %s", [new.id]
        )
    assert [(one.status, one.drifted) for one in await project.listed()] == [("failed", None)]
    assert await project.names(drifted=True) == []


@pytest.mark.parametrize("by_list", [False, True])
async def test_a_release_that_is_made_anew_has_no_look_of_the_one_before(project: Project, *, by_list: bool):
    await project.add("alpha", ("shop", "web", 1, "deployed"), ("shop", "other", 1, "deployed"))
    found, alpha = {"added": 0, "changed": 1, "removed": 0, "unknown": 0}, project.id_of("alpha")
    async with project.database.transaction() as tx:
        for name in ("web", "other"):
            await drift.record_look(tx, alpha, namespace="shop", name=name, revision=1, found=found)
        if by_list:  # as a worker does after an uninstall
            await release_index.mark_missing_deleted(
                tx, alpha, resource_version=99, kept=[], namespace="shop", name="web"
            )
        else:
            gone = DeletedSecret("shop", "sh.helm.release.v1.web.v1", 99)
            await release_index.mark_deleted(tx, alpha, [gone], epoch=0)
    await project.add("alpha", ("shop", "web", 1, "deployed"), resource_version=100)
    assert {one.name: one.drifted for one in await project.listed()} == {"web": None, "other": True}


async def test_looks_are_due_by_age_and_revision_and_swept_with_their_releases(project: Project):
    await project.add("alpha", *(("shop", name, 2, "deployed") for name in ("clean", "newer", "old")))
    await project.add("alpha", ("shop", "unseen", 2, "deployed"), last_deployed=LONG_AGO + timedelta(days=1))
    await project.add("alpha", ("shop", "busy", 2, "pending-upgrade"))
    nothing = {"added": 0, "changed": 0, "removed": 0, "unknown": 0}
    alpha = project.id_of("alpha")
    async with project.database.transaction() as tx:
        for name, number in (("clean", 2), ("newer", 1), ("old", 2), ("gone", 1)):
            await drift.record_look(tx, alpha, namespace="shop", name=name, revision=number, found=nothing)
    with psycopg.connect(project.database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE drift_looks SET looked_at = now() - interval '2 hours' WHERE name = 'old'")
    looked = []
    async with project.database.transaction() as tx:
        while (due := await drift.find_due(tx, alpha, older_seconds=3600)) is not None:
            looked.append(due.name)
            await drift.record_look(tx, alpha, namespace="shop", name=due.name, revision=2, found=nothing)
        assert looked == ["unseen", "newer", "old"]
        assert await drift.sweep_looks(tx) >= 1
        assert await drift.find_look(tx, alpha, namespace="shop", name="gone") is None
        assert await drift.find_look(tx, alpha, namespace="shop", name="clean") is not None


async def test_a_change_of_drift_is_announced_once(project: Project):
    await project.add("alpha", ("shop", "web", 1, "deployed"))
    alpha, clean = project.id_of("alpha"), {"added": 0, "changed": 0, "removed": 0, "unknown": 0}
    with psycopg.connect(project.database.dsn(), autocommit=True) as listener:
        listener.execute("LISTEN pilothouse_operation_news")
        for changed in (0, 1, 2, 0, 0):
            async with project.database.transaction() as tx:
                found = clean | {"changed": changed}
                await drift.record_look(tx, alpha, namespace="shop", name="web", revision=1, found=found)
        told = [one.payload for one in listener.notifies(timeout=0.5)]
    assert told == [f"{alpha}/shop/web/drift"] * 2
