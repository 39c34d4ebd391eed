"""``make demo``: a cluster, a server, a chart and a first release, made with the vendor's own SDK.

Everything it makes lies in ``.demo`` (the server) and ``.cluster`` (the local Kubernetes) beside the Makefile.
"""

import argparse
import contextlib
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightkube import ApiError
from lightkube import Client as Kubernetes
from lightkube.config.kubeconfig import KubeConfig
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace
from rich.console import Console

from pilothouse.cli.client import Client, Credentials
from pilothouse.errors import PilothouseError
from tools.localcluster import cluster as local
from tools.localcluster import processes
from tools.localcluster.errors import LocalClusterError

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
REGION = "cn-north-4"
NAMESPACE = "project01"
RELEASE = "nino21"
PORT, TLS_PORT = 8440, 8443
LONGEST_SECONDS = 60

console = Console(highlight=False)


class DemoFailed(Exception):
    """The demo cannot go on; the text says why and where to look."""


class PortTaken(DemoFailed):
    """Another program has a port that the server was to listen on."""


@dataclass(frozen=True)
class Server:
    """A running ``pilothouse serve`` and the credentials of its first start."""

    url: str
    tls_url: str
    pid: int
    first: dict[str, str]

    def client(self) -> Client:
        """Call the server with the first access key."""
        return Client(
            self.url,
            credentials=Credentials(access_key=self.first["access_key"], secret_key=self.first["secret_key"]),
        )


def main() -> int:
    """Run the demo; 0 when the release reached DEPLOYED and helm agreed."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop everything again at the end")
    parser.add_argument("--down", action="store_true", help="only stop what an earlier demo left running")
    arguments = parser.parse_args()
    try:
        if arguments.down:
            stop_all()
            return 0
        return demonstrate(stop_at_end=arguments.exit)
    except (DemoFailed, LocalClusterError, PilothouseError) as error:
        console.print(f"[bold red]stopped:[/] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted; [bold]make demo-down[/] stops what still runs")
        return 130


def demonstrate(*, stop_at_end: bool) -> int:
    """From nothing to a deployed release; then serves until Ctrl-C unless told to stop."""
    begun = time.monotonic()
    DEMO.mkdir(mode=0o700, exist_ok=True)
    was_running = local.given_kubeconfig(os.environ) is not None or local.status().ready
    step("1", "a Kubernetes cluster", "etcd, kube-apiserver, controllers; nodes are simulated")
    kubernetes = local.obtain()
    step("2", "Pilothouse", "PostgreSQL, API and worker")
    server = start_server()
    try:
        client = server.client()
        step("3", "the cluster, registered with Pilothouse", f"{server.url}/api/v1/clusters")
        cluster_id = register(client, kubernetes)
        write_env(server, cluster_id, kubernetes)
        step("4", "a chart, uploaded", f"POST {server.url}/v2/charts, by the vendor's Python SDK")
        environment = client_environment(server, cluster_id)
        chart_id = upload_chart(environment)
        prepare_release(kubernetes)
        step("5", "a release, created", "examples/python/create_release.py, the calls of the API reference's sample")
        create_release(environment, chart_id)
        watch_release(client, cluster_id)
        step("6", "what helm says", "the helm command, which knows nothing of Pilothouse")
        helm(kubernetes, "list", "--namespace", NAMESPACE)
        console.print(f"\n[bold green]done[/] in {time.monotonic() - begun:.0f} s")
        say_how_to_go_on(server, stop_at_end=stop_at_end)
        if not stop_at_end:
            wait_for_interrupt(server)
    finally:
        if not was_stopped(server.pid):  # else what runs now is another demo's
            stop_server()
        if stop_at_end and not was_running:
            local.down()
    return 0


def step(number: str, title: str, detail: str) -> None:
    """Says what comes next."""
    console.print(f"\n[bold cyan]{number}[/] [bold]{title}[/]  [dim]{detail}[/]", soft_wrap=True)


def start_server() -> Server:
    """Return a server on a free port, started fresh; one that an earlier demo left running is stopped first."""
    stop_server()
    try:
        return _start_server(free_port(PORT), free_port(TLS_PORT))
    except PortTaken:  # by somebody who was a moment faster, such as another demo
        stop_server()
        return _start_server(free_port(0), free_port(0))


def _start_server(port: int, tls_port: int) -> Server:
    log, first = DEMO / "serve.log", DEMO / "first.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")},
        "PILOTHOUSE_DATA_DIR": str(DEMO / "data"),
        "PILOTHOUSE_PORT": str(port),
        "PILOTHOUSE_TLS__PORT": str(tls_port),
        "PILOTHOUSE_REGION": REGION,
        "PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK": "true",
        # a registry, or a folder of charts behind a web server, to try beside the cluster
        "PILOTHOUSE_SOURCES__ALLOW_LOOPBACK": "true",
        "PILOTHOUSE_SOURCES__ALLOW_HTTP": "true",
    }
    process = processes.start(
        [sys.executable, "-m", "pilothouse", "serve", "--first-credentials", str(first)],
        environment=environment,
        folder=ROOT,
        log=log,
        pid_file=DEMO / "pid",
        mark=f"demo {DEMO}",
    )
    url, tls_url = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}"
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        if not process.alive():
            if was_stopped(process.pid):
                raise DemoFailed("the server was stopped from another shell (make demo-down, or another make demo)")
            said = tail(log)
            raise (PortTaken if os.strerror(errno.EADDRINUSE) in said else DemoFailed)(f"the server ended:\n{said}")
        with contextlib.suppress(PilothouseError, OSError, ValueError):
            server = Server(url, tls_url, process.pid, json.loads(first.read_text()))
            server.client().call("GET", "/api/v1/clusters")  # signed: another server at this port refuses it
            console.print(f"  {url}  {tls_url}  [dim]pid {process.pid}, log {log.relative_to(ROOT)}[/]", soft_wrap=True)
            return server
        time.sleep(0.1)
    raise DemoFailed(f"the server did not answer within {LONGEST_SECONDS} s:\n{tail(log)}")


def free_port(usual: int) -> int:
    """Return the usual port, or any free one."""
    for port in (usual, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed("no port is free on 127.0.0.1")


def register(client: Client, kubernetes: local.RunningCluster) -> str:
    """Return the id of this cluster in the server; registers it anew when its address or certificate changed."""
    kubeconfig = kubernetes.kubeconfig.read_text()
    for known in client.call("GET", "/api/v1/clusters"):
        if known["name"] == "demo":
            try:
                client.call("GET", f"/api/v1/clusters/{known['id']}/probe")
            except PilothouseError:
                client.call("DELETE", f"/api/v1/clusters/{known['id']}")
            else:
                console.print(f"  registered by an earlier run: {known['id']}")
                return str(known["id"])
    made = client.call("POST", "/api/v1/clusters", body={"name": "demo", "kubeconfig": kubeconfig})
    console.print(f"  {made['id']}")
    return str(made["id"])


def client_environment(server: Server, cluster_id: str) -> dict[str, str]:
    """Return what the vendor's SDKs need to find this server instead of the cloud."""
    return {
        "CLOUD_SDK_AK": server.first["access_key"],
        "CLOUD_SDK_SK": server.first["secret_key"],
        "HUAWEICLOUD_SDK_REGION_CCE_CN_NORTH_4": server.url,
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": server.url,
        "REGION": REGION,
        "CLUSTER_ID": cluster_id,
        "NAMESPACE": NAMESPACE,
        "NAME": RELEASE,
    }


def upload_chart(environment: dict[str, str]) -> str:
    """Packs the sample chart and uploads it with the SDK; its id."""
    archive = DEMO / "hello-1.0.0.tgz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(ROOT / "examples" / "charts" / "hello", arcname="hello")
    chart = json.loads(example("upload_chart.py", {**environment, "CHART": str(archive)}))
    console.print(f"  {chart['name']} {chart['version']}  {chart['id']}")
    return str(chart["id"])


def prepare_release(kubernetes: local.RunningCluster) -> None:
    """Make the namespace, and delete the release of an earlier run, with a message."""
    with contextlib.suppress(subprocess.CalledProcessError):
        helm(kubernetes, "status", RELEASE, "--namespace", NAMESPACE, quiet=True)
        console.print(f"  an earlier run left release {RELEASE}: uninstalling it with helm, to create it anew")
        helm(kubernetes, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", quiet=True)
    make_namespace(kubernetes.kubeconfig)


def make_namespace(kubeconfig: Path) -> None:
    """Make the namespace if it does not exist, as any client would."""
    api = Kubernetes(config=KubeConfig.from_file(kubeconfig), trust_env=False)
    try:
        api.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
    except ApiError as error:
        if error.status.reason != "AlreadyExists":
            raise DemoFailed(f"namespace {NAMESPACE} cannot be made: {error}") from error
    finally:
        api.close()


def create_release(environment: dict[str, str], chart_id: str) -> None:
    """Run the sample's calls, and show their answer."""
    answer = json.loads(example("create_release.py", {**environment, "CHART_ID": chart_id}))
    for key in ("name", "namespace", "chart_name", "chart_version", "values", "status", "version"):
        console.print(f"  [dim]{key:14}[/] {answer[key]}", soft_wrap=True)


def watch_release(client: Client, cluster_id: str) -> None:
    """Show each new status until the release is deployed."""
    path = f"/cce/cam/v3/clusters/{cluster_id}/namespace/{NAMESPACE}/releases/{RELEASE}"
    begun, seen = time.monotonic(), ""
    with console.status("  waiting for the worker"):
        while time.monotonic() - begun < LONGEST_SECONDS:
            release: dict[str, Any] = client.call("GET", path)
            now = f"{release['status']}: {release['status_description']}"
            if now != seen:
                console.print(f"  [dim]{time.monotonic() - begun:5.1f} s[/]  {now}", soft_wrap=True)
                seen = now
            if release["status"] == "DEPLOYED":
                return
            if release["status"] != "PENDING_INSTALL":
                raise DemoFailed(f"the release ended as {now}")
            time.sleep(0.2)
    raise DemoFailed(f"the release is still {seen} after {LONGEST_SECONDS} s")


def helm(kubernetes: local.RunningCluster, *arguments: str, quiet: bool = False) -> None:
    """Run helm against the cluster; raise CalledProcessError when it fails."""
    done = subprocess.run(
        [str(kubernetes.helm), "--kubeconfig", str(kubernetes.kubeconfig), *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    if not quiet:
        console.print("  " + done.stdout.strip().replace("\n", "\n  "), soft_wrap=True)


def example(name: str, environment: dict[str, str]) -> str:
    """Run one of the example programs as a user would; what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python" / name)],
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(DEMO), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed(f"examples/python/{name} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def write_env(server: Server, cluster_id: str, kubernetes: local.RunningCluster) -> None:
    """Write .demo/env, which points any client of the vendor's at this server."""
    exports = {
        "PILOTHOUSE_URL": server.url,
        "PILOTHOUSE_TLS_URL": server.tls_url,
        "PILOTHOUSE_CA": str(DEMO / "data" / "tls" / "ca.pem"),
        "PILOTHOUSE_PROJECT_ID": server.first["project_id"],
        "PILOTHOUSE_CLUSTER_ID": cluster_id,
        "PILOTHOUSE_PID": str(server.pid),
        "KUBECONFIG": str(kubernetes.kubeconfig),
        "CLOUD_SDK_AK": server.first["access_key"],
        "CLOUD_SDK_SK": server.first["secret_key"],
        "HUAWEICLOUD_SDK_REGION_CCE_CN_NORTH_4": server.url,
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": server.url,
    }
    folders = [ROOT / ".venv" / "bin", kubernetes.helm.parent]
    file = DEMO / "env"
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in exports.items())
        out.write(f'export PATH={shlex.quote(os.pathsep.join(map(str, folders)))}:"$PATH"\n')


def say_how_to_go_on(server: Server, *, stop_at_end: bool) -> None:
    """Print what a person can try next."""
    if stop_at_end:
        return
    console.print(
        f"\nServing at {server.url} until Ctrl-C. In another shell, here:\n"
        "  source .demo/env                         helm, pilothouse and the SDKs find this server and cluster\n"
        "  pilothouse env                           our own command line: which server it asks, and as whom\n"
        f"  pilothouse login {server.url}   as admin; the password, the console's too, is in .demo/first.json\n"
        "  .venv/bin/python examples/python/list_releases.py\n"
        "  make test                                all tests\n"
        "  make demo-down                           stop everything, the local cluster included",
        soft_wrap=True,
    )


def wait_for_interrupt(server: Server) -> None:
    """Return at Ctrl-C or SIGTERM, or if another shell stops the server; raise DemoFailed if it ends by itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = noted_server()
    try:
        while process is not None and process.alive():
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("\nstopping the server; the local cluster stays for the next run (make demo-down stops it too)")
        return
    if was_stopped(server.pid):
        console.print("\nthe server was stopped from another shell (make demo-down, or another make demo)")
        return
    raise DemoFailed(f"the server (pid {server.pid}) ended by itself:\n{tail(DEMO / 'serve.log')}")


def stop_all() -> None:
    """Stop the server and the local cluster."""
    stop_server()
    local.down()


def stop_server() -> None:
    """Stop the server that this or an earlier demo started, if it still runs."""
    process = noted_server()
    if process is not None:
        (DEMO / "stopped").write_text(str(process.pid))  # before, for the shell that waits for it
        process.stop(grace=LONGEST_SECONDS)
    (DEMO / "pid").unlink(missing_ok=True)


def was_stopped(pid: int) -> bool:
    """Return whether a demo was told to stop that server."""
    stopped = DEMO / "stopped"
    return stopped.exists() and stopped.read_text() == str(pid)


def noted_server() -> processes.Process | None:
    """Return the server that the pid file tells of, alive or not."""
    return processes.noted(DEMO / "pid")


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else "(no log)"


if __name__ == "__main__":
    sys.exit(main())
