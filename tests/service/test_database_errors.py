"""What an error of the database says, for it ends in the log."""

import uuid

import pytest
from sqlalchemy.exc import IntegrityError

from pilothouse.errors import NotFound
from pilothouse.store import access_keys
from pilothouse.store.database import Database


async def test_it_does_not_quote_what_the_statement_was_to_write(database: Database):
    with pytest.raises(NotFound) as caught:
        async with database.transaction() as tx:
            await access_keys.add_access_key(
                tx, access_key="A" * 20, user_id=uuid.uuid4().hex, project_id="none", secret_sealed=b"planted-marker"
            )
    cause = caught.value.__cause__
    assert isinstance(cause, IntegrityError)
    assert "planted-marker" not in f"{caught.value} {cause}"
    assert "INSERT INTO access_keys" in str(cause)
