"""Tokens over the wire: got for a password, used instead of a signature, looked at, revoked, expired, mangled."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from huaweicloudsdkcce.v3 import ListChartsRequest, ListReleasesRequest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.identity.generic import Password as GenericPassword
from keystoneauth1.identity.v3 import Password, Token
from keystoneauth1.session import Session

from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.tokens import PATH, ask, login, send, token_of
from tests.support.users import add_person
from tests.support.wire import assert_error, exchange

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


@pytest.fixture(scope="module")
def token(server: RunningServer) -> str:
    return token_of(server)


def age(server: RunningServer, *, seconds: int) -> None:
    """Make every token of the server that much older."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute("UPDATE tokens SET expires_at = expires_at - make_interval(secs => %s)", (seconds,))


def assert_iam_error(answer: Any, status: int, code: str, *words: str) -> str:
    """Return the error in the form that Keystone clients read, and in both that the vendor's SDKs read."""
    message = assert_error(answer, status, code, *words)
    nested = answer.json()["error"]
    assert (nested["code"], nested["message"]) == (status, message)
    assert nested["title"]
    return message


class TestGettingOne:
    def test_for_a_project_by_name(self, server: RunningServer):
        answer = ask(server, login(server.password, scope={"project": {"name": "cn-north-4"}}))

        assert answer.status_code == 201, answer.text
        assert re.fullmatch(r"pht-[A-Za-z0-9_-]{43}", answer.headers["x-subject-token"])
        token = answer.json()["token"]
        assert set(token) == {"expires_at", "issued_at", "methods", "user", "roles", "catalog", "project"}
        assert token["methods"] == ["password"]
        assert token["project"]["id"] == server.project_id
        assert token["project"]["name"] == "cn-north-4"
        assert token["project"]["domain"] == token["user"]["domain"]
        assert token["user"]["domain"]["name"] == "pilothouse"
        assert (token["user"]["name"], token["user"]["password_expires_at"]) == ("admin", "")
        assert token["roles"] == [{"id": "0", "name": "te_admin"}]

    def test_it_lives_for_a_day_and_times_have_the_vendors_form(self, server: RunningServer):
        token = ask(server, login(server.password)).json()["token"]

        assert re.fullmatch(TIME, token["issued_at"])
        assert re.fullmatch(TIME, token["expires_at"])
        issued, expires = (datetime.fromisoformat(token[name]) for name in ("issued_at", "expires_at"))
        assert expires - issued == timedelta(hours=24)
        assert abs(datetime.now(UTC) - issued) < timedelta(minutes=5)

    @pytest.mark.parametrize(
        ("scope", "kind"),
        [
            ({"project": {"id": "PROJECT"}}, "project"),
            ({"project": {"id": "PROJECT"}, "domain": {"name": "pilothouse"}}, "project"),
            ({"project": {"name": "cn-north-4", "domain": {"name": "pilothouse"}}}, "project"),
            ({"domain": {"name": "pilothouse"}}, "domain"),
            ({}, None),
            ({"unscoped": {}}, None),
            (None, None),
        ],
    )
    def test_for_what_the_scope_says(self, server: RunningServer, scope: Any, kind: str | None):
        if scope and scope.get("project", {}).get("id"):
            scope["project"]["id"] = server.project_id
        answer = ask(server, login(server.password, scope=scope))

        assert answer.status_code == 201, answer.text
        assert {"project", "domain"} & set(answer.json()["token"]) == ({kind} if kind else set())

    def test_by_the_users_id(self, server: RunningServer):
        user_id = ask(server, login(server.password)).json()["token"]["user"]["id"]
        user = {"id": user_id, "password": server.password}

        answer = ask(server, {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}})

        assert answer.status_code == 201, answer.text

    def test_the_catalog_lists_what_is_served_here_unless_it_is_not_wanted(self, server: RunningServer):
        full = ask(server, login(server.password)).json()["token"]["catalog"]
        none = ask(server, login(server.password), query="?nocatalog=true").json()["token"]["catalog"]

        assert {one["type"]: one["endpoints"][0]["url"] for one in full} == {
            "identity": f"{server.url}/v3",
            "cce": server.url,
            "ccev2.0": server.url,
        }
        assert none == []

    def test_the_database_holds_only_its_hash(self, server: RunningServer, token: str):
        with psycopg.connect(server.database_url) as connection:
            rows = connection.execute("SELECT tokens::text FROM tokens").fetchall()
        assert rows
        assert not any(token in row[0] or token.removeprefix("pht-") in row[0] for row in rows)

    def test_the_catalog_can_be_asked_for_alone(self, server: RunningServer, token: str):
        signed = server.send("GET", "/v3/auth/catalog")
        by_token = send(server, "GET", "/v3/auth/catalog", token=token)

        assert signed.status_code == by_token.status_code == 200
        assert signed.json()["catalog"] == ask(server, login(server.password)).json()["token"]["catalog"]
        assert by_token.json() == signed.json()
        assert send(server, "GET", "/v3/auth/catalog").status_code == 401

    @pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/"])
    def test_keystone_clients_that_ask_for_the_version_first(self, server: RunningServer, path: str):
        auth = GenericPassword(
            server.url + path,
            username="admin",
            password=server.password,
            user_domain_name="pilothouse",
            project_name="cn-north-4",
            project_domain_name="pilothouse",
        )
        session = Session(auth=auth)
        try:
            assert re.fullmatch(r"pht-[A-Za-z0-9_-]{43}", session.get_token() or "")
            assert session.get_endpoint(service_type="identity") == f"{server.url}/v3"
        finally:
            session.session.close()

    def test_an_independent_keystone_client_gets_one_and_finds_the_api(self, server: RunningServer):
        auth = Password(
            f"{server.url}/v3",
            username="admin",
            password=server.password,
            user_domain_name="pilothouse",
            project_name="cn-north-4",
            project_domain_name="pilothouse",
        )
        session = Session(auth=auth)
        try:
            answer = session.get(
                "/v2/charts", endpoint_filter={"service_type": "cce"}, headers={"Accept": "application/json"}
            )
            assert (answer.status_code, session.get_project_id()) == (200, server.project_id)
            assert auth.get_access(session).role_names == ["te_admin"]
            with pytest.raises(Unauthorized, match="username or password is wrong"):
                Password(
                    f"{server.url}/v3", username="admin", password="wrong", user_domain_name="pilothouse"
                ).get_token(session)
        finally:
            session.session.close()


def rescope(server: RunningServer, token: str, scope: Any) -> Any:
    """Return what Terraform's argument ``token`` sends: a token that one has, for another of a scope."""
    auth: dict[str, Any] = {"identity": {"methods": ["token"], "token": {"id": token}}}
    return ask(server, {"auth": auth if scope is None else {**auth, "scope": scope}})


class TestGettingOneForAnother:
    def test_for_a_project(self, server: RunningServer):
        unscoped = ask(server, login(server.password))

        answer = rescope(server, unscoped.headers["x-subject-token"], {"project": {"name": "cn-north-4"}})

        assert answer.status_code == 201, answer.text
        assert answer.json()["token"]["project"]["id"] == server.project_id
        token = answer.headers["x-subject-token"]
        assert token != unscoped.headers["x-subject-token"]
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200

    def test_it_lives_no_longer_than_that(self, server: RunningServer):
        first = ask(server, login(server.password))

        second = rescope(server, first.headers["x-subject-token"], {"domain": {"name": "pilothouse"}})

        assert second.json()["token"]["expires_at"] == first.json()["token"]["expires_at"]

    def test_a_keystone_client_gets_it(self, server: RunningServer, token: str):
        auth = Token(server.url + "/v3", token=token, project_name="cn-north-4", project_domain_name="pilothouse")
        session = Session(auth=auth)
        try:
            answer = session.get(server.url + "/v2/charts", headers={"Accept": "application/json"})
            assert (answer.status_code, session.get_project_id()) == (200, server.project_id)
        finally:
            session.session.close()

    @pytest.mark.parametrize("subject", ["", "x", "pht-" + "A" * 43])
    def test_not_for_one_that_is_none(self, server: RunningServer, subject: str):
        assert_iam_error(rescope(server, subject, None), 401, "IAM.0001", "token")

    def test_not_for_one_that_was_revoked(self, server: RunningServer):
        revoked = token_of(server)
        assert send(server, "DELETE", PATH, token=revoked, headers={"X-Subject-Token": revoked}).status_code == 204

        assert_iam_error(rescope(server, revoked, None), 401, "IAM.0001", "revoked")

    def test_not_for_another_accounts_project(self, server: RunningServer, token: str):
        other = add_tenant(server)

        answer = rescope(server, token, {"project": {"id": other.project_id}})

        assert_iam_error(answer, 404, "IAM.0004", other.project_id)

    @pytest.mark.parametrize(
        "identity",
        [
            {"methods": ["token"]},
            {"methods": ["token"], "token": {}},
            {"methods": ["token"], "token": {"id": 7}},
            {"methods": ["token", "password"], "token": {"id": "x"}},
        ],
        ids=["no part", "no id", "a number", "two methods"],
    )
    def test_a_body_that_is_none(self, server: RunningServer, identity: Any):
        answer = ask(server, {"auth": {"identity": identity}})

        assert_iam_error(answer, 400, "IAM.0011", "auth.identity")


class TestNotGettingOne:
    @pytest.mark.parametrize(
        ("name", "domain", "password"),
        [
            ("admin", "pilothouse", "wrong"),
            ("admin", "pilothouse", ""),
            ("admin", "pilothouse", "x" * 5000),
            ("nobody", "pilothouse", "RIGHT"),
            ("admin", "elsewhere", "RIGHT"),
            ("ADMIN", "pilothouse", "RIGHT"),
        ],
    )
    def test_a_wrong_password_and_a_wrong_name_are_told_in_the_same_words(
        self, server: RunningServer, name: str, domain: str, password: str
    ):
        secret = server.password if password == "RIGHT" else password
        answer = ask(server, login(secret, name=name, domain=domain))

        message = assert_iam_error(answer, 401, "IAM.0001")
        assert message == "The username or password is wrong."
        assert "x-subject-token" not in answer.headers

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b'"text"',
            b"null",
            b"{}",
            b'{"auth": null}',
            b'{"auth": {}}',
            b'{"auth": {"identity": {}}}',
            b'{"auth": {"identity": {"methods": []}}}',
            b'{"auth": {"identity": {"methods": "password"}}}',
            b'{"auth": {"identity": {"methods": ["password"]}}}',
            b'{"auth": {"identity": {"methods": ["totp"], "totp": {}}}}',
            b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a"}}}}}',
            b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a", "password": "b"}}}}}',
            b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 1, "password": "b"}}}}}',
            b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "\\u0000"}}}}}',
            b"\xff\xfe",
            b"[" * 10_000,
        ],
        ids=range(19),
    )
    def test_a_body_that_is_no_log_in(self, server: RunningServer, content: bytes):
        assert_iam_error(send(server, "POST", PATH, content=content), 400, "IAM.0011", "The request body is invalid")

    @pytest.mark.parametrize(
        ("scope", "status", "code"),
        [
            ({"project": {}}, 400, "IAM.0011"),
            ({"project": "x"}, 400, "IAM.0011"),
            ({"project": {"id": 7}}, 400, "IAM.0011"),
            ({"domain": {}}, 400, "IAM.0011"),
            ({"project": {"name": "af-south-1"}}, 404, "IAM.0004"),
            ({"project": {"id": "0" * 32}}, 404, "IAM.0004"),
            ({"domain": {"name": "elsewhere"}}, 404, "IAM.0004"),
            ({"project": {"name": "cn-north-4", "domain": {"id": "0" * 32}}}, 404, "IAM.0004"),
        ],
    )
    def test_a_scope_that_is_none(self, server: RunningServer, scope: Any, status: int, code: str):
        assert_iam_error(ask(server, login(server.password, scope=scope)), status, code, "scope")

    def test_another_accounts_project(self, server: RunningServer):
        other = add_tenant(server)

        answer = ask(server, login(server.password, scope={"project": {"id": other.project_id}}))

        assert_iam_error(answer, 404, "IAM.0004", other.project_id)

    def test_a_body_over_the_strangers_limit(self, server: RunningServer):
        answer = send(server, "POST", PATH, content=b'{"auth": "' + b"x" * (2 * 1024 * 1024) + b'"}')

        assert_error(answer, 413, "APIGW.0201")

    def test_a_body_that_is_no_json(self, server: RunningServer):
        answer = send(server, "POST", PATH, content=b"a=b", headers={"Content-Type": "text/plain"})

        assert_iam_error(answer, 400, "IAM.0011", "text/plain")


class TestUsingOne:
    def test_the_vendors_client_made_to_send_it(self, server: RunningServer, token: str):
        client = server.sdk()

        charts = client.list_charts_invoker(ListChartsRequest()).add_header("X-Auth-Token", token)
        assert charts.add_header("Authorization", "x").invoke().status_code == 200
        releases = client.list_releases_invoker(ListReleasesRequest(cluster_id=server.cluster_id))
        assert releases.add_header("X-Auth-Token", token).invoke().status_code == 200  # signed as well

    def test_the_vendors_client_is_told_what_is_wrong_with_it(self, server: RunningServer):
        invoker = server.sdk().list_charts_invoker(ListChartsRequest())

        with pytest.raises(ClientRequestException) as caught:
            invoker.add_header("X-Auth-Token", "MIIF").add_header("Authorization", "x").invoke()

        assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
        assert caught.value.error_msg == "Incorrect IAM authentication information: decrypt token fail"

    @pytest.mark.parametrize("path", ["/v2/charts", "/api/v1/clusters", "/v3/projects", "/v3/auth/domains"])
    def test_on_every_kind_of_route(self, server: RunningServer, token: str, path: str):
        assert send(server, "GET", path, token=token).status_code == 200

    def test_its_project_may_be_named_and_no_other(self, server: RunningServer, token: str):
        named = {"X-Project-Id": server.project_id}
        assert send(server, "GET", "/v2/charts", token=token, headers=named).status_code == 200
        other = {"X-Project-Id": add_tenant(server).project_id}
        assert_error(send(server, "GET", "/v2/charts", token=token, headers=other), 403, "APIGW.0310", "X-Project-Id")

    @pytest.mark.parametrize("scope", [None, {"domain": {"name": "pilothouse"}}])
    def test_one_without_a_project_does_not_reach_charts(self, server: RunningServer, scope: Any):
        token = ask(server, login(server.password, scope=scope)).headers["x-subject-token"]

        assert_error(send(server, "GET", "/v2/charts", token=token), 403, "CCE.01403001", "cce:chart:list", "project")
        assert send(server, "GET", "/v3/projects", token=token).status_code == 200

    @pytest.mark.parametrize(
        "mangle",
        [
            lambda token: token[:-1],
            lambda token: token + "A",
            lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
            lambda token: token.upper(),
            lambda token: token.removeprefix("pht-"),
            lambda token: token + "," + token,
            lambda token: token.replace("pht-", "pht_"),
            lambda _: "pht-" + "é" * 43,
            lambda _: "' OR 1=1 --",
            lambda _: "x" * 20_000,
        ],
        ids=range(10),
    )
    def test_a_mangled_one(self, server: RunningServer, token: str, mangle: Any):
        answer = exchange(server, "GET", "/v2/charts", headers=[("X-Auth-Token", mangle(token))], credentials=False)

        assert_error(answer, 401, "APIGW.0301", "Incorrect IAM authentication information: decrypt token fail")

    def test_an_expired_one_says_so_and_counts_even_beside_a_signature(self, server: RunningServer):
        token = token_of(server)
        age(server, seconds=24 * 3600)
        try:
            answer = server.send("GET", "/v2/charts", headers={"X-Auth-Token": token})
            message = assert_error(answer, 401, "APIGW.0301", "token expires, expires_at: ")
            assert re.search(rf"expires_at: {TIME}$", message)
        finally:
            age(server, seconds=-24 * 3600)

    def test_what_expired_long_ago_is_swept_when_the_next_one_is_issued(self, server: RunningServer, token: str):
        old = token_of(server)
        with psycopg.connect(server.database_url, autocommit=True) as connection:
            connection.execute(
                "UPDATE tokens SET expires_at = clock_timestamp() - interval '3 days' "
                "WHERE issued_at = (SELECT max(issued_at) FROM tokens)"
            )
            token_of(server)
            left = connection.execute("SELECT min(expires_at) > clock_timestamp() FROM tokens").fetchone()
        assert left == (True,)
        answer = send(server, "GET", "/v2/charts", token=old)
        assert_error(answer, 401, "APIGW.0301", "decrypt token fail")
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200


class TestLookingAtOne:
    def test_its_owner_sees_what_was_issued(self, server: RunningServer):
        issued = ask(server, login(server.password, scope={"project": {"name": "cn-north-4"}}))
        token = issued.headers["x-subject-token"]

        answer = send(server, "GET", PATH, token=token, headers={"X-Subject-Token": token})

        assert (answer.status_code, answer.json()) == (200, issued.json())
        assert answer.headers["x-subject-token"] == token
        assert send(server, "HEAD", PATH, token=token, headers={"X-Subject-Token": token}).status_code == 200

    def test_a_signed_request_may_look_too(self, server: RunningServer, token: str):
        assert server.send("GET", PATH, headers={"X-Subject-Token": token}).status_code == 200

    def test_without_credentials_nothing_is_shown(self, server: RunningServer, token: str):
        assert_error(send(server, "GET", PATH, headers={"X-Subject-Token": token}), 401, "APIGW.0301")

    def test_without_the_token_that_is_meant(self, server: RunningServer, token: str):
        assert_iam_error(send(server, "GET", PATH, token=token), 400, "IAM.0007", "X-Subject-Token")

    @pytest.mark.parametrize("subject", ["x", "pht-" + "A" * 43])
    def test_an_unknown_one(self, server: RunningServer, token: str, subject: str):
        answer = send(server, "GET", PATH, token=token, headers={"X-Subject-Token": subject})

        assert_iam_error(answer, 404, "IAM.0004", "Could not find token")

    def test_another_accounts(self, server: RunningServer, token: str):
        other = add_tenant(server)

        for method in ("GET", "DELETE"):
            assert_iam_error(other.send(method, PATH, headers={"X-Subject-Token": token}), 404, "IAM.0004")
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200

    def test_a_revoked_one_is_dead_at_once(self, server: RunningServer):
        token = token_of(server)

        assert send(server, "DELETE", PATH, token=token, headers={"X-Subject-Token": token}).status_code == 204
        assert_error(send(server, "GET", "/v2/charts", token=token), 401, "APIGW.0301", "decrypt token fail")

    def test_who_may_only_read_ends_nobody_elses(self, server: RunningServer):
        token, reader = token_of(server), add_person(server, "readonly").token()

        answer = send(server, "DELETE", PATH, token=reader, headers={"X-Subject-Token": token})

        assert_iam_error(answer, 403, "IAM.0003", "iam:tokens:delete")
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200
        assert send(server, "DELETE", PATH, token=reader, headers={"X-Subject-Token": reader}).status_code == 204
