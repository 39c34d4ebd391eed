"""A second customer on the same server, with a project and an access key of its own."""

import asyncio
import dataclasses
import uuid

from pilothouse.auth import passwords
from pilothouse.auth.policy import ADMINISTRATOR
from pilothouse.auth.sealing import MasterKeys
from pilothouse.services.identity.bootstrap import Caller, Proof, seal_secret
from pilothouse.store import access_keys, projects, roles, users
from pilothouse.store.database import Database
from tests.support.servers import RunningServer
from tests.support.users import PASSWORD

_HASH = passwords.hash_password(PASSWORD)


def add_tenant(server: RunningServer) -> RunningServer:
    """Return the server as a new customer sees it: another domain, project, user and access key; no clusters."""
    caller, access_key, secret_key = asyncio.run(_add(server))
    return dataclasses.replace(
        server,
        access_key=access_key,
        secret_key=secret_key,
        project_id=caller.project_id,
        cluster_id="",
        password=PASSWORD,
    )


async def add_project(database: Database, keys: MasterKeys) -> tuple[Caller, str, str]:
    """Return a new caller with access key and secret key, alone in its domain."""
    access_key, secret_key = passwords.generate_access_key(), passwords.generate_secret_key()
    caller = Caller(
        user_id=uuid.uuid4().hex,
        user_name="other-user",
        domain_id=uuid.uuid4().hex,
        domain_name=f"other-{uuid.uuid4().hex[:8]}",
        project_id=uuid.uuid4().hex,
        roles=frozenset({ADMINISTRATOR}),
        account_roles=frozenset({ADMINISTRATOR}),
        proof=Proof("key", access_key),
    )
    async with database.transaction() as tx:
        await projects.add_domain(tx, domain_id=caller.domain_id, name=caller.domain_name)
        await projects.add_project(
            tx, project_id=caller.project_id, domain_id=caller.domain_id, name="cn-north-4", description=""
        )
        await users.add_user(
            tx, user_id=caller.user_id, domain_id=caller.domain_id, name=caller.user_name, password_hash=_HASH
        )
        await roles.add_role(tx, user_id=caller.user_id, project_id=None, role=ADMINISTRATOR)
        await access_keys.add_access_key(
            tx,
            access_key=access_key,
            user_id=caller.user_id,
            project_id=caller.project_id,
            secret_sealed=seal_secret(secret_key, keys=keys, access_key=access_key),
        )
    return caller, access_key, secret_key


async def _add(server: RunningServer) -> tuple[Caller, str, str]:
    database = Database(server.database_url)
    try:
        return await add_project(database, MasterKeys.load_or_create(server.data_dir / "master.key"))
    finally:
        await database.close()
