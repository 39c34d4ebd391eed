"""Holding an operation: whatever the database does, the holder knows in time that it may hold it no longer."""

import threading
import uuid
from collections.abc import Iterator

import pytest

from pilothouse.settings import WorkerSettings
from pilothouse.store.database import Database
from pilothouse.worker.lease import Lease
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
    proxy.release(held, "cut")
