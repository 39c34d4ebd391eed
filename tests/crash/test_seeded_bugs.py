"""Workers with one safeguard taken out: the suite finds each of them, so the safeguards are what keeps the promises."""

from dataclasses import dataclass

import pytest

from tests.crash.cases import Blow, Case, run_case
from tests.crash.faults import BY_NAME
from tests.crash.lanes import open_ground
from tests.crash.points import Point
from tests.crash.survey import survey
from tests.support.helm import HelmCommand
from tools.localcluster.cluster import RunningCluster


@dataclass(frozen=True)
class Hunt:
    """A safeguard that is taken out, the case that needs it, and what is then to be found."""

    bug: str
    fault: str
    verb: str
    resource: str
    when: str
    found: str
    late: bool = False

    def case(self, points: list[Point]) -> Case:
        mine = [
            one
            for one in points
            if (one.who, one.verb, one.resource, one.when) == ("child", self.verb, self.resource, self.when)
        ]
        return Case("install", Blow(mine[-1 if self.late else 0], BY_NAME[self.fault], late=self.late))


HUNTS = (
    Hunt("fence", "stop worker", "patch", "configmaps", "answer", "after the first write of attempt"),
    Hunt("sweep", "kill worker and child", "create", "secrets", "answer", "not final"),
    Hunt("unlock", "kill worker and child", "create", "secrets", "answer", "is left pending-install"),
    Hunt("immutable", "stop worker and child", "update", "secrets", "request", "are deployed at once", late=True),
)


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.bug)
def test_a_missing_safeguard_is_found(kubernetes: RunningCluster, helm_cli: HelmCommand, hunt: Hunt):
    with open_ground(kubernetes, helm_cli, sabotage=hunt.bug) as ground:
        ground.patience = 20.0
        case = hunt.case(survey(ground, "install"))
        verdict = run_case(ground, case)
    assert verdict.reached
    assert any(hunt.found in one for one in verdict.violations), (verdict.state, verdict.text, verdict.violations)
