"""Finds Debian's docker-registry for the tests of chart sources; ``python -m tools.docker_registry`` unpacks it.

It is unpacked into the cache and not installed: as an installed package it would run as a service of the system.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.localcluster import caches

_PACKAGE = "docker-registry"


def find_registry() -> str | None:
    """Return the path of a docker-registry on this machine."""
    named = os.environ.get("PILOTHOUSE_TEST_REGISTRY") or shutil.which(_PACKAGE)
    unpacked = _folder() / "usr" / "bin" / _PACKAGE
    return named or (str(unpacked) if unpacked.exists() else None)


def main() -> int:
    """Unpack it if there is none and this is Debian; else say what to do, which is no failure."""
    if find_registry() is not None:
        return 0
    if shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None:
        print(f"setting up: {_PACKAGE}, for the tests of chart sources")
        return _unpack()
    print(
        f"the tests of chart sources need Debian's {_PACKAGE}, too: set PILOTHOUSE_TEST_REGISTRY to a program of the "
        "distribution project, version 2; without one those are skipped",
        file=sys.stderr,
    )
    return 0


def _folder() -> Path:
    return caches.location() / _PACKAGE


def _unpack() -> int:
    with tempfile.TemporaryDirectory(dir=caches.writable(), prefix=".unpacking-") as scratch:
        downloads, complete = Path(scratch) / "downloads", Path(scratch) / "complete"
        downloads.mkdir()
        download = ["apt-get", "download", "--quiet", _PACKAGE]
        if os.geteuid() == 0:
            _run(["apt-get", "update", "--quiet"], downloads)
        if not _run(download, downloads):
            return 1
        (package,) = downloads.glob("*.deb")
        if not _run(["dpkg-deb", "--extract", str(package), str(complete)], downloads):
            return 1
        shutil.rmtree(_folder(), ignore_errors=True)
        complete.rename(_folder())
    return 0


def _run(command: list[str], folder: Path) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
