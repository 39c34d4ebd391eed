"""Folders, environment and command line of a child.

Everything that must stay out of a chart's reach (our environment variables, proxies, KUBECONFIG, a pod's service
account) has to be absent before the process exists. Folders are private to one child and removed with it: after a kill
they still hold the kubeconfig of the call.
"""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pilothouse.engine.accounts import free_user_id, is_open_to_others, obstacle
from pilothouse.engine.child_options import ChildOptions
from pilothouse.engine.launcher import FIELD_MANAGER, PROGRAM
from pilothouse.engine.sandbox import Sandbox, python_files
from pilothouse.files import hold_lock, locked

#: For root, where the data folder is closed to other accounts.
SYSTEM_DIR = Path("/run/pilothouse-engine")


def command_line(options: ChildOptions, sandbox: Sandbox) -> list[str]:
    """Return the argv of a child, to be run with ``sys.executable``.

    ``-S`` and ``-P``: only the module path of ``child_environment`` decides what is imported.
    """
    arguments = (json.dumps(asdict(options)), json.dumps(asdict(sandbox)))
    return [FIELD_MANAGER, "-S", "-P", "-m", "pilothouse.engine.launcher", *arguments]


def child_environment(folder: Path, *, memory_bytes: int) -> dict[str, str]:
    """Return the whole environment of a child in ``folder``.

    PYTHONHOME and PYTHONPATH replace what Python would derive from argv[0], which is not a path here; so it needs no
    link, and works alike for virtual, read-only and system-wide environments, and for paths with spaces.
    """
    return {
        "PYTHONHOME": os.pathsep.join(dict.fromkeys((sys.base_prefix, sys.base_exec_prefix))),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(_module_path())),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "HELM_PLUGINS": str(folder / "helm" / "plugins"),
        "HELM_CONFIG_HOME": str(folder / "helm" / "config"),
        "HELM_CACHE_HOME": str(folder / "helm" / "cache"),
        "HELM_DATA_HOME": str(folder / "helm" / "data"),
        "LANG": "C.UTF-8",
        "GOMEMLIMIT": str(memory_bytes // 4 * 3),
        "GOMAXPROCS": "1",
        "GOGC": "400",
    }


def _module_path() -> Iterator[str]:
    """Yield the module path of this process, without the current folder, unless the package itself is there."""
    home = Path(__file__).parents[2]
    for path in map(Path, sys.path):
        if path.is_absolute() and (path == home or not _is_here(path)):
            yield str(path)


def _is_here(path: Path) -> bool:
    try:
        return path.samefile(".")
    except OSError:
        return False


def sandbox_of(folder: Path) -> Sandbox:
    """Return the sandbox of the child in ``folder``: it switches to the folder's owner, if that is another account."""
    owner = folder.stat().st_uid
    return Sandbox(
        folder=str(folder),
        readable=python_files(),
        executable=(str(PROGRAM),),
        user_id=owner if owner != os.geteuid() else None,
    )


class PoolFolder:
    """A private folder below ``state_dir`` for the children of one pool, removed with the pool.

    The next pool to start removes folders of pools that were killed: each live one holds a lock. If the children have
    their own accounts, which cannot traverse ``state_dir``, it is in ``SYSTEM_DIR``.
    """

    def __init__(self, state_dir: Path, *, system_dir: Path = SYSTEM_DIR, accounts: bool | None = None) -> None:
        """``accounts``: whether children have their own; by default, if possible."""
        private = 0o700
        self._accounts = not obstacle() if accounts is None else accounts
        if self._accounts:
            private = 0o711  # for passing through; every child's folder is its own
            if not is_open_to_others(next(parent for parent in state_dir.absolute().parents if parent.exists())):
                state_dir = system_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=private)
        state_dir.chmod(private)
        with locked(state_dir / ".lock"):
            _sweep(state_dir)
            self.path = state_dir / f"pool-{os.getpid()}-{secrets.token_hex(4)}"
            self.path.mkdir(mode=private)
            self.path.chmod(private)
            self._lock = hold_lock(self.path / "lock")
        self._made = 0

    def make_child_folder(self) -> Path:
        """Create an empty folder with the sub-folders of ``child_environment``, with its own account if possible."""
        self._made += 1
        folder = self.path / f"child-{self._made}"
        folder.mkdir(mode=0o700)
        owner = free_user_id() if self._accounts else None
        inner = [folder / name for name in ("home", "tmp", "helm")]
        for path in inner:
            path.mkdir(mode=0o700)
        if owner is not None:
            for path in (*inner, folder):
                os.chown(path, owner, owner)
        return folder

    def remove(self) -> None:
        """Remove everything; the children must be dead."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(state_dir: Path) -> None:
    for folder in state_dir.glob("pool-*"):
        try:
            lock = hold_lock(folder / "lock", wait=False)
        except (BlockingIOError, FileNotFoundError):  # in use, or just removed by its owner
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
