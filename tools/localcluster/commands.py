"""The command line: `python -m tools.localcluster up|down|status|kubeconfig|reset|build|helm`.

Results go to standard output, all else to standard error, so that `KUBECONFIG=$(... kubeconfig)` works.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools.localcluster import binaries, cluster, folders
from tools.localcluster.errors import KubeconfigError, LocalClusterError
from tools.localcluster.progress import on_stderr

PROGRAM = "python -m tools.localcluster"
INTERRUPTED = 130
Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 with the reason on standard error when not."""
    parsed = _parser().parse_args(arguments)
    run: Command = parsed.run
    try:
        return run(parsed)
    except LocalClusterError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("localcluster: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_a_cluster: tuple[tuple[Command, str, str], ...] = (
        (_up, "up", "start the cluster, or find the running one; builds the programs the first time"),
        (_down, "down", "stop it and keep its data"),
        (_status, "status", "show its components; exit code 1 unless all run and the API server is ready"),
        (_kubeconfig, "kubeconfig", "print the path of its kubeconfig"),
        (_reset, "reset", "stop it and delete its data"),
    )
    for run, name, text in of_a_cluster:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--dir", type=Path, metavar="FOLDER", help=f"the cluster's folder (else ${folders.VARIABLE}, else .cluster)"
        )
        command.set_defaults(run=run)
    of_programs: tuple[tuple[Command, str, str], ...] = (
        (_build, "build", "find or build all programs and print their paths"),
        (_helm, "helm", "print the path of a helm 4 command"),
    )
    for run, name, text in of_programs:
        commands.add_parser(name, help=text, description=text).set_defaults(run=run)
    return parser


def _up(parsed: argparse.Namespace) -> int:
    running = cluster.up(parsed.dir)
    print(f"Kubernetes runs at {running.server}")
    print(f"  export KUBECONFIG='{running.kubeconfig}'")
    print(f"  helm: {running.helm}")
    return 0


def _down(parsed: argparse.Namespace) -> int:
    cluster.down(parsed.dir)
    return 0


def _reset(parsed: argparse.Namespace) -> int:
    cluster.reset(parsed.dir)
    return 0


def _kubeconfig(parsed: argparse.Namespace) -> int:
    place = folders.chosen(parsed.dir)
    if not (place.exists() and place.kubeconfig.exists()):
        raise KubeconfigError(f"there is no cluster in {place.root} yet; start one with: {PROGRAM} up")
    print(place.kubeconfig)
    return 0


def _status(parsed: argparse.Namespace) -> int:
    # Imported here because it takes longer than all the rest of a command that finds a running cluster.
    from rich.console import Console  # noqa: PLC0415 - only tables need it
    from rich.table import Table  # noqa: PLC0415 - only tables need it

    found = cluster.status(parsed.dir)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("COMPONENT", "PID", "STATE", "ADDRESS"):
        table.add_column(column, no_wrap=True)
    for one in found.components:
        state = "running" if one.pid else "stopped"
        table.add_row(one.name, str(one.pid or "-"), state, one.address or "-")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if found.ready:
        console.print(f"ready; kubeconfig: {found.kubeconfig}", markup=False)
        return 0
    if any(one.pid for one in found.components):
        console.print(f"not ready; 'up' starts what is missing, the logs are in {found.logs}", markup=False)
    else:
        console.print(f"not running; start it with: {PROGRAM} up", markup=False)
    return 1


def _build(_: argparse.Namespace) -> int:
    progress = on_stderr()
    for name, path in binaries.components(progress=progress).items():
        print(f"{name}: {path}")
    print(f"helm: {binaries.helm(progress=progress)}")
    return 0


def _helm(_: argparse.Namespace) -> int:
    print(binaries.helm())
    return 0
