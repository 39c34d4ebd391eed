"""Users, access keys and projects through our own API: who may do what, and what ends whose tokens."""

import re
from typing import Any

import psycopg
import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.tokens import ask, login, send
from tests.support.users import PASSWORD, Person, add_person
from tests.support.wire import assert_error

FORBIDDEN = (403, "CCE.01403001")
INVALID = (400, "CCE.01400001")
UNKNOWN = (404, "CCE.01404001")
DEAD = (401, "APIGW.0301")


@pytest.fixture(scope="module")
def reader(server: RunningServer) -> Person:
    return add_person(server, "CCE ReadOnlyAccess")


@pytest.fixture(scope="module")
def worker(server: RunningServer) -> Person:
    """May everything in the project and nothing in the account."""
    return add_person(server, "te_admin", project_id=server.project_id)


class TestRoles:
    def test_a_reader_reads_and_is_told_which_permission_it_lacks(self, server: RunningServer, reader: Person):
        releases = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
        for path in ("/v2/charts", releases, "/api/v1/clusters", f"/v2/charts/{server.project_id}/quotas"):
            assert reader.server.send("GET", path).status_code == 200, path
        body = {"chart_id": "c", "namespace": "default", "name": "n"}
        refusals = {
            "cce:release:create": reader.server.send("POST", releases, json_body=body),
            "cce:chart:upload": reader.server.upload(config_map_chart("reader", "1.0.0")),
            "cce:chart:delete": reader.server.send("DELETE", "/v2/charts/some-id"),
            "cce:cluster:create": reader.server.send(
                "POST", "/api/v1/clusters", json_body={"name": "x", "kubeconfig": "x"}
            ),
            "cce:cluster:delete": reader.server.send("DELETE", f"/api/v1/clusters/{server.cluster_id}"),
        }
        for action, answer in refusals.items():
            assert_error(answer, *FORBIDDEN, action, reader.name, "CCE ReadOnlyAccess")

    def test_the_same_over_a_token(self, server: RunningServer, reader: Person):
        token = reader.token()

        assert send(server, "GET", "/v2/charts", token=token).status_code == 200
        assert_error(send(server, "DELETE", "/v2/charts/x", token=token), *FORBIDDEN, "cce:chart:delete")

    def test_a_user_without_roles_may_do_nothing_and_gets_no_token_for_the_project(self, server: RunningServer):
        nobody = add_person(server)

        assert_error(nobody.server.send("GET", "/v2/charts"), *FORBIDDEN, "cce:chart:list", "none")
        scope = {"project": {"id": server.project_id}}
        answer = ask(server, login(PASSWORD, name=nobody.name, scope=scope))
        assert_error(answer, 404, "IAM.0004", "has a role")

    def test_a_role_in_one_project_counts_there_and_nowhere_else(self, server: RunningServer, worker: Person):
        other = server.send("POST", "/api/v1/projects", json_body={"name": "beside"}).json()["id"]
        try:
            assert worker.server.send("GET", "/v2/charts").status_code == 200
            elsewhere = worker.server.send("GET", "/v2/charts", headers={"X-Project-Id": other})
            assert_error(elsewhere, 403, "APIGW.0310", "has a role")
            usable = worker.server.send("GET", "/v3/auth/projects").json()["projects"]
            assert [one["id"] for one in usable] == [server.project_id]
        finally:
            assert server.send("DELETE", f"/api/v1/projects/{other}").status_code == 204

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/api/v1/users", None),
            ("GET", "/api/v1/users/ADMIN", None),
            ("POST", "/api/v1/users", {"name": "mine"}),
            ("PATCH", "/api/v1/users/ADMIN", {"enabled": False}),
            ("PUT", "/api/v1/users/ADMIN/password", {"password": "taken over by me"}),
            ("DELETE", "/api/v1/users/ADMIN", None),
            ("POST", "/api/v1/users/OWN/roles", {"role": "te_admin"}),
            ("DELETE", "/api/v1/users/ADMIN/roles/te_admin", None),
            ("GET", "/api/v1/accesskeys?user_id=ADMIN", None),
            ("GET", "/api/v1/accesskeys/KEY", None),
            ("POST", "/api/v1/accesskeys", {"user_id": "ADMIN"}),
            ("PATCH", "/api/v1/accesskeys/KEY", {"enabled": False}),
            ("DELETE", "/api/v1/accesskeys/KEY", None),
            ("POST", "/api/v1/projects", {"name": "mine"}),
            ("PATCH", "/api/v1/projects/PROJECT", {"enabled": False}),
            ("DELETE", "/api/v1/projects/PROJECT", None),
            ("POST", "/v3/projects", {"project": {"name": "cn-north-4_mine"}}),
        ],
    )
    def test_an_administrator_of_a_project_does_not_reach_the_account(
        self, server: RunningServer, worker: Person, method: str, path: str, body: Any
    ):
        admin = server.send("GET", "/api/v1/users/me").json()["id"]
        names = {"ADMIN": admin, "OWN": worker.id, "KEY": server.access_key, "PROJECT": server.project_id}
        for name, value in names.items():
            path = path.replace(name, value)
            body = {key: value if one == name else one for key, one in body.items()} if body else body
        answer = worker.server.send(method, path, json_body=body)

        assert_error(answer, 403, "IAM.0003" if path.startswith("/v3") else "CCE.01403001", "iam:", "account")

    def test_a_grant_counts_at_once_for_keys(self, server: RunningServer):
        person = add_person(server)
        path = f"/api/v1/users/{person.id}/roles"

        given = server.send("POST", path, json_body={"role": "CCE FullAccess", "project_id": server.project_id})
        assert given.json()["roles"] == [{"role": "CCE FullAccess", "project_id": server.project_id}]
        assert person.server.send("GET", "/v2/charts").status_code == 200
        taken = server.send("DELETE", f"{path}/CCE%20FullAccess?project_id={server.project_id}")
        assert taken.json()["roles"] == []
        assert_error(person.server.send("GET", "/v2/charts"), *FORBIDDEN)
        again = server.send("DELETE", f"{path}/CCE%20FullAccess?project_id={server.project_id}")
        assert_error(again, *UNKNOWN, "does not have the role")

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            ({"role": "root"}, INVALID, "te_admin"),
            ({"role": ""}, INVALID, "role"),
            ({}, INVALID, "role"),
            ({"role": "readonly", "project_id": "f" * 32}, UNKNOWN, "f" * 32),
            ({"role": "readonly", "project": "x"}, INVALID, "project"),
        ],
    )
    def test_a_grant_that_is_none(
        self, server: RunningServer, reader: Person, body: Any, code: tuple[int, str], words: str
    ):
        assert_error(server.send("POST", f"/api/v1/users/{reader.id}/roles", json_body=body), *code, words)


class TestWhatEndsTokens:
    def assert_dead(self, server: RunningServer, token: str) -> None:
        answer = send(server, "GET", "/v2/charts", token=token)
        assert_error(answer, *DEAD, "Incorrect IAM authentication information: decrypt token fail")

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PATCH", "/api/v1/users/USER", {"enabled": False}),
            ("DELETE", "/api/v1/users/USER", None),
            ("PUT", "/api/v1/users/USER/password", {"password": "another password"}),
            ("PATCH", "/api/v1/accesskeys/KEY", {"enabled": False}),
            ("DELETE", "/api/v1/accesskeys/KEY", None),
            ("POST", "/api/v1/users/USER/roles", {"role": "CCE FullAccess"}),
            ("DELETE", "/api/v1/users/USER/roles/readonly", None),
        ],
    )
    def test_what_they_stand_on_changes(self, server: RunningServer, method: str, path: str, body: Any):
        person = add_person(server, "readonly")
        token = person.token()
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200

        path = path.replace("USER", person.id).replace("KEY", person.server.access_key)
        assert server.send(method, path, json_body=body).is_success

        self.assert_dead(server, token)

    def test_a_user_who_is_enabled_again_needs_a_new_one(self, server: RunningServer):
        person = add_person(server, "readonly")
        token = person.token()
        for enabled in (False, True):
            server.send("PATCH", f"/api/v1/users/{person.id}", json_body={"enabled": enabled})

        self.assert_dead(server, token)
        assert send(server, "GET", "/v2/charts", token=person.token()).status_code == 200

    def test_a_project_is_disabled(self, server: RunningServer):
        person = add_person(server, "readonly")
        project = server.send("POST", "/api/v1/projects", json_body={"name": "closing"}).json()["id"]
        scope = {"project": {"id": project}}
        token = ask(server, login(PASSWORD, name=person.name, scope=scope)).headers["x-subject-token"]
        kept = person.token()
        assert send(server, "GET", "/v2/charts", token=token).status_code == 200

        closed = server.send("PATCH", f"/api/v1/projects/{project}", json_body={"enabled": False})
        assert closed.json()["enabled"] is False
        self.assert_dead(server, token)
        signed = person.server.send("GET", "/v2/charts", headers={"X-Project-Id": project})
        assert_error(signed, 403, "APIGW.0310", project)
        refused = ask(server, login(PASSWORD, name=person.name, scope=scope))
        assert_error(refused, 404, "IAM.0004")
        assert server.send("PATCH", f"/api/v1/projects/{project}", json_body={"enabled": True}).is_success
        self.assert_dead(server, token)
        assert send(server, "GET", "/v2/charts", token=kept).status_code == 200
        assert server.send("DELETE", f"/api/v1/projects/{project}").status_code == 204

    def test_a_granted_role_that_was_there_already_changes_nothing(self, server: RunningServer):
        person = add_person(server, "readonly")
        token = person.token()
        server.send("POST", f"/api/v1/users/{person.id}/roles", json_body={"role": "readonly"})

        assert send(server, "GET", "/v2/charts", token=token).status_code == 200

    def test_other_users_tokens_live_on(self, server: RunningServer, reader: Person):
        token = reader.token()
        person = add_person(server, "readonly")
        server.send("DELETE", f"/api/v1/users/{person.id}")

        assert send(server, "GET", "/v2/charts", token=token).status_code == 200


class TestKeys:
    def test_a_disabled_or_deleted_key_is_unknown(self, server: RunningServer):
        person = add_person(server, "readonly")
        path = f"/api/v1/accesskeys/{person.server.access_key}"

        assert server.send("PATCH", path, json_body={"enabled": False}).json()["enabled"] is False
        assert_error(person.server.send("GET", "/v2/charts"), *DEAD, "ak not exist")
        assert server.send("PATCH", path, json_body={"enabled": True}).json()["enabled"] is True
        assert person.server.send("GET", "/v2/charts").status_code == 200
        assert server.send("DELETE", path).status_code == 204
        assert_error(person.server.send("GET", "/v2/charts"), *DEAD, "ak not exist")
        assert_error(server.send("GET", path), *UNKNOWN)

    @pytest.mark.parametrize("action", ["disable", "delete"])
    def test_a_user_who_is_gone_takes_its_keys_along(self, server: RunningServer, action: str):
        person = add_person(server, "readonly")
        path = f"/api/v1/users/{person.id}"
        done = (
            server.send("DELETE", path)
            if action == "delete"
            else server.send("PATCH", path, json_body={"enabled": False})
        )
        assert done.is_success

        assert_error(person.server.send("GET", "/v2/charts"), *DEAD, "ak not exist")
        assert_error(ask(server, login(PASSWORD, name=person.name)), 401, "IAM.0001")

    def test_everybody_makes_and_removes_its_own(self, reader: Person):
        made = reader.server.send("POST", "/api/v1/accesskeys", json_body={"password": PASSWORD})

        assert made.status_code == 201, made.text
        key = made.json()
        assert re.fullmatch(r"[A-Z0-9]{20}", key["access_key"])
        assert re.fullmatch(r"[A-Za-z0-9]{40}", key["secret_key"])
        assert (key["user_id"], key["project_id"]) == (reader.id, reader.server.project_id)
        shown = reader.server.send("GET", f"/api/v1/accesskeys/{key['access_key']}")
        assert "secret_key" not in shown.json()
        assert key["secret_key"] not in shown.text
        listed = reader.server.send("GET", "/api/v1/accesskeys").json()
        assert [one["access_key"] for one in listed] == [reader.server.access_key, key["access_key"]]
        assert reader.server.send("DELETE", f"/api/v1/accesskeys/{key['access_key']}").status_code == 204

    def test_the_database_holds_no_secret_in_the_clear(self, server: RunningServer, reader: Person):
        with psycopg.connect(server.database_url) as connection:
            rows = connection.execute("SELECT secret_sealed FROM access_keys").fetchall()
        assert not any(reader.server.secret_key.encode() in bytes(row[0]) for row in rows)

    def test_a_key_without_a_project(self, server: RunningServer):
        token = ask(server, login(server.password)).headers["x-subject-token"]

        answer = send(server, "POST", "/api/v1/accesskeys", token=token, json={})
        assert_error(answer, *INVALID, "project_id")

    @pytest.mark.parametrize("body", [{"user_id": "f" * 32}, {"project_id": "f" * 32}])
    def test_a_key_for_what_does_not_exist(self, server: RunningServer, body: Any):
        assert_error(server.send("POST", "/api/v1/accesskeys", json_body=body), *UNKNOWN, "f" * 32)


class TestUsers:
    def test_the_first_administrator_is_there(self, server: RunningServer):
        me = server.send("GET", "/api/v1/users/me").json()

        assert (me["name"], me["enabled"], me["locked_until"]) == ("admin", True, None)
        assert me["roles"] == [{"role": "te_admin", "project_id": None}]
        assert me["id"] in [one["id"] for one in server.send("GET", "/api/v1/users").json()]

    def test_a_chosen_password_is_shown_once_and_works(self, server: RunningServer):
        made = server.send("POST", "/api/v1/users", json_body={"name": "chosen.for_me@example.org"}).json()

        assert ask(server, login(made["password"], name=made["name"])).status_code == 201
        assert "password" not in server.send("GET", f"/api/v1/users/{made['id']}").json()
        assert server.send("DELETE", f"/api/v1/users/{made['id']}").status_code == 204

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ({"name": ""}, "name"),
            ({"name": "1st"}, "name"),
            ({"name": "x" * 65}, "name"),
            ({"name": "a b"}, "name"),
            ({"name": "naïve"}, "name"),
            ({"name": None}, "name"),
            ({}, "name"),
            ({"name": "ok", "password": "short"}, "password"),
            ({"name": "long.enough", "password": "Long.Enough"}, "password"),
            ({"name": "ok", "password": "x" * 1025}, "password"),
            ({"name": "ok", "password": 12345678}, "password"),
            ({"name": "ok", "roles": []}, "roles"),
            ([], "body"),
        ],
    )
    def test_a_user_that_is_not_made(self, server: RunningServer, body: Any, word: str):
        assert_error(server.send("POST", "/api/v1/users", json_body=body), *INVALID, word)

    def test_a_name_is_taken_once(self, server: RunningServer):
        answer = server.send("POST", "/api/v1/users", json_body={"name": "admin"})

        assert_error(answer, 409, "CCE.01409001", "admin")

    def test_ones_own_password_takes_the_current_one(self, server: RunningServer):
        person = add_person(server, "readonly")
        path = "/api/v1/users/me/password"
        without = person.server.send("PUT", path, json_body={"password": "the next password"})
        assert_error(without, *INVALID, "current_password")
        wrong = {"password": "the next password", "current_password": "wrong"}
        assert_error(person.server.send("PUT", path, json_body=wrong), *FORBIDDEN, "current_password")

        right = {"password": "the next password", "current_password": PASSWORD}
        assert person.server.send("PUT", path, json_body=right).status_code == 204
        assert_error(ask(server, login(PASSWORD, name=person.name)), 401, "IAM.0001")
        assert ask(server, login("the next password", name=person.name)).status_code == 201

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PATCH", "/api/v1/users/ME", {"enabled": False}),
            ("DELETE", "/api/v1/users/ME", None),
            ("DELETE", "/api/v1/users/ME/roles/te_admin", None),
            ("PATCH", "/api/v1/projects/PROJECT", {"enabled": False}),
        ],
    )
    def test_an_administrator_cannot_lock_itself_out(self, server: RunningServer, method: str, path: str, body: Any):
        me = server.send("GET", "/api/v1/users/me").json()["id"]
        path = path.replace("ME", me).replace("PROJECT", server.project_id)

        assert_error(server.send(method, path, json_body=body), *INVALID)
        assert server.send("GET", "/v2/charts").status_code == 200

    def test_another_account_is_not_there(self, server: RunningServer, reader: Person):
        other = add_tenant(server)

        for method, path, body in (
            ("GET", f"/api/v1/users/{reader.id}", None),
            ("PATCH", f"/api/v1/users/{reader.id}", {"enabled": False}),
            ("DELETE", f"/api/v1/users/{reader.id}", None),
            ("PUT", f"/api/v1/users/{reader.id}/password", {"password": "taken over by us"}),
            ("POST", f"/api/v1/users/{reader.id}/roles", {"role": "readonly"}),
            ("GET", f"/api/v1/accesskeys/{reader.server.access_key}", None),
            ("PATCH", f"/api/v1/accesskeys/{reader.server.access_key}", {"enabled": False}),
            ("DELETE", f"/api/v1/accesskeys/{reader.server.access_key}", None),
            ("GET", f"/api/v1/accesskeys?user_id={reader.id}", None),
            ("POST", "/api/v1/accesskeys", {"user_id": reader.id}),
            ("GET", f"/api/v1/projects/{server.project_id}", None),
            ("PATCH", f"/api/v1/projects/{server.project_id}", {"enabled": False}),
            ("DELETE", f"/api/v1/projects/{server.project_id}", None),
            ("GET", f"/api/v1/clusters/{server.cluster_id}", None),
            ("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases", None),
        ):
            assert_error(other.send(method, path, json_body=body), *UNKNOWN)
        assert reader.server.send("GET", "/v2/charts").status_code == 200

    def test_what_a_deleted_user_did_stays_on_record(self, server: RunningServer):
        person = add_person(server, "CCE FullAccess")
        uploaded = person.server.upload(config_map_chart("by-the-deleted", "1.0.0"))
        assert uploaded.status_code == 201, uploaded.text

        assert server.send("DELETE", f"/api/v1/users/{person.id}").status_code == 204

        assert server.send("GET", f"/v2/charts/{uploaded.json()['id']}").status_code == 200
        with psycopg.connect(server.database_url) as connection:
            rows = connection.execute("SELECT action FROM audit WHERE user_id = %s", (person.id,)).fetchall()
        assert ("cce:chart:upload",) in rows

    def test_every_write_is_on_record(self, server: RunningServer):
        person = add_person(server, "readonly")
        person.token()
        for method, path, body in (
            ("PATCH", f"/api/v1/users/{person.id}", {"enabled": True}),
            ("PUT", f"/api/v1/users/{person.id}/password", {"password": "another password"}),
            ("DELETE", f"/api/v1/users/{person.id}/roles/readonly", None),
            ("PATCH", f"/api/v1/accesskeys/{person.server.access_key}", {"enabled": True}),
            ("DELETE", f"/api/v1/accesskeys/{person.server.access_key}", None),
            ("DELETE", f"/api/v1/users/{person.id}", None),
        ):
            assert server.send(method, path, json_body=body).is_success
        with psycopg.connect(server.database_url) as connection:
            rows = connection.execute(
                "SELECT action FROM audit WHERE target LIKE %s OR target = %s ORDER BY id",
                (f"{person.id}%", person.server.access_key),
            ).fetchall()
        assert [row[0].removeprefix("iam:") for row in rows] == [
            "users:createUser",
            "permissions:grantRoleToUser",
            "credentials:createCredential",
            "tokens:create",
            "users:updateUser",
            "users:updateUserPassword",
            "permissions:revokeRoleFromUser",
            "credentials:updateCredential",
            "credentials:deleteCredential",
            "users:deleteUser",
        ]


class TestProjects:
    def test_made_shown_and_deleted(self, server: RunningServer):
        made = server.send("POST", "/api/v1/projects", json_body={"name": "af-south-1", "description": "a region"})
        assert made.status_code == 201, made.text
        project = made.json()
        assert project == {"id": project["id"], "name": "af-south-1", "description": "a region", "enabled": True}
        assert re.fullmatch(r"[0-9a-f]{32}", project["id"])
        assert project in server.send("GET", "/api/v1/projects").json()
        assert server.send("GET", f"/api/v1/projects/{project['id']}").json() == project
        taken = server.send("POST", "/api/v1/projects", json_body={"name": "af-south-1"})
        assert_error(taken, 409, "CCE.01409001", "af-south-1")
        assert server.send("DELETE", f"/api/v1/projects/{project['id']}").status_code == 204
        assert_error(server.send("GET", f"/api/v1/projects/{project['id']}"), *UNKNOWN)

    def test_one_that_holds_something_is_not_deleted(self, server: RunningServer):
        answer = server.send("DELETE", f"/api/v1/projects/{server.project_id}")

        assert_error(answer, *INVALID, "disable it instead")
        assert server.send("GET", "/v2/charts").status_code == 200

    @pytest.mark.parametrize("name", ["", "_x", "-x", "a b", "x" * 65, "ä", None, 7])
    def test_a_name_that_is_none(self, server: RunningServer, name: Any):
        assert_error(server.send("POST", "/api/v1/projects", json_body={"name": name}), *INVALID, "name")

    def test_a_charts_id_of_another_project_is_unknown(self, server: RunningServer):
        uploaded = server.upload(config_map_chart("of-the-first", "1.0.0"), parameters='{"override": true}')
        project = server.send("POST", "/api/v1/projects", json_body={"name": "second"}).json()["id"]
        try:
            answer = server.send("GET", f"/v2/charts/{uploaded.json()['id']}", headers={"X-Project-Id": project})
            assert_error(answer, *UNKNOWN, uploaded.json()["id"])
        finally:
            assert server.send("DELETE", f"/api/v1/projects/{project}").status_code == 204
