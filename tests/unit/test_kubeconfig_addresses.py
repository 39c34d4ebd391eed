"""Which addresses are asked, also after a name was resolved."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cluster.addresses import refusal, resolve
from pilothouse.errors import ClusterUnavailable

ALLOWED = [
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "8.8.8.8",
    "fd12::1",
    "2001:db8::1",
    "64:ff9b::808:808",
]
REFUSED = [
    *("0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "ff02::1", "::"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"),
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]


@pytest.mark.parametrize("address", ALLOWED)
def test_addresses_of_clusters_are_allowed(address: str):
    assert refusal(address, allow_loopback=False) is None


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_of_metadata_services_and_of_nobody_are_refused(address: str):
    assert refusal(address, allow_loopback=True)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_is_a_setting(address: str):
    assert "is this machine" in (refusal(address, allow_loopback=False) or "")
    assert refusal(address, allow_loopback=True) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_in_its_ipv6_forms(address: ipaddress.IPv4Address):
    plain = refusal(str(address), allow_loopback=False) is None
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 + int(address))
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address))
    assert (refusal(str(mapped), allow_loopback=False) is None) == plain
    assert (refusal(str(translated), allow_loopback=False) is None) == plain


def _answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_is_judged_by_all_it_resolves_to(monkeypatch: pytest.MonkeyPatch):
    _answer_with(monkeypatch, "10.0.0.1", "10.0.0.2", "10.0.0.1")
    assert await resolve("k8s.example.test", allow_loopback=False) == ["10.0.0.1", "10.0.0.2"]
    _answer_with(monkeypatch, "10.0.0.1", "169.254.169.254")
    with pytest.raises(ClusterUnavailable, match=r"k8s\.example\.test is not asked: .*metadata"):
        await resolve("k8s.example.test", allow_loopback=True)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
async def test_other_spellings_of_this_machine_are_seen_through(host: str):
    with pytest.raises(ClusterUnavailable, match="is this machine"):
        await resolve(host, allow_loopback=False)


async def test_a_name_that_is_not_known_is_unavailable(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    with pytest.raises(ClusterUnavailable, match="cannot be resolved"):
        await resolve("nowhere.example.test", allow_loopback=False)
