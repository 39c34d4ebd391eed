"""The wheel carries the engine: what is installed from it needs no Go, and says for which platform it is.

``make wheel-test`` also installs it with pip, with all that it depends on, into an empty environment.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).parents[2]
INSTALL = bool(os.environ.get("PILOTHOUSE_TEST_WHEEL"))
PROGRAM = "pilothouse/engine/bin/helm"


def uv() -> str:
    """The uv that installed this environment: it can build, as it has done so."""
    found = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".bootstrap" / "bin" / "uv")
    assert Path(found).exists(), "make setup installs uv"
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that git knows: nothing that an earlier build left is in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in subprocess.run(
        ["git", "ls-files", "src", "engine", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines():  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run([uv(), "build", "--wheel", "--quiet", "--out-dir", out, source], os.environ)
    (built,) = out.glob("*.whl")
    return built


def run(command: list[str | Path], environment: dict[str, str] | os._Environ[str]) -> str:
    """What the command prints; fails with what it said."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def without_go(home: Path) -> dict[str, str]:
    """An environment of somebody who has no Go, no caches and no settings."""
    home.mkdir()
    empty = home / "bin"
    empty.mkdir()
    environment = {"HOME": str(home), "PATH": str(empty), "PILOTHOUSE_DATA_DIR": str(home / "data")}
    assert shutil.which("go", path=environment["PATH"]) is None
    return environment


def test_the_wheel_is_for_this_platform_and_any_python(wheel: Path):
    _, _, _, tags = parse_wheel_filename(wheel.name)
    (tag,) = tags
    assert (tag.interpreter, tag.abi) == ("py3", "none")
    assert tag.platform == sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert tags & set(sys_tags())
    with zipfile.ZipFile(wheel) as files:
        assert "Root-Is-Purelib: false" in next(
            files.read(name).decode() for name in files.namelist() if name.endswith(".dist-info/WHEEL")
        )
        assert files.getinfo(PROGRAM).external_attr >> 16 & 0o111, "the engine cannot be executed"


def test_what_is_unpacked_from_the_wheel_runs_without_go(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    (tmp_path / "site" / PROGRAM).chmod(0o755)  # as pip does it
    environment = without_go(tmp_path / "home") | {"PYTHONPATH": str(tmp_path / "site")}
    where = run([sys.executable, "-c", "import pilothouse; print(pilothouse.__file__)"], environment)
    assert where.startswith(str(tmp_path / "site"))
    works([sys.executable, "-m", "pilothouse"], environment)


@pytest.mark.skipif(not INSTALL, reason="make wheel-test: pip installs everything anew, from the package registry")
def test_pip_installs_the_wheel_into_an_empty_environment(wheel: Path, tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    environment = without_go(tmp_path / "home")
    allowed = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or "proxy" in key.lower()}
    run([programs / "python", "-m", "pip", "install", "--quiet", wheel], environment | allowed)
    works([programs / "pilothouse"], environment)


def works(pilothouse: list[str | Path], environment: dict[str, str]) -> None:
    """Raises AssertionError unless the program tells its versions, and the doctor's engine answers."""
    told = dict(line.split() for line in run([*pilothouse, "version", "--all"], environment).splitlines()[1:])
    assert told["helm"].startswith("v4.")
    done = subprocess.run([*pilothouse, "doctor", "-o", "json"], env=environment, capture_output=True, check=False)
    findings = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["engine"]["state"] == "ok", findings["engine"]
    assert told["helm"] in findings["engine"]["found"]
