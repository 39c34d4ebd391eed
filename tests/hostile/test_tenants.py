"""A tenant that takes what it can get: another one's requests and operations go on."""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.charts import build_chart, config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.tenants import add_tenant
from tests.support.tokens import token_of
from tests.support.wire import assert_error
from tests.support.workloads import deployment_template, hook_template

ENDLESS = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"
#: Four places: a project gets two, an API server three.
LIMITS = {
    "PILOTHOUSE_WORKER__OPERATIONS": "4",
    "PILOTHOUSE_STREAMS_PER_USER": "3",
    "PILOTHOUSE_STREAMS": "4",
    "PILOTHOUSE_HTTP__UPLOADS_PER_PROJECT": "3",
    "PILOTHOUSE_HTTP__BYTES_PER_PROJECT": str(12 * 1024 * 1024),
}


@pytest.fixture(scope="module")
def shared(kubeconfig: str) -> Iterator[RunningServer]:
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def other(shared: RunningServer, kubeconfig: str) -> RunningServer:
    """Another customer with a registration of the same API server."""
    tenant = add_tenant(shared)
    made = tenant.send("POST", "/api/v1/clusters", json_body={"name": "same", "kubeconfig": kubeconfig})
    assert made.status_code == 201, made.text
    return dataclasses.replace(tenant, cluster_id=made.json()["id"])


@contextlib.contextmanager
def attacking(attack: Callable[[], httpx2.Response], *, at_once: int) -> Iterator[list[int]]:
    """So many of these requests at a time, again and again, inside the block; gives the answers' status codes."""
    over, answers = threading.Event(), list[int]()

    def repeat() -> None:
        while not over.is_set():
            answers.append(attack().status_code)

    threads = [threading.Thread(target=repeat) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def chart(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_charts_that_are_never_ready_do_not_stop_the_others(
    shared: RunningServer, other: RunningServer, namespace: str
):
    stuck = chart(shared, build_chart("stuck", templates={"d.yaml": deployment_template(fate="never-ready")}))
    ready = chart(other, config_map_chart("ready"))
    names = [f"stuck-{number}" for number in range(5)]
    assert len(names) >= int(LIMITS["PILOTHOUSE_WORKER__OPERATIONS"])
    path = f"/cce/cam/v3/clusters/{shared.cluster_id}/releases"
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "3600"}
    operations = []
    for name in names:
        body = {"chart_id": stuck, "namespace": namespace, "name": name}
        answer = shared.send("POST", path, json_body=body, headers=headers)
        assert answer.status_code == 201, answer.text
        operations.append(answer.headers["x-operation-id"])
    try:
        time.sleep(3)
        assert other.create(chart_id=ready, namespace=namespace, name="ready").status_code == 201
        assert other.wait_until_final(namespace, "ready", seconds=30)["status"] == "DEPLOYED"
        found = shared.send("GET", "/api/v1/operations?state=running").json()
        assert len(found) == len(names), "what only waits has a place of its own"
    finally:
        for operation in operations:
            shared.send("POST", f"/api/v1/operations/{operation}/cancel")


@pytest.mark.parametrize(
    "template",
    [deployment_template(fate="never-ready"), hook_template("pre-install", fate="never-ready")],
    ids=["readiness", "hook"],
)
def test_what_only_waits_at_an_api_server_holds_nobody_who_uses_it(
    shared: RunningServer, other: RunningServer, namespace: str, template: str
):
    """Two projects at one API server hold all three places that it has at a time, and more."""
    ready = chart(other, config_map_chart("ready"))
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "3600"}
    ordered = []
    try:
        for number, server in enumerate([shared, other] * 3):
            body = {"chart_id": chart(server, build_chart("stuck", templates={"d.yaml": template}))}
            body |= {"namespace": namespace, "name": f"stuck-{number}"}
            path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
            answer = server.send("POST", path, json_body=body, headers=headers)
            assert answer.status_code == 201, answer.text
            ordered.append((server, answer.headers["x-operation-id"]))
        time.sleep(5)
        assert other.create(chart_id=ready, namespace=namespace, name="ready").status_code == 201
        assert other.wait_until_final(namespace, "ready", seconds=30)["status"] == "DEPLOYED"
        for server, operation in ordered:
            assert server.send("GET", f"/api/v1/operations/{operation}").json()["state"] == "running"
    finally:
        for server, operation in ordered:
            server.send("POST", f"/api/v1/operations/{operation}/cancel")


def test_endless_name_templates_leave_the_others_theirs(shared: RunningServer, other: RunningServer, namespace: str):
    mine, theirs = chart(shared, config_map_chart("named")), chart(other, config_map_chart("named"))

    def attack() -> httpx2.Response:
        return shared.create(chart_id=mine, namespace=namespace, parameters={"name_template": ENDLESS})

    with attacking(attack, at_once=4) as answers:
        time.sleep(1)
        for _ in range(3):
            wanted = {"name_template": "ok-name", "dry_run": True}
            answer = other.create(chart_id=theirs, namespace=namespace, parameters=wanted)
            assert answer.status_code == 201, answer.text
    assert set(answers) <= {400, 429}


def test_a_flood_of_uploads_leaves_the_others_theirs(shared: RunningServer, other: RunningServer):
    flood, small = config_map_chart("flood"), config_map_chart("small")
    with attacking(lambda: shared.upload(flood, parameters='{"override": true}'), at_once=8) as answers:
        time.sleep(1)
        for _ in range(3):
            answer = other.upload(small, parameters='{"override": true}')
            assert answer.status_code == 201, answer.text
    assert set(answers) == {201, 429}


@contextlib.contextmanager
def uploading(server: RunningServer, token: str, *, kind: str, sent: int = 0) -> Iterator[socket.socket]:
    """Yield an upload of 10 MiB that has come so far, and comes no further until the block ends."""
    address = urlsplit(server.url)
    lines = [
        *("POST /v2/charts HTTP/1.1", f"Host: {address.netloc}", f"X-Auth-Token: {token}"),
        *(f"Content-Type: {kind}", f"Content-Length: {10 * 1024 * 1024}", "", ""),
    ]
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        connection.sendall(bytes(sent))
        yield connection


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """Status of the answer, and all of it: an error's, which is a JSON object."""
    text = ""
    while not text.endswith("}") and (piece := connection.recv(65536)):
        text += piece.decode()
    return int(text.split()[1]), text


def test_uploads_on_their_way_end_at_a_projects_share(shared: RunningServer, other: RunningServer):
    """They come slowly, with a token, so that they hold their places; what breaks off makes room."""
    token, archive = token_of(shared), config_map_chart("slow")
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(uploading(shared, token, kind="multipart/form-data; boundary=x", sent=1000))
        wait_for(lambda: shared.upload(archive).status_code == 429)
        refused = shared.upload(archive)
        assert_error(refused, 429, "APIGW.0308", "this project has as many uploads under way as it may (3)")
        assert int(refused.headers["retry-after"]) > 0
        with uploading(shared, token, kind="multipart/form-data; boundary=x") as fourth:
            status, text = answer_of(fourth)
            assert (status, "retry-after: 5" in text.lower()) == (429, True), text
        assert shared.send("GET", "/v2/charts").status_code == 200
        assert other.upload(archive, parameters='{"override": true}').status_code == 201
    wait_for(lambda: shared.upload(archive, parameters='{"override": true}').status_code == 201)


def test_bytes_on_their_way_end_at_a_projects_share(shared: RunningServer, other: RunningServer):
    token = token_of(shared)
    theirs = {"content-type": "application/octet-stream"}
    with uploading(shared, token, kind=theirs["content-type"], sent=9 * 1024 * 1024):
        # the second one is refused where both together are more than a project may have
        with uploading(shared, token, kind=theirs["content-type"], sent=5 * 1024 * 1024) as second:
            status, text = answer_of(second)
            assert status == 429, text
            assert "as many bytes of requests under way as it may (12582912)" in text
        refused = shared.send("POST", "/v2/charts", body=bytes(8 * 1024 * 1024), headers=theirs)
        assert_error(refused, 429, "APIGW.0308", "bytes of requests under way")
        answer = other.send("POST", "/v2/charts", body=bytes(8 * 1024 * 1024), headers=theirs)
        assert answer.status_code == 400, "it is no form, and was taken"


def test_what_others_send_under_a_projects_key_without_its_secret_takes_nothing_of_its_share(shared: RunningServer):
    """Who knows an access key, and no more, uploads as much as it can."""
    stranger = dataclasses.replace(shared, secret_key="x" * 40)
    archive = config_map_chart("claimed")
    with attacking(lambda: stranger.upload(archive), at_once=6) as answers:
        time.sleep(0.5)
        for _ in range(3):
            # of that address the key is slowed down; the project's share is untouched
            assert "uploads under way" not in shared.upload(archive, parameters='{"override": true}').text
    assert set(answers) <= {401, 429}


def test_event_streams_end_at_a_users_share_and_what_ends_makes_room(
    shared: RunningServer, other: RunningServer, namespace: str
):
    stuck = chart(shared, build_chart("stuck", templates={"d.yaml": deployment_template(fate="never-ready")}))
    path = f"/cce/cam/v3/clusters/{shared.cluster_id}/releases"
    body = {"chart_id": stuck, "namespace": namespace, "name": "followed"}
    headers = {"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": "8"}
    answer = shared.send("POST", path, json_body=body, headers=headers)
    events = f"/api/v1/operations/{answer.headers['x-operation-id']}/events"
    stream = {"Accept": "text/event-stream"}
    with attacking(lambda: shared.send("GET", events, headers=stream), at_once=3) as answers:
        time.sleep(2)
        refused = shared.send("GET", events, headers=stream)
        assert_error(refused, 429, "APIGW.0308", "this user has as many event streams as it may (3)")
        assert int(refused.headers["retry-after"]) > 0
        assert other.send("GET", "/v2/charts").status_code == 200
        assert not answers
        time.sleep(8)  # the operation has ended, and the streams with it
    assert 200 in answers
    assert shared.send("GET", events, headers=stream).status_code == 200
