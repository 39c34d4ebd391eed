"""Holding an operation: whatever the database does, the holder knows in time that it may hold it no longer."""

import ctypes
import threading
import uuid
from collections.abc import Iterator

import pytest

from pilothouse.queue import Queue
from pilothouse.settings import WorkerSettings
from pilothouse.store.database import Database
from pilothouse.worker.lease import Lease
from tests.support.operations import accept, new_install
from tools.localcluster.faults.proxy import FaultProxy, fault_proxy
from tools.localcluster.faults.rules import Rule


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with fault_proxy() as running:
        yield running


def test_a_renewal_that_is_never_answered_loses_the_lease(proxy: FaultProxy, database_url: str):
    proxy.arm(Rule(action="freeze", resource="UPDATE operations(lease_until)"))
    lost = threading.Event()
    settings = WorkerSettings(renew_seconds=0.1, fence_seconds=1.0)
    database = Database(proxy.postgres(database_url))
    with Lease(database, settings, str(uuid.uuid4()), attempt=1, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        (held,) = proxy.wait_held(20)
        assert lost.wait(20)
        assert lease.lost
        assert not lease.by_standstill
    proxy.release(held, "cut")


async def test_a_process_that_stands_still_knows_that_it_lost_its_lease_by_itself(
    database: Database, projects: tuple[str, str]
):
    """As after a call into a library that holds the interpreter."""
    await accept(database, new_install(projects[0], "user"))
    settings = WorkerSettings(renew_seconds=0.1, fence_seconds=1.0, lease_seconds=1.5)
    row = await Queue(database, poll_seconds=1.0).take(worker="one:0", lease_seconds=1.5)
    assert row is not None
    lost = threading.Event()
    with Lease(database, settings, row.id, attempt=row.attempt, on_renewed=lambda _: None, on_lost=lost.set) as lease:
        ctypes.PyDLL(None).usleep(2_000_000)
        assert lost.wait(20)
        assert lease.by_standstill
