"""The programs that can be built here, and what identifies one build of them.

The versions stand in the go.mod files under go/ and nowhere else.
"""

import hashlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster.errors import BuildError

MODULES = Path(__file__).parent / "go"
ETCD, APISERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"
SCHEDULER, KWOK, HELM = "kube-scheduler", "kwok", "helm"
KUBERNETES_PARTS = (APISERVER, CONTROLLER_MANAGER, SCHEDULER)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One build: a Go package of one of our modules, and the names it is called by."""

    title: str
    module: str
    package: str
    requirement: str
    stamps: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its go.mod is."""
        return MODULES / self.module

    @property
    def version(self) -> str:
        """The version that go.mod requires, with its v."""
        return required_version(self.folder, self.requirement)

    @property
    def ldflags(self) -> str:
        """No debug tables, and the stamps: without them Kubernetes calls itself v0.0.0, and Helm judges by that."""
        number = self.version.removeprefix("v")
        major, minor, _ = number.split(".", 2)
        values = (stamp.format(version=self.version, major=major, minor=minor) for stamp in self.stamps)
        return " ".join(["-s", "-w", *(f"-X {value}" for value in values)])

    @property
    def key(self) -> str:
        """Names this build among all others: version, platform and a digest of all that goes into it."""
        digest = hashlib.sha256(self.ldflags.encode())
        for source in sorted(self.folder.iterdir()):
            if source.suffix in {".mod", ".sum", ".go"}:
                digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
        system = f"{platform.system()}-{platform.machine()}".lower()
        return f"{self.module}-{self.version}-{system}-{digest.hexdigest()[:12]}"


CLUSTER = Program(
    title="Kubernetes",
    module="kubernetes",
    package=".",
    requirement="k8s.io/kubernetes",
    stamps=(
        "k8s.io/component-base/version.gitVersion={version}",
        "k8s.io/component-base/version.gitMajor={major}",
        "k8s.io/component-base/version.gitMinor={minor}",
    ),
    names=(ETCD, *KUBERNETES_PARTS, KWOK),
)
HELM_COMMAND = Program(
    title="helm",
    module="helm",
    package="helm.sh/helm/v4/cmd/helm",
    requirement="helm.sh/helm/v4",
    stamps=("helm.sh/helm/v4/internal/version.version={version}",),
    names=(HELM,),
)

#: For the tests of chart sources.
REGISTRY = Program(
    title="OCI registries",
    module="registry",
    package=".",
    requirement="github.com/distribution/distribution/v3",
    stamps=(),
    names=("registry",),
)

#: For the tests of signatures; cosign with all its commands, but without the key stores of clouds.
COSIGN = Program(
    title="cosign",
    module="cosign",
    package=".",
    requirement="github.com/sigstore/cosign/v3",
    stamps=(),
    names=("cosign",),
)


def required_version(folder: Path, module: str) -> str:
    """Return the version of `module` that the go.mod in `folder` requires."""
    return _only(folder, rf"^(?:require)?\s+{re.escape(module)} (v\S+)", what=f"version of {module}")


def required_go(folder: Path) -> tuple[int, ...]:
    """Return the oldest Go that the go.mod in `folder` accepts, such as (1, 26, 0)."""
    return tuple(int(part) for part in _only(folder, r"^go ([\d.]+)", what="Go version").split("."))


def _only(folder: Path, pattern: str, *, what: str) -> str:
    source = folder / "go.mod"
    found = re.search(pattern, source.read_text(), flags=re.MULTILINE)
    if found is None:
        raise BuildError(f"{source} says no {what}; restore it with: git checkout -- {source.name}")
    return found[1]
