"""Who may only read is shown the names of a release's values, and not what they hold."""

import json

from tests.support.charts import build_chart, config_map_template
from tests.support.people import add_person
from tests.support.servers import RunningServer

HIDDEN = {"text": "******", "number": "******", "list": ["******", "******"], "empty": {}}


def test_readers_are_shown_masked_values_everywhere(server: RunningServer, namespace: str):
    values = {"text": "x", "number": 3, "list": [True, None], "empty": {}}
    archive = build_chart("hidden-values", templates={"map.yaml": config_map_template()}, values=values)
    chart = server.upload(archive).json()["id"]
    made = server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={})
    assert made.status_code == 201, made.text
    assert json.loads(made.json()["values"]) == values
    base = f"/cce/cam/v3/clusters/{server.cluster_id}"
    paths = [
        f"{base}/releases?namespace={namespace}",
        f"{base}/releases?namespace={namespace}&limit=10",
        f"{base}/releases?namespace={namespace}&fields=name,values",
        f"{base}/namespace/{namespace}/releases/web",
        f"{base}/namespace/{namespace}/releases/web/history",
    ]
    for role, expected in [
        ("CCE ReadOnlyAccess", HIDDEN),
        ("readonly", HIDDEN),
        ("CCE FullAccess", values),
        ("CCE Administrator", values),
    ]:
        person = add_person(server, role)
        for path in paths:
            answer = person.server.send("GET", path)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            one = found[0] if isinstance(found, list) else found
            assert json.loads(one["values"]) == expected, (role, path)
