"""Who signed charts, as rows on a real PostgreSQL: what counts, and what is forgotten."""

import asyncio
import uuid
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.pool import EnginePool
from pilothouse.services.charts.signatures import Signatures
from pilothouse.services.charts.trust import ChangeTrust, ShownTrust, Trust
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.settings import EngineSettings
from pilothouse.store import archives, chart_origins, charts, sources, verifications
from pilothouse.store.charts import ChartContent
from pilothouse.store.database import Database
from pilothouse.store.operations import NewOperation
from pilothouse.store.verifications import NewVerification, PackedRevision
from tests.support.operations import accept, new_install
from tests.support.tenants import add_project

KEYS = MasterKeys({bytes(8): bytes(32)})


@pytest.fixture
async def caller(database: Database) -> Caller:
    return (await add_project(database, KEYS))[0]


def by(fingerprint: str, signing_key: str = "") -> NewVerification:
    return NewVerification(
        kind="pgp",
        fingerprint=fingerprint,
        signing_key=signing_key or fingerprint,
        signed_by=f"somebody with {fingerprint}",
        signed_at=None,
        signed_digest="signed",
        source="",
        provenance="",
    )


async def record(database: Database, caller: Caller, digest: str, *fingerprints: str) -> None:
    async with database.transaction() as tx:
        for fingerprint in fingerprints:
            await verifications.record(tx, by(fingerprint), project_id=caller.project_id, digest=digest)


async def found(database: Database, caller: Caller, digest: str) -> tuple[str, bool, bool] | None:
    """Return who is shown, whether that key is trusted, and whether the archive counts as verified."""
    async with database.autocommit() as connection:
        row = await verifications.find(connection, project_id=caller.project_id, digest=digest)
        counts = await verifications.counts(connection, project_id=caller.project_id, digest=digest)
    return (row.fingerprint, row.trusted, counts) if row is not None else None


async def trust(database: Database, caller: Caller, *fingerprints: str) -> None:
    async with database.transaction() as tx:
        await verifications.set_trust(tx, caller.project_id, {"trusted": list(fingerprints)})


async def test_a_signature_counts_while_its_key_is_trusted_and_in_its_project(database: Database, caller: Caller):
    digest, other = uuid.uuid4().hex, (await add_project(database, KEYS))[0]
    await record(database, caller, digest, "A", "B")
    assert await found(database, caller, digest) == ("B", False, False)
    await trust(database, caller, "A")
    assert await found(database, caller, digest) == ("A", True, True)
    await trust(database, other, "A")
    assert await found(database, other, digest) is None
    await trust(database, caller, "C")
    assert await found(database, caller, digest) == ("B", False, False)


async def test_a_signature_is_compared_by_the_subkey_that_made_it(database: Database, caller: Caller):
    digest = uuid.uuid4().hex
    async with database.transaction() as tx:
        for subkey in ("SUB", "OTHER"):
            await verifications.record(tx, by("A", subkey), project_id=caller.project_id, digest=digest)
    for trusted, counts in ((["A"], False), (["A", "SUB"], True), (["OTHER"], True), (["A", "NEW"], False)):
        await trust(database, caller, *trusted)
        assert await found(database, caller, digest) == ("A", counts, counts), trusted


async def test_what_was_packed_from_a_revision_shows_who_signed_and_proves_nothing(database: Database, caller: Caller):
    digest, packed = uuid.uuid4().hex, uuid.uuid4().hex
    await trust(database, caller, "A")
    await record(database, caller, digest, "A")
    row = await accept(database, install_of(caller, await stored(database, digest), revision=3))
    operation = row.id
    place = PackedRevision(
        project_id=caller.project_id,
        cluster_id=row.cluster_id,
        namespace=row.namespace,
        name=row.release_name,
        revision=3,
        operation_id=operation,
    )

    async def pass_on(revision: int, **elsewhere: str) -> None:
        async with database.transaction() as tx:
            await verifications.pass_on(tx, replace(place, revision=revision, **elsewhere), digest=packed)

    await pass_on(3)
    assert await found(database, caller, packed) is None, "the operation has written no revision"
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE operations SET wrote_revision = true WHERE id = :id"), {"id": operation})
    await pass_on(2)
    assert await found(database, caller, packed) is None, "it wrote another one"
    for elsewhere in ({"cluster_id": "other"}, {"namespace": "other"}, {"name": "other"}):
        await pass_on(3, **elsewhere)
        assert await found(database, caller, packed) is None, "a copy of the label in another place says nothing"
    await pass_on(3)
    assert await found(database, caller, packed) == ("A", False, False), "taken over, and not verified"
    await record(database, caller, packed, "A")
    assert await found(database, caller, packed) == ("A", True, True)
    await pass_on(3)
    assert await found(database, caller, packed) == ("A", True, True), "what was verified itself stays so"


async def test_two_who_change_different_things_keep_each_others(database: Database, caller: Caller, tmp_path: Path):
    settings = EngineSettings.model_validate({})
    service = Trust(database, Signatures(EnginePool(settings, state_dir=tmp_path), settings))
    async with database.transaction() as tx:
        own = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await verifications.set_trust(tx, caller.project_id, {"verification_keys": "new", "trusted": ["NEW"]})
        change = asyncio.create_task(service.change(caller, ChangeTrust(verified_only=True), request_id="r"))
        await is_blocked_by(database, own)
    assert await change == ShownTrust(True, "new", ["NEW"], [], [])
    async with database.transaction() as tx:
        own = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await verifications.set_trust(tx, caller.project_id, {"verified_only": False})
        change = asyncio.create_task(service.change(caller, ChangeTrust(keys=""), request_id="r"))
        await is_blocked_by(database, own)
    assert await change == ShownTrust(False, "", [], [], [])


_SOURCE = """
WITH made AS (INSERT INTO chart_sources (id, project_id, name, kind, url) VALUES (:source, :project, 's', 'http', ''))
INSERT INTO source_versions (source_id, name, version, order_key)
VALUES (:source, 'web', '1.0.0', 'a~'), (:source, 'web', '1.1.0', 'b~')
"""
_ORIGIN = """
INSERT INTO chart_origins (chart_id, source_id, name, version, order_key)
VALUES (:source, :source, 'web', '1.0.0', 'a~')
"""


async def test_a_rule_waits_for_what_is_found_by_the_one_before(database: Database, caller: Caller, tmp_path: Path):
    settings = EngineSettings.model_validate({})
    service = Trust(database, Signatures(EnginePool(settings, state_dir=tmp_path), settings))
    source = str(uuid.uuid4())
    async with database.transaction() as tx:
        for statement in (_SOURCE, _ORIGIN):
            await tx.execute(text(statement), {"source": source, "project": caller.project_id})
    for verified_only, newer in ((True, ("", "1.1.0")), (False, ("1.1.0", ""))):
        async with database.transaction() as tx:  # as a synchronisation, which has what it writes of the rule from here
            own = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            assert await sources.hold(tx, source)
            change = ChangeTrust(verified_only=verified_only)
            changing = asyncio.create_task(service.change(caller, change, request_id="r"))
            await is_blocked_by(database, own)
            await chart_origins.renew(tx, source)
        await changing
        async with database.autocommit() as connection:
            found = await chart_origins.find_origin(connection, source, project_id=caller.project_id)
        assert (found.newer_version, found.refused_version) == newer


async def is_blocked_by(database: Database, pid: int) -> None:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE :pid = ANY(pg_blocking_pids(pid))")
    async with asyncio.timeout(30), database.autocommit() as connection:
        while not (await connection.execute(query, {"pid": pid})).scalar_one():  # noqa: ASYNC110 (a lock is no event)
            await asyncio.sleep(0.02)


async def test_a_verification_is_kept_while_a_chart_or_an_operation_has_its_archive(database: Database, caller: Caller):
    unused, young, of_chart, of_operation = (uuid.uuid4().hex for _ in range(4))
    for digest in (unused, young, of_chart, of_operation):
        await record(database, caller, digest, "A")
    await accept(database, install_of(caller, await stored(database, of_operation)))
    content = ChartContent(
        name="web", version="1.0.0", digest=await stored(database, of_chart), description="", icon_url="",
        instruction="", values_json="{}", source="", visible=True,
    )  # fmt: skip
    async with database.transaction() as tx:
        await charts.add_chart(tx, content, chart_id=str(uuid.uuid4()), project_id=caller.project_id)
        old = "UPDATE chart_verifications SET verified_at = now() - interval '2 days' WHERE digest <> :young"
        await tx.execute(text(f"{old} AND project_id = :project"), {"young": young, "project": caller.project_id})
    async with database.transaction() as tx:
        await verifications.expire(tx, limit=1000)
    kept = [digest for digest in (unused, young, of_chart, of_operation) if await found(database, caller, digest)]
    assert kept == [young, of_chart, of_operation]


async def stored(database: Database, digest: str) -> str:
    async with database.transaction() as tx:
        await archives.add_archive(tx, digest=digest, content=BytesIO(b"x"), size=1)
    return digest


def install_of(caller: Caller, digest: str, **changes: Any) -> NewOperation:
    cluster = uuid.uuid4().hex
    return new_install(caller.project_id, caller.user_id, cluster_id=cluster, chart_digest=digest, **changes)
