"""Replicas under fire: two APIs, three workers, two observers, one database; one part killed each minute under load.

``make trial`` runs ten minutes. ``TRIAL_SECONDS`` and ``TRIAL_EVERY_SECONDS`` change that.
"""

import asyncio
import os
import statistics
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure
from tests.support.trials import READS_PER_SECOND, WRITERS, Outcome, try_replicas
from tools.localcluster.cluster import obtain

SECONDS = float(os.environ.get("TRIAL_SECONDS", "600"))
EVERY_SECONDS = float(os.environ.get("TRIAL_EVERY_SECONDS", "60"))
GET_P99_MS = 250.0


def main() -> None:
    console = Console()
    deaths = max(1, round(SECONDS / EVERY_SECONDS) - 1)
    console.print(f"{WRITERS} writers, {READS_PER_SECOND:g} reads/s, {deaths} deaths, one every {EVERY_SECONDS:g} s")
    outcome = asyncio.run(try_replicas(obtain(), deaths=deaths, every_seconds=EVERY_SECONDS))
    for death in outcome.deaths:
        console.print(f"{death.name} killed, ready again after {death.ready_at - death.at:.1f} s")
    table = Table("figure", "best", "median", "target", "met")
    for figure in _figures(outcome):
        table.add_row(*figure.row())
    console.print(table)
    console.print(f"tries of clients that failed and were repeated: {dict(outcome.failures)}")
    for problem in (*outcome.verdict.lost, *outcome.verdict.doubled):
        console.print(problem)
    if outcome.verdict.lost or outcome.verdict.doubled:
        sys.exit(1)


def _figures(outcome: Outcome) -> list[Figure]:
    verdict = outcome.verdict
    return [
        Figure("operations accepted", (verdict.accepted,), unit=""),
        Figure("operations per second", (verdict.accepted / outcome.seconds,), unit=""),
        Figure("attempts that were done again", (verdict.again,), unit=""),
        Figure("lost", (len(verdict.lost),), unit="", target=0.0),
        Figure("doubled", (len(verdict.doubled),), unit="", target=0.0),
        Figure("death to ready", tuple((one.ready_at - one.at) * 1000 for one in outcome.deaths)),
        Figure("GET p50 outside the seconds of a death", (statistics.median(outcome.calm) * 1000,)),
        Figure("GET p99 outside the seconds of a death", (_p99(outcome.calm),), target=GET_P99_MS),
        Figure("GET p99 of all", (_p99(outcome.all_reads),)),
    ]


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000


if __name__ == "__main__":
    main()
