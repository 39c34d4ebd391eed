"""The doctor names what is missing and what to do, and changes nothing."""

import ctypes
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from pilothouse.auth.certificates import ensure_certificate
from pilothouse.auth.sealing import MasterKeys
from pilothouse.cli.checks import examine
from pilothouse.cli.findings import Finding, State
from pilothouse.engine.accounts import obstacle
from pilothouse.services.admin.master_keys import begin_new_key
from pilothouse.settings import ClusterSettings, EngineSettings, Settings, TlsSettings
from pilothouse.store import clusters
from pilothouse.store.database import Database
from tests.support.servers import free_port
from tests.support.tenants import add_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data"


def settings(folder: Path, **changes: Any) -> Settings:
    ports = {"port": free_port(), "tls": TlsSettings(port=free_port())}
    return Settings(data_dir=folder, **{**ports, **changes})


async def look(wanted: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in await examine(wanted)}


async def test_a_machine_without_anything_yet_is_healthy_and_stays_as_it_is(tmp_path: Path):
    found = await look(settings(tmp_path / "data"))
    sandbox = found.pop("engine sandbox")
    assert sandbox.state is State.OK
    assert {one.state for one in found.values()} == {State.OK, State.SKIPPED}
    assert "the first start makes it" in found["data folder"].found
    assert found["engine"].found.startswith("the Helm engine works")
    assert found["http listener"].found.endswith("is free")
    assert found["schema"].state is State.SKIPPED
    assert os.listdir(tmp_path) == []  # noqa: PTH208 (pathlib's own would block, says the linter)


async def test_a_database_of_this_version_with_its_key_is_healthy(
    own_database: Database, own_database_url: str, folder: Path
):
    await add_project(own_database, MasterKeys.load_or_create(folder / "master.key"))
    found = await look(settings(folder, database_url=own_database_url))
    assert [one for one in found.values() if one.state is not State.OK and one.check != "engine sandbox"] == []
    assert found["sealed values"].found == "1, all under the master key that seals now"
    assert found["clusters"].advice == "register one: pilothouse cluster add"


async def test_values_under_an_old_key_are_a_warning(own_database: Database, own_database_url: str, folder: Path):
    await add_project(own_database, MasterKeys.load_or_create(folder / "master.key"))
    begin_new_key(folder / "master.key", now=datetime.now(UTC))
    found = (await look(settings(folder, database_url=own_database_url)))["sealed values"]
    assert (found.state, found.advice) == (State.WARNING, "run 'pilothouse key reseal'")


async def test_the_key_of_another_installation_fails(own_database: Database, own_database_url: str, folder: Path):
    await add_project(own_database, MasterKeys.load_or_create(folder.parent / "other.key"))
    MasterKeys.load_or_create(folder / "master.key")
    found = (await look(settings(folder, database_url=own_database_url)))["sealed values"]
    assert found.state is State.FAILED
    assert "restore the key file that belongs to this database" in found.found


async def test_a_missing_or_open_key_file_fails(own_database_url: str, folder: Path):
    missing = (await look(settings(folder, database_url=own_database_url)))["master key"]
    assert missing.state is State.FAILED
    assert "restore it from a backup" in missing.advice
    MasterKeys.load_or_create(folder / "master.key")
    (folder / "master.key").chmod(0o644)
    readable = (await look(settings(folder, database_url=own_database_url)))["master key"]
    assert readable.state is State.FAILED
    assert "chmod 600" in readable.found


async def test_another_schema_fails_and_what_depends_on_it_is_left_out(
    own_database: Database, own_database_url: str, folder: Path
):
    async with own_database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    found = await look(settings(folder, database_url=own_database_url))
    assert found["schema"].state is State.FAILED
    assert "pilothouse migrate" in found["schema"].advice
    assert found["clusters"].state is State.SKIPPED


async def test_a_database_that_does_not_answer_fails_and_its_password_stays_secret(folder: Path):
    url = f"postgresql://me:hunter2hunter2@127.0.0.1:{free_port()}/pilothouse"
    found = await look(settings(folder, database_url=url))
    assert found["postgresql"].state is State.FAILED
    assert "hunter2" not in str(found)


async def test_each_cluster_is_asked_and_one_that_is_gone_fails(
    own_database: Database, own_database_url: str, folder: Path
):
    keys = MasterKeys.load_or_create(folder / "master.key")
    caller, _, _ = await add_project(own_database, keys)
    cluster_id, server = str(uuid.uuid4()), f"https://127.0.0.1:{free_port()}"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    async with own_database.transaction() as tx:
        await clusters.add_cluster(
            tx,
            cluster_id=cluster_id,
            project_id=caller.project_id,
            name="gone",
            server=server,
            kubeconfig_sealed=keys.seal(json.dumps(kubeconfig).encode(), context=f"kubeconfig:{cluster_id}"),
        )
    reachable = ClusterSettings(allow_loopback=True)
    found = (await look(settings(folder, database_url=own_database_url, cluster=reachable)))["cluster gone"]
    assert found.state is State.FAILED
    assert server in found.found


async def test_an_engine_that_cannot_start_fails(folder: Path):
    small = EngineSettings(memory_bytes=64 * 1024 * 1024)
    found = (await look(settings(folder, engine=small)))["engine"]
    assert found.state is State.FAILED
    assert "memory" in found.found


def _drop_setuid() -> None:
    """Take from the bounding set CAP_SETUID (7): what is started next as root lacks it."""
    assert ctypes.CDLL(None).prctl(24, 7, 0, 0, 0) == 0


@pytest.mark.skipif(bool(obstacle()), reason=f"children keep our account: {obstacle()}")
def test_root_without_a_capability_is_told_that_children_have_no_accounts(folder: Path):
    for prepare, state, reason in (
        (None, "ok", "an account of its own"),
        (_drop_setuid, "warning", "root lacks CAP_SETUID"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pilothouse", "doctor", "--output", "json"],
            env={**os.environ, "PILOTHOUSE_DATA_DIR": str(folder), "PILOTHOUSE_PORT": str(free_port())},
            preexec_fn=prepare,
            capture_output=True,
            text=True,
            check=False,
        )
        (found,) = (one for one in json.loads(done.stdout)["findings"] if one["check"] == "engine sandbox")
        assert found["state"] == state, found
        assert reason in found["found"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


async def test_a_port_that_another_program_has_fails_with_the_setting(folder: Path, taken_port: int):
    found = (await look(settings(folder, port=taken_port)))["http listener"]
    assert found.state is State.FAILED
    assert "PILOTHOUSE_PORT" in found.advice


@pytest.fixture
def open_folder(folder: Path) -> Path:
    folder.chmod(0o777)
    return folder


async def test_a_folder_that_others_may_write_fails(open_folder: Path):
    folder = open_folder
    found = (await look(settings(folder)))["data folder"]
    assert (found.state, found.advice) == (State.FAILED, f"chmod go-w '{folder}'")


@pytest.mark.parametrize(
    ("days", "state"), [(380, State.OK), (10, State.WARNING), (-1, State.FAILED)], ids=["good", "soon", "over"]
)
async def test_a_certificate_is_judged_by_what_is_left_of_it(folder: Path, days: int, state: State):
    made = datetime.now(UTC) - timedelta(days=397 - days)
    ensure_certificate(folder / "tls", names=[], renew_days=1, clock=lambda: made)
    found = (await look(settings(folder)))["certificate"]
    assert found.state is state
    assert bool(found.advice) == (state is not State.OK)


def doctor(**environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pilothouse", "doctor", "--output", "json"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_that_cannot_be_read_are_named_without_their_value():
    done = doctor(PILOTHOUSE_PORT="hunter2", PILOTHOUSE_ENGINE__CHILDREN="0")
    assert done.returncode == 1
    found = json.loads(done.stdout)["findings"][0]["found"]
    assert "PILOTHOUSE_PORT" in found
    assert "PILOTHOUSE_ENGINE__CHILDREN" in found
    assert "hunter2" not in done.stdout + done.stderr


def test_the_exit_status_tells_a_script(folder: Path, taken_port: int):
    done = doctor(PILOTHOUSE_DATA_DIR=str(folder), PILOTHOUSE_PORT=str(taken_port), PILOTHOUSE_TLS__PORT="0")
    assert done.returncode == 1
    assert json.loads(done.stdout)["healthy"] is False
