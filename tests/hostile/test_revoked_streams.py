"""Who loses its rights while it follows an operation is told nothing more."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx2
import pytest

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.people import add_person
from tests.support.servers import RunningServer, open_folder, run_server, wait_for

SLOW = """\
    metadata: {annotations: {pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 60s}}
    spec:
      restartPolicy"""


@pytest.fixture(scope="module")
def asking(kubeconfig: str) -> Iterator[RunningServer]:
    """A server whose streams ask every second."""
    often = {"PILOTHOUSE_IDENTITY__ASK_AGAIN_SECONDS": "1"}
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig, environment=often) as running:
        yield running


class Follower:
    """An event stream that is read beside the test; ``last`` is what it was told last, ``over`` that it ended."""

    def __init__(self, server: RunningServer, operation_id: str, *, token: str = "") -> None:
        self.last, self.over, self.open = "", False, threading.Event()
        self._request = httpx2.Request(
            "GET", f"{server.url}/api/v1/operations/{operation_id}/events", headers={"Accept": "text/event-stream"}
        )
        if token:
            self._request.headers["X-Auth-Token"] = token
        else:
            signed = SignedRequest(
                method="GET",
                raw_path=self._request.url.raw_path,
                query_string=b"",
                headers=[(b"host", self._request.headers["host"].encode())],
                body_digest=body_digest(b""),
                body_empty=True,
            )
            proof = sign(signed, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
            self._request.headers.update(proof)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.open.wait(30)

    def close(self) -> None:
        self._thread.join(60)

    def _read(self) -> None:
        with httpx2.Client(timeout=90, trust_env=False) as http:
            answer = http.send(self._request, stream=True)
            assert answer.status_code == 200, answer.read()
            self.open.set()
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    self.last = line.removeprefix("event: ")
            answer.close()
        self.over = True


def test_every_way_of_losing_them_ends_the_stream_and_nobody_elses(asking: RunningServer, namespace: str):
    hook = hook_job_template("pre-install").replace("    spec:\n      restartPolicy", SLOW)
    archive = build_chart("slow", templates={"c.yaml": config_map_template(), "hook.yaml": hook}, values={"text": "x"})
    chart = asking.upload(archive).json()["id"]
    made = asking.create(chart_id=chart, namespace=namespace, name="slow", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    operation = made.headers["x-operation-id"]
    people = [add_person(asking, "readonly") for _ in range(6)]
    tokens = {one.id: one.token() for one in people[3:5]}
    control = Follower(asking, operation)
    followers = [Follower(one.server, operation, token=tokens.get(one.id, "")) for one in people]
    time.sleep(2.5)
    assert [one.over for one in followers] == [False] * 6

    disabled, deleted, withdrawn, revoked, renewed, keyless = people
    for method, path, body in (
        ("PATCH", f"/api/v1/users/{disabled.id}", {"enabled": False}),
        ("DELETE", f"/api/v1/users/{deleted.id}", None),
        ("DELETE", f"/api/v1/users/{withdrawn.id}/roles/readonly", None),
        ("PUT", f"/api/v1/users/{renewed.id}/password", {"password": "another password"}),
        ("DELETE", f"/api/v1/accesskeys/{keyless.server.access_key}", None),
    ):
        assert asking.send(method, path, json_body=body).is_success
    ended = asking.send("DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": tokens[revoked.id]})
    assert ended.status_code == 204

    wait_for(lambda: all(one.over for one in followers), seconds=15)
    assert [one.last for one in followers] == ["refused"] * 6
    assert not control.over
    assert asking.send("POST", f"/api/v1/operations/{operation}/cancel", json_body={}).is_success
    wait_for(lambda: control.over, seconds=60)
    assert control.last == "end"
    for one in (control, *followers):
        one.close()
