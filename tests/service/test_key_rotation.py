"""Key rotation on a real PostgreSQL: everything stays readable, whoever writes and whatever is killed meanwhile."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import LargeBinary, text

from pilothouse.auth.key_file import read_keys
from pilothouse.auth.sealing import MasterKeys, key_id_of
from pilothouse.errors import DecryptionFailed
from pilothouse.services.admin.master_keys import SETTLE, begin_new_key, drop_unused_keys, list_keys, reseal_all
from pilothouse.services.identity.bootstrap import open_secret, seal_secret
from pilothouse.store import access_keys, sealed
from pilothouse.store.database import Database
from pilothouse.store.tables import metadata
from tests.support.tenants import add_project

#: What is binary and no secret. A new binary column belongs here, or its name ends in _sealed.
PLAIN = {"chart_archives.content"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.key"


async def add_keys(database: Database, keys: MasterKeys, number: int) -> dict[str, str]:
    """Access keys of one user, and their secrets."""
    caller, access_key, secret_key = await add_project(database, keys)
    made = {access_key: secret_key}
    for _ in range(number - 1):
        access_key, secret_key = uuid.uuid4().hex[:20].upper(), uuid.uuid4().hex
        await add_key(
            database,
            keys,
            user_id=caller.user_id,
            project_id=caller.project_id,
            access_key=access_key,
            secret_key=secret_key,
        )
        made[access_key] = secret_key
    return made


async def add_key(
    database: Database, keys: MasterKeys, *, user_id: str, project_id: str, access_key: str, secret_key: str
) -> None:
    async with database.transaction() as tx:
        await access_keys.add_access_key(
            tx,
            access_key=access_key,
            user_id=user_id,
            project_id=project_id,
            secret_sealed=seal_secret(secret_key, keys=keys, access_key=access_key),
        )


async def stored(database: Database) -> dict[str, bytes]:
    async with database.autocommit() as connection:
        return {
            row.id: row.secret_sealed
            for row in await connection.execute(text("SELECT id, secret_sealed FROM access_keys"))
        }


async def assert_all_open(database: Database, keys: MasterKeys, secrets: dict[str, str]) -> None:
    values = await stored(database)
    assert {name: open_secret(value, keys=keys, access_key=name) for name, value in values.items()} == secrets


async def test_every_sealed_column_of_the_database_is_found_by_its_name(own_database: Database):
    async with own_database.autocommit() as connection:
        rows = await connection.execute(
            text(
                "SELECT table_name || '.' || column_name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND data_type = 'bytea'"
            )
        )
        binary = set(rows.scalars())
    assert binary - PLAIN == {one.name for one in sealed.sealed_columns()}


def test_a_binary_column_is_sealed_or_known_to_be_no_secret():
    binary = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert binary - PLAIN == {one.name for one in sealed.sealed_columns()}
    assert all(isinstance(one.column.type, LargeBinary) for one in sealed.sealed_columns())


async def test_all_values_are_taken_over_and_then_the_old_key_can_go(own_database: Database, path: Path):
    keys = MasterKeys.load_or_create(path)
    secrets = await add_keys(own_database, keys, 45)
    old = read_keys(path).sealing
    now = datetime.now(UTC)

    new = begin_new_key(path, now=now)
    assert {use.key.id: (use.role, use.values) for use in await list_keys(own_database, path)} == {
        old: ("opens", 45),
        new.id: ("seals", 0),
    }
    assert (await drop_unused_keys(own_database, path, now=now + SETTLE)).kept.keys() == {old}
    assert (await reseal_all(own_database, keys)).values == 45
    assert (await reseal_all(own_database, keys)).values == 0

    early = await drop_unused_keys(own_database, path, now=now + SETTLE - timedelta(seconds=1))
    assert "may still write" in early.kept[old]
    assert (await drop_unused_keys(own_database, path, now=now + SETTLE)).ids == [old]
    assert [key.id for key in read_keys(path).keys] == [new.id]
    await assert_all_open(own_database, MasterKeys.load_or_create(path), secrets)


async def test_readers_and_writers_of_running_servers_notice_nothing(own_database: Database, path: Path):
    running = MasterKeys.load_or_create(path)
    secrets = await add_keys(own_database, running, 30)
    async with own_database.autocommit() as connection:
        user_id, project_id = (
            await connection.execute(text("SELECT user_id, project_id FROM access_keys LIMIT 1"))
        ).one()
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            name, secret = uuid.uuid4().hex[:20].upper(), uuid.uuid4().hex
            owner = {"user_id": user_id, "project_id": project_id}
            await add_key(own_database, running, **owner, access_key=name, secret_key=secret)
            secrets[name] = secret
            await asyncio.sleep(0)

    async def read() -> None:
        while not over.is_set():
            for name, value in (await stored(own_database)).items():
                assert open_secret(value, keys=running, access_key=name)

    async def rotate() -> None:
        for _ in range(5):
            begin_new_key(path, now=datetime.now(UTC))
            await reseal_all(own_database, MasterKeys.load_or_create(path))
        over.set()

    async with asyncio.TaskGroup() as group:
        for work in (write(), write(), read(), rotate()):
            group.create_task(work)
    await reseal_all(own_database, running)
    uses = await list_keys(own_database, path)
    assert [use.values for use in uses] == [0, 0, 0, 0, 0, len(secrets)]
    await assert_all_open(own_database, running, secrets)


async def test_a_value_that_a_writer_changed_in_between_is_left_as_the_writer_wrote_it(
    own_database: Database, path: Path
):
    keys = MasterKeys.load_or_create(path)
    secrets = await add_keys(own_database, keys, 1)
    name = next(iter(secrets))
    column = next(one for one in sealed.sealed_columns() if one.name == "access_keys.secret_sealed")
    async with own_database.transaction() as tx:
        read = (await sealed.next_values(tx, column, without_header=b"\x00" * 5, after=None, limit=1))[0]
    written = seal_secret("newer", keys=keys, access_key=name)
    async with own_database.transaction() as tx:
        await tx.execute(text("UPDATE access_keys SET secret_sealed = :value"), {"value": written})
    async with own_database.transaction() as tx:
        assert not await sealed.replace_value(tx, column, read, sealed=keys.reseal(read.sealed, what="it"))
    await assert_all_open(own_database, keys, {name: "newer"})


async def test_a_value_that_no_key_opens_is_named_and_stops_nothing(own_database: Database, path: Path):
    keys = MasterKeys.load_or_create(path)
    secrets = await add_keys(own_database, keys, 25)
    broken = sorted(secrets)[3]
    async with own_database.transaction() as tx:
        await tx.execute(
            text("UPDATE access_keys SET secret_sealed = '\\x02ffffffff00'::bytea || secret_sealed WHERE id = :id"),
            {"id": broken},
        )
    begin_new_key(path, now=datetime.now(UTC))
    done = await reseal_all(own_database, keys)
    assert done.values == 24
    assert [broken in problem for problem in done.broken] == [True]
    with pytest.raises(DecryptionFailed, match="ffffffff"):
        await list_keys(own_database, path)


async def start(url: str, folder: Path, *words: str) -> asyncio.subprocess.Process:
    """Return a ``pilothouse key`` command of its own process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pilothouse", "key", *words),
        env={"PATH": os.environ["PATH"], "PILOTHOUSE_DATABASE_URL": url, "PILOTHOUSE_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def run(url: str, folder: Path, *words: str) -> tuple[int | None, str]:
    """Its exit status, and what it printed."""
    process = await start(url, folder, *words)
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


async def test_a_rotation_that_was_killed_in_the_middle_leaves_all_readable_and_can_be_finished(
    own_database: Database, own_database_url: str, path: Path
):
    keys = MasterKeys.load_or_create(path)
    secrets = await add_keys(own_database, keys, 60)
    old = read_keys(path).sealing
    stopper = sorted(secrets)[50]  # in the third batch
    with psycopg.connect(own_database_url) as locking:
        locking.execute("SELECT FROM access_keys WHERE id = %s FOR UPDATE", [stopper])
        rotating = await start(own_database_url, path.parent, "rotate")
        until = time.monotonic() + 30
        while sum(key_id_of(value) != old for value in (await stored(own_database)).values()) < 40:
            assert rotating.returncode is None
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        rotating.send_signal(signal.SIGKILL)
        await rotating.communicate()
    held = [key_id_of(value) for value in (await stored(own_database)).values()]
    assert 0 < held.count(old) < 60
    await assert_all_open(own_database, MasterKeys.load_or_create(path), secrets)

    finished = await run(own_database_url, path.parent, "reseal")
    assert finished == (0, f"re-sealed {held.count(old)} values\n")
    assert old not in {key_id_of(value) for value in (await stored(own_database)).values()}
    await assert_all_open(own_database, MasterKeys.load_or_create(path), secrets)


async def test_the_commands_tell_what_they_did(own_database: Database, own_database_url: str, path: Path):
    await add_keys(own_database, MasterKeys.load_or_create(path), 3)
    old = read_keys(path).sealing

    async def key(*words: str) -> str:
        status, printed = await run(own_database_url, path.parent, *words)
        assert status == 0, printed
        return printed

    assert "copy the file to every machine" in await key("rotate", "--stage")
    staged = read_keys(path).keys[-1].id
    assert f"key {staged} seals new values from now on\nre-sealed 3 values" in await key("rotate")
    assert '"role": "opens"' in await key("list", "--output", "json")
    assert f"key {old} stays: requests that began before" in await key("drop")


async def test_a_database_of_another_schema_is_not_touched(own_database: Database, own_database_url: str, path: Path):
    MasterKeys.load_or_create(path)
    async with own_database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    status, printed = await run(own_database_url, path.parent, "rotate")
    assert status == 1
    assert "pilothouse migrate" in printed
    assert len(read_keys(path).keys) == 1


def test_a_data_folder_without_a_database_is_not_given_one(tmp_path: Path):
    environment = {"PATH": os.environ["PATH"], "PILOTHOUSE_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", "key", "list"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no database in" in done.stderr
    assert not (tmp_path / "data").exists()
