"""Every point in the life of every action, and every fault: whatever dies there, the promises hold.

What is run is a choice with a seed (``CRASH_SEED``, else 1) that covers every point and every pair of kinds; ``make
crash`` runs on from there by chance. A case is played again by ``make crash CASE="<its line>"``.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

import pytest

from tests.crash.cases import Verdict
from tests.crash.lanes import describe, open_lanes
from tests.crash.releases import ACTIONS, ActionName
from tests.crash.selection import Met, short
from tests.support.releases import HelmCommand
from tools.localcluster.cluster import RunningCluster

SEED = int(os.environ.get("CRASH_SEED", "1"))
#: More than cores: a case mostly waits for a lease to end.
LANES = int(os.environ.get("CRASH_LANES", "3"))
#: A point of an undisturbed run may be missed in another: the workers raced, or a renewal came earlier.
MISSED_PART = 1 / 3

Verdicts = Mapping[ActionName, Sequence[Future[Verdict]]]


@pytest.fixture(scope="module")
def played(kubernetes: RunningCluster, helm_cli: HelmCommand) -> Iterator[Verdicts]:
    """Yield the cases of all actions, under way in several deployments at once."""
    with open_lanes(kubernetes, helm_cli, count=LANES) as lanes:
        found = lanes.survey(ACTIONS)
        met = Met()
        yield {
            action: lanes.play(short(action, found[action].points, found[action].recovery, seed=SEED, met=met))
            for action in ACTIONS
        }


@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_dies_wherever_the_release_ends_right(action: ActionName, played: Verdicts):
    verdicts = [future.result() for future in played[action]]
    assert not describe(verdicts), f"seed {SEED}\n{describe(verdicts)}"
    missed = [str(one.case) for one in verdicts if not one.reached]
    assert len(missed) <= MISSED_PART * len(verdicts), "\n".join(missed)
