"""What the gateway once proved is asked again: a caller is what it is now."""

from pathlib import Path

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotAuthenticated, NotFound, NotPermitted
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.authentication import Authentication
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import ask_again, require_still
from pilothouse.settings import AuditSettings, IdentitySettings
from pilothouse.store import access_keys, projects, roles, users
from pilothouse.store.database import Database
from tests.support.tenants import add_project


@pytest.fixture
def keys(tmp_path: Path) -> MasterKeys:
    return MasterKeys.load_or_create(tmp_path / "master.key")


@pytest.fixture
def authentication(database: Database, keys: MasterKeys) -> Authentication:
    return Authentication(database, keys, IdentitySettings(), Audit(database, AuditSettings()))


@pytest.fixture
async def caller(database: Database, keys: MasterKeys, authentication: Authentication) -> Caller:
    """Somebody whose key was proven."""
    _, access_key, _ = await add_project(database, keys)
    holder = await authentication.find_key(access_key, None, "192.0.2.1")
    assert holder is not None
    return await authentication.select_project(holder, None)


async def again(database: Database, caller: Caller) -> Caller:
    async with database.autocommit() as connection:
        return await ask_again(connection, caller)


async def test_nothing_changed(database: Database, caller: Caller):
    assert await again(database, caller) == caller


async def test_roles_are_those_of_now(database: Database, caller: Caller):
    async with database.transaction() as tx:
        await roles.remove_role(tx, user_id=caller.user_id, project_id=None, role="te_admin")
        await roles.add_role(tx, user_id=caller.user_id, project_id=caller.project_id, role="readonly")
    now = await again(database, caller)
    assert (now.roles, now.account_roles) == (frozenset({"readonly"}), frozenset())


@pytest.mark.parametrize("what", ["user", "key", "end"])
async def test_what_proved_it_is_gone(database: Database, caller: Caller, what: str):
    assert caller.proof is not None
    async with database.transaction() as tx:
        if what == "user":
            await users.set_enabled(tx, caller.user_id, enabled=False)
        elif what == "key":
            await access_keys.set_enabled(tx, caller.proof.id, enabled=False)
        else:
            await access_keys.remove_access_key(tx, caller.proof.id)
    with pytest.raises(NotAuthenticated):
        await again(database, caller)


async def test_its_project_is_gone(database: Database, caller: Caller):
    async with database.transaction() as tx:
        await projects.set_enabled(tx, caller.project_id, enabled=False)
    with pytest.raises(NotFound):
        await again(database, caller)


async def test_what_is_fresh_is_not_asked_again_and_what_is_not_needs_the_right(database: Database, caller: Caller):
    async with database.transaction() as tx:
        await roles.remove_role(tx, user_id=caller.user_id, project_id=None, role="te_admin")
    async with database.autocommit() as connection:
        assert await require_still(connection, caller, "cce:chart:upload", after_seconds=60) is caller
        with pytest.raises(NotPermitted, match="cce:chart:upload"):
            await require_still(connection, caller, "cce:chart:upload", after_seconds=0)
