"""What each route asks of its caller, and a request to it: declared here, apart from the code that enforces it.

``test_route_table`` holds it against the routes of the application, so that a new route has to be added.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from pilothouse.api.cce.description import openapi
from pilothouse.app import create_app
from pilothouse.services.operations.notifications import Notifications
from pilothouse.settings import Settings
from pilothouse.wiring import build_runtime

#: Without credentials too.
PUBLIC: Final = "public"
#: Every living caller of the account.
EVERYBODY: Final = "everybody"
#: Whoever has some role in the project; it does not exist for others.
SEES_PROJECT: Final = "sees the project"

_CLUSTER = "/cce/cam/v3/clusters/{cluster_id}"
_RELEASE = f"{_CLUSTER}/namespace/{{namespace}}/releases/{{name}}"
_OWN_RELEASE = "/api/v1/clusters/{cluster}/namespaces/{namespace}/releases/{name}"
#: Two prefixes lead to the same routes.
_TWINS: Final = {"/autopilot/cam/v3/": "/cce/cam/v3/", "/autopilot/v2/charts": "/v2/charts"}


@dataclass(frozen=True)
class Route:
    """A route's action, and what a whole request to it holds besides its path; ``{words}`` are filled in as there."""

    action: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    archive: bool = False  # the body is a form with a chart
    for_whom: str = ""  # the field of the body that decides about the right: it is whole in a broken one too


_ALLOW_READING = {"Effect": "Allow", "Action": ["cce:release:get"]}
_SUBJECT = {"X-Subject-Token": "{token}"}

#: "METHOD path" of every route, under the vendor's first prefix.
TABLE: Final[dict[str, Route]] = {
    "GET /": Route(PUBLIC),
    "GET /v3": Route(PUBLIC),
    "GET /v3/": Route(PUBLIC),
    "GET /api/v1/health": Route(PUBLIC),
    "GET /api/v1/status": Route("pilothouse:status:get"),
    "GET /api/v1/openapi.json": Route(PUBLIC),
    "HEAD /api/v1/openapi.json": Route(PUBLIC),
    "GET /api/v1/compatible-openapi.json": Route(PUBLIC),
    "GET /api/v1/docs": Route(PUBLIC),
    # Releases
    f"POST {_CLUSTER}/releases": Route(
        "cce:release:create",
        body={"chart_id": "{chart_id}", "name": "{fresh}", "namespace": "{namespace}", "values": {}},
    ),
    f"GET {_CLUSTER}/releases": Route("cce:release:list"),
    f"GET {_RELEASE}": Route("cce:release:get"),
    f"GET {_RELEASE}/history": Route("cce:release:get"),
    f"PUT {_RELEASE}": Route("cce:release:update", body={"chart_id": "{chart_id}", "action": "upgrade", "values": {}}),
    f"DELETE {_RELEASE}": Route("cce:release:delete"),
    "GET /api/v1/releases": Route("cce:release:list", query="cluster={cluster_id}"),
    f"GET {_OWN_RELEASE}": Route("cce:release:get"),
    f"PUT {_OWN_RELEASE}": Route("cce:release:update", body={"chart": {"id": "{chart_id}"}}),
    f"DELETE {_OWN_RELEASE}": Route("cce:release:delete"),
    f"POST {_OWN_RELEASE}/rollback": Route("cce:release:update", body={}),
    f"POST {_OWN_RELEASE}/test": Route("cce:release:update", body={}),
    f"POST {_OWN_RELEASE}/unlock": Route("cce:release:update", body={"reason": "the matrix"}),
    f"GET {_OWN_RELEASE}/values": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/manifest": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/notes": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/hooks": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/history": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/resources": Route("cce:release:get"),
    f"GET {_OWN_RELEASE}/pod": Route("cce:release:get", query="pod={name}-pod"),
    f"GET {_OWN_RELEASE}/logs": Route("pilothouse:logs:read", query="pod={name}-pod"),
    f"GET {_OWN_RELEASE}/diff": Route("cce:release:get", query="from=1&to=1"),
    f"GET {_OWN_RELEASE}/ignore-rules": Route("cce:release:get"),
    f"PUT {_OWN_RELEASE}/ignore-rules": Route("cce:release:update", body={"rules": [{"pointer": "/data"}]}),
    f"POST {_OWN_RELEASE}/plan": Route("cce:release:get", body={"deploy": {"chart": {"id": "{chart_id}"}}}),
    "GET /api/v1/plans": Route("cce:release:list"),
    "GET /api/v1/plans/{plan_id}": Route("cce:release:get"),
    # It asks for the right to what is planned: the plan of the matrix is of an upgrade.
    "POST /api/v1/plans/{plan_id}/apply": Route("cce:release:update", body={"digest": "sha256:another"}),
    "POST /api/v1/render": Route("cce:chart:get", body={"chart": {"id": "{chart_id}"}}),
    "POST /api/v1/clusters/{cluster_id}/unlock": Route(
        "cce:release:update", body={"namespace": "{namespace}", "name": "{name}", "reason": "the matrix"}
    ),
    # Charts
    "POST /v2/charts": Route("cce:chart:upload", archive=True),
    "GET /v2/charts": Route("cce:chart:list"),
    "GET /v2/charts/{chart_id}": Route("cce:chart:get"),
    "PUT /v2/charts/{chart_id}": Route("cce:chart:update", archive=True),
    "DELETE /v2/charts/{chart_id}": Route("cce:chart:delete"),
    "GET /v2/charts/{chart_id}/archive": Route("cce:chart:download"),
    "GET /v2/charts/{chart_id}/values": Route("cce:chart:get"),
    "GET /v2/charts/{project_id}/quotas": Route("cce:chart:getQuota"),
    "GET /api/v1/charts": Route("cce:chart:list"),
    # Sources
    "POST /api/v1/sources": Route(
        "cce:source:create",
        body={"name": "{fresh}", "kind": "http", "url": "{repository}", "ca": "{authority}", "sync_seconds": 0},
    ),
    "GET /api/v1/sources": Route("cce:source:list"),
    "GET /api/v1/sources/{source}": Route("cce:source:get"),
    "PATCH /api/v1/sources/{source}": Route("cce:source:update", body={"sync_seconds": 0}),
    "DELETE /api/v1/sources/{source}": Route("cce:source:delete"),
    "POST /api/v1/sources/{source}/sync": Route("cce:source:sync"),
    "GET /api/v1/sources/{source}/charts": Route("cce:source:list"),
    # A right of its own, asked before anything; the source of the matrix is a repository, which takes none.
    "POST /api/v1/sources/{source}/charts": Route("cce:source:push", body={"chart": {"id": "{chart_id}"}}),
    "POST /api/v1/sources/{source}/archives": Route("cce:source:push", archive=True),
    "GET /api/v1/sources/{source}/charts/{chart_name}": Route("cce:source:get"),
    "GET /api/v1/sources/{source}/charts/{chart_name}/{version}": Route("cce:source:get"),
    # Which charts the project takes
    "GET /api/v1/verification": Route("cce:verification:get"),
    "PUT /api/v1/verification": Route("cce:verification:update", body={"verified_only": False}),
    # Clusters
    "POST /api/v1/clusters": Route("cce:cluster:create", body={"name": "{fresh}", "kubeconfig": "{kubeconfig}"}),
    "GET /api/v1/clusters": Route("cce:cluster:list"),
    "GET /api/v1/clusters/{cluster_id}": Route("cce:cluster:get"),
    "GET /api/v1/clusters/{cluster_id}/probe": Route("cce:cluster:get"),
    "PUT /api/v1/clusters/{cluster_id}/kubeconfig": Route("cce:cluster:update", body={"kubeconfig": "{kubeconfig}"}),
    "PUT /api/v1/clusters/{cluster_id}/wall": Route(
        "pilothouse:wall:update", body={"namespaces": ["matrix"], "user": "matrix"}
    ),
    "DELETE /api/v1/clusters/{cluster_id}/wall": Route("pilothouse:wall:update"),
    "PUT /api/v1/clusters/{cluster_id}/drift": Route("cce:cluster:update", body={"seconds": 0}),
    "DELETE /api/v1/clusters/{cluster_id}": Route("cce:cluster:delete"),
    # Operations
    "GET /api/v1/operations": Route("cce:operation:list"),
    "GET /api/v1/operations/{operation_id}": Route("cce:operation:get"),
    "GET /api/v1/operations/{operation_id}/events": Route("cce:operation:get"),
    "GET /api/v1/operations/{operation_id}/evidence": Route("cce:operation:get"),
    # It asks for the right to order what is cancelled: the operation of the matrix is an install.
    "POST /api/v1/operations/{operation_id}/cancel": Route("cce:release:create", body={}),
    # Identity: ids are those of the account's administrator, as everybody may do the same with its own
    "POST /v3/auth/tokens": Route(PUBLIC, body={"auth": {}}),
    "GET /api/v1/login": Route(PUBLIC),
    "POST /api/v1/login": Route(PUBLIC, body={"provider": "corp", "id_token": "a.b.c", "access_token": "opaque"}),
    "GET /v3/auth/tokens": Route("iam:tokens:get", headers=_SUBJECT),
    "HEAD /v3/auth/tokens": Route("iam:tokens:get", headers=_SUBJECT),
    "DELETE /v3/auth/tokens": Route("iam:tokens:delete", headers=_SUBJECT),
    "GET /v3/auth/catalog": Route(EVERYBODY),
    "GET /v3/auth/projects": Route(EVERYBODY),
    "GET /v3/auth/domains": Route(EVERYBODY),
    "GET /v3/regions": Route(EVERYBODY),
    "GET /v3/projects": Route(EVERYBODY),
    "GET /v3/projects/{project_id}": Route(SEES_PROJECT),
    "POST /v3/projects": Route("iam:projects:createProject", body={"project": {"name": "{region}_{fresh}"}}),
    "GET /api/v1/projects": Route(EVERYBODY),
    "GET /api/v1/projects/{project_id}": Route(SEES_PROJECT),
    "POST /api/v1/projects": Route("iam:projects:createProject", body={"name": "{fresh}"}),
    "PATCH /api/v1/projects/{project_id}": Route("iam:projects:updateProject", body={"enabled": True}),
    "DELETE /api/v1/projects/{project_id}": Route("iam:projects:deleteProject"),
    "GET /api/v1/webhooks": Route("cce:webhook:list"),
    "POST /api/v1/webhooks": Route("cce:webhook:create", body={"name": "{fresh}", "url": "https://192.0.2.1/"}),
    "GET /api/v1/webhooks/{webhook_id}": Route("cce:webhook:get"),
    "GET /api/v1/webhooks/{webhook_id}/deliveries": Route("cce:webhook:get"),
    "PATCH /api/v1/webhooks/{webhook_id}": Route("cce:webhook:update", body={"enabled": True}),
    "POST /api/v1/webhooks/{webhook_id}/ping": Route("cce:webhook:update"),
    "DELETE /api/v1/webhooks/{webhook_id}": Route("cce:webhook:delete"),
    "GET /api/v1/audit": Route("pilothouse:audit:read"),
    "GET /api/v1/users": Route("iam:users:listUsers"),
    "POST /api/v1/users": Route("iam:users:createUser", body={"name": "{fresh}"}),
    "GET /api/v1/users/{user_id}": Route("iam:users:getUser"),
    "PATCH /api/v1/users/{user_id}": Route("iam:users:updateUser", body={"enabled": True}),
    "PUT /api/v1/users/{user_id}/password": Route("iam:users:updateUser", body={"password": "taken over by a matrix"}),
    "DELETE /api/v1/users/{user_id}": Route("iam:users:deleteUser"),
    "POST /api/v1/users/{user_id}/roles": Route(
        "iam:permissions:grantRoleToUser", body={"role": "te_admin", "project_id": "{project_id}"}
    ),
    "DELETE /api/v1/users/{user_id}/roles/{role}": Route(
        "iam:permissions:revokeRoleFromUser", query="project_id={project_id}"
    ),
    "GET /api/v1/groups": Route("iam:groups:listGroups"),
    "POST /api/v1/groups": Route("iam:groups:createGroup", body={"name": "{fresh}"}),
    "GET /api/v1/groups/{group_id}": Route("iam:groups:getGroup"),
    "DELETE /api/v1/groups/{group_id}": Route("iam:groups:deleteGroup"),
    "POST /api/v1/groups/{group_id}/roles": Route(
        "iam:permissions:grantRoleToGroup", body={"role": "te_admin", "project_id": "{project_id}"}
    ),
    "DELETE /api/v1/groups/{group_id}/roles/{role}": Route(
        "iam:permissions:revokeRoleFromGroup", query="project_id={project_id}"
    ),
    "GET /api/v1/policies": Route("iam:policies:list"),
    "POST /api/v1/policies": Route(
        "iam:policies:create",
        body={"name": "{fresh}", "document": {"Version": "5.0", "Statement": [_ALLOW_READING]}},
    ),
    "GET /api/v1/policies/{policy_id}": Route("iam:policies:get"),
    "PUT /api/v1/policies/{policy_id}": Route(
        "iam:policies:update", body={"document": {"Version": "5.0", "Statement": [_ALLOW_READING]}}
    ),
    "DELETE /api/v1/policies/{policy_id}": Route("iam:policies:delete"),
    "POST /api/v1/policies/{policy_id}/attachments": Route(
        "iam:policies:attach",
        body={"user_id": "{user_id}", "group_id": "{group_id}", "project_id": "{project_id}"},
    ),
    "DELETE /api/v1/policies/{policy_id}/attachments": Route(
        "iam:policies:detach", query="user_id={user_id}&project_id={project_id}"
    ),
    "GET /api/v1/accesskeys": Route("iam:credentials:listCredentials", query="user_id={user_id}"),
    "POST /api/v1/accesskeys": Route(
        "iam:credentials:createCredential",
        body={"user_id": "{user_id}", "project_id": "{project_id}"},
        for_whom="user_id",
    ),
    "GET /api/v1/accesskeys/{access_key}": Route("iam:credentials:getCredential"),
    "PATCH /api/v1/accesskeys/{access_key}": Route("iam:credentials:updateCredential", body={"enabled": True}),
    "DELETE /api/v1/accesskeys/{access_key}": Route("iam:credentials:deleteCredential"),
}


def declared(route: str) -> Route:
    """Return what is declared for a route under any of its prefixes."""
    return TABLE[untwinned(route)]


def untwinned(route: str) -> str:
    """Return the route under the vendor's first prefix."""
    method, _, path = route.partition(" ")
    for twin, first in _TWINS.items():
        if path.startswith(twin):
            path = first + path.removeprefix(twin)
    return f"{method} {path}"


@dataclass(frozen=True)
class Served:
    """ "METHOD path" of every route of the application, and the descriptions of both APIs."""

    routes: list[str]
    documents: tuple[dict[str, Any], dict[str, Any]]

    def described(self, route: str) -> dict[str, Any]:
        """Return what the documents say of a route; nothing for one that they leave out."""
        method, _, path = route.partition(" ")
        for document in self.documents:
            found: dict[str, Any] | None = document["paths"].get(path, {}).get(method.lower())
            if found is not None:
                return found
        return {}


def application(folder: Path) -> Served:
    """Build the application, of which nothing is started or connected, and return what it serves."""
    return asyncio.run(_application(folder))


async def _application(folder: Path) -> Served:
    parts = build_runtime(Settings(data_dir=folder), database_url="postgresql://nowhere", engine_children=1)
    app = create_app(parts, Notifications(parts.database))
    while not isinstance(app, FastAPI):
        app = app._app  # type: ignore[attr-defined]
    found = iter_route_contexts(app.routes)
    routes = sorted({f"{method} {route.path}" for route in found for method in route.methods or () if route.path})
    documents = (app.openapi(), openapi())
    await parts.close()
    return Served(routes, documents)


def id_fields(schema: Any, document: dict[str, Any]) -> set[str]:
    """Return the fields of a described body that hold an id of something."""
    if isinstance(schema, list):
        return {name for one in schema for name in id_fields(one, document)}
    if not isinstance(schema, dict):
        return set()
    if "$ref" in schema:
        found: Any = document
        for step in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[step]
        return id_fields(found, document)
    fields = schema.get("properties", {})
    own = {name for name in fields if name == "id" or name.endswith("_id")}
    for name, field_schema in fields.items():  # the id of a chart within "chart" is a chart_id
        own |= {f"{name}_id" if one == "id" else one for one in id_fields(field_schema, document)}
    return own | id_fields([schema.get(key, []) for key in ("anyOf", "allOf", "oneOf")], document)
