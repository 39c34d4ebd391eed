"""The two OpenAPI documents, and a walk along every operation that they describe, wild input included.

What is declared is what may come: status codes, content types, headers and the exact members of every body. Where a
document asks for an id, one walk sends that of something real, so that it gets past the look-ups.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.result import Ok, Result
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.chart_sources import Repository, repository
from tests.support.charts import build_chart, config_map_template
from tests.support.matrix_world import add_group, add_policy
from tests.support.releases import planned_install
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.tokens import PATH as TOKENS
from tests.support.tokens import ask, login
from tests.support.wire import exchange

Case = schemathesis.Case[Any]
Cases = SearchStrategy[Case]
Operation = APIOperation[Any, Any, Any, Any]
PASSWORD = "correct horse battery staple"
COMPATIBLE, OWN = "/api/v1/compatible-openapi.json", "/api/v1/openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
WALK = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),  # a busy machine generates slowly
)


#: What only a release with pods has: the chart that is walked has none.
OF_PODS = ("/logs", "/pod")


@dataclass(frozen=True)
class Real:
    """What exists: ``ids`` by the names of path parameters and headers, ``fields`` by those in bodies and queries."""

    ids: dict[str, str]
    fields: dict[str, Any]


@dataclass(frozen=True)
class Tenant:
    """A customer of the walk's own, with things that it may break."""

    server: RunningServer
    real: dict[str, Real]


class Signature(requests.auth.AuthBase):
    """Signs what is about to be sent, as it is about to be sent."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        path, _, query = request.path_url.partition("?")
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else cast("bytes", body)
        host = self.server.url.removeprefix("http://")
        request.headers.update(
            sign(
                SignedRequest(
                    method=request.method or "",
                    raw_path=path.encode(),
                    query_string=query.encode(),
                    headers=[(b"host", host.encode())],
                    body_digest=body_digest(content),
                    body_empty=not content,
                ),
                access_key=self.server.access_key,
                secret_key=self.server.secret_key,
                now=datetime.now(UTC),
            )
        )
        request.headers["Host"] = host
        return request


def is_ok(found: Result[Operation, InvalidSchema]) -> TypeGuard[Ok[Operation]]:
    assert isinstance(found, Ok), found
    return True


@pytest.fixture(scope="module")
def serving() -> Iterator[Repository]:
    entry = {"apiVersion": "v2", "name": "walked", "version": "0.1.0", "urls": ["walked.tgz"]}
    with repository() as found:
        found.files["index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"walked": [entry]}}).encode()
        found.files["walked.tgz"] = build_chart("walked")
        yield found


@pytest.fixture
def tenant(
    server: RunningServer, kubeconfig: str, make_namespace: Callable[[], str], serving: Repository
) -> Iterator[Tenant]:
    """Return a customer for one walk, which changes and deletes: cluster, chart, release, and a spare of each."""
    alone = add_tenant(server)

    def make(path: str, **body: Any) -> dict[str, Any]:
        answer = alone.send("POST", f"/api/v1/{path}", json_body=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    cluster = make("clusters", name="walked", kubeconfig=kubeconfig)["id"]
    spare_cluster = make("clusters", name="spare", kubeconfig=kubeconfig)["id"]
    spare_user = make("users", name="spare", password=PASSWORD)["id"]
    granted = alone.send("POST", f"/api/v1/users/{spare_user}/roles", json_body={"role": "CCE ReadOnlyAccess"})
    assert granted.is_success, granted.text
    alone = dataclasses.replace(alone, cluster_id=cluster)
    archive = build_chart("walked", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    chart = alone.upload(archive).json()["id"]
    namespace = make_namespace()
    made = alone.create(chart_id=chart, namespace=namespace, name="walked", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    assert alone.wait_until_final(namespace, "walked")["status"] == "DEPLOYED"
    domain = alone.send("GET", "/v3/auth/domains").json()["domains"][0]
    token = ask(alone, login(PASSWORD, name="spare", domain=domain["name"])).headers["x-subject-token"]
    release = {"namespace": namespace, "name": "walked"}
    yield Tenant(
        server=alone,
        real={
            COMPATIBLE: Real(
                ids={
                    "cluster_id": cluster,
                    "chart_id": chart,
                    "project_id": alone.project_id,
                    "X-Subject-Token": token,
                    **release,
                },
                fields={
                    "chart_id": chart,
                    "namespace": namespace,
                    "version": "0.1.0",
                    "content": build_chart("walked", "0.2.0"),
                },
            ),
            OWN: Real(
                ids={
                    "cluster_id": spare_cluster,
                    "operation_id": made.headers["x-operation-id"],
                    "plan_id": planned_install(alone, cluster_id=cluster, chart_id=chart, namespace=namespace),
                    "user_id": spare_user,
                    "access_key": make("accesskeys", user_id=spare_user, password=alone.password)["access_key"],
                    "project_id": make("projects", name="cn-north-4_spare")["id"],
                    "role": "readonly",
                    "cluster": cluster,
                    **release,
                    "source": make("sources", name="walked", kind="http", url=serving.url, ca=serving.ca)["id"],
                    "chart_name": "walked",
                    "webhook_id": make("webhooks", name="walked", url="https://192.0.2.1/")["id"],
                    "group_id": add_group(server, domain["id"]),
                    "policy_id": add_policy(server, domain["id"]),
                    "version": "0.1.0",
                },
                fields={
                    "cluster": cluster,
                    "cluster_id": cluster,
                    "user_id": spare_user,
                    "role": "readonly",
                    **release,
                },
            ),
        },
    )
    for cluster_id in (cluster, spare_cluster):
        settle(alone, cluster_id)
        alone.send("DELETE", f"/api/v1/clusters/{cluster_id}")


def settle(server: RunningServer, cluster_id: str) -> None:
    """Wait until nothing is done in the cluster any more."""
    until = time.monotonic() + 60
    for state in ("queued", "running", "cancelling"):
        while server.send("GET", f"/api/v1/operations?cluster_id={cluster_id}&state={state}").json():
            assert time.monotonic() < until, state
            time.sleep(0.2)


def described(server: RunningServer, path: str) -> dict[str, Any]:
    """Return the document, which everybody may read."""
    answer = exchange(server, "GET", path, credentials=False)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    if path == OWN:  # what only the gateway answers is not provoked here, so that a status has to be declared
        for operation in (one for item in document["paths"].values() for one in item.values()):
            operation["responses"].pop("default")
    return document


def loaded(document: dict[str, Any]) -> BaseSchema:
    generation = GenerationConfig(with_security_parameters=False, deterministic=True)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    return schemathesis.openapi.from_dict(document, config=config)


@pytest.mark.parametrize("path", [COMPATIBLE, OWN])
def test_every_operation_keeps_to_its_description(path: str, tenant: Tenant, subtests: pytest.Subtests):
    operations = [found.ok() for found in loaded(described(tenant.server, path)).get_all_operations() if is_ok(found)]
    assert operations
    # what is deleted cannot be looked at any more, and has things below it
    for operation in sorted(operations, key=lambda one: (one.method == "delete", -len(one.path))):
        for name, cases, aim in walks(operation, tenant.real[path]):
            with subtests.test(operation.label, walk=name):
                statuses = run(tenant.server, cases, aim)
                reads = operation.method == "get" and not operation.path.endswith(OF_PODS)
                assert name != "real" or not reads or min(statuses) < 400, statuses


def walks(operation: Operation, real: Real) -> Iterator[tuple[str, Cases, dict[str, Any]]]:
    """Yield what to send: what the document allows about anything and about real things, and what it does not allow."""
    path = {one.name: real.ids[one.name] for one in operation.path_parameters if one.name in real.ids}
    headers = {one.name: real.ids[one.name] for one in operation.headers if one.name in real.ids}
    yield "anything", operation.as_strategy(), {}
    yield "real", operation.as_strategy(path_parameters=path or None, headers=headers or None), real.fields
    if operation.body or operation.query or operation.headers:
        yield "wrong", operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=path or None), {}


def run(server: RunningServer, cases: Cases, aim: dict[str, Any]) -> set[int]:
    """Send such cases, signed, with real ids in body and query as far as ``aim`` has them; return the statuses."""
    statuses = set()

    @WALK
    @given(case=cases)
    def send(case: Case) -> None:
        for part in (case.body, case.query):
            if isinstance(part, dict):
                part.update({name: aim[name] for name in part.keys() & aim.keys()})
        response = case.call(server.url, auth=Signature(server), allow_redirects=False, timeout=60)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)
        # what is signed is never an unknown caller's
        assert response.status_code != 401 or case.path == TOKENS, response.text

    send()
    return statuses
