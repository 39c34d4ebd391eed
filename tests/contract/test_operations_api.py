"""Operations as callers follow them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.charts import build_chart, config_map_chart, config_map_template, hook_job_template
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error

INVALID = (400, "CCE.01400001")
MISSING = (404, "CCE.01404001")
ENDED = (409, "CCE.01409002")
SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 3s}}
    spec:
      restartPolicy"""


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return str(server.upload(config_map_chart("followed")).json()["id"])


def slow_chart(delay: str = "3s") -> bytes:
    hook = hook_job_template("pre-install").replace("    spec:\n      restartPolicy", SLOW.replace("3s", delay))
    return build_chart("slow", templates={"c.yaml": config_map_template(), "hook.yaml": hook}, values={"text": "x"})


def operation_of(server: RunningServer, response: httpx2.Response) -> dict[str, Any]:
    answer = server.send("GET", f"/api/v1/operations/{response.headers['x-operation-id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(server: RunningServer, operation_id: str, *, last: int = 0) -> Iterator[tuple[str, str]]:
    """Field and value of each line of the event stream, until the server ends it."""
    path = f"/api/v1/operations/{operation_id}/events"
    request = httpx2.Request("GET", server.url + path, headers={"Accept": "text/event-stream"})
    if last:
        request.headers["Last-Event-ID"] = str(last)
    signed = SignedRequest(
        method="GET",
        raw_path=path.encode(),
        query_string=b"",
        headers=[(b"host", request.headers["host"].encode())],
        body_digest=body_digest(b""),
        body_empty=True,
    )
    request.headers.update(
        sign(signed, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
    )
    with httpx2.Client(timeout=60, trust_env=False) as http:
        answer = http.send(request, stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field:
                yield field, value


def test_an_operation_tells_what_it_does_and_how_it_ended(server: RunningServer, chart: str, namespace: str):
    answer = server.create(chart_id=chart, namespace=namespace, name="told", description="for the test")
    server.wait_until_final(namespace, "told")
    shown = operation_of(server, answer)
    assert (shown["action"], shown["state"], shown["revision"], shown["attempt"]) == ("install", "succeeded", 1, 1)
    assert (shown["namespace"], shown["release"], shown["text"]) == (namespace, "told", "Install complete")
    assert shown["finished_at"] >= shown["started_at"] >= shown["created_at"]
    assert shown["request_id"] == answer.headers["x-request-id"]


def test_the_list_is_newest_first_and_goes_on_at_its_marker(server: RunningServer, chart: str, namespace: str):
    for name in ("one", "two", "three"):
        server.create(chart_id=chart, namespace=namespace, name=name)
    path = f"/api/v1/operations?namespace={namespace}"
    assert [row["release"] for row in server.send("GET", path).json()] == ["three", "two", "one"]
    first = server.send("GET", f"{path}&limit=2")
    assert [row["release"] for row in first.json()] == ["three", "two"]
    marker = first.headers["x-pilothouse-marker"]  # as it is
    rest = server.send("GET", f"{path}&limit=2&marker={marker}")
    assert [row["release"] for row in rest.json()] == ["one"]
    assert "x-pilothouse-marker" not in rest.headers
    assert [row["release"] for row in server.send("GET", f"{path}&release=two").json()] == ["two"]
    for name in ("one", "two", "three"):
        server.wait_until_final(namespace, name)
    assert server.send("GET", f"{path}&state=running").json() == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("state=odd", "state:"),
        ("limit=0", "limit: must be at least 1"),
        ("limit=501", "limit: must be at most 500"),
        ("limit=-1", "limit: must be at least 1"),
        ("marker=x", "marker: 'x'"),
        ("marker=2026-01-01T00:00:00/x", "marker:"),
    ],
)
def test_a_wrong_query_is_refused_by_name(server: RunningServer, query: str, words: str):
    assert_error(server.send("GET", f"/api/v1/operations?{query}"), *INVALID, words)


def test_another_projects_operations_do_not_exist(server: RunningServer, chart: str, namespace: str):
    answer = server.create(chart_id=chart, namespace=namespace, name="mine")
    stranger = add_tenant(server)
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}"
    assert_error(stranger.send("GET", path), *MISSING)
    assert_error(stranger.send("GET", f"{path}/events"), *MISSING)
    assert_error(stranger.send("GET", f"{path}/evidence"), *MISSING)
    assert stranger.send("GET", "/api/v1/operations").json() == []


def test_events_are_followed_to_the_end_and_resumed_by_id(server: RunningServer, namespace: str):
    slow = str(server.upload(slow_chart(), parameters='{"override": true}').json()["id"])
    answer = server.create(chart_id=slow, namespace=namespace, name="slow")
    operation_id = answer.headers["x-operation-id"]
    lines = list(stream(server, operation_id))
    assert lines[-2:] == [("event", "end"), ("data", "{}")]
    assert operation_of(server, answer)["state"] == "succeeded"
    listed = server.send("GET", f"/api/v1/operations/{operation_id}/events").json()
    assert [int(value) for field, value in lines if field == "id"] == [event["id"] for event in listed]
    assert listed
    texts = [event["text"] for event in listed]
    assert any("running hook Job slow-hook" in text for text in texts), texts
    again = list(stream(server, operation_id, last=listed[0]["id"]))
    assert [int(value) for field, value in again if field == "id"] == [event["id"] for event in listed[1:]]
    after = server.send("GET", f"/api/v1/operations/{operation_id}/events?after={listed[-1]['id']}")
    assert after.json() == []


def test_the_commands_show_operations(server: RunningServer, chart: str, namespace: str):
    answer = server.create(chart_id=chart, namespace=namespace, name="shown")
    server.wait_until_final(namespace, "shown")
    operation_id = answer.headers["x-operation-id"]
    listed = server.command("operation", "list", "--namespace", namespace, "-o", "json")
    assert [row["id"] for row in json.loads(listed.stdout)] == [operation_id]
    elsewhere = {"PILOTHOUSE_CLUSTER": "there-is-none"}
    assert server.command("operation", "list", variables=elsewhere).returncode == 1
    everywhere = server.command("operation", "list", "--all-clusters", "-n", namespace, variables=elsewhere)
    assert operation_id in everywhere.stdout
    newest = server.command("operation", "list", "--all-clusters", "--limit", "1", "-o", "json")
    going_on = newest.stderr.removeprefix("there are older ones: ").split()
    older = server.command("operation", "list", "--all-clusters", "--limit", "1", *going_on, "-o", "json")
    assert json.loads(older.stdout)[0]["created_at"] < json.loads(newest.stdout)[0]["created_at"]
    quiet = server.command("operation", "follow", operation_id, "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    shown = json.loads(server.command("operation", "show", operation_id, "-o", "json").stdout)
    assert shown["state"] == "succeeded"
    assert json.loads(server.command("operation", "events", operation_id, "-o", "json").stdout) == []
    assert server.command("operation", "show", "no-such").returncode == 1


@pytest.mark.parametrize(("command", "completed"), [("show", True), ("follow", True), ("cancel", False)])
def test_the_shell_completes_operations(
    *, server: RunningServer, chart: str, namespace: str, command: str, completed: bool
):
    answer = server.create(chart_id=chart, namespace=namespace, name="ended")
    server.wait_until_final(namespace, "ended")
    operation_id = answer.headers["x-operation-id"]
    line = f"pilothouse operation {command} {operation_id[:8]}"
    completing = {"_PILOTHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}

    assert (operation_id in server.command(variables=completing).stdout.split()) == completed


def test_a_cancel_is_refused_for_what_is_unknown_not_ones_own_or_over(
    server: RunningServer, chart: str, namespace: str
):
    answer = server.create(chart_id=chart, namespace=namespace, name="over")
    server.wait_until_final(namespace, "over")
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}/cancel"
    assert_error(server.send("POST", path), *ENDED, "has ended at 20")
    assert_error(server.send("POST", path, json_body={"kept": True}), *INVALID, "kept")
    assert_error(server.send("POST", "/api/v1/operations/no-such/cancel"), *MISSING)
    assert_error(add_tenant(server).send("POST", path), *MISSING)
    reader = add_person(server, "readonly").server
    assert_error(reader.send("POST", path), 403, "CCE.01403001", "cce:release:create")
    body = {"chart_id": chart, "action": "upgrade", "parameters": {}, "values": {}}
    update = server.send(
        "PUT", f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/over", json_body=body
    )
    path = f"/api/v1/operations/{update.headers['x-operation-id']}/cancel"
    assert_error(server.send("POST", path, json_body={"keep": True}), *INVALID, "keep: only an install")
    server.wait_until_final(namespace, "over")


def test_the_command_cancels(server: RunningServer, namespace: str):
    slow = str(server.upload(slow_chart("60s"), parameters='{"override": true}').json()["id"])
    answer = server.create(chart_id=slow, namespace=namespace, name="stopped")
    operation_id = answer.headers["x-operation-id"]
    wait_for(lambda: operation_of(server, answer)["revision"])
    shown = server.command("operation", "cancel", operation_id, "--keep", "-o", "json")
    assert json.loads(shown.stdout)["state"] == "cancelling", shown.stderr
    assert server.wait_until_final(namespace, "stopped")["status"] == "FAILED"
    again = server.command("operation", "cancel", operation_id)
    assert again.returncode == 1
    assert "has ended at 20" in again.stderr
