"""When a key is asked what it stands for."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DatabaseUnavailable, Forbidden, NotPermitted
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.operations.idempotency import Idempotency, Key, SubmittedOperation, _Record
from pilothouse.settings import Settings
from pilothouse.store.database import Database

KEY = Key("key", "fingerprint")
CALLER = Caller(user_id="u", user_name="u", domain_id="d", domain_name="d", project_id="p")


@pytest.fixture
def idempotency(tmp_path: Path) -> Idempotency:
    """Its database is nowhere: whoever asks it gets DatabaseUnavailable."""
    database = Database(f"postgresql:///none?host={tmp_path}")
    return Idempotency(database, MasterKeys.load_or_create(tmp_path / "master.key"), Settings(data_dir=tmp_path))


async def test_who_may_no_longer_write_is_not_told_what_came_of_an_earlier_request(idempotency: Idempotency):
    async def refused() -> SubmittedOperation:
        CALLER.require("cce:release:create")
        raise AssertionError("a caller without a role was let through")

    with pytest.raises(NotPermitted):
        await idempotency.once(CALLER, KEY, refused)


async def test_any_other_refusal_asks_the_key(idempotency: Idempotency):
    async def refused() -> SubmittedOperation:
        raise Forbidden("Update release is forbidden")

    with pytest.raises(DatabaseUnavailable):
        await idempotency.once(CALLER, KEY, refused)


async def test_without_a_key_nothing_is_asked(idempotency: Idempotency):
    async def refused() -> SubmittedOperation:
        raise Forbidden("Update release is forbidden")

    with pytest.raises(Forbidden, match="Update release"):
        await idempotency.once(CALLER, None, refused)


#: Records as each version wrote them, and what is read from them.
RECORDS = {
    b'{"fingerprint":"f","cluster_name":"production","state":"queued","revision":null,'
    b'"status_description":"Install queued","finished_at":null}': _Record(
        fingerprint="f", cluster_name="production", state="queued", revision=None, status_description="Install queued"
    ),
    b'{"fingerprint":"f","cluster_name":"production","state":"cancelled","revision":4,"status_description":"over",'
    b'"cancel_keeps":true,"undo_revision":3,"finished_at":"2026-11-24T10:00:00.123456+00:00"}': _Record(
        fingerprint="f",
        cluster_name="production",
        state="cancelled",
        revision=4,
        status_description="over",
        cancel_keeps=True,
        undo_revision=3,
        finished_at=datetime(2026, 11, 24, 10, 0, 0, 123456, UTC),
    ),
}


@pytest.mark.parametrize("written", RECORDS, ids=["the first form", "with what a cancel does"])
def test_an_answer_that_an_earlier_version_stored_is_read(written: bytes):
    assert msgspec.json.decode(written, type=_Record) == RECORDS[written]
