"""The independent helm command: the judge of what we did."""

import os
import subprocess
from pathlib import Path

from tests.support.releases import HelmCommand
from tools.localcluster.cluster import RunningCluster


def helm_command(kubernetes: RunningCluster, *, home: Path) -> HelmCommand:
    """Gives its standard output, raises CalledProcessError when it fails."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(kubernetes.helm), "--kubeconfig", str(kubernetes.kubeconfig), *arguments],
            env={"HOME": str(home), "PATH": os.environ["PATH"]},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    return run
