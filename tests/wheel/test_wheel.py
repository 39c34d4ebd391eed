"""The wheel carries the engine: what is installed from it needs no Go, and says for which platform it is.

``make wheel-test`` also installs it with pip, with all that it depends on, into an empty environment.
"""

import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from pilothouse import __version__
from tests.support.servers import free_port, open_folder, wait_until_healthy
from tools import dist
from tools.localcluster.cluster import RunningCluster

ROOT = Path(__file__).parents[2]
INSTALL = bool(os.environ.get("PILOTHOUSE_TEST_WHEEL"))
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"
ANOTHER_USER = pwd.getpwnam("nobody")  # PostgreSQL wants one that has a name
PROGRAM = "pilothouse/engine/bin/helm"


def copied() -> list[str]:
    """Return the files that the image is built of: what the Containerfile copies and git knows."""
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    names = [name for line in lines for name in line.split()]
    told = subprocess.run(["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return told.splitlines()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what `make dist` makes, of what the image is built of: nothing that an earlier build left is in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in copied():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    return {"".join(file.suffixes[-2:]): file for file in dist.make(source, out)}


@pytest.fixture(scope="module")
def wheel(release: dict[str, Path]) -> Path:
    return next(file for file in release.values() if file.suffix == ".whl")


def run(command: list[str | Path], environment: dict[str, str] | os._Environ[str]) -> str:
    """Return what the command prints; fails with what it said."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def without_go(home: Path) -> dict[str, str]:
    """Return an environment of somebody who has no Go, no caches and no settings."""
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
        [front] = [file for file in files.infolist() if file.filename.endswith(".data/scripts/pilothouse")]
        assert front.external_attr >> 16 & 0o111, "the command cannot be executed"


def test_what_is_unpacked_from_the_wheel_runs_without_go(wheel: Path, tmp_path: Path):
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    (tmp_path / "site" / PROGRAM).chmod(0o755)  # as pip does it
    environment = without_go(tmp_path / "home") | {"PYTHONPATH": str(tmp_path / "site")}
    where = run([sys.executable, "-c", "import pilothouse; print(pilothouse.__file__)"], environment)
    assert where.startswith(str(tmp_path / "site"))
    works([sys.executable, "-m", "pilothouse"], environment)


def test_the_release_says_what_is_in_it_and_its_sums(release: dict[str, Path], wheel: Path):
    [sbom] = [file for file in release.values() if file.name.endswith(".cdx.json")]
    told = json.loads(sbom.read_text())
    for component in told["components"][1:]:  # an address takes the validator a while, and there are thousands
        component.pop("externalReferences", None)
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(told)) is None
    assert told["metadata"]["component"]["version"] == __version__
    purls = {one["purl"] for one in told["components"]}
    helm = re.search(r"helm.sh/helm/v4 (\S+)", (ROOT / "engine" / "go.mod").read_text())
    assert helm
    assert {f"pkg:golang/helm.sh/helm/v4@{helm[1]}"} <= purls
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = (re.sub(r"\[\w+\]", "", pin).split("==") for pin in project["dependencies"])
    assert {f"pkg:pypi/{name}@{number}" for name, number in pins} <= purls
    assert not [purl for purl in purls if purl.startswith("pkg:pypi/pytest")]
    sums = {line[66:]: line[:64] for line in (wheel.parent / "SHA256SUMS").read_text().splitlines()}
    assert sums.keys() == {file.name for file in wheel.parent.iterdir()} - {"SHA256SUMS", ".gitignore"}
    assert all(
        hashlib.sha256((wheel.parent / name).read_bytes()).hexdigest() == digest for name, digest in sums.items()
    )


def test_the_chart_of_the_release_can_be_installed(release: dict[str, Path], kubernetes: RunningCluster):
    [chart] = [file for file in release.values() if file.name == f"pilothouse-chart-{__version__}.tgz"]
    needed = ["--set", "database.existingSecret=database,masterKeys.existingSecret=key"]
    said = run([kubernetes.helm, "template", "pilothouse", chart, *needed], {"PATH": os.environ["PATH"]})
    assert "kind: Deployment" in said


def test_the_source_archive_has_what_the_wheel_is_built_of_and_no_program(release: dict[str, Path]):
    with tarfile.open(next(file for file in release.values() if file.name.endswith(".tar.gz"))) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"hatch_build.py", "engine/front/main.go", "src/pilothouse/cli/__init__.py", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("tests/", "src/pilothouse/engine/bin/"))]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_another_user_serves_from_a_tree_that_it_cannot_write(wheel: Path):
    """As the image does: the tree belongs to root, and only the data folder is the user's."""
    with open_folder() as folder:
        opt = folder / "opt"
        shutil.unpack_archive(wheel, opt / "site", "zip")
        bins = opt / "bin"
        bins.mkdir()
        [front] = (opt / "site").glob("*.data/scripts/pilothouse")
        shutil.copy(front, bins)
        libraries = sysconfig.get_path("purelib")
        modules = f"PYTHONPATH='{opt / 'site'}:{libraries}'"
        (bins / "pilothouse-python").write_text(f"#!/bin/sh\n{modules} exec '{sys.executable}' -m pilothouse \"$@\"\n")
        run(["chmod", "-R", "u=rX,go=rX", opt], os.environ)
        for program in (bins / "pilothouse", bins / "pilothouse-python", opt / "site" / PROGRAM):
            program.chmod(0o555)
        serves(bins / "pilothouse", folder)


@pytest.mark.skipif(not INSTALL, reason="make wheel-test: the steps install everything anew, from the package registry")
def test_the_steps_of_the_containerfile_make_a_server(tmp_path: Path):
    """Its RUN lines, with another root: /source, /dist, /opt/pilothouse and /requirements.txt are in a folder."""
    stages = CONTAINERFILE.read_text().split("\nFROM ")
    [step] = re.findall(r"^RUN (.*?[^\\])$", stages[1], re.MULTILINE | re.DOTALL)
    with open_folder() as root:
        for name in copied():
            (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / "source" / name)
        venv.create(tmp_path / "image", with_pip=True)
        typed = re.sub(
            r"(?<![\w.])/(source|dist|opt/pilothouse|requirements\.txt)\b", rf"{root}/\1", step.replace("\\\n", " ")
        )
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'image' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", "-euc", typed], cwd=root / "source", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        run(["chmod", "-R", "a-w", root / "opt"], os.environ)
        serves(root / "opt" / "pilothouse" / "bin" / "pilothouse", root)
        run(["chmod", "-R", "u+w", root / "opt"], os.environ)


def serves(program: Path, folder: Path) -> None:
    """Raise AssertionError unless the other user's server answers, and leaves nothing in the tree."""
    before = sorted(folder.joinpath("opt").rglob("*"))
    with started(program, folder) as url:
        first = json.loads((folder / "data" / "first.json").read_text())
        keys = {"CLOUD_SDK_AK": first["access_key"], "CLOUD_SDK_SK": first["secret_key"]}
        assert run([program, "list", "--url", url], {"HOME": str(folder), **keys}).startswith("NAME ")
    assert sorted(folder.joinpath("opt").rglob("*")) == before


@contextmanager
def started(program: Path, folder: Path) -> Iterator[str]:
    data, port = folder / "data", free_port()
    data.mkdir()
    become: list[str | Path] = []
    if os.geteuid() == 0:
        uid, gid = ANOTHER_USER.pw_uid, ANOTHER_USER.pw_gid
        os.chown(data, uid, gid)
        # It may read all, because Python itself may be in root's home here, and write only what is its own.
        reads = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *reads]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PILOTHOUSE_DATA_DIR": str(data),
        "PILOTHOUSE_PORT": str(port),
        "PILOTHOUSE_TLS__PORT": "0",
    }
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*become, program, "serve", "--first-credentials", data / "first.json"], env=environment, cwd="/",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, log=folder / "serve.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.skipif(not INSTALL, reason="make wheel-test: pip installs everything anew, from the package registry")
def test_pip_installs_the_wheel_into_an_empty_environment(wheel: Path, tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    environment = without_go(tmp_path / "home")
    allowed = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or "proxy" in key.lower()}
    run([programs / "python", "-m", "pip", "install", "--quiet", wheel], environment | allowed)
    works([programs / "pilothouse"], environment)


def works(pilothouse: list[str | Path], environment: dict[str, str]) -> None:
    """Raise AssertionError unless the program tells its versions, and the doctor's engine answers."""
    told = dict(line.split() for line in run([*pilothouse, "version", "--all"], environment).splitlines()[1:])
    assert told["helm"].startswith("v4.")
    done = subprocess.run([*pilothouse, "doctor", "-o", "json"], env=environment, capture_output=True, check=False)
    findings = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["engine"]["state"] == "ok", findings["engine"]
    assert told["helm"] in findings["engine"]["found"]
