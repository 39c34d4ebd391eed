"""A locked key and a locked user as clients see them, on a server with the vendor's limits; and one with ours."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from huaweicloudsdkcce.v3 import ListChartsRequest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.tokens import ask, login, send, token_of
from tests.support.users import PASSWORD, add_person
from tests.support.wire import assert_error


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningServer]:
    limits = {
        "PILOTHOUSE_IDENTITY__LOCK_KEYS_AFTER": "5",
        "PILOTHOUSE_IDENTITY__LOCK_PASSWORDS_AFTER": "5",
        "PILOTHOUSE_TRUSTED_PROXIES": "127.0.0.1",
        "PILOTHOUSE_IDENTITY__FIRST_USER": "captain",
        "PILOTHOUSE_IDENTITY__FIRST_DOMAIN": "harbour",
    }
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=limits) as running:
        yield running


def test_six_wrong_signatures_lock_a_key_until_an_administrator_lifts_the_lock(strict: RunningServer):
    person = add_person(strict, "readonly")
    client = person.server.sdk()
    for _ in range(6):
        assert_error(
            person.server.send("GET", "/v2/charts", secret_key="w" * 40), 401, "APIGW.0301", "verify aksk signature"
        )

    with pytest.raises(ClientRequestException) as caught:
        client.list_charts(ListChartsRequest())
    assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
    assert caught.value.error_msg == (
        "Incorrect IAM authentication information: AK access failed to reach the limit,forbidden."
    )
    path = f"/api/v1/accesskeys/{person.server.access_key}"
    assert strict.send("GET", path).json()["locked_until"] is not None
    token = token_of(strict, name=person.name, domain="harbour", password=PASSWORD)
    assert send(strict, "GET", "/v2/charts", token=token).status_code == 200
    lifted = strict.send("PATCH", path, json_body={"enabled": True})
    assert lifted.json()["locked_until"] is None
    assert person.server.send("GET", "/v2/charts").status_code == 200


def test_a_stale_date_and_an_unknown_key_are_no_guesses(strict: RunningServer):
    person = add_person(strict, "readonly")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for _ in range(7):
        assert person.server.send("GET", "/v2/charts", secret_key="w" * 40, now=yesterday).status_code == 401
        assert person.server.send("GET", "/v2/charts", access_key="Z" * 20).status_code == 401
    assert person.server.send("GET", "/v2/charts").status_code == 200


def test_six_wrong_passwords_lock_a_user_and_its_tokens_live_on(strict: RunningServer):
    person = add_person(strict, "readonly")
    token = token_of(strict, name=person.name, domain="harbour", password=PASSWORD)
    guess = login("wrong", name=person.name, domain="harbour")
    for _ in range(6):
        assert_error(ask(strict, guess), 401, "IAM.0001", "username or password is wrong")
    right = ask(strict, login(PASSWORD, name=person.name, domain="harbour"))
    assert_error(right, 401, "IAM.0001", "The username or password is wrong.", "a user for 300 s, for that address")
    unknown = ask(strict, login(PASSWORD, name="nobody", domain="harbour"))
    assert unknown.json()["error"] == right.json()["error"]
    assert send(strict, "GET", "/v2/charts", token=token).status_code == 200
    assert strict.send("GET", f"/api/v1/users/{person.id}").json()["locked_until"] is not None
    elsewhere = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    content = login(PASSWORD, name=person.name, domain="harbour")
    assert send(strict, "POST", "/v3/auth/tokens", json=content, headers=elsewhere).status_code == 201
    assert strict.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": True}).is_success
    assert strict.send("GET", f"/api/v1/users/{person.id}").json()["locked_until"] is None
    assert token_of(strict, name=person.name, domain="harbour", password=PASSWORD)


def test_the_first_administrator_has_the_name_and_the_account_that_the_settings_say(strict: RunningServer):
    me = strict.send("GET", "/api/v1/users/me").json()
    [account] = strict.send("GET", "/v3/auth/domains").json()["domains"]
    assert (me["name"], account["name"]) == ("captain", "harbour")
    recovered = strict.command(
        "user",
        "recover",
        variables={
            "PILOTHOUSE_DATA_DIR": str(strict.data_dir),
            "PILOTHOUSE_IDENTITY__FIRST_USER": "captain",
            "PILOTHOUSE_IDENTITY__FIRST_DOMAIN": "harbour",
        },
    )
    assert recovered.returncode == 0, recovered.stderr
    assert "user captain is enabled" in recovered.stdout
    guessed = strict.command("user", "recover", variables={"PILOTHOUSE_DATA_DIR": str(strict.data_dir)})
    assert "PILOTHOUSE_IDENTITY__FIRST_USER" in guessed.stderr
