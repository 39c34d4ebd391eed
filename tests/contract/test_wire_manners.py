"""How the server behaves on the wire whatever is asked: the manners that the vendor's clients depend on."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.wire import JSON, assert_error, exchange

NO_SUCH_API = (404, "APIGW.0101")
INVALID = (400, "CCE.01400001")


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    answer = server.upload(config_map_chart("manners", "1.0.0"), parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def shared_namespace(make_namespace: Callable[[], str]) -> str:
    """Nothing is made in it."""
    return make_namespace()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing/here"),
        ("GET", "/v2"),
        ("GET", "/v2/charts/"),
        ("POST", "/v2/charts/"),
        ("PATCH", "/v2/charts"),
        ("DELETE", "/v2/charts"),
        ("PUT", "/cce/cam/v3/clusters/CLUSTER/releases"),
        ("DELETE", "/cce/cam/v3/clusters/CLUSTER/releases"),
        ("GET", "/cce/cam/v3/clusters/CLUSTER/releases/"),
        ("POST", "/cce/cam/v3/clusters/CLUSTER/releases/"),
        ("GET", "/cce/cam/v3/clusters/CLUSTER/namespaces/default/releases/x"),
        ("GET", "/cce/cam/v3/clusters//releases"),
        ("GET", "//v2/charts"),
        ("GET", "/V2/Charts"),
        ("GET", "/v2/charts/a/b/c"),
        ("GET", "/v2/charts/a%2Fb"),
        ("GET", "/v2/../v2/charts"),
        ("GET", "/v2/%2e%2e/v2/charts"),
        ("GET", "/cce/cam/v3/clusters/a%2Fb/releases"),
        ("POST", "/api/v1/health"),
        ("PUT", "/api/v1/clusters"),
        ("OPTIONS", "/v2/charts"),
        ("OPTIONS", "/cce/cam/v3/clusters/CLUSTER/releases"),
        ("TRACE", "/v2/charts"),
        ("BREW", "/v2/charts"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_an_unknown_route_or_method_is_answered_as_the_vendors_gateway_does(
    server: RunningServer, method: str, path: str
):
    answer = exchange(server, method, path.replace("CLUSTER", server.cluster_id))
    if path == "/api/v1/health":
        assert answer.status_code in {401, 404}
        return
    assert_error(answer, *NO_SUCH_API, "does not exist", method)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v2/charts", "/nothing", "/api/v1/clusters", "/v3/projects"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_strangers_learn_nothing_not_even_which_routes_exist(server: RunningServer, method: str, path: str):
    assert_error(exchange(server, method, path, credentials=False), 401, "APIGW.0301")


@pytest.mark.parametrize("credentials", [True, False])
def test_a_head_request_has_no_body_and_a_request_id(server: RunningServer, credentials: bool):  # noqa: FBT001
    answer = exchange(server, "HEAD", "/v2/charts", credentials=credentials)
    assert answer.status_code == (404 if credentials else 401)
    assert answer.content == b""
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_answer_has_a_request_id_of_its_own(server: RunningServer, chart_id: str):
    paths = ["/v2/charts", f"/v2/charts/{chart_id}", "/v2/charts/none", "/nothing", "/api/v1/clusters", "/v3/projects"]
    paths += [f"/cce/cam/v3/clusters/{server.cluster_id}/releases", "/api/v1/health"]
    headers = [*JSON, ("X-Request-Id", "chosen-by-the-caller")]
    ids = [exchange(server, "GET", path, headers=headers).headers["x-request-id"] for path in paths * 2]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == len(ids)


def test_lists_are_bare_arrays_even_when_empty(server: RunningServer, shared_namespace: str):
    other = add_tenant(server)
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    answers = [
        other.send("GET", "/v2/charts"),
        other.send("GET", "/api/v1/clusters"),
        server.send("GET", f"{path}?namespace={shared_namespace}"),
        server.send("GET", f"{path}?namespace=there-is-no-such-namespace"),
        server.send("GET", f"{path}?chart_id=6f9619ff-8b86-d011-b42d-00c04fc964ff"),
    ]
    for answer in answers:
        assert (answer.status_code, answer.content) == (200, b"[]")
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v2/charts", "/v3/projects?name=cn-north-4", "RELEASES"])
def test_a_get_with_a_body_is_answered_like_nodes_client_wants(
    server: RunningServer,
    path: str,
    chunked: bool,  # noqa: FBT001 - a case of the test
):
    target = path.replace("RELEASES", f"/cce/cam/v3/clusters/{server.cluster_id}/releases")
    answer = exchange(server, "GET", target, body=b"{}", chunked=chunked)
    assert answer.status_code == 200, answer.text


def test_a_get_whose_body_was_changed_is_refused(server: RunningServer):
    signed = exchange(
        server,
        "GET",
        "/v2/charts",
        headers=[*JSON, ("X-Sdk-Content-Sha256", "a" * 64)],
        signed=["x-sdk-content-sha256"],
        body=b"{}",
    )
    assert_error(signed, 401, "APIGW.0301")


def test_a_chunked_create_is_taken_like_javas(server: RunningServer, chart_id: str, shared_namespace: str):
    body = {"name": "chunked", "namespace": shared_namespace, "chart_id": chart_id, "parameters": {"dry_run": True}}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    answer = exchange(server, "POST", path, body=json.dumps(body).encode() + b"\n", chunked=True)
    assert (answer.status_code, answer.json().get("name")) == (201, "chunked")


@pytest.mark.parametrize(
    ("types", "code"),
    [
        (["application/json", "application/json"], None),
        (["application/json", "application/json;charset=utf-8"], None),
        (["application/json", "text/plain"], "CCE.01400006"),
        (["text/plain", "application/json"], "CCE.01400006"),
    ],
)
def test_two_content_types_must_both_be_json(
    server: RunningServer, chart_id: str, shared_namespace: str, types: list[str], code: str | None
):
    body = {"name": "typed", "namespace": shared_namespace, "chart_id": chart_id, "parameters": {"dry_run": True}}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    headers = [("Content-Type", one) for one in types]
    answer = exchange(server, "POST", path, headers=headers, body=json.dumps(body).encode())
    if code is None:
        assert answer.status_code == 201, answer.text
    else:
        assert_error(answer, 400, code, "text/plain")


def test_a_body_without_any_content_type_is_read_as_json(server: RunningServer):
    answer = exchange(
        server, "POST", f"/cce/cam/v3/clusters/{server.cluster_id}/releases", headers=[], body=b'{"name": 1}'
    )
    assert_error(answer, *INVALID)


@pytest.mark.parametrize(
    "query",
    [
        "namespace=NS",
        "namespace=%4eS".replace("%4eS", "NS"),
        "namespace=NS&namespace=NS",
        "&&namespace=NS&",
        "namespace=NS&unknown=%F0%9F%9A%80",
        "chart_id=&namespace=NS",
        "chart_id=a+b%20c&namespace=NS",
        "chart_id=%ff%fe&namespace=NS",
        "chart_id=%25&namespace=NS",
        "chart_id=x%26namespace%3Ddefault&namespace=NS",
        "namespace=UPPER",
        "namespace=a%2Fb",
        "namespace=..%2F..%2Fdefault",
        "namespace=" + "a" * 5000,
        "namespace=%F0%9F%9A%80",
        "namespace=NS&=empty&novalue",
        "namespace=NS&page=1;offset=2",
    ],
    ids=lambda value: value[:32],
)
def test_odd_queries_are_read_and_signed_alike(server: RunningServer, shared_namespace: str, query: str):
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    answer = exchange(server, "GET", f"{path}?{query.replace('NS', shared_namespace)}")
    assert (answer.status_code, answer.content) == (200, b"[]"), answer.text


@pytest.mark.parametrize(
    "target",
    [
        "/v2/charts/%00",
        "/v2/charts/a%00b",
        "/api/v1/clusters/%00",
        "/api/v1/clusters/%00/probe",
        "/cce/cam/v3/clusters/%00/releases",
        "/cce/cam/v3/clusters/CLUSTER/releases?chart_id=%00",
        "/cce/cam/v3/clusters/CLUSTER/releases?namespace=%00",
        "/cce/cam/v3/clusters/CLUSTER/namespace/%00/releases/x",
        "/cce/cam/v3/clusters/CLUSTER/namespace/default/releases/%00",
    ],
)
def test_a_nul_in_the_target_is_refused_and_not_a_server_error(server: RunningServer, target: str):
    answer = exchange(server, "GET", target.replace("CLUSTER", server.cluster_id))
    assert_error(answer, *INVALID, "NUL")


def test_a_nul_in_a_removed_clusters_id_is_refused(server: RunningServer):
    assert_error(exchange(server, "DELETE", "/api/v1/clusters/%00"), *INVALID, "cluster_id", "NUL")


@pytest.mark.parametrize("target", ["/v2/charts?q=" + "x" * 33_000, "/" + "x" * 33_000])
def test_a_target_over_32_kib_is_refused(server: RunningServer, target: str):
    assert_error(exchange(server, "GET", target), 414, "APIGW.0201")


def test_a_header_over_32_kib_is_refused(server: RunningServer):
    answer = exchange(server, "GET", "/v2/charts", headers=[*JSON, ("X-Large", "x" * 33_000)])
    assert_error(answer, 494, "APIGW.0201", "x-large")


def test_the_project_look_up_finds_exactly_one_project_by_the_regions_name(server: RunningServer):
    answer = server.send("GET", "/v3/projects?name=cn-north-4")
    assert answer.status_code == 200, answer.text
    [project] = answer.json()["projects"]
    assert (project["id"], project["name"], project["is_domain"]) == (server.project_id, "cn-north-4", False)
    assert server.send("GET", "/v3/projects?name=af-south-1").json()["projects"] == []
    assert server.project_id in [one["id"] for one in server.send("GET", "/v3/projects").json()["projects"]]


@pytest.mark.parametrize("project", ["0" * 32, "%7Bproject_id%7D", "x" * 1000])
def test_a_project_that_is_not_the_callers_is_refused(server: RunningServer, project: str):
    answer = server.send("GET", "/v2/charts", headers={"X-Project-Id": project})
    assert_error(answer, 403, "APIGW.0310")


def test_the_callers_own_project_may_be_named(server: RunningServer):
    assert server.send("GET", "/v2/charts", headers={"X-Project-Id": server.project_id}).status_code == 200


def test_our_own_api_describes_itself_without_credentials(server: RunningServer):
    answer = exchange(server, "GET", "/api/v1/openapi.json", credentials=False)
    paths: dict[str, Any] = answer.json()["paths"]
    assert {"/api/v1/clusters", "/api/v1/health"} <= set(paths)
    assert not any(path.startswith(("/v2", "/cce", "/v3")) for path in paths)


def test_our_own_api_is_explained_on_a_page_that_loads_nothing_from_elsewhere(server: RunningServer):
    answer = exchange(server, "GET", "/api/v1/docs", credentials=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "GET /api/v1/operations/{operation_id}" in answer.text
    links = re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)", answer.text)
    assert links == ["/api/v1/openapi.json"]
    assert "<script" not in answer.text
