"""What is told of a source that cannot be reached: everything of public addresses, nothing of a private network."""

import errno
import os
import time

import pytest

from pilothouse.chart_sources.fetch import Fetch, Origin
from pilothouse.settings import SourceSettings

SECONDS = 0.3
URL = "https://charts.example/index.yaml"


async def fail(
    *addresses: str, known: bool = False, allowed: str = "", loopback: bool = False
) -> tuple[str, str, float]:
    """Return what the caller is told of a refused connection, what the log is, and how long it took."""

    async def look_up(_: str) -> list[str]:
        return list(addresses)

    fetch = Fetch(
        Origin(url=URL, known=known),
        SourceSettings(connect_seconds=SECONDS, allowed=allowed, allow_loopback=loopback),
        look_up,
    )
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

    assert "which of these is told of public addresses, and of those that PILOTHOUSE_SOURCES__ALLOWED lists" in told
    assert ("refused" in told, logged, seconds >= SECONDS) == (False, "Connection refused", True)


@pytest.mark.parametrize(
    ("allowed", "loopback", "address"),
    [
        ("10.1.2.3", False, "10.1.2.3"),
        ("10.1.2.3:443", False, "10.1.2.3"),
        ("charts.example", False, "10.1.2.3"),
        ("127.0.0.1", False, "127.0.0.1"),
        ("", True, "127.0.0.1"),
    ],
)
async def test_of_what_the_operator_has_singled_out_the_cause_is_told(*, allowed: str, loopback: bool, address: str):
    told, _, seconds = await fail(address, allowed=allowed, loopback=loopback)

    assert (told, seconds < SECONDS) == (f"{URL} cannot be reached: Connection refused", True)


@pytest.mark.parametrize("allowed", ["10.0.0.0/8", "*.example", "10.1.2.3:443,10.0.0.0/8"])
async def test_a_listed_network_is_not_mapped(allowed: str):
    told, _, seconds = await fail("10.1.2.4", allowed=allowed)

    assert ("refused" in told, seconds >= SECONDS) == (False, True)


async def test_of_a_source_that_has_answered_the_cause_is_told():
    told, _, _ = await fail("10.1.2.3", known=True)

    assert told == f"{URL} cannot be reached: Connection refused"
