"""How much an account's policies may say together, on a real PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import QuotaExceeded
from pilothouse.services.identity.policies import Policies
from pilothouse.store.database import Database
from tests.support.tenants import add_project

REQUEST = "0" * 32


def document(statements: int) -> dict[str, Any]:
    return {"Version": "5.0", "Statement": [{"Effect": "Deny", "Action": "cce:chart:delete"}] * statements}


async def test_the_statements_of_an_account_are_limited_together(database: Database, tmp_path: Path):
    caller, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "master.key"))
    policies = Policies(database)
    made = [
        await policies.create(caller, name=f"p{number}", document=document(size), request_id=REQUEST)
        for number, size in enumerate((100, 100, 100, 100, 99))
    ]
    with pytest.raises(QuotaExceeded, match="have 501 statements; 500 are the most"):
        await policies.create(caller, name="more", document=document(2), request_id=REQUEST)
    await policies.create(caller, name="last", document=document(1), request_id=REQUEST)
    with pytest.raises(QuotaExceeded, match="have 501 statements"):
        await policies.replace_document(caller, made[4].id, document=document(100), request_id=REQUEST)
    await policies.replace_document(caller, made[4].id, document=document(99), request_id=REQUEST)
    other, _, _ = await add_project(database, MasterKeys.load_or_create(tmp_path / "other.key"))
    assert await policies.create(other, name="p0", document=document(100), request_id=REQUEST)
