"""A server for attacks, with limits that are reached in seconds, and a cluster that attacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile_clusters import HostileCluster, hostile_cluster
from tests.support.servers import RunningServer, open_folder, run_server

LIMITS = {
    "PILOTHOUSE_ENGINE__ANSWER_SECONDS": "4",
    "PILOTHOUSE_ENGINE__CPU_SECONDS": "10",
    "PILOTHOUSE_ENGINE__MEMORY_BYTES": str(2048 * 1024 * 1024),
}


@pytest.fixture(scope="module")
def attacked(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=LIMITS) as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[HostileCluster]:
    with hostile_cluster(tmp_path) as made:
        yield made
