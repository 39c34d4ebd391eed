"""The lanes that all cases are played in, and the figures that are told at the end."""

import os
from collections.abc import Iterator

import pytest

from tests.crash.lanes import Lanes, open_lanes
from tests.crash.witnesses import HelmCommand
from tools.localcluster.cluster import RunningCluster

#: More lanes than cores: a case mostly waits for a lease to end.
LANES = int(os.environ.get("CRASH_LANES", "3"))


@pytest.fixture(scope="module")
def lanes(kubernetes: RunningCluster, helm_cli: HelmCommand) -> Iterator[Lanes]:
    """Deployments side by side, each with an API, an observer, two workers and a database."""
    with open_lanes(kubernetes, helm_cli, count=LANES) as opened:
        yield opened
