"""Runs the benchmarks: ``python -m benchmarks.run [NAME…]``; all of them also write ``benchmarks/results.md``."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.accept import accept
from benchmarks.cancel import cancel
from benchmarks.console import console as pages
from benchmarks.deploy import deploy
from benchmarks.drain import drain, turns
from benchmarks.endurance import endurance
from benchmarks.figures import Figure
from benchmarks.footprint import footprint
from benchmarks.generated import generated
from benchmarks.hostile import hostile
from benchmarks.large import large, line
from benchmarks.place import Place, place
from benchmarks.plans import plans
from benchmarks.reads import reads
from benchmarks.recovery import recovery
from benchmarks.releases import releases
from benchmarks.sources import sources
from benchmarks.strangers import strangers
from benchmarks.tenants import tenants
from benchmarks.typed import typed
from benchmarks.updates import updates
from benchmarks.uploads import uploads
from benchmarks.verification import verification

#: In this order: what fills the cluster comes last, for it is slower afterwards.
BENCHMARKS: dict[str, Callable[[Place], Awaitable[list[Figure]]]] = {
    "accept": accept,
    "deploy": deploy,
    "updates": updates,
    "large": large,
    "line": line,
    "plans": plans,
    "generated": generated,
    "cancel": cancel,
    "recovery": recovery,
    "verification": verification,
    "footprint": footprint,
    "endurance": endurance,
    "uploads": uploads,
    "hostile": hostile,
    "strangers": strangers,
    "tenants": tenants,
    "typed": typed,
    "sources": sources,
    "drain": drain,
    "turns": turns,
    "releases": releases,
    "console": pages,
    "reads": reads,
}
RESULTS = Path(__file__).with_name("results.md")
#: What a reader of the table wants to know besides.
REMARKS = Path(__file__).with_name("remarks.md")
COLUMNS = ["figure", "best", "median", "target", "met"]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"no benchmark is named {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    others = os.getloadavg()[0]
    console = Console()
    with place() as ground:
        for name in names or BENCHMARKS:
            console.print(f"measuring: {name}")
            figures += asyncio.run(_measure(BENCHMARKS[name], ground))
    table = Table(*COLUMNS)
    for figure in figures:
        table.add_row(*figure.row())
    console.print(table)
    if not names:
        RESULTS.write_text(_document(figures, others=others))


async def _measure(benchmark: Callable[[Place], Awaitable[list[Figure]]], ground: Place) -> list[Figure]:
    return await benchmark(ground)


def _document(figures: list[Figure], *, others: float) -> str:
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(figure.row() for figure in figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""# Results

Measured on {datetime.now(UTC):%Y-%m-%d} by `make bench` on {os.cpu_count()} cores, shared by server, database, load
generator, the complete local cluster and all other processes. The load average before the start was
{others:.1f}; it should be below 1 for meaningful times. *Best* and *median* are over the rounds (percentiles) or over
the single runs (times). The target is for the median.

{table}

{REMARKS.read_text()}"""


if __name__ == "__main__":
    main(sys.argv[1:])
