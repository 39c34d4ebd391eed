"""Charts on this machine: packed, shown, linted and rendered by the engine's program, without a server."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pilothouse.cli.exits import UsageError
from pilothouse.cli.terminal import printable
from pilothouse.errors import EngineUnavailable, PilothouseError

if TYPE_CHECKING:
    import subprocess

#: The program of ``engine/``. Its launcher is for children of a server, and loads what only they need.
_PROGRAM: Final = Path(__file__).parents[1] / "engine" / "bin" / "helm"
#: How it ends if an argument is wrong: ``engine/local.go``, usageExit.
_USAGE_EXIT: Final = 64
_OCI: Final = "oci://"
_ARCHIVES: Final = (".tgz", ".tar.gz")


@dataclass(frozen=True)
class PackedChart:
    """A chart as an archive, with name and version of its Chart.yaml."""

    name: str
    version: str
    content: bytes


@dataclass(frozen=True)
class ChartFile:
    """Where a chart is on this machine; ``names``: how it was typed, by the path of a copy that was fetched."""

    path: str
    names: dict[str, str] = field(default_factory=dict)


def find_local(chart: str) -> Path | None:
    """Return the folder or archive on this machine that CHART names, or None if it names one on the server."""
    path = Path(chart).expanduser()
    if path.is_file() or (path / "Chart.yaml").is_file():
        return path
    if chart.startswith(_OCI):
        return None
    if "://" in chart:
        raise UsageError(
            f"{chart}: charts of a repository are taken from a source; type 'pilothouse source add NAME "
            f"{chart.rpartition('/')[0]}', which has the repository's index.yaml, and name SOURCE/CHART"
        )
    if chart.startswith((".", "/", "~")) or chart.endswith(_ARCHIVES):
        what = "no Chart.yaml is in that folder" if path.is_dir() else "there is no such file or folder"
        raise UsageError(f"{chart}: {what}; a relative path begins at {Path.cwd()}")
    return None


def provenance_of(path: Path) -> str:
    """Return the provenance file beside an archive, as ``helm package --sign`` makes it; empty without one."""
    if not path.is_file():
        return ""
    file = path.with_name(f"{path.name}.prov")
    try:
        return file.read_text("utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error


def pack(path: Path) -> PackedChart:
    """Return the archive of a chart: of a folder as ``helm package`` packs it, with .helmignore."""
    with packing(path) as finish:
        return finish()


@contextmanager
def packing(path: Path) -> Iterator[Callable[[], PackedChart]]:
    """Pack a chart during the block; what is yielded waits for the archive and returns it."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pilothouse-") as folder:
        into = folder if path.is_dir() else ""
        running = _start("pack", paths=[str(path)], into=into)

        def finish() -> PackedChart:
            made = json.loads(_finish(running))
            try:
                content = Path(made["file"]).read_bytes()
            except OSError as error:
                raise UsageError(f"cannot read {made['file']}: {error.strerror}") from error
            return PackedChart(made["name"], made["version"], content)

        with running:
            yield finish


@contextmanager
def chart_file(context: typer.Context, chart: str, *, version: str = "") -> Iterator[ChartFile]:
    """Yield a chart on this machine, or the archive of another one, which is fetched for it."""
    if (local := find_local(chart)) is not None:
        yield ChartFile(str(local))
        return
    import tempfile

    from pilothouse.cli.charts import uploaded_id
    from pilothouse.cli.connection import client_of
    from pilothouse.cli.sources import is_of_source, pulled_id

    find = pulled_id if is_of_source(chart) else uploaded_id
    answer = client_of(context).get(f"/v2/charts/{find(context, chart, version=version)}/archive")
    with tempfile.TemporaryDirectory(prefix="pilothouse-") as folder:
        file = Path(folder) / f"{chart.replace('/', '_')}.tgz"
        file.write_bytes(answer.content)
        yield ChartFile(str(file), {str(file): chart})


def run_engine(action: str, *, names: Mapping[str, str] | None = None, **request: Any) -> str:
    """Return what the engine's program prints; raise PilothouseError in Helm's words.

    ``names``: what stands for a path in its texts.
    """
    with _start(action, **request) as running:
        return _finish(running, names)


def _start(action: str, **request: Any) -> "subprocess.Popen[bytes]":
    import subprocess

    pipe = subprocess.PIPE
    try:
        running = subprocess.Popen([_PROGRAM, "local"], stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603 (our own)
    except OSError as error:
        raise EngineUnavailable(
            f"the engine's program {_PROGRAM} does not run: {error}; install Pilothouse from a wheel, or build it with "
            "'make setup'"
        ) from error
    if running.stdin is not None:
        running.stdin.write(json.dumps({"action": action, **request}).encode())
        running.stdin.close()
        running.stdin = None
    return running


def _finish(running: "subprocess.Popen[bytes]", names: Mapping[str, str] | None = None) -> str:
    text, problem = (part.decode(errors="replace") for part in running.communicate())
    for path, name in (names or {}).items():
        text, problem = text.replace(path, name), problem.replace(path, name)
    if running.returncode != 0:
        print_text(text)
        raise (UsageError if running.returncode == _USAGE_EXIT else PilothouseError)(problem.strip())
    return text


def print_text(text: str) -> None:
    """Print a text as it is into a file or to a program; on a terminal without its control characters."""
    typer.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
