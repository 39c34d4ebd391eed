"""What is told of a source that cannot be reached: everything of public addresses, nothing of a private network."""

import errno
import os
import time

import pytest

from pilothouse.chart_sources.fetch import Fetch, Origin
from pilothouse.settings import SourceSettings

SECONDS = 0.3
URL = "https://charts.example/index.yaml"


async def fail(*addresses: str, known: bool = False) -> tuple[str, str, float]:
    """Return what the caller is told of a refused connection, what the log is, and how long it took."""

    async def look_up(_: str) -> list[str]:
        return list(addresses)

    fetch = Fetch(Origin(url=URL, known=known), SourceSettings(connect_seconds=SECONDS), look_up)
    await fetch._resolve("charts.example", 443)
    began = time.monotonic()
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    error = await fetch._unreachable(URL, refused, began)
    return str(error), error.detail, time.monotonic() - began


async def test_of_public_addresses_the_cause_is_told_at_once():
    told, logged, seconds = await fail("93.184.216.34", "2606:2800:220:1::1")

    assert (told, logged) == (f"{URL} cannot be reached: Connection refused", "")
    assert seconds < SECONDS


@pytest.mark.parametrize("addresses", [["10.1.2.3"], ["93.184.216.34", "10.1.2.3"], ["fd00::1"]])
async def test_of_others_neither_the_text_nor_the_time_tells(addresses: list[str]):
    told, logged, seconds = await fail(*addresses)

    assert "which of these is told of public addresses only" in told
    assert ("refused" in told, logged, seconds >= SECONDS) == (False, "Connection refused", True)


async def test_of_a_source_that_has_answered_the_cause_is_told():
    told, _, _ = await fail("10.1.2.3", known=True)

    assert told == f"{URL} cannot be reached: Connection refused"
