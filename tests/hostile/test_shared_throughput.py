"""A project that sends more than its share waits while others are active, and nobody else does."""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import pytest

from tests.support.charts import build_chart
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error

#: Bytes per second; four seconds' worth may come at once.
RATE = 100_000


@pytest.fixture(scope="module")
def narrow(kubeconfig: str) -> Iterator[RunningServer]:
    limits = {"PILOTHOUSE_HTTP__CONTENDED_BYTES_PER_SECOND": str(RATE)}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=limits) as running:
        yield running


def upload(server: RunningServer, *, seconds: float = 1) -> httpx2.Response:
    """Upload a chart that costs its project so many seconds of its share."""
    return server.upload(build_chart(f"c-{uuid.uuid4().hex[:8]}", files={"noise": os.urandom(int(seconds * RATE))}))


@pytest.fixture
def waiting(narrow: RunningServer) -> Iterator[tuple[RunningServer, RunningServer, "Future[httpx2.Response]"]]:
    """Yield two tenants, and the upload of the first that waits for seven seconds."""
    sender, other = add_tenant(narrow), add_tenant(narrow)
    assert other.send("GET", "/v2/charts").status_code == 200
    assert upload(sender, seconds=3.5).status_code == 201
    with ThreadPoolExecutor(1) as threads:
        yield sender, other, threads.submit(upload, sender, seconds=7.5)


def test_who_sends_more_than_its_share_waits_and_is_served(
    waiting: tuple[RunningServer, RunningServer, "Future[httpx2.Response]"],
):
    sender, other, large = waiting
    assert upload(other, seconds=3.5).status_code == 201
    assert sender.send("GET", "/v2/charts").status_code == 200
    assert not large.done()
    assert large.result(60).status_code == 201


def test_who_loses_its_key_while_it_waits_is_refused(
    waiting: tuple[RunningServer, RunningServer, "Future[httpx2.Response]"],
):
    sender, _, large = waiting
    assert sender.send("DELETE", f"/api/v1/accesskeys/{sender.access_key}").status_code == 204
    assert not large.done()
    assert_error(large.result(60), 401, "APIGW.0301")


def test_what_waited_for_a_caller_that_has_gone_is_not_done(narrow: RunningServer):
    sender, other = add_tenant(narrow), add_tenant(narrow)
    assert other.send("GET", "/v2/charts").status_code == 200
    assert upload(sender, seconds=3.5).status_code == 201
    left = build_chart("left-behind", files={"noise": os.urandom(2 * RATE)})
    with pytest.raises(httpx2.ReadTimeout):
        sender.upload(left, timeout=0.5)
    time.sleep(3)
    assert "left-behind" not in sender.send("GET", "/v2/charts").text


def test_who_would_wait_for_too_long_is_refused(narrow: RunningServer):
    sender, other = add_tenant(narrow), add_tenant(narrow)
    assert other.send("GET", "/v2/charts").status_code == 200
    refused = upload(sender, seconds=25)
    assert_error(refused, 429, "APIGW.0308", "this project", "retry in 22 s")
    assert refused.headers["retry-after"] == "22"
