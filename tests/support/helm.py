"""The independent helm command: the judge of what we did."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.support.releases import HelmCommand
from tools.localcluster.cluster import RunningCluster


def helm_command(kubernetes: RunningCluster, *, home: Path) -> HelmCommand:
    """Return its standard output, raises CalledProcessError when it fails."""

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


def kill_helm(
    kubernetes: RunningCluster,
    helm_cli: HelmCommand,
    *arguments: str,
    name: str,
    namespace: str,
    leaves: str,
    home: Path,
) -> None:
    """Runs a helm command until the release has the status that it leaves, and kills it then."""
    helm = [str(kubernetes.helm), "--kubeconfig", str(kubernetes.kubeconfig), *arguments, "-n", namespace]
    with subprocess.Popen(helm, env={"HOME": str(home)}, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while True:
                listed = json.loads(helm_cli("list", "-n", namespace, "-o", "json"))
                if (name, leaves) in [(one["name"], one["status"]) for one in listed]:
                    return
                assert time.monotonic() < until, listed
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGKILL)
