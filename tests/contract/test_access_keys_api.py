"""Access keys over the wire: how they are made, end, are counted and dated."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.tokens import ask, login, send
from tests.support.users import PASSWORD, add_person
from tests.support.wire import assert_error

INVALID, FORBIDDEN, UNKNOWN = (400, "CCE.01400001"), (403, "CCE.01403001"), (404, "CCE.01404001")
PATH = "/api/v1/accesskeys"


@pytest.fixture(scope="module")
def keyed() -> Iterator[RunningServer]:
    """Yield a server that writes what it gathers at once, and takes a token as fresh for a few seconds."""
    settings = {"PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.1", "PILOTHOUSE_IDENTITY__KEY_PROOF_SECONDS": "4"}
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=settings) as running:
        yield running


def test_making_a_key_takes_the_callers_password(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    assert_error(person.server.send("POST", PATH, json_body={}), *INVALID, "password: missing")
    wrong = person.server.send("POST", PATH, json_body={"password": "wrong password"})
    assert_error(wrong, *FORBIDDEN, "password")
    mine = keyed.send("POST", PATH, json_body={"user_id": person.id, "password": PASSWORD})
    assert_error(mine, *FORBIDDEN, "password")
    assert person.server.send("POST", PATH, json_body={"password": PASSWORD}).status_code == 201


def test_a_token_that_a_password_gave_just_now_will_do_and_an_old_or_an_exchanged_one_will_not(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    token = person.token()
    assert send(keyed, "POST", PATH, token=token, json={}).status_code == 201

    def is_old() -> bool:
        return send(keyed, "POST", PATH, token=token, json={"expires_at": "2020-01-01T00:00:00Z"}).status_code == 400

    wait_for(lambda: "password: missing" in send(keyed, "POST", PATH, token=token, json={}).text, seconds=15)
    assert is_old()
    scope = {"project": {"id": keyed.project_id}}
    identity = {"methods": ["token"], "token": {"id": token}}
    exchanged = ask(keyed, {"auth": {"identity": identity, "scope": scope}})
    assert exchanged.status_code == 201, exchanged.text
    answer = send(keyed, "POST", PATH, token=exchanged.headers["x-subject-token"], json={})
    assert_error(answer, *INVALID, "password: missing")


def test_a_key_ends_when_it_was_to_end(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    made = person.server.send("POST", PATH, json_body={"password": PASSWORD, "expires_at": soon})
    assert made.status_code == 201, made.text
    key = made.json()
    assert (key["expires_at"][:19], key["expired"]) == (soon[:19], False)
    proof = {"access_key": key["access_key"], "secret_key": key["secret_key"]}
    assert keyed.send("GET", "/v2/charts", **proof).status_code == 200
    wait_for(lambda: keyed.send("GET", "/v2/charts", **proof).status_code == 401, seconds=10)
    assert_error(keyed.send("GET", "/v2/charts", **proof), 401, "APIGW.0301")
    assert person.server.send("GET", f"{PATH}/{key['access_key']}").json()["expired"] is True


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "tomorrow", "2030-01-01T00:00:00"])
def test_an_end_that_is_none(keyed: RunningServer, moment: str):
    body = {"password": keyed.password, "expires_at": moment}
    assert_error(keyed.send("POST", PATH, json_body=body), *INVALID, "expires_at")


def test_a_user_has_ten_keys_in_a_project_and_no_more(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    for _ in range(9):
        assert person.server.send("POST", PATH, json_body={"password": PASSWORD}).status_code == 201
    over = person.server.send("POST", PATH, json_body={"password": PASSWORD})
    assert_error(over, 400, "CCE.01400001", "10 access keys", "delete one")
    another = keyed.send("POST", "/api/v1/projects", json_body={"name": "another"}).json()["id"]
    elsewhere = person.server.send("POST", PATH, json_body={"password": PASSWORD, "project_id": another})
    assert elsewhere.status_code == 201, elsewhere.text
    assert person.server.send("DELETE", f"{PATH}/{elsewhere.json()['access_key']}").status_code == 204
    keys = person.server.send("GET", PATH).json()
    spare = next(key["access_key"] for key in keys if key["access_key"] != person.server.access_key)
    assert person.server.send("DELETE", f"{PATH}/{spare}").status_code == 204
    assert person.server.send("POST", PATH, json_body={"password": PASSWORD}).status_code == 201


def told(answer: httpx2.Response, project: str) -> dict[str, Any]:
    """Return what the body says, without the project and the request."""
    body: dict[str, Any] = json.loads(answer.text.replace(project, "PROJECT"))
    return {name: value for name, value in body.items() if name != "request_id"}


def test_a_key_acts_only_where_its_user_has_a_role_and_learns_of_no_other_project(keyed: RunningServer):
    person = add_person(keyed, "readonly", project_id=keyed.project_id)
    foreign = keyed.send("POST", "/api/v1/projects", json_body={"name": "foreign"}).json()["id"]
    answers: dict[str, list[httpx2.Response]] = {}
    for one in (foreign, "f" * 32):
        answers[one] = [
            person.server.send("POST", PATH, json_body={"password": PASSWORD, "project_id": one}),
            person.server.send("GET", "/v2/charts", headers={"X-Project-Id": one}),
            ask(keyed, login(PASSWORD, name=person.name, scope={"project": {"id": one}})),
        ]
    assert [answer.status_code for answer in answers[foreign]] == [404, 403, 404]
    assert [told(answer, foreign) for answer in answers[foreign]] == [
        told(answer, "f" * 32) for answer in answers["f" * 32]
    ]
    named = [
        ask(keyed, login(PASSWORD, name=person.name, scope={"project": {"name": one}}))
        for one in ("foreign", "nowhere")
    ]
    assert [answer.status_code for answer in named] == [404, 404]
    assert told(named[0], "foreign") == told(named[1], "nowhere")
    by_admin = {"user_id": person.id, "password": keyed.password, "project_id": foreign}
    assert_error(keyed.send("POST", PATH, json_body=by_admin), *FORBIDDEN, "has no role")


def test_the_last_use_is_dated_and_not_at_every_request(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    path = f"{PATH}/{person.server.access_key}"
    assert keyed.send("GET", path).json()["last_used_at"] is None
    assert person.server.send("GET", "/v2/charts").status_code == 200
    first = wait_for(lambda: keyed.send("GET", path).json()["last_used_at"], seconds=10)
    used = datetime.fromisoformat(first)
    assert abs((datetime.now(UTC) - used).total_seconds()) < 15
    for _ in range(20):
        person.server.send("GET", "/v2/charts")
    assert keyed.send("GET", path).json()["last_used_at"] == first


def test_a_new_password_can_end_the_keys_too(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    path = f"/api/v1/users/{person.id}/password"
    assert keyed.send("PUT", path, json_body={"password": "the next password"}).status_code == 204
    assert person.server.send("GET", "/v2/charts").status_code == 200
    assert keyed.send("PUT", path, json_body={"password": "one more password", "end_keys": True}).status_code == 204
    assert person.server.send("GET", "/v2/charts").status_code == 401
    assert ask(keyed, login("one more password", name=person.name)).status_code == 201


def test_a_key_says_what_it_is_for(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    made = person.server.send("POST", PATH, json_body={"password": PASSWORD, "description": "the robot of shop 北京"})
    assert made.status_code == 201, made.text
    key = made.json()["access_key"]
    said = {row["access_key"]: row["description"] for row in person.server.send("GET", PATH).json()}
    assert said == {key: "the robot of shop 北京", person.server.access_key: ""}
    changed = person.server.send("PATCH", f"{PATH}/{key}", json_body={"description": "nothing any more"})
    assert (changed.status_code, changed.json()["description"]) == (200, "nothing any more")
    assert changed.json()["enabled"] is True
    disabled = person.server.send("PATCH", f"{PATH}/{key}", json_body={"enabled": False}).json()
    assert (disabled["enabled"], disabled["description"]) == (False, "nothing any more")
    assert person.server.send("PATCH", f"{PATH}/{key}", json_body={"description": ""}).json()["description"] == ""
    rows = keyed.send("GET", f"/api/v1/audit?target={key}").json()
    assert [row["detail"] for row in rows] == ["describe", "disable", "describe", "in project cn-north-4"]


def test_to_describe_a_key_revokes_no_token_and_lifts_no_lock(keyed: RunningServer):
    person = add_person(keyed, "readonly")
    token, path = person.token(), f"{PATH}/{person.server.access_key}"
    assert keyed.send("PATCH", path, json_body={"enabled": False}).status_code == 200
    assert send(keyed, "GET", "/v2/charts", token=token).status_code == 401
    assert keyed.send("PATCH", path, json_body={"description": "still disabled"}).json()["enabled"] is False
    assert keyed.send("PATCH", path, json_body={"enabled": True}).status_code == 200
    token = person.token()
    assert keyed.send("PATCH", path, json_body={"description": "in use"}).status_code == 200
    assert send(keyed, "GET", "/v2/charts", token=token).status_code == 200


@pytest.mark.parametrize("text", ["x" * 256, "two\nlines", "\x1b[31mred", "a\u202eb", "\x7f"])
def test_a_description_that_is_none_changes_nothing(keyed: RunningServer, text: str):
    person = add_person(keyed, "readonly")
    path = f"{PATH}/{person.server.access_key}"
    made = person.server.send("POST", PATH, json_body={"password": PASSWORD, "description": text})
    assert_error(made, *INVALID, "description: at most 255 printable characters")
    changed = person.server.send("PATCH", path, json_body={"description": text, "enabled": False})
    assert_error(changed, *INVALID, "description: at most 255 printable characters")
    kept = [(row["description"], row["enabled"]) for row in person.server.send("GET", PATH).json()]
    assert kept == [("", True)]


def test_a_change_of_nothing_is_refused(keyed: RunningServer):
    path = f"{PATH}/{keyed.access_key}"
    assert_error(keyed.send("PATCH", path, json_body={}), *INVALID, "nothing to change")
