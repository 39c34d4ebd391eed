"""Run the whole test command again and again, in two orders and beside other work, and show how each run ended."""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

#: The orders of the runs, one after the other.
ORDERS = ("given", "reversed")
_SUMMARY = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")
_BUSY = "while True: pass"


@dataclass(frozen=True)
class Run:
    """How one run ended; ``blamed`` are the tests that failed or broke."""

    order: str
    returncode: int
    seconds: float
    summary: str
    blamed: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every run was green."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="runs; every second one in reversed order")
    parser.add_argument("--load", type=int, default=0, help="processes that keep a core busy meanwhile")
    parser.add_argument("--logs", type=Path, default=Path("test-runs"), help="folder for the output of each run")
    parser.add_argument("pytest", nargs="*", help="given to pytest")
    given = parser.parse_args(arguments)
    given.logs.mkdir(parents=True, exist_ok=True)
    console = Console()
    runs = []
    with busy(given.load):
        for number in range(given.count):
            log = given.logs / f"{number + 1:02}-{ORDERS[number % 2]}.log"
            runs.append(run(ORDERS[number % 2], log=log, options=given.pytest))
            console.print(f"run {number + 1} of {given.count}: {runs[-1].summary}, {runs[-1].seconds:.0f} s, {log}")
    console.print(table(runs))
    return int(any(one.returncode for one in runs))


def run(order: str, *, log: Path, options: Sequence[str]) -> Run:
    """Run the test command once and read how it ended from its output."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run([*command, "--order", order, *options], stdout=output, stderr=output, check=False)
    lines = log.read_text(errors="replace").splitlines()
    found = [match[1] for line in lines if (match := _SUMMARY.match(line))]
    blamed = [" ".join(line.split()[:2]) for line in lines if line.startswith(("FAILED ", "ERROR "))]
    summary = found[-1] if found else f"no summary, exit code {done.returncode}"
    return Run(order, done.returncode, time.monotonic() - began, summary, tuple(dict.fromkeys(blamed)))


def table(runs: Sequence[Run]) -> Table:
    """Return one line for each run, and one for each test that was blamed."""
    shown = Table("run", "order", "result", "seconds", title="the test command, again and again")
    for number, one in enumerate(runs, start=1):
        result = "\n".join(["green" if one.returncode == 0 else "RED", one.summary, *one.blamed])
        shown.add_row(str(number), one.order, result, f"{one.seconds:.0f}")
    return shown


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep as many cores busy as ``count`` says."""
    others = [subprocess.Popen([sys.executable, "-I", "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for one in others:
            one.kill()
            one.wait()


if __name__ == "__main__":
    sys.exit(main())
