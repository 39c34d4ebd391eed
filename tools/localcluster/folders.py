"""The folder that holds everything of one local cluster: data, certificates, logs, pid files and the kubeconfig.

Only names listed here are ever written or removed in it, so a folder that holds other things too loses nothing.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster.errors import FolderError

VARIABLE = "LOCALCLUSTER_DIR"
DEFAULT = Path(__file__).parents[2] / ".cluster"


@dataclass(frozen=True)
class ClusterFolder:
    """Names of all that a cluster keeps; the components run in `root` and know the rest by relative paths."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """For people and clients: full rights, no references to other files, readable by its owner only."""
        return self.root / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held while the cluster is started, stopped or removed; stays when the rest is removed."""
        return self.root / "lock"

    @property
    def ports(self) -> Path:
        """The ports that were chosen at the first start."""
        return self.root / "ports.json"

    @property
    def pki(self) -> Path:
        """Certificates, keys, tokens and the components' own kubeconfigs."""
        return self.root / "pki"

    @property
    def new_pki(self) -> Path:
        """Where `pki` is made before it is complete."""
        return self.root / ".pki"

    @property
    def pids(self) -> Path:
        """One file per component that was started."""
        return self.root / "pids"

    @property
    def logs(self) -> Path:
        """One log per component, and the audit log."""
        return self.root / "logs"

    @property
    def config(self) -> Path:
        """Copies of the files in this package's config folder, as the components read them."""
        return self.root / "config"

    @property
    def data(self) -> Path:
        """What etcd has stored."""
        return self.root / "etcd"

    @property
    def unreadable_data(self) -> Path:
        """Data that etcd could not read any more, kept once for a look."""
        return self.root / "etcd.unreadable"

    def log(self, name: str) -> Path:
        """Return the log of a component."""
        return self.logs / f"{name}.log"

    def exists(self) -> bool:
        """Whether a cluster was ever started here; FolderError when that is another user's business."""
        try:
            return self.lock.exists()
        except PermissionError as error:
            raise self._refused(error) from error

    def prepare(self) -> None:
        """Create the folder and its subfolders, closed to other users; raise FolderError if that fails."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.pids, self.logs, self.config):
                folder.mkdir(exist_ok=True, mode=0o700)
            self.lock.touch(mode=0o600)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> FolderError:
        return FolderError(
            f"cannot use {self.root} for the cluster: {error.strerror}. "
            f"Choose a folder of your own with --dir or {VARIABLE}."
        )

    def clear(self) -> None:
        """All that a cluster wrote here is gone, but for the lock file; other files stay."""
        for folder in (self.data, self.unreadable_data, self.pki, self.new_pki, self.pids, self.logs, self.config):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.kubeconfig, self.ports):
            file.unlink(missing_ok=True)


def chosen(folder: Path | None) -> ClusterFolder:
    """Return the folder asked for, else the one that LOCALCLUSTER_DIR names, else .cluster in the checkout."""
    path = folder or Path(os.environ.get(VARIABLE) or DEFAULT)
    return ClusterFolder(path.expanduser().resolve())


def write_private(path: Path, content: bytes) -> None:
    """`path` holds `content`, never in part, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    scratch.replace(path)
