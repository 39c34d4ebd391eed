"""The programs in ``examples``, built with their own tools, one language at a time."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: For a cold cache and a busy machine; the Go compiler alone takes a minute for the vendor's models.
_BUILD_SECONDS = 900


class ToolMissing(Exception):
    """The language's compiler is not here; the text says what is needed."""


@dataclass(frozen=True)
class Programs:
    """The command lines of one language's two programs, and what its client needs beyond the common environment."""

    create_release: list[str]
    lifecycle: list[str]
    https_look_up: bool = False


def build_python(_folder: Path) -> Programs:
    """Nothing to build."""
    folder = EXAMPLES / "python"
    return Programs(
        create_release=[sys.executable, str(folder / "create_release.py")],
        lifecycle=[sys.executable, str(folder / "lifecycle.py")],
    )


def build_java(folder: Path) -> Programs:
    """Built by Maven in a copy below ``folder``, from the user's own repository cache."""
    _need("mvn", "javac", text="Maven and a JDK of version 11 or newer")
    if _version(["javac", "-version"]) < (11,):
        raise ToolMissing("needs a JDK of version 11 or newer")
    project = folder / "java"
    shutil.copytree(EXAMPLES / "java", project, ignore=shutil.ignore_patterns("target"))
    classpath = project / "target" / "classpath"
    _run(["mvn", "-B", "-q", "compile", "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"], folder=project)
    java = ["java", "-cp", f"{project / 'target' / 'classes'}{os.pathsep}{classpath.read_text()}"]
    return Programs(
        create_release=[*java, "pilothouse.samples.CreateRelease"], lifecycle=[*java, "pilothouse.samples.Lifecycle"]
    )


def build_go(folder: Path) -> Programs:
    """Built by Go into ``folder``, from the user's own module and build caches."""
    _need("go", text="Go 1.22 or newer")
    if _version(["go", "env", "GOVERSION"]) < (1, 22):
        raise ToolMissing("needs Go 1.22 or newer")
    _run(["go", "build", "-mod=readonly", "-o", f"{folder}{os.sep}", "./..."], folder=EXAMPLES / "go")
    return Programs(
        create_release=[str(folder / "create_release")], lifecycle=[str(folder / "lifecycle")], https_look_up=True
    )


BUILDERS: dict[str, Callable[[Path], Programs]] = {"python": build_python, "java": build_java, "go": build_go}


def _need(*commands: str, text: str) -> None:
    if any(shutil.which(command) is None for command in commands):
        raise ToolMissing(f"needs {text} on the PATH")


def _version(command: list[str]) -> tuple[int, ...]:
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"[0-9]+(\.[0-9]+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _run(command: list[str], *, folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command[:3])}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
