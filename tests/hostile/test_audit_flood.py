"""Strangers, and users with no rights, try to fill the table audit."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx2
import psycopg
import pytest

from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tokens import PATH, login
from tests.support.users import add_person

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TIMES = 25  # of each of four attackers
#: Two minutes can be touched, each with its number of kinds; and the rest is a row every ten seconds.
MOST = 2 * 5 + 5
LIMITS = {
    "PILOTHOUSE_TRUSTED_PROXIES": "127.0.0.1",
    "PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.2",
    "PILOTHOUSE_AUDIT__REPEAT_SECONDS": "10",
    "PILOTHOUSE_AUDIT__STRANGER_KINDS": "5",
    "PILOTHOUSE_AUDIT__USER_KINDS": "5",
}


@pytest.fixture(scope="module")
def flooded() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=LIMITS) as running:
        yield running


def audit_rows(server: RunningServer) -> int:
    """How many rows there are."""
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM audit").fetchone()
    assert row is not None
    return int(row[0])


def flood(once: Callable[[httpx2.Client, int], httpx2.Response]) -> Counter[int]:
    """Four threads that do it again and again, each time with another number."""
    statuses: Counter[int] = Counter()

    def attack(first: int) -> None:
        with httpx2.Client(trust_env=False, timeout=60) as http:
            for number in range(first, first + 4 * TIMES, 4):
                statuses[once(http, number).status_code] += 1

    threads = [threading.Thread(target=attack, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def address(number: int) -> dict[str, str]:
    """Another address each time, as somebody has who owns many."""
    return {"X-Forwarded-For": f"2001:db8:{number // 65536:x}:{number % 65536:x}::1"}


@pytest.mark.parametrize("what", ["tokens", "keys", "log-ins", "exchanges", "unusable signatures"])
def test_strangers_from_a_new_address_each_time_make_a_few_rows(flooded: RunningServer, what: str):
    def fail(http: httpx2.Client, number: int) -> httpx2.Response:
        if what == "log-ins":
            return http.post(flooded.url + PATH, json=login("wrong", name=f"n{number}"), headers=address(number))
        if what == "exchanges":
            identity = {"methods": ["token"], "token": {"id": f"pht-{number:043d}"}}
            return http.post(flooded.url + PATH, json={"auth": {"identity": identity}}, headers=address(number))
        if what == "unusable signatures" and number % 2:
            return flooded.send("GET", "/v2/charts", now=LONG_AGO, headers=address(number))
        if what == "unusable signatures":
            headers = {"Authorization": f"SDK-HMAC-SHA256 Access={flooded.access_key} x", **address(number)}
            return http.get(f"{flooded.url}/v2/charts", headers=headers)
        if what == "tokens":
            headers = {"X-Auth-Token": f"{number:x}".rjust(47, "x"), **address(number)}
            return http.get(f"{flooded.url}/v2/charts", headers=headers)
        return flooded.send("GET", "/v2/charts", access_key=f"{number:020d}", headers=address(number))

    rows = audit_rows(flooded)
    answered = flood(fail)
    time.sleep(0.6)
    assert set(answered) <= {401, 429}
    assert answered[401] > 3 * MOST
    assert 0 < audit_rows(flooded) - rows <= MOST


def test_a_user_without_rights_makes_a_few_rows(flooded: RunningServer):
    person = add_person(flooded, "readonly")

    def overreach(_: httpx2.Client, number: int) -> httpx2.Response:
        return person.server.send("DELETE", f"/api/v1/projects/{number:032x}", headers=address(number))

    rows = audit_rows(flooded)
    assert set(flood(overreach)) == {403}
    time.sleep(0.6)
    assert 0 < audit_rows(flooded) - rows <= MOST
