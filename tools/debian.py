"""Packages of Debian that tests run and Python's registry does not have."""

import os
import shutil
import subprocess
import sys


def can_install() -> bool:
    """Return True if this is root on Debian."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str, *, what_for: str) -> int:
    """Install the package; return 1, after saying why, if that fails."""
    print(f"setting up: {package}, for {what_for}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wanted = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
    for command in (["apt-get", "update", "--quiet"], wanted):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
            return 1
    return 0
