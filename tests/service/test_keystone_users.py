"""Users of Keystone on a real PostgreSQL: what their tokens give them, what these cannot change, and until when."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pilothouse.auth.policy import ADMINISTRATOR
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import Forbidden, InvalidRequest, NotAuthenticated
from pilothouse.keystone.client import Keystone
from pilothouse.keystone.documents import KeystoneProvider
from pilothouse.keystone.validated import Validated
from pilothouse.providers.identities import Identity
from pilothouse.services.admin.audit import Audit
from pilothouse.services.identity.access_keys import AccessKeyRequest, AccessKeys
from pilothouse.services.identity.bearers import Bearers
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.groups import Groups
from pilothouse.services.identity.keystone_users import KeystoneUsers
from pilothouse.services.identity.passwords import Passwords
from pilothouse.services.identity.policies import Policies
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.provider_users import ProviderUsers
from pilothouse.services.identity.standing import Standing
from pilothouse.settings import AuditSettings, IdentitySettings, KeystoneSettings
from pilothouse.store import groups, policies, roles
from pilothouse.store.database import Database
from pilothouse.store.policies import AttachmentRow
from tests.service.test_chart_archives import make_charts
from tests.support.oidc_peer import OidcPeer, look_up, run_peer
from tests.support.tenants import add_project
from tests.unit.keystone.test_documents import document

REQUEST = "0" * 32
SOURCE = "192.0.2.1"
READ, CREATE, DELETE = "cce:release:get", "cce:release:create", "cce:release:delete"


@dataclass(frozen=True)
class Account:
    """An account with a project, whose users come from a Keystone; ``member`` and ``admin`` are groups with roles."""

    database: Database
    keys: MasterKeys
    owner: Caller
    provider: KeystoneProvider
    member: str
    admin: str

    @property
    def users(self) -> ProviderUsers:
        notes = Audit(self.database, AuditSettings())
        return ProviderUsers(self.database, notes, groups_seconds=3600, first_domain="")

    def identity(self, subject: str = "u1", name: str = "alice", *roles: str, delegated: bool = False) -> Identity:
        now = time.time()
        return Identity(
            provider=self.provider,
            subject=subject,
            name=name,
            groups=tuple(f"p1:{role}" for role in roles or ("member",)),
            issued_at=now,
            expires_at=now + 600,
            proved_at=None,
            carried=True,
            delegated=delegated,
        )

    async def caller(self, *roles: str, delegated: bool = False) -> Caller:
        """Return the caller of a token with these roles of Keystone."""
        identity = self.identity("u1", "alice", *roles, delegated=delegated)
        return await self.users.find_caller(identity, None, SOURCE)

    async def give_role(self, user_id: str, role: str, project_id: str | None) -> None:
        async with self.database.transaction() as tx:
            await roles.add_role(tx, user_id=user_id, project_id=project_id, role=role)

    async def give_policy(self, user_id: str, *statements: tuple[str, str]) -> None:
        """Attach a policy with these effects and actions to the user."""
        listed = [{"Effect": effect, "Action": [action]} for effect, action in statements]
        made = await Policies(self.database).create(
            self.owner, name=uuid.uuid4().hex, document={"Version": "1.1", "Statement": listed}, request_id=REQUEST
        )
        async with self.database.transaction() as tx:
            await policies.attach(tx, made.id, AttachmentRow(user_id, None, None))


@pytest.fixture
async def account(database: Database, tmp_path: Path) -> Account:
    keys = MasterKeys.load_or_create(tmp_path / "master.key")
    owner, _, _ = await add_project(database, keys)
    issuer, made = f"https://{uuid.uuid4().hex}.test", []
    async with database.transaction() as tx:
        for name, role, project_id in (
            ("p1:member", "CCE ReadOnlyAccess", owner.project_id),
            ("p1:admin", ADMINISTRATOR, None),
        ):
            made.append(uuid.uuid4().hex)
            await groups.add_group(tx, group_id=made[-1], domain_id=owner.domain_id, issuer=issuer, name=name)
            await groups.add_role(tx, group_id=made[-1], project_id=project_id, role=role)
    provider = KeystoneProvider("keystone", "keystone", issuer, owner.domain_name)
    return Account(database, keys, owner, provider, *made)


async def test_who_acts_for_a_user_has_what_the_token_carries_and_no_more(account: Account):
    user = (await account.caller()).user_id
    await account.give_role(user, ADMINISTRATOR, None)
    await account.give_policy(user, ("Allow", CREATE), ("Deny", "cce:release:list"))
    itself, delegated = await account.caller(), await account.caller(delegated=True)
    assert [itself.may(action) for action in (READ, CREATE, "cce:release:list")] == [True, True, False]
    assert [delegated.may(action) for action in (READ, CREATE, "cce:release:list")] == [True, False, False]
    assert (itself.may_in_account("iam:users:listUsers"), delegated.may_in_account("iam:users:listUsers")) == (
        True,
        False,
    )
    again = await Standing(account.database, again_seconds=0).ask(delegated, after_seconds=0)
    assert [again.may(action) for action in (READ, CREATE, "cce:release:list")] == [True, False, False]


async def test_who_acts_for_a_user_is_in_no_project_by_the_users_own_roles(account: Account):
    user = (await account.caller()).user_id
    await account.give_role(user, "CCE FullAccess", account.owner.project_id)
    found = [await account.caller("other", delegated=delegated) for delegated in (False, True)]
    assert [caller.project_id for caller in found] == [account.owner.project_id, ""]
    listed = [await Projects(account.database, region="cn-north-4").list_usable(caller) for caller in found]
    assert [len(rows) for rows in listed] == [1, 0]


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[OidcPeer]:
    async with run_peer(tmp_path) as made:
        made.says("/v3/auth/tokens", {}, status=201, **{"x-subject-token": "ours"})
        yield made


@pytest.fixture
async def keystone(account: Account, peer: OidcPeer, tmp_path: Path) -> AsyncIterator[KeystoneUsers]:
    """Yield the users of the Keystone that answers as the peer does, which is asked each time."""
    (tmp_path / "password").write_text("secret")
    settings = KeystoneSettings(
        url=peer.issuer, password_file=tmp_path / "password", allow_loopback=True, cache_seconds=0
    )
    validated = Validated(Keystone(settings, look_up), settings, account.provider)
    yield KeystoneUsers(account.users, validated)
    await validated.close()


def give(peer: OidcPeer, *names: str) -> None:
    """Let every token have these roles from now on."""
    listed: list[dict[str, Any]] = [{"name": name} for name in names]
    token = document(roles=listed, expires_at="2100-01-01T00:00:00Z")
    peer.says("/v3/auth/tokens?nocatalog", {"token": token})


async def test_a_role_that_keystone_takes_away_does_not_count_when_it_is_asked_again(
    account: Account, peer: OidcPeer, keystone: KeystoneUsers
):
    standing = Standing(account.database, again_seconds=0, issuers=Bearers(oidc=None, keystone=keystone))
    give(peer, "member")
    caller = await keystone.find_bearer("one", None, SOURCE)
    assert (await standing.require(caller, READ, after_seconds=0)).may(READ)
    give(peer, "member", "admin")
    assert (await standing.ask(caller, after_seconds=0)).may_in_account("iam:users:listUsers")
    give(peer, "member")
    caller = await standing.ask(caller, after_seconds=0)
    assert not caller.may_in_account("iam:users:listUsers")
    give(peer, "admin")
    await account.give_role(caller.user_id, "CCE FullAccess", account.owner.project_id)
    assert (await standing.ask(caller, after_seconds=0)).may(CREATE)
    give(peer)
    caller = await standing.ask(caller, after_seconds=0)
    assert caller.account_roles == frozenset()
    assert caller.roles == {"CCE FullAccess"}


async def test_a_list_of_charts_ends_when_keystone_takes_the_role_away(
    account: Account, peer: OidcPeer, keystone: KeystoneUsers, tmp_path: Path
):
    standing = Standing(account.database, again_seconds=0, issuers=Bearers(oidc=None, keystone=keystone))
    charts = make_charts(account.database, tmp_path, quota=5, standing=standing)
    give(peer, "member", "admin")
    caller = await keystone.find_bearer("one", None, SOURCE)
    async with charts.listed(caller) as page:
        assert page.charts == []
    await account.give_policy(caller.user_id, ("Deny", DELETE))  # without it the project is none of the user's
    give(peer, "other")
    with pytest.raises(Forbidden, match="cce:chart:list"):
        async with charts.listed(caller):
            pass


async def test_whose_token_carries_its_groups_changes_no_group_of_its_provider(account: Account):
    caller = await account.caller("admin")
    service = Groups(account.database, {"keystone": account.provider.issuer})
    for group in (account.admin, account.member):
        with pytest.raises(InvalidRequest, match="a group that another token of yours may be in"):
            await service.grant(caller, group, role=ADMINISTRATOR, project_id=None, request_id=REQUEST)
        with pytest.raises(InvalidRequest, match="a group that another token of yours may be in"):
            await service.remove(caller, group, request_id=REQUEST)
    listed = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["cce:*:*"]}]}
    made = await Policies(account.database).create(caller, name="none", document=listed, request_id=REQUEST)
    where = AttachmentRow(None, account.member, None)
    with pytest.raises(InvalidRequest, match="a policy of a group that another token of yours may be in"):
        await Policies(account.database).attach(caller, made.id, where, request_id=REQUEST)
    assert await Policies(account.database).attach(account.owner, made.id, where, request_id=REQUEST)
    with pytest.raises(InvalidRequest, match="a policy of a group that another token of yours may be in"):
        await Policies(account.database).remove(caller, made.id, request_id=REQUEST)


async def test_a_group_of_another_provider_can_be_changed(account: Account):
    async with account.database.transaction() as tx:
        await groups.add_group(
            tx, group_id="g" * 32, domain_id=account.owner.domain_id, issuer="https://sso.test", name="ops"
        )
    service = Groups(account.database, {"keystone": account.provider.issuer})
    caller = await account.caller("admin")
    assert await service.grant(caller, "g" * 32, role=ADMINISTRATOR, project_id=None, request_id=REQUEST)


async def test_users_of_one_name_are_all_let_in(account: Account):
    rows = [
        await account.users.admit(account.identity(f"subject-{number}"), SOURCE, request_id=REQUEST)
        for number in range(4)
    ]
    names = [row.user_name for row in rows]
    assert (names[:2], len(set(names))) == (["alice", "alice@keystone"], 4)


async def test_a_user_that_was_disabled_while_it_came_is_refused(account: Account, database_url: str):
    owner = account.owner
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute(
            "INSERT INTO users (id, domain_id, name, password_hash, issuer, subject, enabled)"
            " VALUES (%s, %s, 'alice', '', %s, 'u1', false)",
            (uuid.uuid4().hex, owner.domain_id, account.provider.issuer),
        )
        coming = asyncio.create_task(account.caller())  # finds nobody, and waits to add the user
        await asyncio.sleep(0.5)
        assert not coming.done()
        await other.commit()
        with pytest.raises(NotAuthenticated, match="is disabled here"):
            await coming


@pytest.mark.parametrize("key_proof_seconds", [0, 600])
async def test_a_token_of_keystone_makes_no_access_key_even_if_no_proof_is_wanted(
    account: Account, key_proof_seconds: float
):
    settings = IdentitySettings(key_proof_seconds=key_proof_seconds)
    passwords = Passwords(account.database, settings, Audit(account.database, AuditSettings()))
    service = AccessKeys(account.database, account.keys, passwords, settings)
    caller = await account.caller()
    await account.give_role(caller.user_id, "CCE FullAccess", account.owner.project_id)
    with pytest.raises(InvalidRequest, match="makes no access key, which would outlive it"):
        await service.create(caller, AccessKeyRequest(), request_id=REQUEST)
    owner = replace(account.owner, roles=frozenset({ADMINISTRATOR}))
    if not key_proof_seconds:
        made = await service.create(owner, AccessKeyRequest(user_id=caller.user_id), request_id=REQUEST)
        assert await service.change(caller, made.row.id, description="mine", request_id=REQUEST)
        delegated = await account.caller(delegated=True)
        with pytest.raises(Forbidden, match="updateCredential"):
            await service.change(delegated, made.row.id, enabled=False, request_id=REQUEST)
