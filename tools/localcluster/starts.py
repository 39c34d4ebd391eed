"""Brings a cluster from whatever state it is in to ready, and back to nothing running."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.localcluster import components, credentials, ports, probes, processes
from tools.localcluster.components import START_ORDER, STOP_ORDER, Component
from tools.localcluster.errors import StartError
from tools.localcluster.folders import ClusterFolder
from tools.localcluster.ports import Ports
from tools.localcluster.probes import ApiServer
from tools.localcluster.processes import Process
from tools.localcluster.programs import APISERVER, ETCD
from tools.localcluster.progress import Progress, Step, duration

PATIENCE = 120.0
"""Seconds until a start is given up. It takes about five; the machine may be compiling something."""
GRACE = 10.0
"""Seconds that a component has for stopping by itself."""
POLL = 0.05
LOG_LIMIT = 20 * 1024 * 1024
"""Bytes after which a component's log is set aside at its next start."""
TAIL = 12
"""Lines of a component's log that a failure shows."""


class Start:
    """One start. The caller holds the cluster's lock."""

    def __init__(self, folder: ClusterFolder, *, commands: Mapping[str, Path], progress: Progress) -> None:
        self._folder = folder
        self._commands = commands
        self._progress = progress
        self._started: dict[str, Process] = {}

    def run(self) -> Ports:
        """Every component runs, the API server is ready, the node takes pods and the namespace default has its account.

        Components that run already are left alone. A failure stops what was started, and StartError says why.
        """
        began = time.monotonic()
        known = self._usable_ports()
        credentials.ensure(self._folder)
        credentials.write_kubeconfigs(self._folder, server=known.server)
        components.write_config(self._folder)
        wanted = components.all_of(known)
        missing = [name for name in START_ORDER if name not in alive(self._folder)]
        if 0 < len(missing) < len(wanted):
            self._progress.note(f"{', '.join(missing)} had stopped; starting again.")
        try:
            with self._progress.step("starting Kubernetes") as step:
                self._bring_up([wanted[name] for name in missing], known, step)
        except BaseException:
            for process in reversed(self._started.values()):
                process.stop(grace=GRACE)
            raise
        self._progress.note(f"Kubernetes is ready after {duration(time.monotonic() - began)}.")
        return known

    def _usable_ports(self) -> Ports:
        """Return the remembered ports when they can be used, else new ones; leftovers that fit neither are stopped."""
        running = alive(self._folder)
        self._stop_strays(running)
        known = ports.remembered(self._folder.ports)
        if running and known and self._folder.pki.is_dir():
            wanted = components.all_of(known)
            needed = [wanted[name].port for name in START_ORDER if name not in running]
            if all(port is None or ports.free(port) for port in needed):
                return known
        if running:
            self._progress.note("Parts of an earlier cluster still ran but cannot be used; stopping them.")
            stop_all(self._folder, progress=self._progress)
        if known is not None and known.all_free():
            return known
        if known is not None:
            self._progress.note("Another program uses a port of the cluster; its address changes.")
        return ports.choose(self._folder.ports)

    def _stop_strays(self, running: Mapping[str, Process]) -> None:
        strays = [process for process in processes.marked(_mark(self._folder)) if process not in running.values()]
        if strays:
            self._progress.note(f"Found {len(strays)} left-over process(es) of an earlier cluster here; stopping them.")
            for process in strays:
                process.stop(grace=GRACE)

    def _bring_up(self, missing: list[Component], known: Ports, step: Step) -> None:
        by_name = {component.name: component for component in missing}
        if ETCD in by_name:
            step.detail = "etcd"
            self._start_etcd(by_name.pop(ETCD), known)
        if APISERVER in by_name:
            self._launch(by_name.pop(APISERVER))
        step.detail = "waiting for the API server"
        server = ApiServer(self._folder, known)
        self._wait(server.ready, until="the API server is ready")
        for component in by_name.values():
            self._launch(component)
        step.detail = "waiting for the node"
        self._wait(server.node_ready, until="the node is ready")
        self._wait(server.default_account_exists, until="the namespace default has its service account")
        self._check_alive()

    def _start_etcd(self, etcd: Component, known: Ports) -> None:
        """Start etcd; data that it cannot read (the machine crashed, and nothing was synced) are set aside once."""

        def healthy() -> bool:
            return probes.etcd_healthy(self._folder, known)

        had_data = self._folder.data.is_dir()
        process = self._launch(etcd)
        try:
            self._wait(healthy, until="etcd answers")
        except StartError:
            if not had_data or process.alive():
                raise
            shutil.rmtree(self._folder.unreadable_data, ignore_errors=True)
            self._folder.data.rename(self._folder.unreadable_data)
            self._progress.note(
                f"etcd could not read its data (now in {self._folder.unreadable_data}), so the cluster starts empty."
            )
            self._launch(etcd)
            self._wait(healthy, until="etcd answers")

    def _launch(self, component: Component) -> Process:
        log = self._folder.log(component.name)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        process = processes.start(
            [self._commands[component.name], *component.arguments],
            environment={"HOME": str(self._folder.root), "PATH": os.defpath},
            folder=self._folder.root,
            log=log,
            pid_file=self._folder.pids / component.name,
            mark=_mark(self._folder),
        )
        self._started[component.name] = process
        return process

    def _wait(self, ready: Callable[[], bool], *, until: str) -> None:
        """Return when `ready()`; StartError as soon as a component has ended, or when patience has."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            self._check_alive()
            if time.monotonic() > deadline:
                raise StartError(
                    f"gave up after {duration(PATIENCE)}: not {until}. The logs are in {self._folder.logs}; "
                    "'down' and 'up' often help, 'reset' starts from nothing."
                )
            time.sleep(POLL)

    def _check_alive(self) -> None:
        for name, process in self._started.items():
            if not process.alive():
                log = self._folder.log(name)
                raise StartError(f"{name} ended while it was starting. The end of {log}:\n{_tail(log)}")


def alive(folder: ClusterFolder) -> dict[str, Process]:
    """Return the components of this cluster that run, by name, as their pid files tell."""
    noted = {name: processes.noted(folder.pids / name) for name in START_ORDER}
    return {name: process for name, process in noted.items() if process is not None and process.alive()}


def stop_all(folder: ClusterFolder, *, progress: Progress) -> list[str]:
    """No component of this cluster runs; returns the names of those that did. etcd goes after those who write to it."""
    stopped = []
    running = alive(folder)
    with progress.step("stopping Kubernetes") as step:
        for name in STOP_ORDER:
            if name in running:
                step.detail = name
                if not running[name].stop(grace=GRACE):
                    progress.note(f"{name} did not stop within {duration(GRACE)} and was killed.")
                stopped.append(name)
            (folder.pids / name).unlink(missing_ok=True)
        for stray in processes.marked(_mark(folder)):
            stray.stop(grace=GRACE)
            stopped.append(f"process {stray.pid}")
    return stopped


def _mark(folder: ClusterFolder) -> str:
    return str(folder.root)


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    except OSError:
        return "  (there is none)"
    return "\n".join(f"  {line}" for line in lines)
