"""The local cluster as its callers see it: obtain, up, down, reset, status.

Between calls nothing of this runs; the components do, on their own. Each call reads what is there (pid files, ports,
answers) and does what is missing, under one lock per cluster, so that calls may come from several processes and after
any kind of crash.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.localcluster import binaries, components, folders, locks, ports, processes
from tools.localcluster.components import STOP_ORDER
from tools.localcluster.errors import KubeconfigError, LocalClusterError
from tools.localcluster.folders import ClusterFolder
from tools.localcluster.ports import HOST
from tools.localcluster.probes import ApiServer
from tools.localcluster.progress import Progress, on_stderr
from tools.localcluster.starts import Start, stop_all


@dataclass(frozen=True, kw_only=True)
class RunningCluster:
    """A cluster that answers: a kubeconfig with full rights, a helm command to judge with, the API server's address.

    ``started`` is True for the one call that started it: only its caller may stop it again.
    """

    kubeconfig: Path
    helm: Path
    server: str
    started: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class ComponentState:
    """One component; `pid` is None when it does not run, `address` when it listens nowhere."""

    name: str
    pid: int | None
    address: str | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """All components of a cluster, and whether its API server says that it is ready."""

    components: tuple[ComponentState, ...]
    ready: bool
    kubeconfig: Path
    logs: Path


def obtain(folder: Path | None = None, *, progress: Progress | None = None) -> RunningCluster:
    """Return the cluster that KUBECONFIG names, and only without one the local cluster, started if need be."""
    given = given_kubeconfig(os.environ)
    if given is None:
        return up(folder, progress=progress)
    return RunningCluster(kubeconfig=given, helm=binaries.helm(progress=progress), server=_server_of(given))


def given_kubeconfig(environment: Mapping[str, str]) -> Path | None:
    """Return the file that KUBECONFIG names; None when it names none, and then the local cluster is to be used.

    Raises KubeconfigError when the file does not exist or there are several.
    """
    value = environment.get("KUBECONFIG", "")
    if not value:
        return None
    if os.pathsep in value:
        raise KubeconfigError(f"KUBECONFIG names several files ({value}); name one, or unset it for the local cluster")
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise KubeconfigError(f"KUBECONFIG names {path}, which is no file; unset it for the local cluster")
    return path


def up(folder: Path | None = None, *, progress: Progress | None = None) -> RunningCluster:
    """Start the local cluster in `folder` until it takes pods and answers; one that runs is left as it is.

    Whatever part of it is missing is started. Builds the programs the first time, which takes minutes.
    Raises a LocalClusterError whose text says what to do.
    """
    _require_linux()
    progress = progress or on_stderr()
    place = folders.chosen(folder)
    helm = binaries.helm(progress=progress)
    place.prepare()
    with _locked(place, progress):
        known = ports.remembered(place.ports)
        started = known is None or not _answers(place, known)
        if known is None or started:
            known = Start(place, commands=binaries.components(progress=progress), progress=progress).run()
    return RunningCluster(kubeconfig=place.kubeconfig, helm=helm, server=known.server, started=started)


def down(folder: Path | None = None, *, progress: Progress | None = None) -> None:
    """No component of the cluster in `folder` runs any more; its data stay for the next `up`."""
    _require_linux()
    progress = progress or on_stderr()
    place = folders.chosen(folder)
    with _locked(place, progress):
        _stop(place, progress)


def reset(folder: Path | None = None, *, progress: Progress | None = None) -> None:
    """Stop the cluster in `folder` and delete all that it kept."""
    _require_linux()
    progress = progress or on_stderr()
    place = folders.chosen(folder)
    with _locked(place, progress):
        _stop(place, progress)
        place.clear()
    progress.note(f"Deleted the cluster's data in {place.root}.")


def status(folder: Path | None = None) -> Status:
    """Return what runs of the cluster in `folder` at this moment; changes nothing."""
    _require_linux()
    place = folders.chosen(folder)
    known = ports.remembered(place.ports) if place.exists() else None
    listeners = {name: one.port for name, one in components.all_of(known).items()} if known else {}
    states = []
    for name in reversed(STOP_ORDER):
        process = processes.noted(place.pids / name)
        pid = process.pid if process is not None and process.alive() else None
        port = listeners.get(name)
        states.append(ComponentState(name=name, pid=pid, address=f"{HOST}:{port}" if port else None))
    ready = known is not None and _answers(place, known)
    return Status(components=tuple(states), ready=ready, kubeconfig=place.kubeconfig, logs=place.logs)


@contextmanager
def _locked(place: ClusterFolder, progress: Progress) -> Iterator[None]:
    """Nobody else starts, stops or removes the cluster inside this block."""
    if not place.exists():
        # Nothing to guard yet; whoever starts a cluster makes the lock before anything else.
        yield
        return
    with locks.held(place.lock, progress=progress, waiting=f"waiting for another process that works on {place.root}"):
        yield


def _stop(place: ClusterFolder, progress: Progress) -> None:
    stopped = stop_all(place, progress=progress)
    progress.note(f"Stopped {', '.join(stopped)}." if stopped else f"No cluster runs in {place.root}.")


def _answers(place: ClusterFolder, known: ports.Ports) -> bool:
    """Whether every component runs and the API server is ready."""
    for name in STOP_ORDER:
        process = processes.noted(place.pids / name)
        if process is None or not process.alive():
            return False
    try:
        return place.kubeconfig.exists() and ApiServer(place, known).ready()
    except (OSError, KeyError):
        # Its certificates or tokens are gone.
        return False


def _server_of(kubeconfig: Path) -> str:
    """Return the address of the current context's cluster."""
    try:
        document = yaml.safe_load(kubeconfig.read_text())
        contexts = {one["name"]: one["context"]["cluster"] for one in document["contexts"]}
        clusters = {one["name"]: one["cluster"]["server"] for one in document["clusters"]}
        return str(clusters[contexts[document["current-context"]]])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise KubeconfigError(f"{kubeconfig} is no kubeconfig with a current context and a server") from error


def _require_linux() -> None:
    if sys.platform != "linux":
        raise LocalClusterError("the local cluster runs on Linux only; set KUBECONFIG to use a cluster that you have")
