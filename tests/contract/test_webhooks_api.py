"""Webhooks over the API: made, tried out by a worker, seen, removed; their secrets are shown once."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.wire import assert_error

URL = "https://192.0.2.1/services/the-path-is-a-secret"


@pytest.fixture(scope="module")
def local() -> Iterator[RunningServer]:
    """Yield a server that may tell this machine, without a cluster."""
    environment = {"PILOTHOUSE_WEBHOOKS__ALLOW_LOOPBACK": "true", "PILOTHOUSE_WEBHOOKS__PLAIN_HTTP": "true"}
    with open_folder() as folder, run_server(folder, kubeconfig=None, environment=environment) as running:
        yield running


@contextmanager
def receiving() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of a target that takes everything, and what it was told."""
    told: list[dict[str, Any]] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", told
        finally:
            server.shutdown()
            thread.join()


def create(server: RunningServer, **body: Any) -> dict[str, Any]:
    answer = server.send(
        "POST", "/api/v1/webhooks", json_body={"name": f"hook-{uuid.uuid4().hex[:8]}", "url": URL} | body
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_webhook_from_its_creation_to_its_end(local: RunningServer):
    with receiving() as (url, told):
        made = create(local, name="ci", url=url)
        assert made.pop("secret").startswith("whsec_")
        assert made["origin"] == url.rstrip("/")
        assert (made["events"], made["format"], made["enabled"]) == (
            ["operation.ended", "drift.changed"],
            "json",
            True,
        )
        path = f"/api/v1/webhooks/{made['id']}"
        assert local.send("GET", path).json() == made
        assert local.send("GET", "/api/v1/webhooks").json() == [made]

        pinged = local.send("POST", f"{path}/ping")
        assert pinged.status_code == 202
        (delivery,) = wait_for(
            lambda: local.send("GET", f"{path}/deliveries?state=delivered").json(), otherwise=lambda: str(told)
        )
    assert (delivery["id"], delivery["event"], delivery["status"], delivery["attempts"]) == (
        pinged.json()["id"],
        "ping",
        204,
        1,
    )
    assert [one["event"] for one in told] == ["ping"]
    assert local.send("GET", f"{path}/deliveries?state=pending").json() == []

    disabled = local.send("PATCH", path, json_body={"enabled": False})
    assert disabled.json()["enabled"] is False
    assert local.send("DELETE", path).status_code == 204
    assert_error(local.send("GET", path), 404, "CCE.01404001", f"webhook {made['id']!r} does not exist in this project")
    rows = local.send("GET", "/api/v1/audit?action=cce:webhook:*").json()
    assert [(row["action"], row["detail"], row["target_name"]) for row in reversed(rows)] == [
        ("cce:webhook:create", "", "ci"),
        ("cce:webhook:update", "ping", "ci"),
        ("cce:webhook:update", "disable", "ci"),
        ("cce:webhook:delete", "", "ci"),
    ]


def test_deliveries_come_in_pages(local: RunningServer):
    made = create(local)
    path = f"/api/v1/webhooks/{made['id']}"
    pinged = [local.send("POST", f"{path}/ping").json()["id"] for _ in range(3)]
    local.send("PATCH", path, json_body={"enabled": False})
    first = local.send("GET", f"{path}/deliveries?limit=2")
    second = local.send("GET", f"{path}/deliveries?limit=2&marker={first.headers['x-pilothouse-marker']}")
    assert [one["id"] for one in first.json() + second.json()] == pinged[::-1]
    assert "x-pilothouse-marker" not in second.headers
    assert local.send("GET", path).json()["pending"] == 3
    local.send("DELETE", path)


def test_a_disabled_webhook_and_one_for_which_much_waits_get_no_ping(local: RunningServer):
    made = create(local)
    path = f"/api/v1/webhooks/{made['id']}"
    local.send("PATCH", path, json_body={"enabled": False})
    assert_error(
        local.send("POST", f"{path}/ping"),
        *(400, "CCE.01400001", f"webhook {made['name']!r} is disabled; enable it to have it told something"),
    )
    assert local.send("GET", path).json()["pending"] == 0
    with psycopg.connect(local.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO webhook_deliveries (webhook_id, event, facts, due_at)"
            " SELECT %s, 'ping', '{}', clock_timestamp() + interval '1 hour' FROM generate_series(1, 99)",
            [made["id"]],
        )
    local.send("PATCH", path, json_body={"enabled": True})
    assert local.send("POST", f"{path}/ping").status_code == 202
    refused = local.send("POST", f"{path}/ping")
    assert_error(refused, 400, "CCE.01400001")
    assert f"100 messages wait for webhook {made['name']!r}" in refused.text
    local.send("DELETE", path)


def test_neither_the_url_nor_the_secret_can_be_read_again(local: RunningServer):
    made = create(local)
    for path in ("/api/v1/webhooks", f"/api/v1/webhooks/{made['id']}", f"/api/v1/webhooks/{made['id']}/deliveries"):
        shown = local.send("GET", path).text
        assert "the-path-is-a-secret" not in shown
        assert made["secret"] not in shown
    assert made["origin"] == "https://192.0.2.1:443"
    local.send("DELETE", f"/api/v1/webhooks/{made['id']}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "Upper"}, "is not a webhook's name"),
        ({"name": ""}, "is not a webhook's name"),
        ({"url": "https://169.254.169.254/"}, "url: 169.254.169.254 is link-local or a metadata service"),
        ({"url": "gopher://192.0.2.1/"}, "url: must read https://HOST[:PORT]/PATH"),
        ({"events": []}, "events: one or more of operation.ended, drift.changed"),
        ({"events": ["ping"]}, "events: one or more of operation.ended, drift.changed"),
        ({"events": ["operation.ended", "operation.ended"]}, "events: one or more of"),
        ({"events": ["operation.begun"]}, "events.0"),
        ({"format": "xml"}, "format"),
    ],
)
def test_what_is_no_webhook(local: RunningServer, body: dict[str, Any], said: str):
    answer = local.send("POST", "/api/v1/webhooks", json_body={"name": "hook", "url": URL} | body)
    assert answer.status_code == 400
    assert said in answer.json()["error_msg"]


def test_names_are_taken_once_and_there_are_so_many(local: RunningServer):
    made = [create(local, name="twice")]
    assert_error(
        local.send("POST", "/api/v1/webhooks", json_body={"name": "twice", "url": URL}),
        409,
        "CCE.01409001",
        "name: this project already has a webhook named 'twice'",
    )
    made += [create(local) for _ in range(9)]
    refused = local.send("POST", "/api/v1/webhooks", json_body={"name": "more", "url": URL})
    assert_error(
        refused,
        400,
        "CCE.01400001",
        "this project has 10 webhooks, the limit (PILOTHOUSE_WEBHOOKS__PER_PROJECT); remove one first",
    )
    for one in made:
        local.send("DELETE", f"/api/v1/webhooks/{one['id']}")
