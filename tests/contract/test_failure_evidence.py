"""What a failed operation tells when its pods are gone, and how operations end at their deadline."""

import json
from typing import Any

import pytest

from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.workloads import hook_template

#: What the local cluster's nodes serve as every container's log.
LOG_LINE = "simulated container: started"


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "told", helm_cli)


def upload(server: RunningServer, **templates: str) -> str:
    archive = build_chart(
        "telling", templates={f"{name}.yaml": text for name, text in templates.items()}, values={"text": "x"}
    )
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def carried_out(server: RunningServer, answer: Any) -> dict[str, Any]:
    """The operation that a write began, once it has ended, with its events and evidence."""
    assert answer.status_code in (200, 201), answer.text
    path = f"/api/v1/operations/{answer.headers['x-operation-id']}"
    server.send("GET", f"{path}/events", headers={"Accept": "text/event-stream"})  # ends with the operation
    operation: dict[str, Any] = server.send("GET", path).json()
    operation["events"] = [event["text"] for event in server.send("GET", f"{path}/events").json()]
    operation["evidence"] = server.send("GET", f"{path}/evidence").json()
    return operation


def test_a_failed_hook_tells_its_last_lines_though_helm_has_deleted_it(release: OneRelease):
    hook = hook_template("pre-install", fate="fail", policy="hook-failed")
    chart = upload(release.server, hook=hook, config=config_map_template())
    ended = carried_out(release.server, release.create(chart))
    assert ended["state"] == "failed"
    (found,) = ended["evidence"]
    assert found["error"] == ended["text"] == release.show().json()["status_description"]
    (blocking,) = found["blocking"]
    assert (blocking["kind"], blocking["name"], blocking["status"]) == ("Job", "told-hook", "Failed")
    (pod,) = found["pods"]
    assert (pod["owner"], pod["hook"], pod["phase"]) == ("Job/told-hook", True, "Failed")
    assert "container main: ended with exit code 1" in pod["trouble"]
    (container,) = pod["containers"]
    assert any(LOG_LINE in line for line in container["log"]), found
    assert found["missing"] == []
    reasons = {(event["object"].partition("/")[0], event["reason"]) for event in found["events"]}
    assert ("Pod", "Scheduled") in reasons
    assert ("Job", "BackoffLimitExceeded") in reasons
    shown = release.server.command("operation", "show", ended["id"])
    assert LOG_LINE in shown.stdout
    as_json = json.loads(release.server.command("operation", "show", ended["id"], "-o", "json").stdout)
    assert as_json["evidence"] == ended["evidence"]
