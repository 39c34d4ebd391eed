"""A server for attacks, with limits that are reached in seconds."""

from collections.abc import Iterator

import pytest

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
