"""A list of charts costs the server a few of them at a time, whatever their values hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.charts import build_chart
from tests.support.costs import MIB, MOST_MILLISECONDS, least_hold, watching
from tests.support.servers import RunningServer, open_folder, run_server

CHARTS = 40
AT_ONCE = 4
#: One chart is read at a time, for all these callers; 5 to 7 MiB were seen, and 80 to 105 with pages of 2 MiB each.
MOST = 48 * MIB


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None) as running:
        for number in range(CHARTS):
            archive = build_chart(f"c{number}", templates={}, values={"a": "a" * (MIB - 100)})
            uploaded = running.upload(archive, parameters='{"skip_lint": true}')
            assert uploaded.status_code == 201, uploaded.text
        yield running


def list_charts(server: RunningServer) -> list[dict[str, object]]:
    answer = server.send("GET", "/v2/charts", timeout=60)
    assert answer.status_code == 200, answer.text[:300]
    found: list[dict[str, object]] = answer.json()
    return found


def test_a_list_of_heavy_charts_is_whole_and_costs_little(server: RunningServer):
    with watching(server, other="/v3/projects") as seen, ThreadPoolExecutor(AT_ONCE) as callers:
        answers = list(callers.map(lambda _: list_charts(server), range(AT_ONCE)))
    for found in answers:
        assert [one["name"] for one in found] == [f"c{number}" for number in reversed(range(CHARTS))]
        assert all(len(str(one["values"])) > MIB - 100 for one in found)
    assert seen.growth < MOST


def test_a_list_of_heavy_charts_does_not_hold_the_loop(server: RunningServer):
    assert least_hold(server, lambda: list_charts(server)) < MOST_MILLISECONDS
