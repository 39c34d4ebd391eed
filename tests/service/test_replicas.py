"""Two APIs, three workers, two observers, one database, load, and deaths: the short form of ``make trial``."""

from tests.support.trials import PARTS, try_replicas
from tools.localcluster.cluster import RunningCluster


async def test_whichever_part_dies_nothing_is_lost_and_nothing_is_done_twice(kubernetes: RunningCluster):
    outcome = await try_replicas(kubernetes, deaths=3, every_seconds=4.0, lease_seconds=3.0)

    assert [death.part for death in outcome.deaths] == list(PARTS[:3])
    assert outcome.verdict.lost == []
    assert outcome.verdict.doubled == []
    assert outcome.verdict.accepted >= 10
    assert len(outcome.calm) > 20
