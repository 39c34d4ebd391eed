"""A project that has as many charts as it may have."""

from collections.abc import Iterator

import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.wire import assert_error


@pytest.fixture(scope="module")
def small() -> Iterator[RunningServer]:
    """Yield a server of its own, where a project may have one chart."""
    with (
        open_folder() as folder,
        run_server(folder, kubeconfig=None, environment={"PILOTHOUSE_CHART_QUOTA": "1"}) as running,
    ):
        yield running


def test_a_chart_over_the_quota_is_refused_until_one_is_deleted(small: RunningServer):
    first = small.upload(config_map_chart("first")).json()["id"]
    assert_error(small.upload(config_map_chart("second")), 400, "CCE.01400001", "Insufficient chart quota", "1")
    quota = small.send("GET", f"/v2/charts/{small.project_id}/quotas").json()
    assert quota == {"quotas": {"resources": [{"type": "Charts", "quota": 1, "used": 1}]}}
    assert small.upload(config_map_chart("first"), parameters='{"override": true}').json()["id"] == first
    assert small.send("DELETE", f"/v2/charts/{first}").status_code == 200
    assert small.upload(config_map_chart("second")).status_code == 201
