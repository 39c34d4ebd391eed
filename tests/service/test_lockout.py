"""Guessing is stopped: wrong signatures and wrong passwords in a row lock, for every replica at once."""

import asyncio
import uuid
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher

from pilothouse.auth.passwords import hash_password
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import Busy, NotAuthenticated
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import Authentication, KeyHolder
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.settings import AuditSettings, IdentitySettings
from pilothouse.store import password_failures, users
from pilothouse.store.database import Database
from tests.support.tenants import add_project

LOCKED = r"^AK access failed to reach the limit,forbidden\.$"
PASSWORD = "correct horse"
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
#: As the vendor locks, and without the wait that comes before a sixth try.
LOCKING = IdentitySettings(lock_keys_after=5, slow_signatures_after=0)


@pytest.fixture
async def key(database: Database, tmp_path: Path) -> tuple[Authentication, str]:
    """Return what a gateway asks, and an access key."""
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    _, access_key, _ = await add_project(database, keys)
    return Authentication(database, keys, LOCKING, audit_of(database)), access_key


@pytest.fixture
async def user(database: Database, tmp_path: Path) -> str:
    """Return the id of a user with a password."""
    caller, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    async with database.transaction() as tx:
        await users.set_password(tx, caller.user_id, password_hash=hash_password(PASSWORD))
    return caller.user_id


def audit_of(database: Database) -> Audit:
    return Audit(database, AuditSettings())


async def find(authentication: Authentication, access_key: str, source: str = HERE) -> KeyHolder:
    holder = await authentication.find_key(access_key, None, source)
    assert holder is not None
    return holder


async def guess(authentication: Authentication, access_key: str, times: int) -> None:
    for _ in range(times):
        await authentication.reject_key(await find(authentication, access_key))


def pass_time(database: Database, *, seconds: int) -> None:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        for table in ("password_failures", "access_keys"):
            connection.execute(
                f"UPDATE {table} SET locked_until = locked_until - make_interval(secs => %s)",  # noqa: S608
                (seconds,),
            )


def row_version(database: Database, access_key: str) -> str:
    with psycopg.connect(database.dsn()) as connection:
        row = connection.execute("SELECT xmin::text FROM access_keys WHERE id = %s", (access_key,)).fetchone()
    assert row is not None
    return str(row[0])


async def test_five_wrong_signatures_do_not_lock_a_key_and_the_sixth_does(key: tuple[Authentication, str]):
    authentication, access_key = key
    await guess(authentication, access_key, 5)
    await find(authentication, access_key)
    await guess(authentication, access_key, 1)
    with pytest.raises(NotAuthenticated, match=LOCKED):
        await find(authentication, access_key)


async def test_the_lock_ends_by_itself_and_the_count_starts_anew(database: Database, key: tuple[Authentication, str]):
    authentication, access_key = key
    await guess(authentication, access_key, 6)
    pass_time(database, seconds=299)
    with pytest.raises(NotAuthenticated, match=LOCKED):
        await find(authentication, access_key)
    pass_time(database, seconds=2)
    await guess(authentication, access_key, 5)
    await find(authentication, access_key)


async def test_only_failures_in_a_row_count(key: tuple[Authentication, str]):
    authentication, access_key = key
    for _ in range(3):
        await guess(authentication, access_key, 4)
        await authentication.select_project(await find(authentication, access_key), None)
    await find(authentication, access_key)


async def test_a_good_request_writes_nothing_unless_a_bad_one_went_before(
    database: Database, key: tuple[Authentication, str]
):
    authentication, access_key = key
    before = row_version(database, access_key)
    await authentication.select_project(await find(authentication, access_key), None)
    assert row_version(database, access_key) == before


async def test_failures_that_come_at_once_are_all_counted(key: tuple[Authentication, str]):
    authentication, access_key = key
    holder = await find(authentication, access_key)
    await asyncio.gather(*(authentication.reject_key(holder) for _ in range(6)))
    with pytest.raises(NotAuthenticated, match=LOCKED):
        await find(authentication, access_key)


async def test_another_replica_knows_of_the_lock(database_url: str, key: tuple[Authentication, str], tmp_path: Path):
    authentication, access_key = key
    await guess(authentication, access_key, 6)
    elsewhere = Database(database_url)
    try:
        keys = MasterKeys.load_or_create(tmp_path / "master.key")
        with pytest.raises(NotAuthenticated, match=LOCKED):
            await find(Authentication(elsewhere, keys, LOCKING, audit_of(elsewhere)), access_key)
    finally:
        await elsewhere.close()


async def test_keys_are_not_locked_unless_asked_for_and_only_the_address_that_guesses_has_to_wait(
    database: Database, key: tuple[Authentication, str], tmp_path: Path
):
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    lenient = Authentication(database, keys, IdentitySettings(), audit_of(database))
    holder = await find(lenient, key[1])
    for _ in range(5):
        await lenient.reject_key(holder)
    for _ in range(50):
        with pytest.raises(Busy):
            await lenient.reject_key(holder)
    with pytest.raises(Busy, match="too many wrong signatures"):
        await find(lenient, key[1])
    await lenient.select_project(await find(lenient, key[1], ELSEWHERE), None)
    _, neighbour, _ = await add_project(database, keys)
    await lenient.select_project(await find(lenient, neighbour), None)


async def test_who_has_proven_a_key_from_an_address_is_not_slowed_by_others_there(
    database: Database, key: tuple[Authentication, str], tmp_path: Path
):
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    lenient = Authentication(database, keys, IdentitySettings(), audit_of(database))
    holder = await find(lenient, key[1])
    await lenient.select_project(holder, None)
    for number in range(60):
        if number < 5:
            await lenient.reject_key(holder)
        else:
            with pytest.raises(Busy):
                await lenient.reject_key(holder)
    await lenient.select_project(await find(lenient, key[1]), None)


async def test_one_keys_failures_do_not_lock_another(
    database: Database, key: tuple[Authentication, str], tmp_path: Path
):
    _, other, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    await guess(key[0], key[1], 6)
    await find(key[0], other)


async def attempt(passwords: Passwords, user: str, password: str, source: str = HERE) -> bool:
    try:
        await passwords.prove(Login(password=password, user_id=user, source=source))
    except NotAuthenticated as error:
        if not str(error).startswith("The username or password is wrong."):
            raise
        return False
    return True


async def test_wrong_passwords_in_a_row_lock_the_user_and_the_right_one_is_refused_in_the_same_words(
    database: Database, user: str
):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    assert not any([await attempt(passwords, user, "wrong") for _ in range(5)])
    assert await attempt(passwords, user, PASSWORD)
    assert not any([await attempt(passwords, user, "wrong") for _ in range(6)])
    assert not await attempt(passwords, user, PASSWORD)
    pass_time(database, seconds=301)
    assert await attempt(passwords, user, PASSWORD)


async def test_strangers_lock_a_user_for_their_own_address_and_for_no_other(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    assert not any([await attempt(passwords, user, "wrong") for _ in range(20)])
    assert not await attempt(passwords, user, PASSWORD)
    assert await attempt(passwords, user, PASSWORD, ELSEWHERE)
    assert not await attempt(passwords, user, PASSWORD)


async def test_addresses_of_one_ipv6_customer_count_together(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    for number in range(6):
        assert not await attempt(passwords, user, "wrong", f"2001:db8:1:2::{number}")
    assert not await attempt(passwords, user, PASSWORD, "2001:db8:1:2:ffff::1")
    assert await attempt(passwords, user, PASSWORD, "2001:db8:1:3::1")


async def test_another_replica_knows_of_a_users_lock(database_url: str, database: Database, user: str):
    first = Passwords(database, IdentitySettings(), audit_of(database))
    assert not any([await attempt(first, user, "wrong") for _ in range(6)])
    elsewhere = Database(database_url)
    try:
        assert not await attempt(Passwords(elsewhere, IdentitySettings(), audit_of(elsewhere)), user, PASSWORD)
    finally:
        await elsewhere.close()


async def test_a_flood_from_one_address_makes_another_wait_for_one_hash_and_not_for_all(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    flood = [asyncio.create_task(attempt(passwords, user, "wrong")) for _ in range(50)]
    await asyncio.sleep(0)
    right = asyncio.create_task(attempt(passwords, user, PASSWORD, ELSEWHERE))
    assert await right
    assert sum(task.done() and task.exception() is None for task in flood) <= 3
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(outcome, Busy) for outcome in outcomes) == 46


async def test_counts_that_are_forgotten_are_swept(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    assert not any([await attempt(passwords, user, "wrong") for _ in range(5)])
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("UPDATE password_failures SET failed_at = failed_at - interval '61 min'")
        assert not any([await attempt(passwords, user, "wrong") for _ in range(5)])
        assert await attempt(passwords, user, PASSWORD)
        assert not await attempt(passwords, user, "wrong")
        connection.execute("UPDATE password_failures SET failed_at = failed_at - interval '61 min'")
        async with database.transaction() as tx:
            assert await password_failures.sweep(tx) >= 1
        left = connection.execute("SELECT count(*) FROM password_failures WHERE user_id = %s", [user]).fetchone()
        assert left == (0,)


async def test_guesses_sent_all_at_once_do_not_pass_the_lock_between_them(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(password_queue_seconds=60, password_queue=20), audit_of(database))
    guesses = [attempt(passwords, user, "wrong") for _ in range(8)]
    assert not any(await asyncio.gather(*guesses, attempt(passwords, user, PASSWORD)))


async def test_a_log_in_that_does_not_get_its_turn_is_told_to_come_back(database: Database, user: str):
    passwords = Passwords(
        database, IdentitySettings(password_checks=1, password_queue_seconds=0.001), audit_of(database)
    )
    outcomes = await asyncio.gather(
        *(passwords.prove(Login(password=PASSWORD, user_id=user)) for _ in range(5)), return_exceptions=True
    )
    assert any(isinstance(outcome, Busy) for outcome in outcomes)
    assert not any(isinstance(outcome, NotAuthenticated) for outcome in outcomes)


async def test_the_event_loop_goes_on_while_a_password_is_hashed(database: Database, user: str):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await attempt(passwords, user, PASSWORD)
    counting.cancel()
    assert turns > 100


async def test_nobody_is_found_and_nothing_is_counted_for_a_name_that_is_none(database: Database):
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    for _ in range(7):
        assert not await attempt(passwords, uuid.uuid4().hex, PASSWORD)


async def test_an_outdated_hash_is_made_anew_at_the_next_log_in(database: Database, user: str):
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    async with database.transaction() as tx:
        await users.set_password(tx, user, password_hash=old)
    passwords = Passwords(database, IdentitySettings(), audit_of(database))
    assert await attempt(passwords, user, PASSWORD)
    async with database.autocommit() as connection:
        row = await users.find_login(connection, user_id=user, address=HERE)
    assert row is not None
    assert "t=3" in row.password_hash
    assert await attempt(passwords, user, PASSWORD)
