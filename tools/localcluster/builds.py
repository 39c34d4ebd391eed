"""Builds programs from Go modules into the cache, each once, however many processes ask at the same time."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path

from tools.localcluster import caches, locks, toolchains
from tools.localcluster.errors import BuildError
from tools.localcluster.programs import Program, required_go
from tools.localcluster.progress import Progress, Step, duration
from tools.localcluster.toolchains import Toolchain

SCRATCH = ".building-"
TAIL = 25
"""Lines of the compiler's output that a failure shows."""


def cached(program: Program) -> Path | None:
    """Return the folder with this build of the program, when it is in the cache."""
    folder = caches.location() / program.key
    # Unlike is_dir(), this does not mind a folder above it that is closed to this user.
    return folder if os.path.isdir(folder) else None  # noqa: PTH112 - see above


def build(program: Program, *, progress: Progress) -> Path:
    """Return the folder with this build of the program, built now if the cache has none.

    A half-built program is never seen: the folder is renamed into place when it is complete.
    Raises CacheError, ToolchainError or BuildError.
    """
    found = cached(program)
    if found is not None:
        return found
    cache = caches.writable()
    lock = cache / f"{program.key}.lock"
    with locks.held(lock, progress=progress, waiting=f"waiting for another process that builds {program.title}"):
        found = cached(program)
        if found is not None:
            return found
        prefix = f"{SCRATCH}{program.key}-"
        for abandoned in cache.glob(f"{prefix}*"):
            # The lock is ours, so whoever left this is dead.
            shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=prefix) as scratch:
            complete = Path(scratch) / "complete"
            complete.mkdir()
            _compile(program, complete, progress=progress)
            complete.rename(cache / program.key)
    return cache / program.key


def _compile(program: Program, folder: Path, *, progress: Progress) -> None:
    toolchain = toolchains.find(at_least=required_go(program.folder), progress=progress)
    build = f"{program.title} {program.version}"
    progress.note(
        f"Building {build} with Go {toolchain}, which takes minutes the first time ({', '.join(program.names)})."
    )
    with progress.step(f"building {build}") as step:
        _run(toolchain, program, folder / program.module, step=step)
        for name in program.names:
            if name != program.module:
                (folder / name).symlink_to(program.module)
        took = step.elapsed()
    progress.note(f"Built {program.title} in {duration(took)}.")


def _run(toolchain: Toolchain, program: Program, output: Path, *, step: Step) -> None:
    """Run the compiler at low priority and count the packages that it names as it goes."""
    go = str(toolchain.command)
    options = ["-v", "-trimpath", "-ldflags", program.ldflags, "-o", str(output)]
    step.detail = "downloading modules"
    lines: deque[str] = deque(maxlen=TAIL)
    compiled = 0
    try:
        with subprocess.Popen(
            ["nice", go, "build", *options, program.package],
            cwd=program.folder,
            env=toolchains.environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None  # noqa: S101 -- asked for above
            try:
                for line in process.stdout:
                    if line.startswith("go: downloading "):
                        continue
                    lines.append(line.rstrip())
                    compiled += 1
                    step.detail = f"{compiled} packages compiled, last {line.strip()}"
            except BaseException:
                # Interrupted: the compiler must not go on for minutes with nobody waiting for it.
                process.send_signal(signal.SIGINT)
                raise
    except OSError as error:
        raise BuildError(f"cannot run {go}: {error}") from error
    if process.returncode != 0:
        raise BuildError(
            f"building {program.title} failed. The last lines of the Go toolchain:\n  " + "\n  ".join(lines) + "\n"
            "A failed download means that the Go module proxy is out of reach (GOPROXY says which one); "
            "'no space left' that the disk is full: a build needs about 4 GB below GOCACHE and GOPATH."
        )
