"""Backup and restore on a real PostgreSQL: one moment, all or nothing, and only with the keys that open it."""

import asyncio
import contextlib
import os
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine

from pilothouse.auth.key_file import read_keys
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DatabaseUnavailable, DecryptionFailed, InvalidBackup
from pilothouse.services.admin.backups import Backup, make_backup, open_backup, restore_backup
from pilothouse.store import audit
from pilothouse.store.database import Database
from pilothouse.store.migration import current_revision, migrate_on, newest_revision
from pilothouse.store.tables import metadata, schema_compatibility
from tests.support.databases import drop_database
from tests.support.tenants import add_project


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    MasterKeys.load_or_create(tmp_path / "data" / "master.key")
    return tmp_path / "data" / "master.key"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a backup.zip"


async def fill(url: str, key_file: Path, *, projects: int = 3) -> None:
    database = Database(url)
    try:
        for _ in range(projects):
            caller, _, _ = await add_project(database, MasterKeys.load_or_create(key_file))
            async with database.transaction() as tx:
                await audit.record(
                    tx,
                    caller,
                    "cce:chart:upload",
                    target="tab\there, line\nthere, \\. and Grüße",
                    request_id="r",
                )
    finally:
        await database.close()


def back_up(url: str, key_file: Path, file: Path, *, with_key: bool = True) -> Backup:
    return make_backup(
        file,
        Database(url),
        data_dir=key_file.parent,
        key_file=key_file,
        with_key=with_key,
        clock=lambda: datetime(2031, 5, 1, tzinfo=UTC),
    )


def put_back(url: str, key_file: Path, file: Path, *, replace: bool = False) -> int:
    with open_backup(file) as backup:
        return restore_backup(backup, Database(url), read_keys(key_file), replace=replace)


def rows(url: str) -> dict[str, list[Any]]:
    found = {}
    with psycopg.connect(url) as connection:
        for name in metadata.tables:
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))
            found[name] = sorted(connection.execute(query).fetchall(), key=repr)
    return found


def empty(url: str) -> str:
    """Return a second, empty database of the same server."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = f"{connection.info.dbname}_two"
        connection.execute(f'CREATE DATABASE "{name}"')
    return str(Database(url).url.set(drivername="postgresql", database=name).render_as_string(hide_password=False))


@pytest.fixture
def second_url(own_database_url: str) -> Any:
    url = empty(own_database_url)
    yield url
    with psycopg.connect(own_database_url, autocommit=True) as connection:
        drop_database(connection, str(Database(url).url.database))


async def test_every_row_of_every_table_comes_back(own_database_url: str, second_url: str, key_file: Path, file: Path):
    await fill(own_database_url, key_file)
    made = back_up(own_database_url, key_file, file)
    filled_by_migrations = {schema_compatibility.name}
    assert (made.sealed_values, made.tables, made.has_key) == (
        3,
        len(metadata.tables.keys() - filled_by_migrations),
        True,
    )
    assert put_back(second_url, key_file, file) == 3
    assert rows(second_url) == rows(own_database_url)
    assert current_revision(Database(second_url)) == newest_revision()


async def test_numbers_go_on_after_a_restore(own_database_url: str, second_url: str, key_file: Path, file: Path):
    await fill(own_database_url, key_file)
    back_up(own_database_url, key_file, file)
    put_back(second_url, key_file, file)
    await fill(second_url, key_file, projects=1)
    numbers = [row[0] for row in rows(second_url)["audit"]]
    assert len(set(numbers)) == 4


def test_the_file_is_private_and_never_replaces_another(own_database_url: str, key_file: Path, file: Path):
    back_up(own_database_url, key_file, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(InvalidBackup, match="exists"):
        back_up(own_database_url, key_file, file)
    assert {path.name for path in file.parent.iterdir()} == {"data", file.name}


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(own_database_url: str, key_file: Path):
    with pytest.raises(InvalidBackup, match="absent"):
        back_up(own_database_url, key_file, key_file.parent / "absent" / "file")


async def test_a_backup_is_one_moment_whoever_writes(
    own_database_url: str, second_url: str, key_file: Path, file: Path
):
    """Each project comes with a user and an access key in one transaction: a mixture would break references."""

    async def write() -> None:
        while True:
            await fill(own_database_url, key_file, projects=1)

    writing = asyncio.create_task(write())
    for number in range(5):
        await asyncio.to_thread(back_up, own_database_url, key_file, file.with_name(f"{number}.zip"))
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    for number in range(5):
        put_back(second_url, key_file, file.with_name(f"{number}.zip"), replace=True)
        held = rows(second_url)
        assert len(held["projects"]) == len(held["users"]) == len(held["access_keys"])


async def test_a_database_with_rows_is_replaced_only_if_told(
    own_database_url: str, second_url: str, key_file: Path, file: Path
):
    await fill(own_database_url, key_file)
    back_up(own_database_url, key_file, file)
    put_back(second_url, key_file, file)
    await fill(second_url, key_file)
    held = rows(second_url)
    with pytest.raises(InvalidBackup, match=r"not empty.*--replace"):
        put_back(second_url, key_file, file)
    assert rows(second_url) == held
    put_back(second_url, key_file, file, replace=True)
    assert rows(second_url) == rows(own_database_url)


async def test_a_database_that_servers_use_is_left_alone(own_database_url: str, key_file: Path, file: Path):
    await fill(own_database_url, key_file)
    back_up(own_database_url, key_file, file)
    server = Database(own_database_url)
    try:
        await server.ping()
        with pytest.raises(InvalidBackup, match="stop them first"):
            put_back(own_database_url, key_file, file, replace=True)
    finally:
        await server.close()


def spoil(file: Path, damage: str) -> None:
    content = file.read_bytes()
    if damage == "byte":
        with zipfile.ZipFile(file) as archive:
            entry = next(one for one in archive.infolist() if one.filename.endswith("-access_keys.copy"))
        place = entry.header_offset + len(entry.filename) + 60
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        file.write_bytes(b"PK nonsense")
    else:
        with zipfile.ZipFile(file) as archive:
            kept = {one: archive.read(one) for one in archive.namelist() if not one.endswith("-users.copy")}
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in kept.items():
                archive.writestr(name, data)


@pytest.mark.parametrize("damage", ["byte", "cut", "other", "missing"])
async def test_a_damaged_backup_changes_nothing(
    own_database_url: str, second_url: str, key_file: Path, file: Path, damage: str
):
    await fill(own_database_url, key_file)
    back_up(own_database_url, key_file, file)
    spoil(file, damage)
    with pytest.raises(InvalidBackup, match="backup"):
        put_back(second_url, key_file, file)
    assert current_revision(Database(second_url)) is None


async def test_keys_that_do_not_open_the_data_stop_a_backup_and_a_restore(
    own_database_url: str, second_url: str, key_file: Path, file: Path, tmp_path: Path
):
    await fill(own_database_url, key_file)
    MasterKeys.load_or_create(tmp_path / "other.key")
    with pytest.raises(DecryptionFailed, match=r"access_keys\.secret_sealed needs master key"):
        back_up(own_database_url, tmp_path / "other.key", file)
    back_up(own_database_url, key_file, file)
    with pytest.raises(DecryptionFailed, match=r"access_keys\.secret_sealed needs master key"):
        put_back(second_url, tmp_path / "other.key", file)
    assert current_revision(Database(second_url)) is None


async def test_a_backup_of_an_older_schema_is_migrated(
    own_database_url: str, second_url: str, key_file: Path, file: Path
):
    old = create_engine(Database(second_url).url)
    with old.begin() as connection:
        migrate_on(connection, "0001")
        connection.exec_driver_sql("INSERT INTO domains (id, name) VALUES ('d', 'old')")
        connection.exec_driver_sql("INSERT INTO projects (id, domain_id, name) VALUES ('p', 'd', 'old')")
    old.dispose()
    assert back_up(second_url, key_file, file).revision == "0001"
    put_back(own_database_url, key_file, file)
    assert current_revision(Database(own_database_url)) == newest_revision()
    assert [row[0] for row in rows(own_database_url)["projects"]] == ["p"]


async def test_a_backup_of_a_newer_schema_is_refused(
    own_database_url: str, second_url: str, key_file: Path, file: Path
):
    with psycopg.connect(own_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    back_up(own_database_url, key_file, file)
    with pytest.raises(DatabaseUnavailable, match="newer Pilothouse"):
        put_back(second_url, key_file, file)


def test_without_keys_nothing_in_the_file_opens_it(own_database_url: str, key_file: Path, file: Path):
    back_up(own_database_url, key_file, file, with_key=False)
    with open_backup(file) as backup:
        assert backup.keys() is None
        assert backup.tls_files() == {}
    assert os.fsencode("master.key") not in file.read_bytes()
