"""Starting, finding, repairing and stopping a cluster, in whatever state the last run left it."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.localcluster import cluster, ports, processes
from tools.localcluster.errors import KubeconfigError, LocalClusterError, StartError
from tools.localcluster.folders import ClusterFolder
from tools.localcluster.ports import Ports
from tools.localcluster.probes import ApiServer
from tools.localcluster.progress import Progress

pytestmark = pytest.mark.xdist_group("localcluster-lifecycle")
NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]
ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.localcluster", *arguments, "--dir", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def ports_of(folder: Path) -> Ports:
    known = ports.remembered(folder / "ports.json")
    assert known is not None
    return known


def server_of(folder: Path) -> ApiServer:
    return ApiServer(ClusterFolder(folder), ports_of(folder))


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.usefixtures("running")
def test_every_component_runs_after_up(pids):
    assert list(pids()) == NAMES
    assert all(pids().values())


@pytest.mark.usefixtures("running")
def test_each_component_leads_no_shared_session(pids):
    sessions = [os.getsid(pid) for pid in pids().values()]
    assert len(set(sessions)) == len(NAMES)
    assert os.getsid(0) not in sessions


def test_a_second_up_finds_the_running_cluster(running, folder, pids, notes):
    before = pids()
    assert cluster.up(folder, progress=notes) == running
    assert pids() == before
    assert notes.said == []


def test_two_ups_at_once_start_one_cluster(tmp_path):
    command = [sys.executable, "-m", "tools.localcluster", "up", "--dir", str(tmp_path / "both")]
    try:
        both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert said[0] == said[1]
        assert len(processes.marked(str(tmp_path / "both"))) == len(NAMES)
    finally:
        cluster.reset(tmp_path / "both", progress=Progress())


def test_the_kubeconfig_is_whole_and_private(running):
    assert stat.S_IMODE(running.kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.kubeconfig.parent.stat().st_mode) == 0o700
    assert str(running.kubeconfig.parent) not in running.kubeconfig.read_text()


@pytest.mark.usefixtures("running")
def test_etcd_refuses_whoever_has_no_certificate(folder):
    port = ports_of(folder).etcd
    done = subprocess.run(["curl", "-sk", f"https://127.0.0.1:{port}/health"], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"true" not in done.stdout


@pytest.mark.usefixtures("running")
def test_the_api_server_writes_down_who_wrote_what(folder):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "witnessed"}}
    server_of(folder).request("POST", "/api/v1/namespaces/default/configmaps", body)
    events = [json.loads(line) for line in (folder / "logs" / "audit.log").read_text().splitlines()]
    writes = [one for one in events if one.get("objectRef", {}).get("name") == "witnessed"]
    assert [(one["verb"], one["user"]["username"]) for one in writes] == [("create", "admin")]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_component_is_started_again(running, folder, pids, notes, name):
    before = pids()
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: pids()[name] is None)
    assert cluster.up(folder, progress=notes) == running
    after = pids()
    assert after[name] not in {None, before[name]}
    assert {**after, name: 0} == {**before, name: 0}
    assert f"{name} had stopped; starting again." in notes.said


def test_objects_survive_when_everything_is_killed(running, folder, pids):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
    assert server_of(folder).request("POST", "/api/v1/namespaces/default/configmaps", body)[0] == 201
    for pid in pids().values():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(pids().values()))
    assert cluster.up(folder, progress=Progress()) == running
    assert server_of(folder).request("GET", "/api/v1/namespaces/default/configmaps/kept")[0] == 200


@pytest.mark.usefixtures("running")
def test_a_pid_that_another_program_has_now_is_left_alone(folder, pids):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        scheduler = pids()["kube-scheduler"]
        note = folder / "pids" / "kube-scheduler"
        content = json.loads(note.read_bytes())
        os.kill(scheduler, signal.SIGKILL)
        note.write_text(json.dumps({**content, "pid": stranger.pid}))
        assert pids()["kube-scheduler"] is None
        cluster.down(folder, progress=Progress())
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    cluster.up(folder, progress=Progress())


def test_down_leaves_no_process_and_keeps_the_data(running, folder, pids):
    before = processes.marked(str(folder))
    assert {one.pid for one in before} == set(pids().values())
    cluster.down(folder, progress=Progress())
    assert not any(one.alive() for one in before)
    assert processes.marked(str(folder)) == []
    assert not cluster.status(folder).ready
    assert cluster.up(folder, progress=Progress()) == running


def test_a_port_taken_meanwhile_is_replaced(running, folder, notes):
    cluster.down(folder, progress=Progress())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports_of(folder).apiserver))
        other.listen()
        again = cluster.up(folder, progress=notes)
    assert again.server != running.server
    assert again.server in again.kubeconfig.read_text()
    assert any("Another program uses a port" in line for line in notes.said)


@pytest.mark.usefixtures("running")
def test_data_that_etcd_cannot_read_are_set_aside(folder, notes):
    cluster.down(folder, progress=Progress())
    for log in (folder / "etcd" / "member" / "wal").glob("*.wal"):
        log.write_bytes(os.urandom(4096))
    cluster.up(folder, progress=notes)
    assert any("the cluster starts empty" in line for line in notes.said)
    assert (folder / "etcd.unreadable").is_dir()


@pytest.mark.usefixtures("running")
def test_a_failed_start_shows_the_log_and_leaves_nothing_running(folder):
    cluster.down(folder, progress=Progress())
    key_file = folder / "pki" / "apiserver.key"
    kept = key_file.read_bytes()
    key_file.write_bytes(b"no key")
    with pytest.raises(StartError, match=r"kube-apiserver ended .* \S*kube-apiserver\.log:\n(.|\n)*PEM"):
        cluster.up(folder, progress=Progress())
    assert processes.marked(str(folder)) == []
    key_file.write_bytes(kept)
    cluster.up(folder, progress=Progress())


@pytest.mark.usefixtures("running")
def test_what_a_deleted_folder_left_running_is_cleared(folder, pids, notes):
    before = pids()
    shutil.rmtree(folder)
    cluster.up(folder, progress=notes)
    assert any("left-over" in line for line in notes.said)
    assert not set(before.values()) & set(pids().values())


@pytest.mark.usefixtures("running")
def test_reset_deletes_what_is_the_clusters_and_nothing_else(folder):
    (folder / "notes.txt").write_text("mine")
    cluster.reset(folder, progress=Progress())
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "notes.txt"]


def test_status_and_kubeconfig_speak_by_exit_code_too(tmp_path):
    folder = tmp_path / "none"
    status = run("status", folder=folder)
    assert (status.returncode, "not running" in status.stdout) == (1, True)
    kubeconfig = run("kubeconfig", folder=folder)
    assert (kubeconfig.returncode, kubeconfig.stdout) == (1, "")
    assert "start one with" in kubeconfig.stderr
    assert run("down", folder=folder).returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    ("value", "means"), [({}, None), ({"KUBECONFIG": ""}, None), ({"KUBECONFIG": __file__}, __file__)]
)
def test_kubeconfig_of_the_user_comes_first(value, means):
    given = cluster.given_kubeconfig(value)
    assert given == (Path(means) if means else None)


@pytest.mark.parametrize("value", ["/nowhere/kubeconfig", f"{__file__}:{__file__}"])
def test_a_kubeconfig_that_cannot_be_used_is_refused(value):
    with pytest.raises(KubeconfigError, match="unset it for the local cluster"):
        cluster.given_kubeconfig({"KUBECONFIG": value})


@pytest.mark.usefixtures("running")
def test_obtain_takes_the_users_cluster(folder, monkeypatch):
    again = cluster.up(folder, progress=Progress())
    monkeypatch.setenv("KUBECONFIG", str(again.kubeconfig))
    assert cluster.obtain(folder / "never", progress=Progress()) == again
    assert not (folder / "never").exists()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LocalClusterError, match="LOCALCLUSTER_DIR"):
        cluster.up(tmp_path / "file", progress=Progress())
