"""How clients find out which project, domain and region they are in."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from huaweicloudsdkcce.v3 import ListChartsRequest

from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error, exchange


@pytest.fixture(scope="module")
def account(server: RunningServer) -> RunningServer:
    """Return an account of its own with the region's project and four more."""
    other = add_tenant(server)
    for name in ("a", "b", "c", "d"):
        body = {"project": {"name": f"cn-north-4_{name}", "description": f"the {name}"}}
        answer = other.send("POST", "/v3/projects", json_body=body)
        assert answer.status_code == 201, answer.text
    return other


def names(account: RunningServer, query: str) -> list[str]:
    answer = account.send("GET", f"/v3/projects{query}")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["projects"]]


ALL = ["cn-north-4", "cn-north-4_a", "cn-north-4_b", "cn-north-4_c", "cn-north-4_d"]


def test_the_regions_name_finds_exactly_one_however_many_there_are(account: RunningServer):
    answer = account.send("GET", "/v3/projects?name=cn-north-4")

    [project] = answer.json()["projects"]
    assert project["id"] == account.project_id
    assert set(project) == {
        "id", "name", "domain_id", "parent_id", "is_domain", "enabled", "description", "links",
    }  # fmt: skip
    assert project["is_domain"] is False
    assert project["parent_id"] == project["domain_id"]
    assert set(answer.json()["links"]) == set(project["links"]) == {"self", "next", "previous"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ALL),
        ("?name=cn-north-4_b", ["cn-north-4_b"]),
        ("?name=cn-north", []),
        ("?name=", []),
        ("?domain_id=DOMAIN", ALL),
        ("?parent_id=DOMAIN", ALL),
        ("?domain_id=ffffffffffffffffffffffffffffffff", []),
        ("?parent_id=ffffffffffffffffffffffffffffffff", []),
        ("?domain_id=DOMAIN&parent_id=ffffffffffffffffffffffffffffffff", []),
        ("?enabled=true", ALL),
        ("?enabled=False", []),
        ("?is_domain=false", ALL),
        ("?is_domain=true", []),
        ("?per_page=2", ALL[:2]),
        ("?page=2&per_page=2", ALL[2:4]),
        ("?page=3&per_page=2", ALL[4:]),
        ("?page=4&per_page=2", []),
        ("?page=1", ALL),
        ("?page=2", []),
        ("?per_page=5000", ALL),
        ("?unknown=1", ALL),
    ],
)
def test_every_query_parameter_narrows_the_list(account: RunningServer, query: str, found: list[str]):
    domain = account.send("GET", "/v3/auth/domains").json()["domains"][0]["id"]

    assert names(account, query.replace("DOMAIN", domain)) == found


@pytest.mark.parametrize(
    "query",
    [
        "enabled=yes",
        "enabled=1",
        "is_domain=",
        "page=0",
        "page=-1",
        "page=one",
        "page=",
        "page=1.0",
        "page=%C2%B2",
        "page=" + "9" * 400,
        "per_page=0",
        "per_page=5001",
        "per_page=x",
    ],
)
def test_a_wrong_value_is_refused_by_name(account: RunningServer, query: str):
    answer = account.send("GET", f"/v3/projects?{query}")

    assert_error(answer, 400, "IAM.0007", query.split("=", maxsplit=1)[0])
    assert answer.json()["error"]["title"] == "Bad Request"


def test_a_nul_in_a_name_is_refused(server: RunningServer):
    assert_error(exchange(server, "GET", "/v3/projects?name=%00"), 400, "IAM.0007", "NUL")


def test_links_lead_through_the_pages_and_back(account: RunningServer):
    seen: list[str] = []
    path: str | None = "/v3/projects?per_page=2"
    last: dict[str, Any] = {}
    while path is not None:
        last = account.send("GET", path).json()
        seen += [one["name"] for one in last["projects"]]
        following = last["links"]["next"]
        path = f"/v3/projects?{urlsplit(following).query}" if following else None
    assert seen == ALL
    back = urlsplit(last["links"]["previous"]).query
    assert names(account, f"?{back}") == ALL[2:4]


def test_one_project_by_id_and_no_other_accounts(account: RunningServer, server: RunningServer):
    answer = account.send("GET", f"/v3/projects/{account.project_id}")
    assert answer.json()["project"]["name"] == "cn-north-4"
    assert_error(account.send("GET", f"/v3/projects/{server.project_id}"), 404, "IAM.0004", server.project_id)


def test_the_domain_and_the_region(account: RunningServer):
    [domain] = account.send("GET", "/v3/auth/domains").json()["domains"]
    assert domain["name"].startswith("other-")
    assert domain["enabled"] is True
    [region] = account.send("GET", "/v3/regions").json()["regions"]
    assert region["id"] == "cn-north-4"


def test_the_projects_that_a_user_may_use(account: RunningServer):
    answer = account.send("GET", "/v3/auth/projects")

    assert [one["name"] for one in answer.json()["projects"]] == ALL


@pytest.mark.parametrize("name", ["eu-west-101", "cn-north-4", "cn-north-5_x"])
def test_a_client_with_a_wrong_region_makes_no_project_by_its_look_up(account: RunningServer, name: str):
    """Node's SDK posts the region's name when its look-up finds nothing."""
    answer = account.send("POST", "/v3/projects", json_body={"project": {"name": name}})

    assert_error(answer, 403, "IAM.0003", "cn-north-4")
    assert names(account, "") == ALL


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"project": {"name": "cn-north-4_a"}}, 409, "IAM.0005"),
        ({"project": {"name": "cn-north-4_ä"}}, 400, "IAM.0011"),
        ({"project": {"name": "cn-north-4_" + "x" * 60}}, 400, "IAM.0011"),
        ({"project": {"name": "cn-north-4_e", "description": "x" * 256}}, 400, "IAM.0011"),
        ({"project": {"name": "cn-north-4_e", "description": "two\nlines"}}, 400, "IAM.0011"),
        ({"project": {"name": "cn-north-4_e", "description": "\x1b[2Jgone"}}, 400, "IAM.0011"),
        ({"project": {"name": ""}}, 400, "IAM.0011"),
        ({"project": {}}, 400, "IAM.0011"),
        ({}, 400, "IAM.0011"),
    ],
)
def test_a_project_that_is_not_made(account: RunningServer, body: Any, status: int, code: str):
    assert_error(account.send("POST", "/v3/projects", json_body=body), status, code)


class TestWhoSeesWhat:
    def test_a_user_sees_the_projects_in_which_it_has_a_role_and_no_others(self, server: RunningServer):
        mine = server.send("POST", "/api/v1/projects", json_body={"name": "seen-by-one"}).json()["id"]
        other = server.send("POST", "/api/v1/projects", json_body={"name": "seen-by-none"}).json()["id"]
        person = add_person(server, "readonly", project_id=mine)
        try:
            for path in ("/v3/projects", "/v3/auth/projects"):
                listed = person.server.send("GET", path).json()["projects"]
                assert [one["name"] for one in listed] == ["seen-by-one"]
            assert [one["id"] for one in person.server.send("GET", "/api/v1/projects").json()] == [mine]
            assert person.server.send("GET", "/v3/projects?name=seen-by-none").json()["projects"] == []
            for hidden in (other, server.project_id):
                assert_error(person.server.send("GET", f"/v3/projects/{hidden}"), 404, "IAM.0004", hidden)
                assert_error(person.server.send("GET", f"/api/v1/projects/{hidden}"), 404, "CCE.01404001", hidden)
            assert person.server.send("GET", f"/api/v1/projects/{mine}").json()["name"] == "seen-by-one"
        finally:
            server.send("DELETE", f"/api/v1/projects/{other}")

    def test_the_sdk_of_a_user_with_a_role_in_its_project_alone_finds_it_by_the_region(self, server: RunningServer):
        person = add_person(server, "readonly", project_id=server.project_id)
        assert person.server.sdk().list_charts(ListChartsRequest()).status_code == 200

    @pytest.mark.parametrize("role", ["te_admin", "readonly", "CCE FullAccess"])
    def test_a_role_in_the_account_shows_them_all(self, server: RunningServer, role: str):
        person = add_person(server, role)
        names = [one["name"] for one in person.server.send("GET", "/api/v1/projects").json()]
        assert names == [one["name"] for one in server.send("GET", "/api/v1/projects").json()]

    def test_readonly_in_the_account_reads_users_and_keys_and_changes_none(self, server: RunningServer):
        reader, other = add_person(server, "readonly"), add_person(server, "readonly")
        assert other.id in [one["id"] for one in reader.server.send("GET", "/api/v1/users").json()]
        assert reader.server.send("GET", f"/api/v1/users/{other.id}").status_code == 200
        assert reader.server.send("GET", f"/api/v1/accesskeys?user_id={other.id}").status_code == 200
        assert reader.server.send("PATCH", f"/api/v1/users/{other.id}", json_body={"enabled": False}).status_code == 403
        assert reader.server.send("GET", "/api/v1/audit").status_code == 403
