"""Which address a request comes from: nobody outside the trusted proxies can choose it."""

from typing import Any

import pytest
from pydantic import ValidationError

from pilothouse.http.middleware.source import source_address
from pilothouse.settings import Settings, networks

PROXIES = networks("10.0.0.0/8, 2001:db8::/32,192.0.2.1")


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    return {"type": "http", "client": (peer, 1234) if peer is not None else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.9"], "203.0.113.5"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.9"], "198.51.100.9"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.9"], "198.51.100.9"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.9, 10.9.9.9"], "198.51.100.9"),
        ("10.1.2.3", ["1.1.1.1", "198.51.100.9,10.9.9.9"], "198.51.100.9"),
        ("10.1.2.3", ["10.0.0.7, 10.9.9.9"], "10.0.0.7"),
        ("10.1.2.3", ["198.51.100.9, unknown, 10.9.9.9"], "10.9.9.9"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.9:4711"], "198.51.100.9"),
        ("10.1.2.3", ["[2001:dead::1]:4711"], "2001:dead::1"),
        ("10.1.2.3", ["2001:DEAD:0::1"], "2001:dead::1"),
        ("::ffff:10.1.2.3", ["198.51.100.9"], "198.51.100.9"),
        ("::ffff:203.0.113.5", [], "203.0.113.5"),
        ("192.0.2.1", ["é\x00"], "192.0.2.1"),
        ("192.0.2.2", ["198.51.100.9"], "192.0.2.2"),
        (None, ["198.51.100.9"], ""),
        ("testclient", ["198.51.100.9"], ""),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has(peer: str | None, forwarded: list[str], found: str):
    assert source_address(scope(peer, *forwarded), PROXIES) == found


def test_without_trusted_proxies_the_header_says_nothing():
    assert source_address(scope("10.1.2.3", "198.51.100.9"), ()) == "10.1.2.3"


def test_a_header_of_32_kib_is_looked_at_no_further_than_a_few_hops():
    line = ",".join(["10.0.0.1"] * 3600)
    assert source_address(scope("10.1.2.3", "198.51.100.9," + line), PROXIES) == "10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy.example.org", "10.0.0.1/8", "10.0.0.0/8;11.0.0.0/8"])
def test_what_is_no_network_is_refused_at_the_start(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PILOTHOUSE_TRUSTED_PROXIES", text)
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings()
