"""Every way in which a Create Release can be wrong gets an answer that says what was wrong, and nothing is lost."""

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import select

from pilothouse.errors import AlreadyExists
from pilothouse.store import operations, tables
from pilothouse.store import submit as queue
from pilothouse.store.database import Database
from tests.support.charts import build_chart, config_map_template
from tests.support.forwarder import Forwarder, forward
from tests.support.operations import LIMITS
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error, exchange

INVALID = (400, "CCE.01400001")
NOT_FOUND = (404, "CCE.01404001")
SCHEMA = json.dumps(
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"replicas": {"type": "integer", "minimum": 1}},
    }
)


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    """Return a chart whose template fails on ``broken`` and whose schema wants ``replicas`` to be a whole number."""
    guard = '{{ if .Values.broken }}{{ fail "the flux capacitor is empty" }}{{ end }}'
    return upload(
        server,
        build_chart(
            "errors",
            "1.2.3",
            templates={"config.yaml": guard + "\n" + config_map_template()},
            values={"text": "hello", "replicas": 1},
            schema=SCHEMA,
        ),
    )


@pytest.fixture(scope="module")
def shared_namespace(make_namespace: Callable[[], str]) -> str:
    """For requests that are refused: none of them may leave anything in it."""
    return make_namespace()


@pytest.fixture(scope="module")
def good(chart_id: str, shared_namespace: str) -> dict[str, Any]:
    """Return a body that would be accepted; each test spoils one thing."""
    return {"name": "spoiled", "namespace": shared_namespace, "chart_id": chart_id, "values": {}}


def releases_path(server: RunningServer) -> str:
    return f"/cce/cam/v3/clusters/{server.cluster_id}/releases"


def releases_in(server: RunningServer, namespace: str) -> list[dict[str, Any]]:
    answer = server.send("GET", f"{releases_path(server)}?namespace={namespace}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not valid JSON"),
        (b"{'name': 'single-quotes'}", "not valid JSON"),
        (b'{"name": "x",}', "not valid JSON"),
        (b'{"values": {"x": NaN}}', "not valid JSON"),
        (b'{"name": "\xff\xfe"}', "not valid JSON"),
        (b'{"name": "\\ud800"}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "not valid JSON"),
        (b"[]", "an array"),
        (b'"text"', "a string"),
        (b"7", "a number"),
        (b"null", "null"),
        (b"", "no body"),
        (b" \n", "no body"),
        (b"{}", "chart_id"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_body_that_is_no_json_object_is_refused(server: RunningServer, body: bytes, word: str):
    answer = server.send("POST", releases_path(server), body=body)
    assert_error(answer, *INVALID, word)


@pytest.mark.parametrize("depth", [200, 900, 1000])
@pytest.mark.parametrize("kind", ["object", "array"])
def test_values_nested_too_deeply_are_refused_and_not_a_server_error(
    server: RunningServer, good: dict[str, Any], depth: int, kind: str
):
    opening, closing = ('{"a":', "}") if kind == "object" else ("[", "]")
    body = json.dumps(good | {"values": {"deep": "HERE"}}).replace('"HERE"', opening * depth + "1" + closing * depth)
    assert_error(server.send("POST", releases_path(server), body=body.encode()), *INVALID, "levels")


FLAGS = ("dry_run", "no_hooks", "replace", "recreate", "reset_values", "include_hooks")
NO_TEXT: list[Any] = [7, True, {"a": 1}, ["x"]]
NO_FLAG: list[Any] = ["true", 1, {}, []]
WRONG: dict[str, list[Any]] = {
    **dict.fromkeys(("chart_id", "name", "namespace", "version", "description"), NO_TEXT),
    "values": [[], [1], 7, 1.5, True],
    "parameters": [[], "text", 7, True],
    **{f"parameters.{flag}": NO_FLAG for flag in FLAGS},
    "parameters.name_template": NO_TEXT,
    "parameters.release_version": ["1", 1.5, True, {}, []],
}
WRONG_TYPES = [(field, value) for field, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES, ids=str)
def test_a_wrong_type_is_refused_with_the_name_of_its_field(
    server: RunningServer, good: dict[str, Any], field: str, value: Any
):
    outer, _, inner = field.partition(".")
    body = good | {outer: {inner: value} if inner else value}
    assert_error(server.create(**body), *INVALID, f"{field}:", "must be")


@pytest.mark.parametrize("field", ["chart_id", "namespace", "name"])
@pytest.mark.parametrize("how", ["missing", "empty", "null"])
def test_a_mandatory_field_that_is_absent_or_empty_is_named(
    server: RunningServer, good: dict[str, Any], field: str, how: str
):
    body = {key: value for key, value in good.items() if key != field}
    if how != "missing":
        body[field] = "" if how == "empty" else None
    assert_error(server.create(**body), *INVALID, f"{field}:")


def test_null_is_the_same_as_absent_for_whatever_is_optional(server: RunningServer, good: dict[str, Any]):
    flags = ("no_hooks", "replace", "recreate", "reset_values", "include_hooks", "release_version", "name_template")
    answer = server.create(
        **good
        | {"values": None, "version": None, "description": None}
        | {"parameters": {"dry_run": True, **dict.fromkeys(flags)}}
    )
    assert answer.status_code == 201, answer.text
    answer = server.create(**good | {"parameters": None, "version": "9"})
    assert_error(answer, *INVALID, "version")


@pytest.mark.parametrize(
    "name",
    [
        "Upper",
        "a" * 54,
        "1abc",
        "trailing-",
        "-leading",
        "under_score",
        "dot.dot",
        "a b",
        "a\n",
        "a/b",
        "a\u0000b",
        "rocket-\U0001f680",
        "é",
        " ",
        "a" * 100_000,
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_bad_release_name_is_refused(server: RunningServer, good: dict[str, Any], name: str):
    assert_error(server.create(**good | {"name": name}), *INVALID, "name")


@pytest.mark.parametrize(
    "namespace", ["Upper", "a" * 64, "-a", "a-", "a.b", "a/b", "../x", "a\u0000b", "\U0001f680", "a\n"], ids=repr
)
def test_a_bad_namespace_is_refused(server: RunningServer, good: dict[str, Any], namespace: str):
    assert_error(server.create(**good | {"namespace": namespace}), *INVALID, "namespace")


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"a": "x\u0000y"}, "values.a"),
        ({"a\u0000": 1}, "values"),
        ({"list": ["fine", {"deep": "\u0000"}]}, "values.list[1].deep"),
    ],
)
def test_a_nul_in_the_values_is_refused_with_its_place(
    server: RunningServer, good: dict[str, Any], values: dict[str, Any], where: str
):
    assert_error(server.create(**good | {"values": values}), *INVALID, where, "NUL")


@pytest.mark.parametrize("chart", ["nope", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "\U0001f680", "x" * 5000, "' OR 1"])
def test_an_unknown_chart_is_not_found(server: RunningServer, good: dict[str, Any], chart: str):
    assert_error(server.create(**good | {"chart_id": chart}), *NOT_FOUND, "chart_id", "does not exist")


@pytest.mark.parametrize("cluster", ["nope", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "%F0%9F%9A%80", "x" * 5000])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_cluster_is_not_found(server: RunningServer, good: dict[str, Any], cluster: str, method: str):
    body = json.dumps(good).encode() if method == "POST" else b""
    answer = exchange(server, method, f"/cce/cam/v3/clusters/{cluster}/releases", body=body)
    assert_error(answer, *NOT_FOUND, "cluster", "does not exist")


def test_an_unknown_namespace_is_not_found(server: RunningServer, good: dict[str, Any]):
    answer = server.create(**good | {"namespace": "there-is-no-such-namespace"})
    assert_error(answer, *NOT_FOUND, "there-is-no-such-namespace")


@pytest.mark.parametrize("name", ["no-such-release", "UPPER", "a" * 300, "%F0%9F%9A%80", "a%20b"])
def test_an_unknown_release_is_not_found(server: RunningServer, shared_namespace: str, name: str):
    assert_error(server.show(shared_namespace, name), *NOT_FOUND, "does not exist")


def test_another_projects_chart_and_cluster_do_not_exist(
    server: RunningServer, good: dict[str, Any], chart_id: str, shared_namespace: str
):
    other = add_tenant(server)
    foreign_chart = upload(other, build_chart("errors", "1.2.3", templates={"config.yaml": config_map_template()}))
    assert foreign_chart != chart_id
    assert_error(server.create(**good | {"chart_id": foreign_chart}), *NOT_FOUND, "chart_id")
    assert_error(server.send("GET", f"/v2/charts/{foreign_chart}"), *NOT_FOUND)
    assert_error(other.send("GET", f"/v2/charts/{chart_id}"), *NOT_FOUND)
    assert [chart["id"] for chart in other.send("GET", "/v2/charts").json()] == [foreign_chart]

    path = f"/cce/cam/v3/clusters/{server.cluster_id}"
    assert_error(other.send("POST", f"{path}/releases", json_body=good), *NOT_FOUND, "cluster")
    assert_error(other.send("GET", f"{path}/releases"), *NOT_FOUND, "cluster")
    assert_error(other.send("GET", f"{path}/namespace/{shared_namespace}/releases/x"), *NOT_FOUND, "cluster")
    assert_error(other.send("GET", "/v2/charts", headers={"X-Project-Id": server.project_id}), 403, "APIGW.0310")


@pytest.mark.parametrize("version", ["1.2.4", "1.2", "v1.2.3", " 1.2.3", "1.2.3+build", "latest"])
def test_a_version_that_is_not_the_charts_is_refused(server: RunningServer, good: dict[str, Any], version: str):
    assert_error(server.create(**good | {"version": version}), *INVALID, "version", "1.2.3")


@pytest.mark.parametrize("version", [None, "", "1.2.3"])
def test_the_charts_version_may_be_given_or_left_out(server: RunningServer, good: dict[str, Any], version: str | None):
    answer = server.create(**good | {"version": version, "parameters": {"dry_run": True}})
    assert (answer.status_code, answer.json().get("chart_version")) == (201, "1.2.3")


def test_a_name_in_use_is_a_conflict(server: RunningServer, good: dict[str, Any], namespace: str):
    body = good | {"namespace": namespace, "name": "taken"}
    assert server.create(**body).status_code == 201
    assert_error(server.create(**body), 409, "CCE.01409001", "'taken'")
    assert server.wait_until_final(namespace, "taken")["status"] == "DEPLOYED"
    assert_error(server.create(**body), 409, "CCE.01409001", "name", "'taken'", "deployed")
    assert [(one["name"], one["version"]) for one in releases_in(server, namespace)] == [("taken", 1)]


def test_a_name_that_helm_took_is_a_conflict(
    server: RunningServer, good: dict[str, Any], namespace: str, helm_cli: Callable[..., str], tmp_path: Any
):
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(build_chart("by-hand", templates={"config.yaml": config_map_template()}, values={"text": "x"}))
    helm_cli("install", "hers", str(archive), "-n", namespace)
    assert_error(server.create(**good | {"namespace": namespace, "name": "hers"}), 409, "CCE.01409001", "'hers'")


def test_of_two_creates_at_once_exactly_one_is_accepted(
    server: RunningServer, good: dict[str, Any], namespace: str, helm_cli: Callable[..., str]
):
    body = good | {"namespace": namespace, "name": "race"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.create(**body), range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    for answer in answers:
        if answer.status_code != 201:
            assert_error(answer, 409, "CCE.01409001", "'race'")
    assert server.wait_until_final(namespace, "race")["status"] == "DEPLOYED"
    assert len(json.loads(helm_cli("history", "race", "-n", namespace, "-o", "json"))) == 1


async def test_a_release_made_since_the_cluster_was_looked_at_is_a_conflict(
    server: RunningServer, good: dict[str, Any], namespace: str
):
    assert server.create(**good | {"namespace": namespace, "name": "quick"}).status_code == 201
    assert server.wait_until_final(namespace, "quick")["status"] == "DEPLOYED"
    database = Database(server.database_url)
    try:
        async with database.transaction() as tx:
            done = (await tx.execute(select(tables.operations).filter_by(namespace=namespace))).mappings().one()
        fields = {field.name: done[field.name] for field in dataclasses.fields(operations.NewOperation)}
        late = operations.NewOperation(**fields | {"id": str(uuid.uuid4())})
        with pytest.raises(AlreadyExists, match="just created"):
            async with database.transaction() as tx:
                await queue.enqueue(tx, late, audit_action="cce:release:create", observed_seconds_ago=60, limits=LIMITS)
        with contextlib.suppress(ZeroDivisionError):  # nothing of it is to stay
            async with database.transaction() as tx:
                assert (
                    await queue.enqueue(
                        tx, late, audit_action="cce:release:create", observed_seconds_ago=0, limits=LIMITS
                    )
                ).state == "queued"
                raise ZeroDivisionError
    finally:
        await database.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_one_byte_over_the_body_limit_is_refused(server: RunningServer, chunked: bool):  # noqa: FBT001
    body = b" " * (4 * 1024 * 1024 + 1)
    answer = exchange(server, "POST", releases_path(server), body=body, chunked=chunked)
    assert_error(answer, 413, "APIGW.0201", "4194304")


def test_a_body_of_exactly_the_limit_is_read(server: RunningServer):
    answer = server.send("POST", releases_path(server), body=b"{}" + b" " * (4 * 1024 * 1024 - 2))
    assert_error(answer, *INVALID, "chart_id: missing")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-yaml", "json"]
)
def test_another_content_type_is_refused(server: RunningServer, good: dict[str, Any], content_type: str):
    answer = server.send("POST", releases_path(server), json_body=good, headers={"Content-Type": content_type})
    assert_error(answer, 400, "CCE.01400006", "Content-Type", "application/json")


@pytest.mark.parametrize(
    "content_type", ["application/json;charset=utf-8", "Application/JSON ; charset=UTF-8", "application/x-pem-file"]
)
def test_the_published_content_types_are_accepted(server: RunningServer, good: dict[str, Any], content_type: str):
    body = good | {"parameters": {"dry_run": True}}
    answer = server.send("POST", releases_path(server), json_body=body, headers={"Content-Type": content_type})
    assert answer.status_code == 201, answer.text


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "template": ({"broken": True}, "the flux capacitor is empty"),
    "schema": ({"replicas": "three"}, "replicas"),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_helm_refuses_is_a_400_in_a_dry_run(
    server: RunningServer, good: dict[str, Any], namespace: str, case: str
):
    values, words = FAILING[case]
    body = good | {"namespace": namespace, "values": values, "parameters": {"dry_run": True}}
    assert_error(server.create(**body), *INVALID, words)
    assert releases_in(server, namespace) == []


@pytest.mark.parametrize("case", FAILING)
def test_what_helm_refuses_in_a_real_create_is_shown_as_failed_and_can_be_made_anew(
    server: RunningServer, good: dict[str, Any], namespace: str, case: str, helm_cli: Callable[..., str]
):
    values, words = FAILING[case]
    body = good | {"namespace": namespace, "name": "unlucky"}
    answer = server.create(**body | {"values": values})
    assert (answer.status_code, answer.json()["status"]) == (201, "PENDING_INSTALL")
    failed = server.wait_until_final(namespace, "unlucky")
    assert (failed["status"], failed["version"], failed["name"]) == ("FAILED", 1, "unlucky")
    assert words in failed["status_description"]
    assert failed["description"]
    assert releases_in(server, namespace) == [failed]

    assert server.create(**body).status_code == 201
    made = server.wait_until_final(namespace, "unlucky")
    assert (made["status"], made["version"]) == ("DEPLOYED", 1)
    assert releases_in(server, namespace) == [made]
    assert [one["name"] for one in json.loads(helm_cli("list", "-n", namespace, "-o", "json"))] == ["unlucky"]


def test_what_the_cluster_refuses_is_shown_with_the_api_servers_reason(
    server: RunningServer, namespace: str, helm_cli: Callable[..., str]
):
    template = config_map_template(suffix='{{ .Values.suffix | default "Not_A_Name" }}')
    chart = upload(server, build_chart("refused", templates={"config.yaml": template}, values={"text": "x"}))
    assert server.create(name="odd", namespace=namespace, chart_id=chart).status_code == 201
    failed = server.wait_until_final(namespace, "odd")
    assert (failed["status"], failed["version"]) == ("FAILED", 1)
    assert "Not_A_Name" in failed["status_description"]
    history = json.loads(helm_cli("history", "odd", "-n", namespace, "-o", "json"))
    assert [(one["status"], one["description"]) for one in history] == [("failed", failed["status_description"])]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ({"secret_key": "x" * 40}, "signature"),
        ({"access_key": "A" * 20}, "ak not exist"),
        ({"access_key": "not-a-key"}, ""),
        ({"now": timedelta(minutes=-16)}, "clock"),
        ({"now": timedelta(minutes=20)}, "clock"),
        ({"now": timedelta(days=-9000)}, "clock"),
    ],
    ids=["wrong-secret", "unknown-key", "malformed-key", "stale", "from-the-future", "ancient"],
)
def test_credentials_that_prove_nothing_are_refused(
    server: RunningServer, good: dict[str, Any], spoil: dict[str, Any], word: str
):
    if "now" in spoil:  # of the request: a run may come here long after the tests were collected
        spoil = {"now": datetime.now(UTC) + spoil["now"]}
    answer = server.send("POST", releases_path(server), json_body=good, **spoil)
    message = assert_error(answer, 401, "APIGW.0301", "Incorrect IAM authentication information", word)
    assert server.secret_key not in message


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Authorization", ""),),
        (("Authorization", "Basic YTpi"),),
        (("Authorization", "SDK-HMAC-SHA256 Access=x"),),
        (("X-Auth-Token", "whatever"),),
    ],
    ids=["nothing", "empty", "basic", "half", "token"],
)
def test_a_request_without_credentials_is_refused(
    server: RunningServer, good: dict[str, Any], headers: tuple[tuple[str, str], ...]
):
    body = json.dumps(good).encode()
    answer = exchange(server, "POST", releases_path(server), headers=headers, body=body, credentials=False)
    assert_error(answer, 401, "APIGW.0301", "Incorrect IAM authentication information")


def test_a_body_that_was_changed_on_its_way_is_refused(server: RunningServer, good: dict[str, Any]):
    signed = exchange(
        server,
        "POST",
        releases_path(server),
        headers=(("Content-Type", "application/json"), ("X-Sdk-Content-Sha256", "0" * 64)),
        signed=("x-sdk-content-sha256",),
        body=json.dumps(good).encode(),
    )
    assert_error(signed, 401, "APIGW.0301")


def test_whatever_was_refused_left_nothing_behind(server: RunningServer, shared_namespace: str):
    assert releases_in(server, shared_namespace) == []


@pytest.fixture
def frail(server: RunningServer, kubeconfig: str) -> Iterator[tuple[Forwarder, str]]:
    """Yield the way to the cluster, and the id under which the cluster is registered through it."""
    forwarder, text = forward(kubeconfig)
    body = {"name": f"frail-{forwarder.port}", "kubeconfig": text}
    answer = server.send("POST", "/api/v1/clusters", json_body=body)
    assert answer.status_code == 201, answer.text
    try:
        yield forwarder, answer.json()["id"]
    finally:
        forwarder.stop()
        assert server.send("DELETE", f"/api/v1/clusters/{answer.json()['id']}").status_code == 204


@pytest.mark.parametrize("how", ["stops", "hangs"])
def test_a_cluster_that_is_away_is_named_within_seconds_and_nothing_is_stored(
    server: RunningServer,
    frail: tuple[Forwarder, str],
    good: dict[str, Any],
    namespace: str,
    how: Literal["stops", "hangs"],
):
    forwarder, cluster_id = frail
    path = f"/cce/cam/v3/clusters/{cluster_id}"
    body = good | {"namespace": namespace, "name": "never"}
    server.wait_until_listed(cluster_id)
    if how == "stops":
        forwarder.stop()
    else:
        forwarder.hang()
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"{path}/releases", body),
        ("POST", f"{path}/releases", body | {"parameters": {"dry_run": True}}),
        ("GET", f"/api/v1/clusters/{cluster_id}/probe", None),
    ]
    cause = {"stops": "refused", "hangs": "did not answer within 5 s"}[how]
    started = time.monotonic()
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(lambda call: server.send(call[0], call[1], json_body=call[2]), calls))
    assert time.monotonic() - started < 14  # and not 15, one after the other
    for answer in answers:
        assert_error(answer, 500, "CCE.01500001", f"https://127.0.0.1:{forwarder.port}", cause)
    # Reads answer from what is known.
    assert_error(server.send("GET", f"{path}/namespace/{namespace}/releases/never"), *NOT_FOUND)
    assert server.send("GET", f"{path}/releases?namespace={namespace}").json() == []

    if how == "hangs":
        forwarder.stop()
    forwarder.resume()
    assert_error(server.send("GET", f"{path}/namespace/{namespace}/releases/never"), *NOT_FOUND)
    assert server.send("GET", f"{path}/releases?namespace={namespace}").json() == []
    assert server.send("POST", f"{path}/releases", json_body=body).status_code == 201
    until = time.monotonic() + 30
    while (shown := server.send("GET", f"{path}/namespace/{namespace}/releases/never").json())[
        "status"
    ] == "PENDING_INSTALL" and time.monotonic() < until:
        time.sleep(0.1)
    assert shown["status"] == "DEPLOYED", shown
