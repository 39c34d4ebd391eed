"""Run all tests; files in which some failed beside others are run once more alone, and named if they pass then.

The tests start clusters, browsers and processes that are killed, two files at a time, so that a machine with other work
to do makes one of thousands late now and then. Whole files are repeated: what a test leaves to the next is found again.
``tools.repeat_tests`` has no second try: it is to show which tests are unsteady.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

_CACHE = Path(".pytest_cache")
_FAILED = _CACHE / "v/cache/lastfailed"
_SECOND = _CACHE / "second-try.xml"
#: More failures than that are no matter of load.
MOST = 8
_TESTS_FAILED = 1
#: With these a run ends before all tests were run.
_ENDS_EARLY = ("-x", "--exitfirst", "--maxfail")


def main(arguments: Sequence[str]) -> int:
    """Return pytest's exit code: of the first run, or of the second try if there was one."""
    _FAILED.unlink(missing_ok=True)
    # in the order of conftest.py: by numbers of tests, the longest files would come last
    first = _pytest("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=15", *arguments)
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    if first != _TESTS_FAILED or not 0 < len(failed) <= MOST or any(one.startswith(_ENDS_EARLY) for one in arguments):
        return first
    names = "\n  ".join(failed)
    files = dict.fromkeys(one.partition("::")[0] for one in failed)
    print(f"\n{len(failed)} failed. Their files are run once more, with nothing beside them:\n  {names}\n", flush=True)
    second = _pytest("-n0", f"--junitxml={_SECOND}", *files)
    if second != 0:
        return second
    if missing := [one for one in failed if _short(one) not in _passed()]:
        print("\nThese failed, and were not run the second time:\n  " + "\n  ".join(missing), flush=True)
        return _TESTS_FAILED
    print(f"\nGreen. These passed only when they were run alone:\n  {names}", flush=True)
    return 0


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _passed() -> set[tuple[str, str]]:
    """Return the module and the name of each test that passed in the second try."""
    cases = ET.parse(_SECOND).iter("testcase")  # noqa: S314 (pytest has just written it)
    return {(case.get("classname", ""), case.get("name", "")) for case in cases if case.find("skipped") is None}


def _short(test: str) -> tuple[str, str]:
    """Return module and name of a test as pytest's report has them."""
    file, _, name = test.partition("::")
    scope, _, last = name.rpartition("::")
    module = file.removesuffix(".py").replace("/", ".")
    return (f"{module}.{scope.replace('::', '.')}" if scope else module), last


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
