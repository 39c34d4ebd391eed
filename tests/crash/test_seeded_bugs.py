"""Workers with one safeguard taken out: the suite finds each of them, so the safeguards are what keeps the promises."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.crash.cases import Case, Injection, Verdict, run_case
from tests.crash.faults import BY_NAME
from tests.crash.lanes import open_environment
from tests.crash.points import Point
from tests.crash.survey import survey
from tests.support.releases import HelmCommand
from tools.localcluster.cluster import RunningCluster

#: What ends does so in seconds; what never ends is waited for in vain.
PATIENCE_SECONDS = 10.0


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
    #: There is one worker, whose other operation waits in a hook; this is to be found of that one.
    beside: str = ""
    #: Whether the operation comes as far as that: not where it never begins.
    reached: bool = True

    @property
    def workers(self) -> int:
        """How many there are."""
        return 1 if self.beside or not self.reached else 2

    def case(self, points: list[Point]) -> Case:
        mine = [
            one
            for one in points
            if (one.who, one.verb, one.resource, one.when) == ("child", self.verb, self.resource, self.when)
        ]
        return Case(
            "install",
            Injection(mine[-1 if self.late else 0], BY_NAME[self.fault], late=self.late),
            beside=self.workers == 1,
        )


HUNTS = (
    Hunt("fence", "stop worker", "patch", "configmaps", "answer", "after the first write of attempt"),
    Hunt("sweep", "kill worker and child", "create", "secrets", "answer", "not final", beside="beside it: not final"),
    Hunt("unlock", "kill worker and child", "create", "secrets", "answer", "is left pending-install"),
    Hunt("immutable", "stop worker and child", "update", "secrets", "request", "are deployed at once", late=True),
    Hunt("rest", "kill observer", "create", "secrets", "answer", "not final", reached=False),
)


@pytest.fixture(scope="module")
def found(kubernetes: RunningCluster, helm_cli: HelmCommand) -> Mapping[str, Verdict]:
    """Return what came of each hunt; they go on side by side."""

    def go(hunt: Hunt) -> Verdict:
        with open_environment(kubernetes, helm_cli, mutant=hunt.bug, workers=hunt.workers) as environment:
            environment.patience = PATIENCE_SECONDS
            if not hunt.reached:
                environment.reach = PATIENCE_SECONDS
            return run_case(environment, hunt.case(survey(environment, "install")))

    with ThreadPoolExecutor(len(HUNTS)) as threads:
        return dict(zip((hunt.bug for hunt in HUNTS), threads.map(go, HUNTS), strict=True))


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.bug)
def test_a_missing_safeguard_is_found(found: Mapping[str, Verdict], hunt: Hunt):
    verdict = found[hunt.bug]
    assert verdict.reached == hunt.reached
    assert any(hunt.found in one for one in verdict.violations), (verdict.state, verdict.text, verdict.violations)
    assert any(one.startswith(hunt.beside) for one in verdict.violations), verdict.violations
