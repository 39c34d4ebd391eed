"""Who may only read is shown the names of a release's values, and not what they hold."""

import json

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer
from tests.support.users import add_person

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


#: Values by where a chart puts them; none may stand in what a reader is shown.
IN_OBJECTS = {
    "file": "in-a-config-map",
    "small": "s3",
    "variable": "in-an-environment",
    "argument": "in-an-argument",
    "note": 'in an "annotation"',
    "port": 123456789,
    "password": "abcd",
}
OBJECTS = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: files
  annotations:
    note: {{ .Values.note | quote }}
data: {file: "{{ .Values.file }}", small: "{{ .Values.small }}"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: hidden}}
  template:
    metadata:
      labels: {app: hidden}
      annotations: {number: "{{ .Values.port | int64 }}", password: {{ .Values.password }}}
    spec:
      containers:
        - name: main
          image: busybox
          args: [{{ .Values.argument }}, {{ .Values.small }}]
          env: [{name: FIRST, value: {{ .Values.variable }}}, {name: SECOND, value: {{ .Values.small }}}]
"""


def test_readers_do_not_find_values_in_live_objects_and_descriptions(server: RunningServer, namespace: str):
    archive = build_chart("hidden-objects", templates={"all.yaml": OBJECTS}, values={"default": "x"})
    chart = server.upload(archive, parameters='{"override": true, "skip_lint": true}').json()["id"]
    wanted = {"chart_id": chart, "namespace": namespace, "name": "web", "version": "0.1.0", "values": IN_OBJECTS}
    made = server.create(**wanted, description="made with in-an-environment and abcd")
    assert made.status_code == 201, made.text
    final = server.wait_until_final(namespace, "web")
    assert final["status"] == "DEPLOYED", final["status_description"]
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/web?show_resources=true"
    lists = f"/cce/cam/v3/clusters/{server.cluster_id}/releases?namespace={namespace}&fields=name,description"
    for role in ("readonly", "CCE ReadOnlyAccess"):
        reader = add_person(server, role).server
        shown = reader.send("GET", path).json()
        objects = json.loads(shown["resources"])
        (files,), (web,) = objects["v1/ConfigMap"], objects["v1/Deployment"]
        assert (files["metadata"]["name"], web["kind"]) == ("files", "Deployment")
        assert files["data"] == {"file": "******", "small": "******"}
        (container,) = web["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["******", "******"]
        assert [one["value"] for one in container["env"]] == ["******", "******"]
        assert web["spec"]["replicas"] == 1
        assert web["metadata"]["uid"]
        for text in (shown["resources"], shown["description"], reader.send("GET", lists).text):
            for value in IN_OBJECTS.values():
                assert len(str(value)) < 4 or json.dumps(str(value))[1:-1] not in text, (role, value, text)
        assert shown["description"] == "made with *** and ***"
    shown = server.send("GET", path).json()
    assert shown["description"] == "made with in-an-environment and abcd"
    assert "in-a-config-map" in shown["resources"]


def test_what_a_failed_upgrade_left_as_it_was_is_hidden_too(server: RunningServer, namespace: str):
    template = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: a\n  annotations: {x: {{ .Values.note }}}\n"
    broken = "{{ if .Values.break }}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: NOT_A_NAME}\n{{ end }}\n"
    archive = build_chart("hidden-before", templates={"a.yaml": template, "b.yaml": broken})
    chart = server.upload(archive, parameters='{"override": true, "skip_lint": true}').json()["id"]
    made = server.create(chart_id=chart, namespace=namespace, name="web", values={"note": "note-of-the-first"})
    assert made.status_code == 201, made.text
    assert server.wait_until_final(namespace, "web")["status"] == "DEPLOYED"
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/web"
    reader = add_person(server, "readonly").server
    assert "note-of-the-first" not in reader.send("GET", path + "?show_resources=true").json()["resources"]
    body = {"chart_id": chart, "action": "upgrade", "values": {"note": "note-of-the-second", "break": True}}
    updated = server.send("PUT", path, json_body=body | {"parameters": {}})
    assert updated.status_code in {200, 400}, updated.text
    server.wait_until_final(namespace, "web")
    text = reader.send("GET", path + "?show_resources=true").text
    assert "note-of" not in text, text
