"""Lists of releases: which releases are in them, in which order, and in which parts, on a real PostgreSQL."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotAuthenticated, NotFound
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.pages import Release
from pilothouse.services.releases.read import ReleaseView
from pilothouse.settings import ClusterSettings, ReleaseSettings
from pilothouse.store import access_keys, cluster_watches, clusters, policies, release_index
from pilothouse.store.database import Database
from pilothouse.store.policies import AttachmentRow
from pilothouse.store.release_index import NewRevision
from tests.support.tenants import add_project

CLUSTER = "listed-cluster"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SEALED_BYTES = 1_000_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> MasterKeys:
    return MasterKeys.load_or_create(tmp_path_factory.mktemp("keys") / "master.key")


@pytest.fixture
async def caller(database: Database, keys: MasterKeys) -> AsyncIterator[Caller]:
    """Whoever owns a cluster whose index is complete."""
    made, _, _ = await add_project(database, keys)
    async with database.transaction() as tx:
        await clusters.add_cluster(
            tx,
            cluster_id=CLUSTER,
            project_id=made.project_id,
            name="listed",
            server="https://x.test",
            kubeconfig_sealed=b"sealed",
        )
        await cluster_watches.add_cluster_watch(tx, CLUSTER)
        await cluster_watches.note_listed(tx, CLUSTER, epoch=0, resource_version=1)
    yield made
    async with database.transaction() as tx:
        await clusters.remove_cluster(tx, CLUSTER, project_id=made.project_id)


def view(database: Database, keys: MasterKeys, **settings: bool) -> ReleaseView:
    reached = ClusterSettings()
    services = Clusters(database, keys, ClusterClients(reached), reached)
    return ReleaseView(database, keys, services, ReleaseSettings(**settings), Standing(database, again_seconds=0.2))


async def add(database: Database, *releases: tuple[str, str, int, str], values: bytes | None = None) -> None:
    """Revisions by namespace, name, number and status."""
    rows = [
        NewRevision(
            namespace=namespace,
            secret=f"sh.helm.release.v1.{name}.v{number}",
            name=name,
            revision=number,
            resource_version=10 + number,
            problem="",
            uid="uid",
            status=status,
            description="Install complete",
            chart_name="web",
            chart_version="1.0.0",
            first_deployed=LONG_AGO,
            last_deployed=LONG_AGO,
            deleted_at=None,
            values_sealed=values,
            values_text_size=len(values or b""),
            app_version="1.0",
            manager="",
            operation_id="",
        )
        for namespace, name, number, status in releases
    ]
    async with database.transaction() as tx:
        await release_index.apply_revisions(tx, CLUSTER, rows)


async def listed(
    shown: ReleaseView, caller: Caller, *, limit: int = 100, namespace: str | None = None
) -> list[Release]:
    found = await shown.list_releases(caller, CLUSTER, namespace=namespace, chart_id=None, with_values=False)
    page = await found.read_page(limit=limit)
    releases = [*page.releases]
    while page.last is not None:
        page = await found.read_page(page.last, limit=limit)
        releases += page.releases
    return releases


async def test_each_release_is_listed_once_with_its_newest_revision(
    database: Database, keys: MasterKeys, caller: Caller
):
    await add(
        database,
        ("shop", "web", 9, "superseded"),
        ("shop", "web", 10, "failed"),
        ("shop", "a.b", 1, "deployed"),
        ("shop", "a-b", 1, "deployed"),
        ("other", "web", 2, "deployed"),
        ("shop-2", "web", 3, "superseded"),
    )
    expected = [
        ("other", "web", 2, "deployed"),
        ("shop", "a-b", 1, "deployed"),
        ("shop", "a.b", 1, "deployed"),
        ("shop", "web", 10, "failed"),
        ("shop-2", "web", 3, "unknown"),
    ]
    for limit in (1, 2, 4, 5, 100):
        found = await listed(view(database, keys), caller, limit=limit)
        assert [(one.namespace, one.name, one.revision, one.status) for one in found] == expected
    found = await listed(view(database, keys), caller, limit=2, namespace="shop")
    assert [one.name for one in found] == ["a-b", "a.b", "web"]


async def test_addons_can_be_left_out(database: Database, keys: MasterKeys, caller: Caller):
    await add(database, ("kube-system", "cceaddon-npd", 1, "deployed"), ("kube-system", "web", 1, "deployed"))
    for hidden, names in ((False, ["cceaddon-npd", "web"]), (True, ["web"])):
        found = await listed(view(database, keys, hide_addons=hidden), caller)
        assert [one.name for one in found] == names


async def test_large_values_make_short_pages(database: Database, keys: MasterKeys, caller: Caller):
    await add(
        database,
        *(("shop", f"r{number:02}", 1, "deployed") for number in range(12)),
        values=bytes(SEALED_BYTES),
    )
    found = await view(database, keys).list_releases(caller, CLUSTER, namespace=None, chart_id=None, with_values=False)
    page = await found.read_page()
    assert 1 <= len(page.releases) < 12
    assert page.last == ("shop", page.releases[-1].name)
    assert [one.name for one in await listed(view(database, keys), caller)] == [f"r{n:02}" for n in range(12)]


@pytest.mark.parametrize("damaged", [b"damaged", b"unpackable", b"no text"])
async def test_values_that_do_not_open_leave_the_rest_of_the_list(
    database: Database, keys: MasterKeys, caller: Caller, damaged: bytes
):
    context = f"release:{CLUSTER}/shop/sh.helm.release.v1.broken.v1"
    forms = {b"unpackable": b"\x01no zlib", b"no text": b"\x00\xff"}
    sealed = keys.seal(forms[damaged], context=context) if damaged in forms else damaged
    await add(database, ("shop", "broken", 1, "deployed"), values=sealed)
    await add(database, ("shop", "whole", 1, "deployed"))
    found = await view(database, keys).list_releases(caller, CLUSTER, namespace=None, chart_id=None)
    page = await found.read_page()
    assert [(one.name, one.values_json) for one in page.releases] == [("broken", None), ("whole", "")]


async def test_a_list_that_is_taken_slowly_ends_with_the_key_that_asked_for_it(
    database: Database, keys: MasterKeys, caller: Caller
):
    await add(database, *(("shop", f"r{number}", 1, "deployed") for number in range(4)))
    found = await view(database, keys).list_releases(caller, CLUSTER, namespace=None, chart_id=None)
    page = await found.read_page(limit=2)
    assert page.last is not None
    assert caller.proof is not None
    async with database.transaction() as tx:
        await access_keys.set_enabled(tx, caller.proof.id, enabled=False)
    await asyncio.sleep(0.3)
    with pytest.raises(NotAuthenticated):
        await found.read_page(page.last, limit=2)


async def test_a_list_that_is_taken_slowly_leaves_out_what_is_denied_meanwhile(
    database: Database, keys: MasterKeys, caller: Caller
):
    await add(database, *((namespace, "web", 1, "deployed") for namespace in ("a-first", "b-denied", "c-last")))
    found = await view(database, keys).list_releases(caller, CLUSTER, namespace=None, chart_id=None, with_values=False)
    page = await found.read_page(limit=1)
    assert page.last is not None
    there = {"StringEquals": {"pilothouse:Namespace": ["b-denied"]}}
    deny = {"Effect": "Deny", "Action": ["cce:release:list"], "Condition": there}
    document, policy_id = json.dumps({"Version": "1.1", "Statement": [deny]}), uuid.uuid4().hex
    async with database.transaction() as tx:
        await policies.add_policy(tx, policy_id=policy_id, domain_id=caller.domain_id, name="walls", document=document)
        assert await policies.attach(tx, policy_id, AttachmentRow(caller.user_id, None, caller.project_id))
    await asyncio.sleep(0.3)
    rest = await found.read_page(page.last, limit=10)
    assert [one.namespace for one in rest.releases] == ["c-last"]


async def test_another_projects_cluster_does_not_exist(database: Database, keys: MasterKeys, caller: Caller):
    stranger, _, _ = await add_project(database, keys)
    for call in (
        view(database, keys).list_releases(stranger, CLUSTER, namespace=None, chart_id=None),
        view(database, keys).show(stranger, CLUSTER, namespace="shop", name="web"),
        view(database, keys).show_history(stranger, CLUSTER, namespace="shop", name="web"),
    ):
        with pytest.raises(NotFound, match=CLUSTER):
            await call
    assert await listed(view(database, keys), caller) == []
