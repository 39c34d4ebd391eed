"""No text about an operation tells its values, however they were sent, or those of the revisions that it is about."""

import json
from typing import Any

import pytest
from lightkube import Client

from tests.support.charts import build_chart, config_map_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.workloads import cannot_pull, deployment_template

FIRST, SECOND, THIRD = "first-planted", "second-planted", "third-planted"
#: Under names that say nothing, in a list and inside a longer text.
LAYER = {"object": {"extraEnv": [{"name": "DB_PHRASE", "value": FIRST}], "dbUrl": f"Server=a;Pwd={SECOND}"}}
SCHEMA = json.dumps({"type": "object", "properties": {"picky": {"type": "string", "pattern": "^[0-9]*$"}}})
WEB = deployment_template("web", fate="never-ready")
ARCHIVE = build_chart(
    "telling",
    templates={
        "config.yaml": config_map_template(),
        "web.yaml": "{{ if .Values.web }}" + WEB + "{{ end }}",
        "fails.yaml": "{{ if .Values.fails }}{{ fail (printf `will not have %s` .Values.dbUrl) }}{{ end }}",
    },
    values={"text": "x"},
    schema=SCHEMA,
)


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return str(server.upload(ARCHIVE, parameters='{"override": true}').json()["id"])


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "web", helm_cli)


def told_of(server: RunningServer, operation_id: str) -> dict[str, Any]:
    """Everything that is told of the operation, which is waited for."""
    path = f"/api/v1/operations/{operation_id}"
    server.send("GET", f"{path}/events", headers={"Accept": "text/event-stream"})  # ends with the operation
    parts = {part: server.send("GET", f"{path}/{part}").json() for part in ("events", "evidence")}
    return {**server.send("GET", path).json(), **parts}


def cannot_start(direct: Client, release: OwnRelease, operation_id: str, *, said: str) -> dict[str, Any]:
    """Let a pod of the release say so while the operation waits for it; return what is told of the operation."""
    path = f"/api/v1/operations/{operation_id}/events"
    wait_for(lambda: [one for one in release.server.send("GET", path).json() if "waiting for" in one["text"]])
    cannot_pull(direct, release.namespace, "web-web", said=said)
    told = told_of(release.server, operation_id)
    assert told["state"] == "failed", told
    return told


@pytest.mark.parametrize(
    ("more", "masked"),
    [
        ({"fails": True}, "will not have ***"),
        ({"picky": SECOND}, "'***' does not match pattern"),
    ],
)
@pytest.mark.parametrize("earlier", [0, 1], ids=["install", "upgrade"])
def test_a_refusal_does_not_tell_values_that_came_as_layers(
    release: OwnRelease, chart: str, more: dict[str, Any], masked: str, earlier: int
):
    for _ in range(earlier):
        release.deployed(chart)
    answer = release.send("PUT", "", {"chart": {"id": chart}, "values": [LAYER, {"object": more}]})
    told = told_of(release.server, release.ended(answer, "failed")["id"])
    assert masked in told["text"]
    assert not [value for value in (FIRST, SECOND) if value in json.dumps(told)], told
    assert SECOND not in json.dumps(release.get())


def test_what_pods_say_does_not_tell_values_of_layers_or_of_the_revision_before(
    release: OwnRelease, chart: str, direct: Client
):
    release.deployed(chart, {"object": {"key": THIRD}})
    body = {"chart": {"id": chart}, "values": [LAYER, {"object": {"web": True}}]}
    body["options"] = {"wait": "ready", "timeout_seconds": 12}
    answer = release.send("PUT", "", body, wait=0)
    assert answer.status_code in (200, 202), answer.text
    told = cannot_start(direct, release, answer.json()["id"], said=f"no {FIRST} Server=a;Pwd={SECOND} {THIRD}")
    assert "ImagePullBackOff: no *** *** ***" in json.dumps(told["evidence"])
    assert "ImagePullBackOff: no *** *** ***" in json.dumps(told["events"])


def test_what_pods_say_does_not_tell_values_of_the_revision_that_a_rollback_restores(
    release: OwnRelease, chart: str, direct: Client
):
    release.deployed(chart, LAYER, {"object": {"web": True}}, wait="none")
    release.deployed(chart, {"object": {"key": THIRD}})
    body = {"revision": 1, "options": {"wait": "ready", "timeout_seconds": 12}}
    answer = release.send("POST", "/rollback", body, wait=0)
    assert answer.status_code in (200, 202), answer.text
    told = cannot_start(direct, release, answer.json()["id"], said=f"no {FIRST} Server=a;Pwd={SECOND} {THIRD}")
    assert "ImagePullBackOff: no *** *** ***" in json.dumps(told["evidence"])
