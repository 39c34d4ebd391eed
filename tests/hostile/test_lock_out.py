"""Strangers who know an access key or a user's name try to lock its owner out, and to slow everybody."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tokens import login, send
from tests.support.users import add_person

SECONDS = 4.0
DEFAULTS = {
    "PILOTHOUSE_IDENTITY__SLOW_SIGNATURES_AFTER": "5",
    "PILOTHOUSE_IDENTITY__LOCK_PASSWORDS_AFTER": "5",
    # The test's clients all come from this machine; what stands in for the Internet says where they are.
    "PILOTHOUSE_TRUSTED_PROXIES": "127.0.0.1",
}
STRANGER, OWNER = "203.0.113.66", "198.51.100.5"


@pytest.fixture(scope="module")
def besieged() -> Iterator[RunningServer]:
    """Yield a server with the limits that it has by default."""
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=DEFAULTS) as running:
        yield running


@contextmanager
def flood(once: Callable[[], httpx2.Response], *, threads: int = 4) -> Iterator[Counter[int]]:
    """Several threads that do it again and again meanwhile; counts the statuses of what is answered."""
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def attack() -> None:
        while not over.is_set():
            statuses[once().status_code] += 1

    attackers = [threading.Thread(target=attack) for _ in range(threads)]
    for attacker in attackers:
        attacker.start()
    try:
        yield statuses
    finally:
        over.set()
        for attacker in attackers:
            attacker.join()


def use(server: RunningServer, source: str, seconds: float) -> set[int]:
    """Signed requests one after the other: all statuses that came."""
    statuses = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        statuses.add(server.send("GET", "/v2/charts", headers={"X-Forwarded-For": source}).status_code)
    return statuses


@pytest.mark.parametrize(("source", "stranger"), [(OWNER, STRANGER), ("203.0.113.70", "203.0.113.70")])
def test_wrong_signatures_of_a_known_key_stop_nobody(besieged: RunningServer, source: str, stranger: str):
    """The owner comes from elsewhere, or from behind the same address (NAT) as the attacker."""
    assert use(besieged, source, 0.5) == {200}

    def forge() -> httpx2.Response:
        return besieged.send("GET", "/v2/charts", secret_key="w" * 40, headers={"X-Forwarded-For": stranger})

    with flood(forge) as answered:
        statuses = use(besieged, source, SECONDS)
        newcomer = add_person(besieged, "readonly")
        first = newcomer.server.send("GET", "/v2/charts", headers={"X-Forwarded-For": stranger})
    assert statuses == {200}
    assert first.status_code == 200
    assert answered[200] == 0
    # Behind one address the owner's successes start the count of wrong ones anew.
    assert source == stranger or answered[429] > 5 * answered[401]


def test_an_attacker_is_told_to_wait_and_then_may_try_again(besieged: RunningServer):
    headers = {"X-Forwarded-For": "203.0.113.67"}
    wrong = [besieged.send("GET", "/v2/charts", secret_key="w" * 40, headers=headers) for _ in range(8)]
    assert [answer.status_code for answer in wrong] == [401] * 5 + [429] * 3
    assert wrong[5].json()["errorCode"] == "APIGW.0308"
    assert wrong[5].headers["retry-after"] == "1"
    assert besieged.send("GET", "/v2/charts", headers=headers).status_code == 429
    time.sleep(1.1)
    assert besieged.send("GET", "/v2/charts", headers=headers).status_code == 200


def test_wrong_passwords_from_one_address_lock_the_administrator_out_of_no_other(besieged: RunningServer):
    def log_in(password: str, source: str) -> httpx2.Response:
        return send(besieged, "POST", "/v3/auth/tokens", json=login(password), headers={"X-Forwarded-For": source})

    assert use(besieged, OWNER, 0.5) == {200}
    with flood(lambda: log_in("wrong", STRANGER), threads=8) as answered:
        time.sleep(1)
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert log_in(besieged.password, OWNER).status_code == 201
            took.append(time.monotonic() - began)
        statuses = use(besieged, OWNER, 1)
    assert max(took) < 2.5, took
    assert statuses == {200}
    assert answered[401] > 5
    assert answered[201] == 0
    assert log_in(besieged.password, STRANGER).status_code == 401


def test_who_is_no_trusted_proxy_does_not_choose_its_address(besieged: RunningServer):
    """The peer is another address of this machine, which the settings do not trust."""
    address = urlsplit(besieged.url)
    statuses = []
    with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.9"), trust_env=False) as http:
        for number in range(8):
            request = httpx2.Request(
                "POST",
                f"http://127.0.0.1:{address.port}/v3/auth/tokens",
                json=login("wrong", name="admin"),
                headers={"X-Forwarded-For": f"203.0.114.{number}"},
            )
            statuses.append(http.send(request).status_code)
        right = http.post(f"{besieged.url}/v3/auth/tokens", json=login(besieged.password))
    assert statuses == [401] * 8
    assert right.status_code == 401
