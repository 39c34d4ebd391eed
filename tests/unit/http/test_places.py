"""Where a request is for policies, and where for the route that serves it: the same, however its path is written."""

from typing import Any
from urllib.parse import unquote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message, Scope

from pilothouse.http.places import LocationMiddleware
from pilothouse.services.identity.bootstrap import Caller, Where

CLUSTERS = {"test": "0a1b"}
PATHS = (
    "/cce/cam/v3/clusters/{cluster}/namespace/{namespace}/releases/{name}",
    "/autopilot/cam/v3/clusters/{cluster}/namespace/{namespace}/releases/{name}",
    "/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}",
    "/console/p/{project}/releases/{cluster}/{namespace}/{name}",
)


class Clusters:
    """Knows one by its name."""

    async def find_id(self, named: str, /, *, project_id: str) -> str | None:
        assert project_id == "project"
        return CLUSTERS.get(named)


async def ask(raw: str) -> tuple[Where, dict[str, str]]:
    """Send a request as a server would hand it on; return where it is, and what its route made of the path."""
    found: list[tuple[Where, dict[str, str]]] = []

    async def show(request: Request) -> JSONResponse:
        found.append((request.state.caller.where, dict(request.path_params)))
        return JSONResponse({})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        pass

    app = Starlette(routes=[Route(path, show) for path in PATHS])
    caller = Caller("user", "user", "domain", "domain", "project", policies=("{}",))
    state: dict[str, Any] = {"caller": caller}
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": b"",
        "headers": [],
        "state": state,
    }
    await LocationMiddleware(app, Clusters())(scope, receive, send)
    return found[0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cluster", ["test", "0a1b", "elsewhere"])
async def test_a_route_acts_where_policies_are_asked_about(path: str, cluster: str):
    plain = path.format(project="p", cluster=cluster, namespace="prod", name="web")
    start = plain.index(cluster)
    encoded = {
        plain,
        plain.replace("/prod", "%2Fprod"),
        plain.replace("prod/", "prod%2F"),
        plain.replace("prod/", "prod%2f"),
        plain.replace("prod", "%70rod"),
        plain[:start] + plain[start:].replace("/", "%2F"),
    }
    for raw in encoded:
        where, route = await ask(raw)
        assert where == Where(CLUSTERS.get(cluster, cluster), "prod"), raw
        assert (route["cluster"], route["namespace"], route["name"]) == (cluster, "prod", "web"), raw


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_encoded_twice_is_another_namespace_for_both(path: str):
    raw = path.format(project="p", cluster="test", namespace="prod%252Freleases", name="web")
    where, route = await ask(raw)
    assert (where.namespace, route["namespace"]) == ("prod%2Freleases",) * 2
