"""The commands of the pages are run as they stand, each page as one script; what is not run says why."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lightkube import Client, KubeConfig
from lightkube.resources.core_v1 import Namespace

from tests.contract.test_operations_api import slow_chart
from tests.contract.test_release_locks import KilledHelm, killed_helm, stalling
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, free_port, open_folder, run_server, wait_for
from tools.localcluster.cluster import RunningCluster

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/quickstart.md",
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "how-to").glob("*.md")),
    "docs/command-line.md",
    "docs/troubleshooting.md",
    "docs/dev/release.md",
]
#: They register the cluster themselves, as the first thing that a person does.
FIRST_STEPS = {"README.md", "docs/quickstart.md"}
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+?) -->\n)?```sh\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
__all__ = ["killed_helm"]  # a fixture


def blocks(page: str) -> list[tuple[str | None, str]]:
    return [(found["reason"], found["text"]) for found in _BLOCK.finditer((ROOT / page).read_text())]


def script(page: str) -> str:
    return "".join(text for reason, text in blocks(page) if reason is None)


RUN = [page for page in PAGES if script(page)]
# One of them resets the administrator's password.
RUN.sort(key=lambda page: page.endswith("users-and-roles.md"))


@pytest.fixture(scope="module")
def own_server() -> Iterator[tuple[RunningServer, Path]]:
    """A server that no other file of tests sees, and the folder that a person stands in."""
    with open_folder() as folder:
        port = free_port()
        with run_server(folder, kubeconfig=None, environment={"PILOTHOUSE_TLS__PORT": str(port)}) as running:
            shutil.copytree(ROOT / "examples", folder / "examples")
            (folder / "password").write_text(f"{running.password}\n")
            yield RunningServer(**{**vars(running), "tls_url": f"https://127.0.0.1:{port}"}), folder


@pytest.fixture
def registered(page: str, own_server: tuple[RunningServer, Path], kubernetes: RunningCluster) -> Iterator[None]:
    """Register the cluster, unless the page does it; what it made is deleted."""
    server, folder = own_server
    text = kubernetes.kubeconfig.read_text()
    (folder / "kubeconfig").write_text(text)
    if page not in FIRST_STEPS:
        server.send("POST", "/api/v1/clusters", json_body={"name": "production", "kubeconfig": text})
    yield
    for cluster in server.send("GET", "/api/v1/clusters").json():
        server.send("DELETE", f"/api/v1/clusters/{cluster['id']}")
    for chart in server.send("GET", "/v2/charts").json():
        server.send("DELETE", f"/v2/charts/{chart['id']}")


def test_every_command_is_run_or_says_why_not():
    for page in PAGES:
        found = blocks(page)
        assert len(found) == (ROOT / page).read_text().count("```sh\n"), page
        assert all(reason is None or len(reason) > 10 for reason, _ in found)
    assert len(RUN) >= 8


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("page", ["docs/quickstart.md"])
def test_the_quickstart_can_be_typed_again(
    page: str,
    own_server: tuple[RunningServer, Path],
    kubernetes: RunningCluster,
    make_namespace: Callable[[], str],
    tmp_path: Path,
):
    server, folder = own_server
    made = server.send("POST", "/api/v1/projects", json_body={"name": "a-second-project"})
    assert made.status_code == 201, made.text
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{kubernetes.helm.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PILOTHOUSE_URL": server.url,
    }
    typed = script(page).replace("http://127.0.0.1:8440", server.url).replace("project01", make_namespace())
    try:
        for _ in range(2):
            run_typed(typed, environment, folder)
    finally:
        removed = server.send("DELETE", f"/api/v1/projects/{made.json()['id']}")
    assert removed.status_code == 204, removed.text


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_do_what_it_says(
    *,
    page: str,
    own_server: tuple[RunningServer, Path],
    kubernetes: RunningCluster,
    make_namespace: Callable[[], str],
    helm_cli: HelmCommand,
    killed_helm: KilledHelm,
    tmp_path: Path,
):
    server, folder = own_server
    namespace = make_namespace()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{kubernetes.helm.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(kubernetes.kubeconfig),
        "PILOTHOUSE_DATA_DIR": str(server.data_dir),
        "PILOTHOUSE_URL": server.url,  # in place of the port that commands look at without it
        "TLS_URL": server.tls_url,
        "NAMESPACE": namespace,
    }
    if page not in FIRST_STEPS:
        environment |= {"CLOUD_SDK_AK": server.access_key, "CLOUD_SDK_SK": server.secret_key}
    typed = script(page).replace("http://127.0.0.1:8440", server.url)
    missing = [tool for tool in ("jq", "curl", "kubectl") if re.search(rf"\b{tool} ", typed) and not shutil.which(tool)]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    if "kubectl create namespace" in typed:
        namespace = f"{namespace}-own"
    typed = typed.replace("project01", namespace)
    if "unlock" in page:
        environment |= locked_and_running(server, namespace, helm_cli, killed_helm, tmp_path)
    run_typed(typed, environment, folder)
    if namespace.endswith("-own"):
        helm_cli("uninstall", "hello", "--namespace", namespace)
        api = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
        api.delete(Namespace, namespace)
        api.close()


def run_typed(typed: str, environment: dict[str, str], folder: Path) -> None:
    """Type that into a shell in the folder; every command must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def locked_and_running(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, killed_helm: KilledHelm, tmp_path: Path
) -> dict[str, str]:
    """Return the names of a release that a dead helm left locked, and of an operation that runs."""
    first, second = tmp_path / "first.tgz", tmp_path / "second.tgz"
    first.write_bytes(config_map_chart("locked"))
    second.write_bytes(stalling("pre-upgrade"))
    helm_cli("install", "web", str(first), "-n", namespace)
    killed_helm("upgrade", "web", str(second), name="web", namespace=namespace, leaves="pending-upgrade")
    shown = f"/api/v1/clusters/production/namespaces/{namespace}/releases/web"
    wait_for(lambda: server.send("GET", shown).json().get("status") == "pending-upgrade")
    chart = server.upload(slow_chart("30s")).json()["id"]
    cluster = server.send("GET", "/api/v1/clusters").json()[0]["id"]
    accepted = server.send(
        "POST",
        f"/cce/cam/v3/clusters/{cluster}/releases",
        json_body={"chart_id": chart, "name": "slow", "namespace": namespace},
    )
    return {"LOCKED": "web", "OPERATION": accepted.headers["x-operation-id"]}
