"""Finds the Chromium that the console's tests run in; ``python -m tools.browser`` installs Debian's where it can."""

import os
import shutil
import sys

from tools import debian

#: Debian's without a window system is the smallest; any other does too.
_PACKAGE = "chromium-headless-shell"
_PROGRAMS = (_PACKAGE, "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine."""
    named = os.environ.get("PILOTHOUSE_TEST_BROWSER")
    return named or next((found for one in _PROGRAMS if (found := shutil.which(one)) is not None), None)


def main() -> int:
    """Install one if there is none and this is root on Debian; else say what to do, which is no failure."""
    return debian.provide(
        _PACKAGE,
        found=find_browser(),
        what_for="the tests of the console",
        otherwise=f"the tests of the console need a Chromium: install Debian's {_PACKAGE}, or set "
        "PILOTHOUSE_TEST_BROWSER to a program; without one they are skipped",
    )


if __name__ == "__main__":
    sys.exit(main())
