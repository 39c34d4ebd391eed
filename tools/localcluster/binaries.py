"""Where each program comes from: KUBEBUILDER_ASSETS, PATH, the cache, and last a build into the cache."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tools.localcluster import builds
from tools.localcluster.programs import CLUSTER, ETCD, HELM, HELM_COMMAND, KUBERNETES_PARTS, KWOK
from tools.localcluster.progress import Progress, on_stderr

ASSETS = "KUBEBUILDER_ASSETS"


def helm(*, progress: Progress | None = None) -> Path:
    """Return a helm 4 command: the one on PATH if it is one, else ours, built if need be. Needs no cluster."""
    found = _outside(HELM)
    if found is not None and _says(found, ["version", "--template", "{{.Version}}"], r"v4\."):
        return found
    return builds.build(HELM_COMMAND, progress=progress or on_stderr()) / HELM


def components(*, progress: Progress | None = None) -> dict[str, Path]:
    """Return the command of each component by its name; what is not found is built.

    The three parts of Kubernetes come from one place, since a controller manager newer than its API server is not
    supported.
    """
    found: dict[str, Path] = {}
    etcd, kwok = _outside(ETCD), _outside(KWOK)
    parts = [_outside(name) for name in KUBERNETES_PARTS]
    if etcd is not None:
        found[ETCD] = etcd
    # Older ones do not know the steps that our simulated nodes are written in.
    if kwok is not None and _says(kwok, ["--version"], r"\bv(0\.([89]|\d\d)|[1-9])"):
        found[KWOK] = kwok
    if len({part.parent for part in parts if part is not None}) == 1 and None not in parts:
        found |= {part.name: part for part in parts if part is not None}
    missing = [name for name in CLUSTER.names if name not in found]
    if missing:
        folder = builds.build(CLUSTER, progress=progress or on_stderr())
        found |= {name: folder / name for name in missing}
    return found


def _outside(name: str) -> Path | None:
    """Return the program as KUBEBUILDER_ASSETS or PATH has it."""
    assets = os.environ.get(ASSETS, "")
    found = (shutil.which(name, path=assets) if assets else None) or shutil.which(name)
    return Path(found).absolute() if found else None


def _says(program: Path, arguments: list[str], pattern: str) -> bool:
    """Whether the program runs and what it prints holds `pattern`."""
    try:
        said = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and re.search(pattern, said.stdout) is not None
