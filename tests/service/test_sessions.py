"""Sessions of the console end by themselves, with what they were opened for, and everywhere at once."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from pilothouse.auth.passwords import hash_password
from pilothouse.auth.sealing import MasterKeys
from pilothouse.auth.tokens import session_digest, token_digest
from pilothouse.errors import NotAuthenticated, NotFound, NotPermitted
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.services.identity.sessions import OpenedSession, Opening, Sessions
from pilothouse.services.identity.standing import ask_again
from pilothouse.services.identity.tokens import IssuedToken, Scope, Tokens
from pilothouse.settings import AuditSettings, IdentitySettings
from pilothouse.store import roles, sessions, tokens, users
from pilothouse.store.database import Database
from tests.support.tenants import add_project

PASSWORD = "correct horse"
HERE = "192.0.2.1"
OPENING = Opening(source=HERE, agent="a browser", request_id="0" * 32)
SETTINGS = IdentitySettings(session_seconds=3600, session_idle_seconds=600, sessions_per_user=3)


@pytest.fixture
async def person(database: Database, tmp_path: Path) -> Caller:
    """A user with a password, and a role in a project."""
    caller, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    async with database.transaction() as tx:
        await users.set_password(tx, caller.user_id, password_hash=hash_password(PASSWORD))
    return caller


@pytest.fixture
def service(database: Database) -> Sessions:
    audit = Audit(database, AuditSettings())
    return Sessions(database, Passwords(database, SETTINGS, audit), SETTINGS, audit)


async def open_one(service: Sessions, person: Caller) -> OpenedSession:
    return await service.open_with_password(Login(password=PASSWORD, user_id=person.user_id), OPENING)


async def find(service: Sessions, opened: OpenedSession, project: str = "", *, in_use: bool = True) -> Caller | None:
    return await service.find(opened.text, project, HERE, in_use=in_use)


async def change(database: Database, opened: OpenedSession, assignment: str) -> None:
    async with database.transaction() as tx:
        statement = f"UPDATE sessions SET {assignment} WHERE digest = :digest"  # noqa: S608 - of this file
        await tx.execute(text(statement), {"digest": session_digest(opened.text)})


async def test_a_session_is_its_users_in_each_project_that_a_path_names(service: Sessions, person: Caller):
    opened = await open_one(service, person)
    by_id = await find(service, opened, person.project_id)
    assert by_id is not None
    by_name = await find(service, opened, by_id.project_name)
    assert by_name is not None
    assert replace(by_name, proof=None) == replace(by_id, proof=None)
    assert (by_id.user_id, by_id.project_id, by_id.roles) == (person.user_id, person.project_id, person.roles)
    elsewhere = await find(service, opened, "a project of others")
    assert elsewhere is not None
    assert (elsewhere.project_id, elsewhere.roles) == ("", person.account_roles)


async def test_the_database_holds_no_cookie(service: Sessions, person: Caller, database: Database):
    opened = await open_one(service, person)
    async with database.autocommit() as connection:
        rows = (await connection.execute(text("SELECT CAST(sessions.* AS text) FROM sessions"))).scalars().all()
    assert rows
    assert not any(opened.text in row for row in rows)
    assert token_digest(opened.text) is None, "a cookie is no token"
    assert await service.find("pht-" + opened.text[4:], "", HERE, in_use=True) is None


async def test_a_session_ends_at_its_time_and_when_nobody_uses_it(
    service: Sessions, person: Caller, database: Database
):
    opened = await open_one(service, person)
    await change(database, opened, "used_at = clock_timestamp() - interval '590 s'")
    assert await find(service, opened, in_use=False) is not None, "what updates by itself"
    await change(database, opened, "used_at = used_at - interval '20 s'")
    assert await find(service, opened) is None, "does not keep it alive"
    await change(database, opened, "used_at = clock_timestamp() - interval '590 s'")
    assert await find(service, opened) is not None, "a page that is asked for"
    await change(database, opened, "used_at = used_at - interval '20 s'")
    assert await find(service, opened) is not None, "does"
    await change(database, opened, "expires_at = clock_timestamp()")
    assert await find(service, opened) is None


async def test_what_streams_ends_with_the_idle_session(service: Sessions, person: Caller, database: Database):
    opened = await open_one(service, person)
    caller = await find(service, opened, person.project_id, in_use=False)
    assert caller is not None
    await change(database, opened, "used_at = clock_timestamp() - interval '590 s'")
    async with database.autocommit() as connection:
        caller = await ask_again(connection, caller)
    await change(database, opened, "used_at = used_at - interval '20 s'")
    async with database.autocommit() as connection:
        with pytest.raises(NotAuthenticated):
            await ask_again(connection, caller)


@pytest.mark.parametrize("what", ["password", "state", "role", "user"])
async def test_what_revokes_tokens_ends_sessions_also_in_requests_under_way(
    service: Sessions, person: Caller, database: Database, what: str
):
    opened = await open_one(service, person)
    caller = await find(service, opened, person.project_id)
    assert caller is not None
    async with database.autocommit() as connection:
        assert (await ask_again(connection, caller)).roles == person.roles
    async with database.transaction() as tx:
        match what:
            case "password":
                await users.set_password(tx, person.user_id, password_hash="x")
            case "state":
                await tx.execute(text("UPDATE users SET enabled = false WHERE id = :id"), {"id": person.user_id})
            case "role":
                role = next(iter(await roles.list_roles(tx, person.user_id)))
                await roles.remove_role(tx, user_id=person.user_id, project_id=role.project_id, role=role.role)
                await users.end_tokens(tx, person.user_id)
            case _:
                await users.remove_user(tx, person.user_id)
    assert await find(service, opened) is None
    async with database.autocommit() as connection:
        with pytest.raises(NotAuthenticated):
            await ask_again(connection, caller)


async def issue_token(person: Caller, database: Database) -> IssuedToken:
    audit = Audit(database, AuditSettings())
    issuing = Tokens(database, Passwords(database, SETTINGS, audit), SETTINGS, audit)
    login = Login(password=PASSWORD, user_id=person.user_id, source=HERE)
    return await issuing.issue(login, Scope(project_id=person.project_id), request_id="0" * 32)


async def test_a_session_opened_with_a_projects_token_ends_when_that_is_disabled(
    service: Sessions, person: Caller, database: Database
):
    token = await issue_token(person, database)
    opened, by_password = await service.open_with_token(token.text, OPENING), await open_one(service, person)
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE projects SET enabled = false WHERE id = :id"), {"id": person.project_id})
    assert await find(service, opened) is None
    assert await find(service, by_password) is not None


async def test_a_log_in_with_an_ended_token_is_audited(person: Caller, database: Database):
    audit = Audit(database, AuditSettings())
    service = Sessions(database, Passwords(database, SETTINGS, audit), SETTINGS, audit)
    token = await issue_token(person, database)
    async with database.transaction() as tx:
        ended = "UPDATE tokens SET expires_at = issued_at WHERE digest = :digest"
        await tx.execute(text(ended), {"digest": token.row.digest})
    with pytest.raises(NotAuthenticated):
        await service.open_with_token(token.text, OPENING)
    await audit.write(all_of_it=True)
    async with database.autocommit() as connection:
        query = "SELECT action, source, outcome, detail FROM audit WHERE user_id = :id AND outcome <> 'done'"
        rows = (await connection.execute(text(query), {"id": person.user_id})).all()
    assert [tuple(row) for row in rows] == [("iam:sessions:create", HERE, "failed", "ended")]


async def test_a_session_opened_with_a_token_ends_with_it(service: Sessions, person: Caller, database: Database):
    token = await issue_token(person, database)
    opened = await service.open_with_token(f" {token.text}\n", OPENING)
    assert await find(service, opened, person.project_id) is not None
    async with database.autocommit() as connection:
        row = await sessions.find_session(connection, session_digest(opened.text) or "", project="")
    assert row is not None
    assert row.expires_at <= token.row.expires_at
    async with database.transaction() as tx:
        await tokens.remove_token(tx, token.row.digest)
    assert await find(service, opened) is None
    with pytest.raises(NotAuthenticated):
        await service.open_with_token(token.text, OPENING)


async def test_logging_out_everywhere_ends_each_session_and_ending_one_only_that(service: Sessions, person: Caller):
    first, second, third = [await open_one(service, person) for _ in range(3)]
    caller = await find(service, first)
    assert caller is not None
    other = await find(service, second)
    assert other is not None
    await service.end(caller, await service.find_own_id(other), request_id="0" * 32)
    assert await find(service, second) is None
    assert len(await service.list_open(caller)) == 2
    with pytest.raises(NotFound):
        await service.end(caller, "of somebody else", request_id="0" * 32)
    assert await service.end_all(caller, request_id="0" * 32) == 2
    assert [await find(service, one) for one in (first, second, third)] == [None, None, None]


async def test_sessions_and_tokens_of_others_are_for_administrators_of_the_account(
    service: Sessions, person: Caller, database: Database, tmp_path: Path
):
    opened, token = await open_one(service, person), await issue_token(person, database)
    stranger, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    looker = replace(person, user_id=stranger.user_id, account_roles=frozenset())
    own = Tokens(database, Passwords(database, SETTINGS, audit := Audit(database, AuditSettings())), SETTINGS, audit)
    [listed], [shown] = await service.list_open(person), await own.list_living(person)
    assert token.row.digest.startswith(shown.id)
    user = {"user_id": person.user_id}
    for caller, refusal in ((stranger, NotFound), (looker, NotPermitted)):
        with pytest.raises(refusal):
            await service.list_open(caller, **user)
        with pytest.raises(refusal):
            await own.list_living(caller, **user)
    for refused in (
        service.end(stranger, listed.id, **user, request_id="0" * 32),
        service.end_all(stranger, **user, request_id="0" * 32),
        own.end(stranger, shown.id, **user, request_id="0" * 32),
        own.end(stranger, shown.id, request_id="0" * 32),
    ):
        with pytest.raises(NotFound):
            await refused
    assert await find(service, opened) is not None
    await own.end(person, shown.id, request_id="0" * 32)
    assert await own.list_living(person) == []


async def test_one_session_more_than_allowed_ends_the_oldest(service: Sessions, person: Caller):
    opened = [await open_one(service, person) for _ in range(4)]
    assert [await find(service, one) is not None for one in opened] == [False, True, True, True]


async def test_a_wrong_password_opens_nothing(service: Sessions, person: Caller):
    with pytest.raises(NotAuthenticated):
        await service.open_with_password(Login(password="wrong", user_id=person.user_id), OPENING)


async def test_retention_deletes_what_has_ended(service: Sessions, person: Caller, database: Database):
    opened = await open_one(service, person)
    async with database.transaction() as tx:
        await sessions.sweep(tx, expired_seconds_ago=0)
    assert await find(service, opened) is not None
    await change(database, opened, "expires_at = clock_timestamp() - interval '1 s'")
    async with database.transaction() as tx:
        assert await sessions.sweep(tx, expired_seconds_ago=0) >= 1
        assert await sessions.find_session(tx, session_digest(opened.text) or "", project="") is None
