"""A child's environment is made from nothing, and a dead pool's folder does not stay."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.engine.accounts import obstacle
from pilothouse.engine.environment import PoolFolder, child_environment, sandbox_of
from pilothouse.engine.launcher import PROGRAM
from tests.support.servers import open_folder

_ALLOWED = {
    *("PYTHONHOME", "PYTHONPATH", "HOME", "TMPDIR", "LANG"),
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
    for name in ("HOME", "TMPDIR", "HELM_PLUGINS", "HELM_CACHE_HOME"):
        assert Path(made[name]).is_relative_to(tmp_path)


def test_the_go_runtime_is_told_less_than_the_kernel_allows(tmp_path: Path):
    assert int(child_environment(tmp_path, memory_bytes=4 * 2**30)["GOMEMLIMIT"]) == 3 * 2**30


@pytest.fixture
def state() -> Iterator[Path]:
    """Yield a folder that other accounts may pass through, as root's data folder is."""
    with open_folder() as folder:
        yield folder / "engine"


def test_a_living_pools_folder_stays_and_a_dead_ones_goes(state: Path):
    living, dying = PoolFolder(state), PoolFolder(state)
    (dying.make_child_folder() / "tmp" / "kubeconfig").write_text("token")
    os.close(dying._lock)  # what the kernel does to a killed process
    newest = PoolFolder(state)
    assert living.path.is_dir()
    assert not dying.path.exists()
    living.remove()
    newest.remove()
    assert list(state.glob("pool-*")) == []


def test_nobody_else_can_read_a_childs_folder_or_list_those_of_others(state: Path):
    folder = PoolFolder(state)
    child = folder.make_child_folder()
    assert [one.stat().st_mode & 0o077 for one in (child, child / "tmp", child / "home")] == [0, 0, 0]
    assert [one.stat().st_mode & 0o066 for one in (state, folder.path)] == [0, 0]
    folder.remove()


@pytest.mark.skipif(bool(obstacle()), reason=f"children keep our account: {obstacle()}")
def test_every_child_of_root_has_an_account_of_its_own(state: Path):
    folder = PoolFolder(state, accounts=True)
    children = [folder.make_child_folder() for _ in range(3)]
    owners = [{one.stat().st_uid for one in (child, *child.iterdir())} for child in children]
    assert all(len(one) == 1 for one in owners)
    assert len(set.union(*owners)) == 3
    assert [sandbox_of(child).user_id for child in children] == [one.pop() for one in owners]
    folder.remove()


@pytest.mark.skipif(bool(obstacle()), reason=f"children keep our account: {obstacle()}")
def test_children_of_root_live_elsewhere_when_the_data_folder_is_closed(state: Path, tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = PoolFolder(closed / "data" / "engine", system_dir=state, accounts=True)
    assert folder.path.parent == state
    folder.remove()


def test_the_sandbox_of_an_ordinary_users_child_keeps_the_account(tmp_path: Path):
    sandbox = sandbox_of(tmp_path)
    assert sandbox.user_id is None
    assert sandbox.folder == str(tmp_path)
    assert sandbox.executable == (str(PROGRAM),)
