"""Packages of Debian that tests run and Python's registry does not have."""

import os
import shutil
import subprocess
import sys


def provide(package: str, *, found: str | None, what_for: str, otherwise: str) -> int:
    """Install the package if its program is not ``found`` and this is root on Debian, else print what to do otherwise.

    Return 1, after saying why, if the installation fails; that it is not tried is no failure.
    """
    if found is not None:
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        return _install(package, what_for=what_for)
    print(otherwise, file=sys.stderr)
    return 0


def _install(package: str, *, what_for: str) -> int:
    print(f"setting up: {package}, for {what_for}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
    for command in (["apt-get", "update", "--quiet"], wanted):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
            return 1
    return 0
