"""Who sends too much is answered 429 on either listener, and nobody else is."""

import ssl
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tokens import login, send
from tests.support.users import add_person

#: Requests at once; the next comes free after so long that no slow machine sees it.
_BURST_SECONDS, _ADDRESS, _KEY = 100_000, 10, 5
LIMITS = {
    "PILOTHOUSE_RATES__BURST_SECONDS": str(_BURST_SECONDS),
    "PILOTHOUSE_RATES__PER_ADDRESS": str(_ADDRESS / _BURST_SECONDS),
    # The test's clients all come from this machine; what stands in for the Internet says where they are.
    "PILOTHOUSE_TRUSTED_PROXIES": "127.0.0.1",
}


@pytest.fixture(scope="module")
def limited() -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=LIMITS) as running:
        yield running


def ask(server: RunningServer, source: str, path: str = "/api/v1/health", *, tls: bool = False) -> httpx2.Response:
    trusted = ssl.create_default_context(cafile=str(server.ca)) if tls else True
    with httpx2.Client(trust_env=False, verify=trusted) as http:
        return http.get(f"{server.tls_url if tls else server.url}{path}", headers={"X-Forwarded-For": source})


def test_both_listeners_and_all_routes_count_for_an_address(limited: RunningServer):
    source = "203.0.113.1"
    paths = ["/api/v1/health", "/api/v1/openapi.json", "/v3", "/console/login", "/nothing"]

    answers = [ask(limited, source, path, tls=tls) for path in paths for tls in (False, True)]
    assert 429 not in {answer.status_code for answer in answers}
    for tls in (False, True):
        for path in paths:
            refused = ask(limited, source, path, tls=tls)
            assert refused.status_code == 429, path
            assert int(refused.headers["retry-after"]) > 1
    signed = limited.send("GET", "/v2/charts", headers={"X-Forwarded-For": source})
    assert signed.status_code == 429
    assert signed.json()["errorCode"] == "APIGW.0308"
    assert limited.send("GET", "/v2/charts", headers={"X-Forwarded-For": "203.0.113.2"}).status_code == 200


def test_a_refused_upload_is_not_read(limited: RunningServer):
    source = {"X-Forwarded-For": "203.0.113.3"}
    for _ in range(_ADDRESS):
        assert limited.send("GET", "/v2/charts", headers=source).status_code == 200
    began = time.monotonic()
    refused = limited.send("POST", "/v2/charts", body=bytes(11 << 20), headers=source)
    assert refused.status_code == 429
    assert time.monotonic() - began < 30  # it is answered, not left to its client's patience


def test_keys_users_and_log_ins_have_limits_of_their_own():
    limits = {
        **LIMITS,
        "PILOTHOUSE_RATES__PER_ADDRESS": "0",
        "PILOTHOUSE_RATES__PER_KEY": str(_KEY / _BURST_SECONDS),
        "PILOTHOUSE_RATES__PER_USER": str(2 * _KEY / _BURST_SECONDS),
        "PILOTHOUSE_IDENTITY__LOGINS_PER_SECOND": "0.00001",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=limits) as server:
        known, unknown = {"X-Forwarded-For": "203.0.113.8"}, {"X-Forwarded-For": "203.0.113.9"}
        body = login(server.password, scope={"project": {"id": server.project_id}})
        token = send(server, "POST", "/v3/auth/tokens", json=body, headers=known).headers["x-subject-token"]
        person = add_person(server, "readonly").server  # by three requests of the administrator's key

        keys = [server.send("GET", "/v2/charts").status_code for _ in range(_KEY)]
        with httpx2.Client(trust_env=False, base_url=server.url) as http:
            tokens = [http.get("/v2/charts", headers={"X-Auth-Token": token}) for _ in range(2 * _KEY)]
            form = {"name": "admin", "account": "pilothouse", "password": server.password}
            page = http.post("/console/login", data=form, headers=known)
        again, elsewhere = (
            send(server, "POST", "/v3/auth/tokens", json=body, headers=where) for where in (known, unknown)
        )
        assert keys == [200] * 2 + [429] * 3
        assert [answer.status_code for answer in tokens] == [200] * _KEY + [429] * _KEY
        assert "this access key, token or session has sent more requests" in tokens[-1].text
        assert person.send("GET", "/v2/charts").status_code == 200
        assert (again.status_code, elsewhere.status_code) == (429, 201)
        assert int(again.headers["retry-after"]) > 1
        assert page.status_code == 429
        assert "this address has sent more log-ins than it may" in page.text
