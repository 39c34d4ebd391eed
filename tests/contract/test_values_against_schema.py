"""Layers that make values which a chart's schema refuses: the answer has the layer and the line."""

import json

import pytest

from tests.support.charts import build_chart, config_map_template
from tests.support.plans import Planned, uploaded
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

SCHEMA = {
    "type": "object",
    "properties": {"replicas": {"type": "integer"}, "mode": {"type": "string"}},
    "dependentRequired": {"mode": ["key"]},
}
LAYERS = [
    {"yaml": "# of the team\nreplicas: 2\nmode: tls\n", "name": "team.yaml"},
    {"yaml": "text: x\nreplicas: many\n", "name": "prod.yaml"},
]
#: Two layers, each right without the other.
REFUSED = (
    "at '/replicas': got string, want integer (set by values[1] (prod.yaml), line 2)",
    "at '': properties 'key' required, if 'mode' exists (set by values[0] (team.yaml), line 3)",
)


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    archive = build_chart(
        "schemed",
        "1.0.0",
        templates={"map.yaml": config_map_template()},
        values={"text": "one", "replicas": 1},
        schema=json.dumps(SCHEMA),
    )
    return uploaded(server, archive)


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> Planned:
    return Planned(server, namespace, helm_cli)


def test_a_plan_and_a_rendering_say_which_layer_and_line(release: Planned, chart: str):
    deploy = {"chart": {"id": chart}, "values": LAYERS}
    answers = [
        release.ask({"deploy": deploy}),
        release.server.send("POST", "/api/v1/render", json_body=deploy),
        release.server.send("POST", "/api/v1/render", json_body={**deploy, "cluster": release.server.cluster_id}),
    ]
    for answer in answers:
        assert answer.status_code == 400, answer.text
        assert [text in answer.json()["error_msg"] for text in REFUSED] == [True, True], answer.text


def test_an_operation_that_fails_by_the_schema_says_so_too(release: Planned, chart: str):
    answer = release.server.send(
        "PUT", release.path, json_body={"chart": {"id": chart}, "values": LAYERS}, headers={"Prefer": "wait=60"}
    )
    assert answer.json()["state"] == "failed", answer.text
    assert [text in answer.json()["text"] for text in REFUSED] == [True, True], answer.text


def test_without_the_schema_the_same_values_are_deployed(release: Planned, chart: str):
    def put(options: dict[str, bool]) -> tuple[str, str]:
        body = {"chart": {"id": chart}, "values": LAYERS, "options": options}
        answer = release.server.send("PUT", release.path, json_body=body, headers={"Prefer": "wait=60"})
        return answer.json()["state"], answer.json()["text"]

    skipped = {"skip_schema_validation": True}
    state, text = put({"skip_schema_validation": False})
    assert (state, REFUSED[0] in text) == ("failed", True), text
    state, text = put(skipped)
    assert state == "succeeded", text
    assert json.loads(release.helm("get", "values", "web", "-n", release.namespace, "-o", "json"))["replicas"] == "many"

    deploy = {"chart": {"id": chart}, "values": LAYERS}
    rendered = release.server.send("POST", "/api/v1/render", json_body={**deploy, "options": skipped})
    assert rendered.status_code == 200, rendered.text
    release.applied(release.made(release.ask({"deploy": {**deploy, "options": skipped}})))
    assert [one["status"] for one in release.history()][-1] == "deployed"
