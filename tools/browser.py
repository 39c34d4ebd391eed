"""Finds the Chromium that the console's tests run in; ``python -m tools.browser`` installs Debian's where it can."""

import os
import shutil
import subprocess
import sys

#: Debian's without a window system is the smallest; any other does too.
_PACKAGE = "chromium-headless-shell"
_PROGRAMS = (_PACKAGE, "chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """Return the path of a Chromium on this machine."""
    named = os.environ.get("PILOTHOUSE_TEST_BROWSER")
    return named or next((found for one in _PROGRAMS if (found := shutil.which(one)) is not None), None)


def main() -> int:
    """Install one if there is none and this is root on Debian; else say what to do, which is no failure."""
    if find_browser() is not None:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        print(f"setting up: {_PACKAGE}, for the tests of the console")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", _PACKAGE]
        for command in (["apt-get", "update", "--quiet"], install):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"{' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
                return 1
        return 0
    print(
        f"the tests of the console need a Chromium: install Debian's {_PACKAGE}, or set PILOTHOUSE_TEST_BROWSER to a "
        "program; without one they are skipped",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
