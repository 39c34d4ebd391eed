"""Private clusters in folders of their own: these tests kill and delete, which nobody else's cluster should see."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lightkube import Client, KubeConfig

from tools.localcluster import cluster, folders
from tools.localcluster.cluster import RunningCluster
from tools.localcluster.progress import Progress, on_stderr


class Notes(Progress):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A space and a comma: some components' flags are lists.
    path = tmp_path_factory.mktemp("a cluster, for tests") / "data"
    yield path
    cluster.reset(path, progress=Progress())


@pytest.fixture(scope="module")
def running(folder: Path) -> RunningCluster:
    return cluster.up(folder, progress=on_stderr())


@pytest.fixture(scope="module")
def client(running: RunningCluster) -> Iterator[Client]:
    # trust_env would let a proxy of the machine's owner in.
    with Client(config=KubeConfig.from_file(running.kubeconfig), trust_env=False) as one:
        yield one


@pytest.fixture
def pids(folder: Path) -> Callable[[], dict[str, int | None]]:
    return lambda: {one.name: one.pid for one in cluster.status(folders.chosen(folder).root).components}
