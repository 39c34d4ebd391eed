"""What all tests share: a real cluster, a real database, and a real server, each started once when first asked for.

The local cluster is used unless KUBECONFIG names one. It is stopped after the tests if they started it.
Whatever a file leaves open or running is an error of that file: ``support.leftovers``.
"""

import gc
import random
import uuid
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from tests.support import leftovers
from tests.support.helm import helm_command
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, open_folder, run_server
from tools.localcluster import cluster as local

_STARTED_CLUSTER = pytest.StashKey[bool]()
#: Files that last minutes begin first, or one of them runs at the end with a core idle beside it.
LONG_FILES = ("tests/crash/test_every_point.py", "tests/parity/test_parity.py")

# A busy machine makes and tries examples slowly; what is to be fast is measured by benchmarks.
settings.register_profile("busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes do not name a test: archives hold the time of their making, and every process must find the same names."""
    return argname if isinstance(val, bytes) else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(leftovers, "leftovers")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--order",
        default="given",
        help="of files, and of tests in each: given (but long files first), reversed, or a number that seeds a shuffle "
        "(with -n: give --no-loadscope-reorder too)",
    )


def limit(item: pytest.Item) -> None:
    """Keep what needs no cluster here, and leave out of the time limit what runs as long as it is told to."""
    kind = item.nodeid.removeprefix("tests/").partition("/")[0]
    if kind in {"unit", "rules", "process"}:
        item.add_marker(pytest.mark.allow_hosts(["127.0.0.0/8", "::1"]))
    if kind in {"crash", "parity"}:
        item.add_marker(pytest.mark.timeout(0))


def rank(file: str) -> int:
    """Return when a file begins: the long ones first, and last those whose tests are short, which fill up the end."""
    if file in LONG_FILES:
        return LONG_FILES.index(file)
    return len(LONG_FILES) + file.startswith(("tests/unit/", "tests/rules/"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collecting garbage: nothing of it is any, and the looking takes a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        limit(item)
    order = config.getoption("order")
    if order == "given":
        items.sort(key=lambda item: rank(item.location[0]))
    elif order == "reversed":
        items.reverse()
    else:
        files: dict[str, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.location[0], []).append(item)
        shuffled = list(files.values())
        chance = random.Random(int(order))  # noqa: S311 - every process must find the same order
        chance.shuffle(shuffled)
        for tests in shuffled:
            chance.shuffle(tests)
        items[:] = [item for tests in shuffled for item in tests]


def pytest_sessionfinish(session: pytest.Session) -> None:
    started = session.config.stash.get(_STARTED_CLUSTER, False)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["started_cluster"] = started
    elif started:
        local.down()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With -n the fixtures are the workers', and the cluster is for all of them: it ends when they have ended."""
    if getattr(node, "workeroutput", {}).get("started_cluster"):
        node.config.stash[_STARTED_CLUSTER] = True


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> local.RunningCluster:
    """Return the cluster that releases are made in."""
    running = local.obtain()
    request.config.stash[_STARTED_CLUSTER] = running.started
    return running


@pytest.fixture(scope="session")
def kubeconfig(kubernetes: local.RunningCluster) -> str:
    """Return the text of the cluster's kubeconfig, with full rights."""
    return kubernetes.kubeconfig.read_text()


@pytest.fixture(scope="session")
def helm_cli(kubernetes: local.RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> HelmCommand:
    """Return the independent helm: gives its standard output, raises CalledProcessError when it fails."""
    return helm_command(kubernetes, home=tmp_path_factory.mktemp("helm-home"))


@pytest.fixture(scope="session")
def make_namespace(kubernetes: local.RunningCluster) -> Iterator[Callable[[], str]]:
    """Make namespaces that are deleted after the tests."""
    api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    made = []

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        api.create(Namespace(metadata=ObjectMeta(name=name)))
        made.append(name)
        return name

    yield make
    for name in made:
        try:
            api.delete(Namespace, name)
        except ApiError as error:  # a test may have deleted it
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise
    api.close()


@pytest.fixture
def namespace(make_namespace: Callable[[], str]) -> str:
    """Return a namespace of this test's own."""
    return make_namespace()


@pytest.fixture(scope="session")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """``pilothouse serve`` with a database of its own and the cluster registered."""
    # hundreds of tests share its project, and what one of them leaves must not stop another
    limits = {
        "PILOTHOUSE_CHART_QUOTA": "5000",
        "PILOTHOUSE_CHART_QUOTA_BYTES": str(8 * 1024**3),
        "PILOTHOUSE_PLANS__PER_PROJECT": "10000",
        "PILOTHOUSE_PLANS__BYTES_PER_PROJECT": str(4 * 1024**3),
        "PILOTHOUSE_SOURCES__PER_PROJECT": "1000",
        "PILOTHOUSE_SOURCES__BYTES_PER_PROJECT": str(4 * 1024**3),
        "PILOTHOUSE_CLUSTER__PER_PROJECT": "1000",
        "PILOTHOUSE_IDENTITY__KEYS_PER_PROJECT": "1000",
        "PILOTHOUSE_IDENTITY__SESSIONS_PER_USER": "1000",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=limits) as running:
        yield running
