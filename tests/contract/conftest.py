"""A chart in a folder and commands that are typed there; and the cluster as others than the server write to it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig

from tests.support.charts import hook_job_template
from tests.support.servers import CompletedCommand, RunningServer
from tests.support.typed import CHART_YAML, MAP, Start, Typed
from tools.localcluster.cluster import RunningCluster

SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 4s}}
    spec:
      restartPolicy"""


@pytest.fixture
def folder(tmp_path: Path, namespace: str) -> Path:
    """A chart in a folder, named after the namespace so that tests do not replace each other's."""
    made = tmp_path / f"typed-{namespace}"
    (made / "templates").mkdir(parents=True)
    (made / "Chart.yaml").write_text(CHART_YAML.replace("typed", made.name))
    (made / "values.yaml").write_text("text: x\nnested: {a: 1, b: {c: 2}}\nlist: [1, 2]\n")
    (made / "templates" / "map.yaml").write_text(MAP)
    (made / "templates" / "NOTES.txt").write_text("hello {{ .Release.Name }}\n")
    return made


@pytest.fixture
def typed(server: RunningServer, folder: Path, namespace: str) -> Typed:
    """``pilothouse …`` in the chart's folder and the namespace."""

    def run(*arguments: str) -> CompletedCommand:
        return server.command(*arguments, folder=folder, variables={"PILOTHOUSE_NAMESPACE": namespace})

    return run


@pytest.fixture
def hooked(folder: Path) -> Path:
    """The chart with a hook that runs for some seconds."""
    hook = hook_job_template("pre-upgrade").replace("    spec:\n      restartPolicy", SLOW)
    (folder / "templates" / "hook.yaml").write_text(hook)
    return folder


@pytest.fixture
def start(server: RunningServer, folder: Path, namespace: str) -> Iterator[Start]:
    """Start ``pilothouse …`` in the chart's folder, perhaps on a terminal or over another way to the server."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, url: str = "", **streams: int) -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        process: subprocess.Popen[str] = subprocess.Popen(
            # whoever runs the tests in the background has SIGINT ignored, which processes inherit
            ["env", "--default-signal=INT", sys.executable, "-m", "pilothouse", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "PILOTHOUSE_URL": url or server.url,
                "PILOTHOUSE_NAMESPACE": namespace,
                "CLOUD_SDK_AK": server.access_key,
                "CLOUD_SDK_SK": server.secret_key,
                "NO_COLOR": "1",
            },
            cwd=folder,
            text=True,
            stdin=pipes["stdin"],
            stdout=pipes["stdout"],
            stderr=pipes["stderr"],
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def direct(kubernetes: RunningCluster) -> Iterator[Client]:
    """Yield a client of the cluster."""
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield api
