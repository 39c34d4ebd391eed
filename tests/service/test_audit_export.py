"""An export of the audit: page by page, up to its limit, for whom it still may be told."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotAuthenticated
from pilothouse.http.audit import lines_of, read_place
from pilothouse.services.admin.audit import Audit
from pilothouse.services.admin.audit_export import AuditExport, ExportPage
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.settings import AuditSettings
from pilothouse.store import access_keys, audit
from pilothouse.store.audit import AuditFilter
from pilothouse.store.database import Database
from tests.support.tenants import add_project

EVENTS = AuditFilter(action="cce:test:*")


@pytest.fixture
async def caller(database: Database, tmp_path: Path) -> Caller:
    """An administrator whose account has four rows."""
    made, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    async with database.transaction() as tx:
        for number in range(4):
            await audit.record(tx, made, "cce:test:export", target=f"{number}", request_id="0" * 32)
    return made


def exporting(database: Database, *, most: int = 100) -> AuditExport:
    return AuditExport(Audit(database, AuditSettings()), Standing(database, again_seconds=0), most=most)


async def given(pages: list[ExportPage]) -> AsyncIterator[ExportPage]:
    for page in pages:
        yield page


@pytest.mark.parametrize(("most", "is_cut"), [(3, True), (4, False), (100, False)])
async def test_it_ends_at_its_limit_and_says_where_it_goes_on(
    database: Database, caller: Caller, most: int, *, is_cut: bool
):
    asked = exporting(database, most=most)
    pages = [page async for page in asked.pages(caller, EVENTS, after=None)]
    assert [row.target for page in pages for row in page.rows] == ["3", "2", "1", "0"][:most]
    lines = b"".join([some async for some in lines_of(given(pages))]).splitlines()
    assert (list(json.loads(lines[-1])) == ["marker"]) == is_cut
    if is_cut:
        assert read_place(json.loads(lines[-1])["marker"]) == pages[-1].cut
        rest = [page async for page in asked.pages(caller, EVENTS, after=pages[-1].cut)]
        assert [row.target for page in rest for row in page.rows] == ["0"]


async def test_who_has_lost_the_right_meanwhile_is_told_no_more(database: Database, caller: Caller):
    assert caller.proof is not None
    async with database.transaction() as tx:
        await access_keys.disable_all(tx, caller.user_id)
    with pytest.raises(NotAuthenticated):
        async for _ in exporting(database).pages(replace(caller, asked_at=0.0), EVENTS, after=None):
            pass
