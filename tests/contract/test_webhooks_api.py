"""Webhooks over the API: made, tried out by a worker, seen, removed; their secrets are shown once."""

import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.wire import assert_error

Typed = Callable[..., "subprocess.CompletedProcess[str]"]
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


@pytest.fixture
def typed(local: RunningServer) -> Typed:
    """Return what runs a command with lines on standard input."""

    def run(*arguments: str, lines: str = "") -> "subprocess.CompletedProcess[str]":
        proof = {"CLOUD_SDK_AK": local.access_key, "CLOUD_SDK_SK": local.secret_key}
        return subprocess.run(
            [sys.executable, "-m", "pilothouse", *arguments],
            env={"PATH": "/usr/bin:/bin", "PILOTHOUSE_URL": local.url, "COLUMNS": "200", **proof},
            input=lines, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def test_the_commands_from_the_creation_of_a_webhook_to_its_end(typed: Typed, tmp_path: Path):
    def told(*arguments: str, lines: str = "") -> Any:
        done = typed("webhook", *arguments, "-o", "json", lines=lines)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return json.loads(done.stdout)

    with receiving() as (url, messages):
        made = told("create", "typed", "--url-stdin", "--event", "operation.ended", lines=f"{url}\n")
        assert (made["origin"], made["events"], made["format"]) == (url.rstrip("/"), ["operation.ended"], "json")
        assert made.pop("secret").startswith("whsec_")
        assert told("show", "typed") == told("show", made["id"]) == made
        assert told("list") == [made]
        sent = told("test", "typed")
        assert (sent["event"], sent["state"], sent["status"]) == ("ping", "delivered", 204)
        assert [one["event"] for one in messages] == ["ping"]
        assert told("deliveries", "typed", "--state", "delivered") == [sent]
        assert told("deliveries", "typed", "--state", "pending") == []

    (tmp_path / "url.txt").write_text(f"{url}\n")
    slack = typed("webhook", "create", "slack", "--url-file", str(tmp_path / "url.txt"), "--format", "slack")
    assert re.search(r"^secret  whsec_\S+  \(shown only now", slack.stdout, re.MULTILINE), slack
    failed = typed("webhook", "test", "slack")  # nobody listens there any more
    assert (failed.returncode, "webhook slack did not take the message" in failed.stderr) == (1, True), failed
    assert told("disable", "typed")["enabled"] is False
    disabled = typed("webhook", "test", "typed")
    assert (disabled.returncode, "webhook 'typed' is disabled" in disabled.stderr) == (1, True)
    assert told("enable", "typed")["enabled"] is True
    for name in ("typed", "slack"):
        assert typed("webhook", "remove", name).stdout == f"webhook {name} was removed\n"
    assert told("list") == []


def test_pages_of_deliveries_follow_each_other_on_the_command_line(local: RunningServer, typed: Typed):
    made = create(local)
    pinged = [local.send("POST", f"/api/v1/webhooks/{made['id']}/ping").json()["id"] for _ in range(3)]
    first = typed("webhook", "deliveries", made["name"], "--limit", "2", "-o", "json")
    marker = first.stderr.split("--marker ")[1].strip()
    second = typed("webhook", "deliveries", made["name"], "--limit", "2", "--marker", marker, "-o", "json")
    assert [one["id"] for one in json.loads(first.stdout) + json.loads(second.stdout)] == pinged[::-1]
    words = {"COMP_WORDS": f"pilothouse webhook show {made['name'][:-1]}", "COMP_CWORD": "3"}
    completed = local.command(variables={"_PILOTHOUSE_COMPLETE": "complete_bash", **words})
    assert completed.stdout.split() == [made["name"]]
    assert second.stderr == ""
    local.send("DELETE", f"/api/v1/webhooks/{made['id']}")


def test_the_url_of_a_webhook_is_no_argument_and_comes_from_one_place(typed: Typed, tmp_path: Path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for arguments, lines, status, said in (
        (("typed", "https://192.0.2.1/secret"), "", 2, "unexpected extra argument"),
        (("typed", "--url-stdin", "--url-file", str(empty)), "https://192.0.2.1/\n", 2, "give one of them"),
        (("typed", "--url-file", str(empty)), "", 2, "is empty"),
        (("typed", "--url-stdin"), "", 2, "missing line with the URL"),
        (("typed", "--event", "ping", "--url-stdin"), "https://192.0.2.1/\n", 2, "events: one or more of"),
    ):
        done = typed("webhook", "create", *arguments, lines=lines)
        assert (done.returncode, said in done.stderr) == (status, True), (arguments, done)
    missing = typed("webhook", "show", "nobody")
    assert (missing.returncode, "'pilothouse webhook list' shows them" in missing.stderr) == (1, True)
