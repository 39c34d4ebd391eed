"""Which addresses are asked, also after a name was resolved."""

import ipaddress
import itertools
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import ClusterUnavailable, InvalidSettings
from pilothouse.kubernetes import addresses as rules
from pilothouse.kubernetes.addresses import addresses_of, is_public
from pilothouse.kubernetes.resolver import Resolver
from pilothouse.settings import ClusterSettings


def helm_error(
    address: str, *, allow_loopback: bool = False, allowed: str = "", port: int = 443, name: str = ""
) -> str | None:
    made = addresses_of(ClusterSettings(allow_loopback=allow_loopback, allowed=allowed))
    return made.refusal(address, port=port, name=name)


async def resolve(host: str, *, allow_loopback: bool, allowed: str = "", port: int = 443) -> list[str]:
    settings = ClusterSettings(allow_loopback=allow_loopback, allowed=allowed)
    return await rules.resolve(
        host, port=port, addresses=addresses_of(settings), look_up=Resolver(settings).of("project")
    )


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
    *("fd20:ce::254", "64:ff9b::6464:64c8", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "2001:0:a::5601:5601"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"),
]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]


@pytest.mark.parametrize("address", ALLOWED)
def test_addresses_of_clusters_are_allowed(address: str):
    assert helm_error(address, allow_loopback=False) is None


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_of_metadata_services_and_of_nobody_are_refused(address: str):
    assert helm_error(address, allow_loopback=True)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_is_a_setting(address: str):
    assert "is this machine" in (helm_error(address, allow_loopback=False) or "")
    assert helm_error(address, allow_loopback=True) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_in_its_ipv6_forms(address: ipaddress.IPv4Address):
    plain = helm_error(str(address), allow_loopback=False) is None
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 + int(address))
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address))
    assert (helm_error(str(mapped), allow_loopback=False) is None) == plain
    assert (helm_error(str(translated), allow_loopback=False) is None) == plain


def _answer_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_a_name_is_judged_by_all_it_resolves_to(monkeypatch: pytest.MonkeyPatch):
    _answer_with(monkeypatch, "10.0.0.1", "10.0.0.2", "10.0.0.1")
    assert await resolve("k8s.example.test", allow_loopback=False) == ["10.0.0.1", "10.0.0.2"]
    _answer_with(monkeypatch, "10.0.0.1", "169.254.169.254")
    with pytest.raises(ClusterUnavailable, match=r"k8s\.example\.test is refused: .*metadata"):
        await resolve("k8s.example.test", allow_loopback=True)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
async def test_other_spellings_of_this_machine_are_seen_through(host: str):
    with pytest.raises(ClusterUnavailable, match="is this machine"):
        await resolve(host, allow_loopback=False)


async def test_a_name_that_is_not_known_is_unavailable(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ClusterUnavailable, match="cannot be resolved"):
        await resolve("nowhere.example.test", allow_loopback=False)


def own_addresses() -> list[str]:
    """Return what this machine's interfaces have, besides loopback, by the kernel's own tables."""
    found = []
    table = Path("/proc/net/fib_trie").read_text().splitlines()
    for line, following in itertools.pairwise(table):
        if "/32 host LOCAL" in following:
            found.append(line.split()[-1])
    six = Path("/proc/net/if_inet6").read_text().splitlines()
    found += [str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in six]
    parsed = {ipaddress.ip_address(one) for one in found}
    return sorted(str(one) for one in parsed if not (one.is_loopback or one.is_link_local))


def test_this_machine_is_known_by_every_address_that_it_has():
    found = own_addresses()
    assert found, "a machine without a network"
    for address in found:
        assert "is this machine" in (helm_error(address) or ""), address
        assert helm_error(address, allow_loopback=True) is None
        assert helm_error(address, allowed=f"{address}") is None
        assert "is this machine" in (helm_error(address, allowed="0.0.0.0/0, ::/0") or "")
        if ":" not in address:
            assert "is this machine" in (helm_error(f"::ffff:{address}") or "")


@pytest.mark.parametrize(
    ("allowed", "address", "port", "name", "is_allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", 6443, "", True),
        ("10.0.0.0/8", "11.1.2.3", 6443, "", False),
        ("10.0.0.0/8:6443", "10.1.2.3", 6443, "", True),
        ("10.0.0.0/8:6443", "10.1.2.3", 443, "", False),
        ("[fd00::/8]:6443", "fd00::1", 6443, "", True),
        ("[fd00::/8]:6443", "fd00::1", 22, "", False),
        ("fd00::/8, 192.168.0.0/16", "192.168.7.7", 1, "", True),
        ("api.example.com:6443", "10.1.2.3", 6443, "api.example.com", True),
        ("api.example.com:6443", "10.1.2.3", 22, "api.example.com", False),
        ("api.example.com", "10.1.2.3", 443, "evil-api.example.com", False),
        ("*.example.com", "10.1.2.3", 443, "a.b.example.com", True),
        ("*.example.com", "10.1.2.3", 443, "example.com", False),
        ("*.example.com", "169.254.169.254", 443, "a.example.com", False),
        ("*.example.com", "127.0.0.1", 443, "a.example.com", False),
        ("0.0.0.0/0", "169.254.169.254", 80, "", False),
        ("::/0, 0.0.0.0/0", "fd20:ce::254", 80, "", False),
        ("169.254.169.254:80", "169.254.169.254", 80, "", True),
        ("169.254.0.0/16", "169.254.169.254", 80, "", True),
        ("127.0.0.1:6443", "127.0.0.1", 6443, "", True),
        ("127.0.0.1:6443", "127.0.0.1", 22, "", False),
        ("127.0.0.0/8", "127.9.9.9", 22, "", True),
        ("::1", "::1", 22, "", True),
        ("::1", "127.0.0.1", 22, "", False),
    ],
)
def test_a_list_says_which_clusters_there_may_be(
    allowed: str,
    address: str,
    port: int,
    name: str,
    is_allowed: bool,  # noqa: FBT001
):
    assert (helm_error(address, allowed=allowed, port=port, name=name) is None) == is_allowed


def test_the_setting_for_this_machine_counts_beside_a_list():
    assert helm_error("127.0.0.1", allow_loopback=True, allowed="10.0.0.0/8") is None
    assert helm_error("11.0.0.1", allow_loopback=True, allowed="10.0.0.0/8")


@pytest.mark.parametrize("allowed", ["10.0.0.0/33", "a b", "10.0.0.1:0", "10.0.0.1:70000", "https://a", "*", "a:b:c"])
def test_a_list_that_cannot_be_read_is_refused(allowed: str):
    with pytest.raises(InvalidSettings, match="PILOTHOUSE_CLUSTER__ALLOWED"):
        addresses_of(ClusterSettings(allowed=allowed))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("224.0.1.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::1", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("::1", False),
    ],
)
def test_a_public_address_is_one_that_everybody_may_reach(address: str, *, public: bool):
    assert is_public(address) is public
