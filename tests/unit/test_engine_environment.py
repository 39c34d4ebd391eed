"""A child's environment is made from nothing, and a dead pool's folder does not stay."""

import os
from pathlib import Path

import pytest

from pilothouse.engine.environment import PoolFolder, child_environment

_ALLOWED = {
    *("PYTHONHOME", "PYTHONPATH", "HOME", "TMPDIR", "KUBECACHEDIR", "KUBERNETES_MASTER", "LANG"),
    *("HELM_PLUGINS", "HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"),
    *("GOMEMLIMIT", "GOMAXPROCS", "GOGC"),
}


def test_nothing_of_our_own_environment_is_in_a_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "DOCKER_CONFIG", "HELM_NAMESPACE", "PATH"):
        monkeypatch.setenv(name, "ours")
    made = child_environment(tmp_path, memory_bytes=2**30)
    assert set(made) == _ALLOWED
    assert "ours" not in made.values()


def test_every_folder_of_a_child_is_its_own(tmp_path: Path):
    made = child_environment(tmp_path, memory_bytes=2**30)
    for name in ("HOME", "TMPDIR", "KUBECACHEDIR", "HELM_PLUGINS", "HELM_CACHE_HOME"):
        assert Path(made[name]).is_relative_to(tmp_path)


def test_the_go_runtime_is_told_less_than_the_kernel_allows(tmp_path: Path):
    assert int(child_environment(tmp_path, memory_bytes=4 * 2**30)["GOMEMLIMIT"]) == 3 * 2**30


def test_a_living_pools_folder_stays_and_a_dead_ones_goes(tmp_path: Path):
    living, dying = PoolFolder(tmp_path), PoolFolder(tmp_path)
    (dying.make_child_folder() / "tmp" / "kubeconfig").write_text("token")
    os.close(dying._lock_fd)  # what the kernel does to a killed process
    newest = PoolFolder(tmp_path)
    assert living.path.is_dir()
    assert not dying.path.exists()
    living.remove()
    newest.remove()
    assert list(tmp_path.glob("pool-*")) == []


def test_only_we_can_read_a_childs_folder(tmp_path: Path):
    folder = PoolFolder(tmp_path / "engine")
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.remove()
