"""Checks, tests and raises the Helm engine (``engine/``): ``python -m tools.engine check|test|upgrade V``."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.localcluster import toolchains
from tools.localcluster.programs import HELM_COMMAND, required_go
from tools.localcluster.progress import on_stderr

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "engine"
STATICCHECK = ROOT / "tools" / "staticcheck" / "go.mod"
_HELM = "helm.sh/helm/v4"


def main(arguments: list[str]) -> int:
    """Run what was asked for; the exit code of the first step that fails."""
    match arguments:
        case ["check"]:
            return check()
        case ["test"]:
            return test()
        case ["upgrade", version] if re.fullmatch(r"v4\.\d+\.\d+", version):
            return upgrade(version)
    print(__doc__, "V is a version such as v4.3.2.", file=sys.stderr)
    return 2


def check() -> int:
    """Say whether the code is formatted, and what ``go vet`` and staticcheck find."""
    unformatted = subprocess.run(
        [_go().with_name("gofmt"), "-l", "."], cwd=ENGINE, capture_output=True, text=True, check=True
    ).stdout
    if unformatted:
        print(f"run gofmt -w on: {' '.join(unformatted.split())}", file=sys.stderr)
        return 1
    return _run("vet", "-trimpath", "./...") or _run("tool", f"-modfile={STATICCHECK}", "staticcheck", "./...")


def test() -> int:
    """Run the engine's own tests, with the race detector where there is a C compiler for it."""
    if shutil.which("cc") is None:
        print("no C compiler: the engine's tests run without the race detector", file=sys.stderr)
        return _run("test", "-trimpath", "./...")
    return _run("test", "-trimpath", "-race", "./...", cgo=True)


def upgrade(version: str) -> int:
    """Raise Helm to one version, in the engine and in the judge of the tests alike."""
    for folder in (ENGINE, HELM_COMMAND.folder):
        if code := _run("get", f"{_HELM}@{version}", cwd=folder, modules="mod"):
            return code
        if code := _run("mod", "tidy", cwd=folder, modules="mod"):
            return code
    print(f"Helm is {version} now. Next: make test, and read Helm's notes of what changed.")
    return 0


def _run(*arguments: str, cwd: Path = ENGINE, cgo: bool = False, modules: str = "readonly") -> int:
    environment = toolchains.environment(os.environ)
    environment["GOFLAGS"] = f"-mod={modules} -buildvcs=false"
    environment["CGO_ENABLED"] = "1" if cgo else "0"
    return subprocess.run([_go(), *arguments], cwd=cwd, env=environment, check=False).returncode


def _go() -> Path:
    return toolchains.find(at_least=required_go(ENGINE), progress=on_stderr()).command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
