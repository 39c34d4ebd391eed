"""``make crash N=500``: cases by chance for as long as is wanted, and tables of what was done and what broke.

``CASE="<a line>"`` plays one case again, ``SEED=…`` a whole run, as far as the same points are found again; ``LANES=…``
is how many deployments work side by side; ``KILLING=1`` leaves only faults that kill, the usual share is 0.5;
``ACTIONS=apply,test`` plays these alone; ``OUT=FILE`` also writes the tables there, in Markdown. ``SUM=FILE`` keeps the
counts there and goes on from those that it finds, so that a long run can be made in pieces; a piece may be ended by
Ctrl-C.
"""

import argparse
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console
from rich.table import Table

from tests.crash.cases import Case, Verdict
from tests.crash.lanes import Lanes, open_lanes
from tests.crash.releases import ALL_ACTIONS
from tests.crash.selection import action_of, read_case, walk
from tests.support.helm import helm_command
from tools.localcluster.cluster import obtain

_ENDS = ("succeeded", "failed", "cancelled", "violations", "remainder")
_COLUMNS = ("fault", "injected", "processes killed", *_ENDS)
_OF_ACTIONS = ("action", "cases", "faults", *_ENDS)
#: Of the tables in a file.
_WIDTH = 140


@dataclass
class Tally:
    """What came of the cases so far, of earlier pieces of the run too."""

    seeds: list[int] = field(default_factory=list)
    minutes: float = 0.0
    cases: int = 0
    missed: int = 0
    #: Cases with a release that waited beside them, by its end.
    beside: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    #: Cases that came to no verdict: what they start from did not come about.
    broken: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The same by the action, of all cases.
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the tally that was kept in the file; an empty one if there is none."""
        if not file.exists():
            return cls()
        kept = json.loads(file.read_text())
        counts, actions = (
            Counter({(what, column): count for what, column, count in kept.pop(name, [])})
            for name in ("counts", "actions")
        )
        return cls(**{**kept, "beside": Counter(kept["beside"])}, counts=counts, actions=actions)

    def keep(self, file: Path) -> None:
        """Keep it in the file."""
        counts, actions = (
            [[*key, count] for key, count in sorted(counted.items())] for counted in (self.counts, self.actions)
        )
        file.write_text(json.dumps({**vars(self), "counts": counts, "actions": actions}, indent=1))

    def add(self, verdict: Verdict) -> None:
        """One more case; its ending counts for the last fault that struck, and the kills for their own."""
        self.cases += 1
        self.missed += not verdict.reached
        if verdict.beside:
            self.beside[verdict.beside] += 1
        for fault in verdict.struck:
            self.counts[fault.name, "injected"] += 1
            self.counts[fault.name, "processes killed"] += fault.kills
        last = verdict.struck[-1].name if verdict.struck else ""
        if last:
            self.counts[last, verdict.state] += 1
            self.counts[last, "violations"] += len(verdict.violations)
            self.counts[last, "remainder"] += len(verdict.remainder)
        self.violations += [f"{verdict.case}: {text}" for text in verdict.violations]
        action = verdict.case.action
        self.actions[action, "cases"] += 1
        self.actions[action, "faults"] += len(verdict.struck)
        self.actions[action, verdict.state] += 1
        self.actions[action, "violations"] += len(verdict.violations)
        self.actions[action, "remainder"] += len(verdict.remainder)

    def total(self, column: str) -> int:
        """Return the sum of a column, over all faults."""
        return sum(count for (_, one), count in self.counts.items() if one == column)


def _rows(counts: Counter[tuple[str, str]], columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row for each fault, or action, and the sums."""
    for what in sorted({what for what, _ in counts}):
        yield [what, *(str(counts[what, column]) for column in columns[1:])]
    sums: Counter[str] = Counter()
    for (_, column), count in counts.items():
        sums[column] += count
    yield ["all", *(str(sums[column]) for column in columns[1:])]


def main() -> None:
    options = _options()
    cluster = obtain()
    tally = Tally.read(options.sum) if options.sum else Tally()
    tally.seeds.append(options.seed)
    known = len(tally.violations) + len(tally.broken)
    # Also where it was started with Ctrl-C turned off, as in the background.
    _heed_signals(signal.default_int_handler)
    began = time.monotonic()
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(width=width, soft_wrap=True, markup=False, highlight=False)
    console.print(f"seed {options.seed}")
    with (
        tempfile.TemporaryDirectory() as home,
        open_lanes(
            cluster, helm_command(cluster, home=Path(home)), count=1 if options.case else options.lanes
        ) as lanes,
    ):
        with suppress(KeyboardInterrupt):
            for case, future in _play(lanes, options):
                _judge(case, future, tally, console)
                if options.sum:
                    tally.keep(options.sum)  # a piece may also be killed
        _heed_signals(signal.SIG_IGN)  # what is under way ends by itself
        tally.minutes += (time.monotonic() - began) / 60
        if options.sum:
            tally.keep(options.sum)
        if options.out:
            options.out.write_text(_document(tally))
        for counts, columns in ((tally.counts, _COLUMNS), (tally.actions, _OF_ACTIONS)):
            table = Table(*columns)
            for row in _rows(counts, columns):
                table.add_row(*row)
            console.print(table)
        console.print(*tally.violations, sep="\n")
    sys.exit(1 if len(tally.violations) + len(tally.broken) > known else 0)


def _heed_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _judge(case: Case, future: Future[Verdict], tally: Tally, console: Console) -> None:
    try:
        verdict = future.result()
    except Exception as error:  # noqa: BLE001 - one case less is no reason to lose the others
        tally.broken.append(f"{case}: {type(error).__name__}: {error}")
        console.print(f"broken off: {tally.broken[-1]}")
    else:
        tally.add(verdict)
        console.print(_line(verdict))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many cases")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the whole run")
    parser.add_argument("--lanes", type=int, default=3, help="deployments side by side")
    parser.add_argument("--killing", type=float, default=0.5, help="share of the faults that are sure to kill")
    parser.add_argument("--case", default="", help="a line of an earlier run: this case alone")
    parser.add_argument("--out", type=Path, help="where to write the table")
    parser.add_argument("--sum", type=Path, help="where the counts are kept over several runs")
    parser.add_argument("--actions", default=",".join(ALL_ACTIONS), help="which are played")
    options = parser.parse_args()
    options.actions = options.actions.split(",")
    if unknown := set(options.actions) - set(ALL_ACTIONS):
        parser.error(f"no such actions: {', '.join(sorted(unknown))}; there are {', '.join(ALL_ACTIONS)}")
    if options.case:
        options.lanes = 1
    return options


def _play(lanes: Lanes, options: argparse.Namespace) -> Iterable[tuple[Case, Future[Verdict]]]:
    if options.case:
        action = action_of(options.case)
        found = lanes.survey([action])[action]
        cases: Sequence[Case] = [read_case(options.case, [*found.points, *found.recovery])]
    else:
        all_found = lanes.survey(options.actions)
        endless = walk(
            {action: found.points for action, found in all_found.items()},
            {action: found.recovery for action, found in all_found.items()},
            seed=options.seed,
            killing=options.killing,
        )
        cases = list(itertools.islice(endless, options.count))
    return zip(cases, lanes.play(cases), strict=True)


def _line(verdict: Verdict) -> str:
    word = "VIOLATED" if verdict.violations else "ok" if verdict.reached else "not reached"
    lines = [f"{word}: {verdict.case} -> {verdict.state}, attempts {verdict.attempts}, {verdict.seconds:.1f} s"]
    if verdict.state == "failed" or verdict.beside not in {"", "succeeded"} or verdict.violations:
        lines.append(f"    {verdict.text[:300]}")
    return "\n".join([*lines, *(f"    {text}" for text in (*verdict.violations, *verdict.remainder))])


def _document(tally: Tally) -> str:
    by_fault, by_action = (
        "\n".join(f"| {' | '.join(row)} |" for row in ([*columns], ["---"] * len(columns), *_rows(counts, columns)))
        for counts, columns in ((tally.counts, _COLUMNS), (tally.actions, _OF_ACTIONS))
    )
    violations = "\n".join(f"- {text}" for text in tally.violations) or "None."
    broken = "\n".join(f"- {text}" for text in tally.broken) or "None."
    seeds = f"seed{'s' * (len(tally.seeds) > 1)} {', '.join(map(str, tally.seeds))}"
    beside = ", ".join(f"{count} {state}" for state, count in sorted(tally.beside.items())) or "none"
    return f"""# Crash tests

{tally.cases} random cases ({seeds}) on {datetime.now(UTC):%Y-%m-%d} by `make crash`, in {tally.minutes:.0f} minutes
on {os.cpu_count()} cores shared by all processes; {tally.total("processes killed")} processes were killed. In
{tally.missed} cases the injection point did not recur, so no fault (or only the first of two) was injected. In
{tally.beside.total()} cases another release waited in its hook meanwhile; of these, as they ended: {beside}.
docs/operations.md says what is checked, and which risks remain.

{by_fault}

{by_action}

## Violations

{violations}

## Inconclusive cases

{broken}
"""


if __name__ == "__main__":
    main()
