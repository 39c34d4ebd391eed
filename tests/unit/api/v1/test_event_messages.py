"""How a stream of events ends."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from pilothouse.api.v1.operations import _stream
from pilothouse.errors import Busy, Forbidden, PilothouseError, ProviderUnavailable
from pilothouse.store.operation_events import EventRow


async def ending_in(error: PilothouseError | None) -> AsyncIterator[EventRow | None]:
    yield EventRow(id=1, at=datetime.now(UTC), attempt=1, kind="started", text="", data=None)
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (None, b"event: end"),
        (Forbidden("no"), b"event: refused"),
        (Busy("too much"), b"id: 1"),
        (ProviderUnavailable("the identity provider x cannot be used now"), b"id: 1"),
    ],
)
async def test_who_cannot_be_checked_now_comes_again_and_is_told_nothing(error: PilothouseError | None, last: bytes):
    messages = [some async for some in _stream(ending_in(error), note_logs=lambda: None)]
    assert messages[-1].startswith(last)
