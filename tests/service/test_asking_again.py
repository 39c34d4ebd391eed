"""What the gateway once proved is asked again: a caller is what it is now."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import NotAuthenticated, NotFound, NotPermitted
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.services.admin.audit import Audit
from pilothouse.services.clusters import Clusters
from pilothouse.services.identity.access_keys import AccessKeyRequest, AccessKeys
from pilothouse.services.identity.authentication import Authentication
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.passwords import Login, Passwords
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.standing import ask_again, require_still
from pilothouse.services.identity.tokens import Scope, Tokens
from pilothouse.services.identity.users import Users
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.releases.delete import DeleteRelease, Deletions
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import AuditSettings, ClusterSettings, IdentitySettings, Settings
from pilothouse.store import access_keys, clusters, operations, policies, projects, roles, users
from pilothouse.store.database import Database
from pilothouse.store.policies import AttachmentRow
from tests.support.fake_api_servers import kubeconfig
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project
from tests.support.users import PASSWORD

REQUEST = "0" * 32


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


async def test_a_policy_that_counts_twice_is_read_once(database: Database, caller: Caller):
    policy_id, document = (
        uuid.uuid4().hex,
        '{"Version": "5.0", "Statement": [{"Effect": "Deny", "Action": "cce:chart:delete"}]}',
    )
    async with database.transaction() as tx:
        await policies.add_policy(tx, policy_id=policy_id, domain_id=caller.domain_id, name="twice", document=document)
        for project_id in (None, caller.project_id):
            assert await policies.attach(tx, policy_id, AttachmentRow(caller.user_id, None, project_id))
    now = await again(database, caller)
    assert (now.policies, now.account_policies) == ((document,), (document,))


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


async def test_a_key_whose_secret_does_not_open_is_refused_by_name_of_the_fault(
    database: Database, keys: MasterKeys, authentication: Authentication
):
    _, access_key, _ = await add_project(database, keys)
    async with database.transaction() as tx:
        damage = text("UPDATE access_keys SET secret_sealed = '\\x00' WHERE id = :id")
        await tx.execute(damage, {"id": access_key})
    with pytest.raises(NotAuthenticated, match="cannot be read"):
        await authentication.find_key(access_key, None, "192.0.2.1")


@dataclass(frozen=True)
class World:
    """What a caller may change: another user with a key and a token, a project, a cluster, a queued install."""

    users: Users
    keys: AccessKeys
    projects: Projects
    tokens: Tokens
    clusters: Clusters
    cancellations: Cancellations
    deletions: Deletions
    other: str
    key: str
    token: str
    project: str
    cluster: str
    operation: str


@pytest.fixture
async def world(database: Database, keys: MasterKeys, caller: Caller, tmp_path: Path) -> AsyncIterator[World]:
    identity, cluster_settings = IdentitySettings(key_proof_seconds=0), ClusterSettings()
    settings = Settings.model_validate({"data_dir": tmp_path})
    notes = Audit(database, AuditSettings())
    passwords = Passwords(database, identity, notes)
    clients, engine = ClusterClients(cluster_settings), EnginePool(settings.engine, state_dir=tmp_path)
    services = Clusters(database, keys, clients, cluster_settings)
    people, tokens = Users(database, passwords), Tokens(database, passwords, identity, notes)
    made = AccessKeys(database, keys, passwords, identity)
    other = (await people.create(caller, name="other", password=PASSWORD, request_id=REQUEST)).user.row.id
    await people.grant(caller, other, role="readonly", project_id=None, request_id=REQUEST)
    wanted = AccessKeyRequest(user_id=other, project_id=caller.project_id)
    key = (await made.create(caller, wanted, request_id=REQUEST)).row.id
    login = Login(password=PASSWORD, user_id=other, source="192.0.2.1")
    token = (await tokens.issue(login, Scope(), request_id=REQUEST)).text
    project = uuid.uuid4().hex
    operation = new_install(caller.project_id, caller.user_id, cluster_id=uuid.uuid4().hex)
    async with database.transaction() as tx:
        await projects.add_project(
            tx, project_id=project, domain_id=caller.domain_id, name="cn-north-4_more", description=""
        )
        await clusters.add_cluster(
            tx,
            cluster_id=operation.cluster_id,
            project_id=caller.project_id,
            name="asked",
            server="https://192.0.2.1",
            kubeconfig_sealed=keys.seal(kubeconfig(1).encode(), context=f"kubeconfig:{operation.cluster_id}"),
        )
    await accept(database, operation)
    yield World(
        people,
        made,
        Projects(database, region="cn-north-4"),
        tokens,
        services,
        Cancellations(database),
        Deletions(ReleaseDependencies(database, keys, services, engine, settings, Preflight(settings))),
        other,
        key,
        token,
        project,
        operation.cluster_id,
        operation.id,
    )
    await clients.close()


Write = Callable[[World, Caller], Awaitable[object]]
WRITES: dict[str, Write] = {
    "create a user": lambda world, by: world.users.create(by, name="new", password=PASSWORD, request_id=REQUEST),
    "disable a user": lambda world, by: world.users.set_enabled(by, world.other, enabled=False, request_id=REQUEST),
    "set a password": lambda world, by: world.users.set_password(
        by, world.other, password="another password", current=None, request_id=REQUEST
    ),
    "delete a user": lambda world, by: world.users.remove(by, world.other, request_id=REQUEST),
    "grant a role": lambda world, by: world.users.grant(
        by, world.other, role="te_admin", project_id=None, request_id=REQUEST
    ),
    "withdraw a role": lambda world, by: world.users.withdraw(
        by, world.other, role="readonly", project_id=None, request_id=REQUEST
    ),
    "create a key": lambda world, by: world.keys.create(
        by, AccessKeyRequest(user_id=world.other, project_id=by.project_id), request_id=REQUEST
    ),
    "disable a key": lambda world, by: world.keys.change(by, world.key, enabled=False, request_id=REQUEST),
    "delete a key": lambda world, by: world.keys.remove(by, world.key, request_id=REQUEST),
    "create a project": lambda world, by: world.projects.create(by, name="new", description="", request_id=REQUEST),
    "disable a project": lambda world, by: world.projects.set_enabled(
        by, world.project, enabled=False, request_id=REQUEST
    ),
    "delete a project": lambda world, by: world.projects.remove(by, world.project, request_id=REQUEST),
    "revoke a token": lambda world, by: world.tokens.revoke(by, world.token, request_id=REQUEST),
    "delete a cluster": lambda world, by: world.clusters.remove(by, world.cluster, request_id=REQUEST),
    "cancel": lambda world, by: world.cancellations.cancel(by, world.operation, keep=False, request_id=REQUEST),
    "cancel by DELETE": lambda world, by: world.deletions.delete(
        by, world.cluster, namespace="default", name="web", request=DeleteRelease(), request_id=REQUEST
    ),
}


@pytest.mark.parametrize("what", WRITES)
async def test_nothing_is_written_for_who_lost_key_or_role_since_the_gateway_looked(
    database: Database, world: World, caller: Caller, what: str
):
    assert caller.proof is not None
    long_ago = replace(caller, asked_at=caller.asked_at - 60)
    async with database.transaction() as tx:
        await roles.remove_role(tx, user_id=caller.user_id, project_id=None, role="te_admin")
        await roles.add_role(tx, user_id=caller.user_id, project_id=None, role="readonly")
    before = await audited(database, caller)
    with pytest.raises(NotPermitted):
        await WRITES[what](world, long_ago)
    async with database.transaction() as tx:
        await access_keys.remove_access_key(tx, caller.proof.id)
    with pytest.raises(NotAuthenticated):
        await WRITES[what](world, long_ago)
    assert await audited(database, caller) == before
    async with database.autocommit() as connection:
        found = await operations.find_operation(connection, world.operation)
    assert found is not None
    assert found.state == "queued"


@pytest.mark.parametrize("what", WRITES)
async def test_it_is_written_for_who_has_them_still(database: Database, world: World, caller: Caller, what: str):
    before = await audited(database, caller)
    await WRITES[what](world, replace(caller, asked_at=caller.asked_at - 60))
    assert await audited(database, caller) == before + 1


async def audited(database: Database, caller: Caller) -> int:
    """How many changes the audit has of that user."""
    async with database.autocommit() as connection:
        query = text("SELECT count(*) FROM audit WHERE user_id = :user_id")
        return int((await connection.execute(query, {"user_id": caller.user_id})).scalar_one())
