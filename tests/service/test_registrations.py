"""One API server that is registered several times: what is at work on a release through another registration."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import AtWorkElsewhere
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.operations.read import Operations
from pilothouse.services.releases.elsewhere import AtWork, refuse_unlock_elsewhere, show_elsewhere
from pilothouse.store import clusters, operations, tables
from pilothouse.store.clusters import ClusterRow
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project

RELEASE = {"namespace": "default", "name": "web"}


@pytest.fixture
def keys(tmp_path: Path) -> MasterKeys:
    return MasterKeys.load_or_create(tmp_path / "master.key")


@pytest.fixture
async def caller(own_database: Database, keys: MasterKeys) -> Caller:
    return (await add_project(own_database, keys))[0]


async def register(database: Database, caller: Caller, name: str, **different: str) -> ClusterRow:
    usual: dict[str, Any] = {"server": "https://one.example.com:443", "identity": ""}
    async with database.transaction() as tx:
        row = await clusters.add_cluster(
            tx,
            cluster_id=uuid.uuid4().hex,
            project_id=caller.project_id,
            name=name,
            kubeconfig_sealed=b"sealed",
            **(usual | different),
        )
    assert row is not None
    return row


async def queue(database: Database, caller: Caller, cluster: ClusterRow, **different: Any) -> OperationRow:
    new = new_install(caller.project_id, caller.user_id, cluster_id=cluster.id, **different)
    return await accept(database, new)


async def begin(database: Database, caller: Caller, cluster: ClusterRow, **different: Any) -> OperationRow:
    """Accept an operation, and let it be about to write a revision."""
    row = await queue(database, caller, cluster, **different)
    async with database.transaction() as tx:
        await tx.execute(update(tables.operations).values(revision=1).where(tables.operations.c.id == row.id))
    return row


async def end(database: Database, row: OperationRow) -> None:
    async with database.transaction() as tx:
        ended = await operations.cancel(tx, row.id, keep=False, underway="", ended="Cancelled")
    assert ended is not None
    assert ended.finished_at is not None


async def shown(database: Database, caller: Caller, cluster: ClusterRow) -> AtWork | None:
    async with database.autocommit() as connection:
        return await show_elsewhere(connection, caller, cluster.id, **RELEASE)


async def refuse(database: Database, caller: Caller, cluster: ClusterRow) -> None:
    async with database.autocommit() as connection:
        await refuse_unlock_elsewhere(connection, caller, cluster.id, **RELEASE)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {}),
        ({}, {"server": "https://ONE.example.com/"}),
        ({"identity": "uid-1"}, {"identity": "uid-1", "server": "https://192.0.2.1:6443"}),
    ],
    ids=["same URL", "other spelling", "same identity"],
)
async def test_an_operation_through_another_registration_is_found(
    own_database: Database, caller: Caller, here: dict[str, str], there: dict[str, str]
):
    one = await register(own_database, caller, "one", **here)
    two = await register(own_database, caller, "two", **there)
    at_work = await begin(own_database, caller, one)

    assert await shown(own_database, caller, two) == AtWork(at_work.id, "install", "queued", "one")
    with pytest.raises(AtWorkElsewhere, match=rf"through cluster 'one'.*\(operation {at_work.id}\)"):
        await refuse(own_database, caller, two)
    assert await shown(own_database, caller, one) is None, "its own operations are told otherwise"
    await refuse(own_database, caller, one)


@pytest.mark.parametrize(
    "different",
    [{"server": "https://two.example.com"}, {"server": "https://one.example.com:8443"}],
    ids=["other host", "other port"],
)
async def test_another_cluster_is_no_registration_of_this_one(
    own_database: Database, caller: Caller, different: dict[str, str]
):
    one = await register(own_database, caller, "one")
    two = await register(own_database, caller, "two", **different)
    await begin(own_database, caller, one)

    assert await shown(own_database, caller, two) is None
    await refuse(own_database, caller, two)


async def test_what_has_not_begun_has_locked_nothing(own_database: Database, caller: Caller):
    one, two = await register(own_database, caller, "one"), await register(own_database, caller, "two")
    await queue(own_database, caller, one)

    assert await shown(own_database, caller, two) is None
    await refuse(own_database, caller, two)


async def test_another_project_claims_no_cluster_by_what_its_server_says_of_itself(
    own_database: Database, caller: Caller, keys: MasterKeys
):
    other, _, _ = await add_project(own_database, keys)
    pretender = await register(own_database, other, "pretender", server="https://192.0.2.1", identity="uid-1")
    ours = await register(own_database, caller, "ours", identity="uid-1")
    await begin(own_database, other, pretender)
    assert await shown(own_database, caller, ours) is None
    await refuse(own_database, caller, ours)
    await begin(own_database, caller, ours)
    assert await shown(own_database, other, pretender) is None


@pytest.mark.parametrize("different", [{"namespace": "other"}, {"release_name": "other"}])
async def test_another_release_is_not_meant(own_database: Database, caller: Caller, different: dict[str, str]):
    one, two = await register(own_database, caller, "one"), await register(own_database, caller, "two")
    await begin(own_database, caller, one, **different)

    assert await shown(own_database, caller, two) is None
    await refuse(own_database, caller, two)


async def test_of_another_project_only_that_something_is_at_work_is_told(
    own_database: Database, caller: Caller, keys: MasterKeys
):
    other, _, _ = await add_project(own_database, keys)
    theirs, ours = await register(own_database, other, "secret-name"), await register(own_database, caller, "two")
    at_work = await begin(own_database, other, theirs)

    assert await shown(own_database, caller, ours) == AtWork()
    with pytest.raises(AtWorkElsewhere) as refused:
        await refuse(own_database, caller, ours)
    assert "an operation of Pilothouse is at work on it through another registration" in str(refused.value)
    assert at_work.id not in str(refused.value)
    assert "secret-name" not in str(refused.value)


async def test_of_two_the_own_one_is_told(own_database: Database, caller: Caller, keys: MasterKeys):
    other, _, _ = await add_project(own_database, keys)
    theirs, ours = await register(own_database, other, "one"), await register(own_database, caller, "one")
    two = await register(own_database, caller, "two")
    await begin(own_database, other, theirs)
    at_work = await begin(own_database, caller, ours)

    found = await shown(own_database, caller, two)
    assert found is not None
    assert found.operation_id == at_work.id


async def test_who_may_see_nothing_at_the_other_registration_is_told_no_more_than_another_project(
    own_database: Database, caller: Caller
):
    one, two = await register(own_database, caller, "one"), await register(own_database, caller, "two")
    await begin(own_database, caller, one)
    only_two = (
        '{"Version": "5.0", "Statement": [{"Effect": "Allow", "Action": ["cce:release:*"], '
        f'"Condition": {{"StringEquals": {{"cce:ClusterId": ["{two.id}"]}}}}}}]}}'
    )
    limited = replace(caller, roles=frozenset(), account_roles=frozenset(), policies=(only_two,))
    assert limited.at(two.id, "default").may("cce:release:get")

    assert await shown(own_database, limited, two) == AtWork()


async def test_what_has_ended_is_told_for_some_time_and_stands_in_nobodys_way(own_database: Database, caller: Caller):
    one, two = await register(own_database, caller, "one"), await register(own_database, caller, "two")
    ended = await begin(own_database, caller, one)
    await end(own_database, ended)

    assert await shown(own_database, caller, two) == AtWork(ended.id, "install", "cancelled", "one")
    await refuse(own_database, caller, two)


async def test_the_operations_of_a_release_are_those_of_all_its_registrations_in_the_project_alone(
    own_database: Database, caller: Caller, keys: MasterKeys
):
    reads = Operations(own_database, Notifications(own_database), Standing(own_database, again_seconds=5))
    other = (await add_project(own_database, keys))[0]
    one, two = [await register(own_database, caller, name) for name in ("one", "two")]
    far = await register(own_database, caller, "far", server="https://far.example.com")
    theirs = await register(own_database, other, "theirs")
    known = []
    for who, cluster in ((caller, one), (caller, two), (caller, far), (other, theirs)):
        known.append(await queue(own_database, who, cluster))
        await end(own_database, known[-1])

    async def listed(who: Caller, cluster: ClusterRow) -> list[str]:
        place = {"cluster_id": cluster.id, "namespace": RELEASE["namespace"], "release_name": RELEASE["name"]}
        return [row.id for row in await reads.list_of_release(who, **place, limit=9)]

    assert await listed(caller, one) == await listed(caller, two) == [known[1].id, known[0].id]
    assert await listed(other, theirs) == [known[3].id]
    assert await listed(other, one) == [known[3].id]
