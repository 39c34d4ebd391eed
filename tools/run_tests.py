"""Run all tests; what failed beside the others is run once more alone, and named if it passes then.

The tests start clusters, browsers and processes that are killed, two files at a time, so that a machine with other work
to do makes one of thousands late now and then. A fault of the program fails alone too. ``tools.repeat_tests`` has no
second try: it is to show which tests are unsteady.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_FAILED = Path(".pytest_cache/v/cache/lastfailed")
#: More failures than that are no matter of load.
MOST = 8
_TESTS_FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Return pytest's exit code: of the first run, or of the second try if there was one."""
    _FAILED.unlink(missing_ok=True)
    # in the order of conftest.py: by numbers of tests, the longest files would come last
    first = _pytest("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=15", *arguments)
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if first != _TESTS_FAILED or not 0 < len(failed) <= MOST:
        return first
    names = "\n  ".join(failed)
    print(f"\n{len(failed)} failed. They are run once more, with nothing beside them:\n  {names}\n", flush=True)
    second = _pytest("--last-failed", "--last-failed-no-failures=none", *arguments)
    if second == 0:
        print(f"\nGreen. These passed only when they were run alone:\n  {names}", flush=True)
    return second


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
