"""Values that Helm could not store are refused at once; those that pack well are taken, however long they are."""

import random
from base64 import b64encode

import pytest

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer
from tests.support.wire import assert_error

LONG = {"text": "the same again; " * 150_000}


@pytest.fixture(scope="module")
def chart_id(server: RunningServer) -> str:
    answer = server.upload(config_map_chart("large-values"), parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def noise(size: int) -> dict[str, str]:
    return {"unused": b64encode(random.Random(1).randbytes(size)).decode()}  # noqa: S311 - it must be the same each time


def test_what_no_secret_can_hold_is_refused_for_create_and_update(server: RunningServer, chart_id: str, namespace: str):
    body = {"chart_id": chart_id, "namespace": namespace, "name": "large", "values": noise(2_000_000)}

    assert_error(server.create(**body), 400, "CCE.01400001", "values:", "when packed", "786432")
    assert server.create(**body | {"values": {}}).status_code == 201
    server.wait_until_final(namespace, "large")
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/large"
    update = {"chart_id": chart_id, "action": "upgrade", "values": noise(2_000_000), "parameters": {}}
    assert_error(server.send("PUT", path, json_body=update), 400, "CCE.01400001", "values:", "when packed")


def test_what_packs_well_is_deployed(server: RunningServer, chart_id: str, namespace: str):
    values = {"unused": LONG["text"]}

    answer = server.create(chart_id=chart_id, namespace=namespace, name="long", values=values)

    assert answer.status_code == 201, answer.text
    assert server.wait_until_final(namespace, "long")["status"] == "DEPLOYED"
