"""What a caller is shown of operations who may see them, and not list them, or the other way round."""

import json

import psycopg
import pytest

from pilothouse.queue import Queue
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.operations.read import Operations
from pilothouse.store import operation_events
from pilothouse.store.database import Database
from pilothouse.store.operations import OperationRow
from tests.support.operations import accept, new_install

_MADE = (
    "INSERT INTO domains (id, name) VALUES ('d', 'd')",
    "INSERT INTO projects (id, domain_id, name) VALUES ('p', 'd', 'p')",
    "INSERT INTO users (id, domain_id, name, password_hash) VALUES ('u', 'd', 'u', '')",
    "INSERT INTO clusters (id, project_id, name, server, kubeconfig_sealed) VALUES ('c', 'p', 'c', '', '')",
    "INSERT INTO cluster_watches (cluster_id) VALUES ('c')",
)


def with_policy(action: str, **condition: object) -> Caller:
    document = {"Version": "5.0", "Statement": [{"Effect": "Allow", "Action": action, **condition}]}
    return Caller("u", "u", "d", "d", "p", policies=(json.dumps(document),))


@pytest.fixture
async def running(own_database: Database) -> OperationRow:
    """An operation that says what it does."""
    async with await psycopg.AsyncConnection.connect(own_database.dsn(), autocommit=True) as tables:
        for statement in _MADE:
            await tables.execute(statement)
    await accept(own_database, new_install("p", "u", cluster_id="c"))
    row = await Queue(own_database, poll_seconds=1).take(worker="one", lease_seconds=60)
    assert row is not None
    async with own_database.transaction() as tx:
        await operation_events.add_event(tx, row.id, attempt=1, kind="wait_progress", text="2 of 3 pods")
    return row


async def test_what_an_operation_does_now_is_for_those_who_may_see_it(own_database: Database, running: OperationRow):
    operations = Operations(own_database, Notifications(own_database), Standing(own_database, again_seconds=5))
    for action, told in (("cce:operation:get", {running.id: "2 of 3 pods"}), ("cce:operation:list", {})):
        assert await operations.list_progress(with_policy(action), [running]) == told


@pytest.mark.usefixtures("running")
async def test_a_page_is_full_of_what_the_caller_may_list(own_database: Database):
    """What others did in between, however much of it, makes no page shorter."""
    for number in range(12):
        namespace = "mine" if number % 4 == 0 else "theirs"
        await accept(
            own_database, new_install("p", "u", cluster_id="c", namespace=namespace, release_name=f"r{number}")
        )
    operations = Operations(own_database, Notifications(own_database), Standing(own_database, again_seconds=5))
    only = with_policy("cce:operation:list", Condition={"StringEquals": {"pilothouse:Namespace": "mine"}})
    everything = {"cluster_id": None, "namespace": None, "release_name": None, "state": None}
    first = await operations.list_operations(only, **everything, before=None, limit=2)
    assert [row.release_name for row in first.operations] == ["r8", "r4"]
    rest = await operations.list_operations(only, **everything, before=first.next, limit=2)
    assert [row.release_name for row in rest.operations] == ["r0"]
    assert rest.next is None
