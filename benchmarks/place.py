"""Where everything is measured: one server of our own, the local cluster, a namespace that goes away again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pilothouse.embedded_postgres.layout import read_state_file
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings
from tests.support.servers import RunningServer, open_folder, run_server
from tools.localcluster.cluster import obtain

_ANSWER_BYTES = 1 << 20
_MIB = 1024 * 1024
_GONE_SECONDS = 600.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """What a benchmark may use."""

    server: RunningServer
    kubeconfig: Path
    helm: Path
    folder: Path

    def upload(self, archive: bytes, *, again: bool = False) -> str:
        """Return the id of the uploaded chart; ``again``: another benchmark may have uploaded it."""
        answer = self.server.upload(archive, parameters='{"override": true}' if again else None)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    @property
    def releases(self) -> str:
        return f"/cce/cam/v3/clusters/{self.server.cluster_id}/releases"

    def release(self, namespace: str, name: str) -> str:
        return f"/cce/cam/v3/clusters/{self.server.cluster_id}/namespace/{namespace}/releases/{name}"

    @asynccontextmanager
    async def namespace(self) -> AsyncIterator[str]:
        """Yield a new namespace; at the end it is gone with its content, so as not to slow what is measured next."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        settings = ClusterSettings(allow_loopback=True)
        kubernetes = Transport(
            sanitise(self.kubeconfig.read_text(), addresses=Addresses(allow_loopback=True)).text, settings
        )
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            made = await kubernetes.ask("POST", "/api/v1/namespaces", body=body, largest=_ANSWER_BYTES)
            assert made.ok, made.message
            try:
                yield name
            finally:
                await kubernetes.ask("DELETE", path := f"/api/v1/namespaces/{name}", largest=_ANSWER_BYTES)
                async with asyncio.timeout(_GONE_SECONDS):
                    while (await kubernetes.ask("GET", path, largest=_ANSWER_BYTES)).ok:  # noqa: ASYNC110 - the server sets no event
                        await asyncio.sleep(0.5)
        finally:
            await kubernetes.close()

    @contextmanager
    def worker_paused(self) -> Iterator[None]:
        """Yield the worker process is stopped, as by Ctrl-Z, inside this block."""
        pid = child_of(self.server.pid, "worker")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def helm_install(self, name: str, chart: Path, *, namespace: str, options: list[str]) -> None:
        self.run_helm("install", name, str(chart), *options, namespace=namespace)

    def run_helm(self, *arguments: str, namespace: str, kubeconfig: Path | None = None) -> str:
        """Return what the helm command says; ``kubeconfig`` is the way to the cluster, if it is not the place's own."""
        way = kubeconfig or self.kubeconfig
        command: list[str | Path] = [self.helm, *arguments, "-n", namespace, "--kubeconfig", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout


@contextmanager
def place() -> Iterator[Place]:
    """Yield a server started for the measurements, with the cluster registered."""
    cluster = obtain()
    with open_folder() as folder, run_server(folder, kubeconfig=cluster.kubeconfig.read_text()) as server:
        yield Place(server, cluster.kubeconfig, cluster.helm, folder)


def child_of(parent: int, command: str) -> int:
    """Return the child process whose command line has that word; it may be starting yet."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        for pid in children_of(parent):
            with contextlib.suppress(OSError):  # it ended while we looked
                if command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        time.sleep(0.1)
    raise AssertionError(f"process {parent} has no child {command!r}")


def children_of(parent: int) -> list[int]:
    """Return the living child processes."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended while we looked
            if f"PPid:\t{parent}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def rss(pid: int) -> float:
    """Resident megabytes (10^6 bytes would flatter: these are of 2^20)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / _MIB
    raise AssertionError(f"process {pid} has no memory")


def pss(pid: int) -> float:
    """Megabytes in memory, of what several processes share each one's part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / _MIB
    raise AssertionError(f"process {pid} has no memory")


def cpu_seconds(pids: Iterable[int], *, ended: bool = False) -> float:
    """Return the processor time that the processes have used; ``ended``: that of their children that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[13:15] if ended else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def postmaster_of(data_dir: Path) -> int:
    """Return the process that is the database of the server with this data."""
    root = read_state_file(data_dir).root
    assert root is not None, "the server has a database of its own"
    return int((root / "data" / "postmaster.pid").read_text().splitlines()[0])
