"""The native API's reads of releases, over HTTP, with helm as the judge of what Helm stored."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml

from pilothouse.http.release_queries import list_digest, write_marker
from pilothouse.store.release_lists import ReleaseFilter, ReleaseSort
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error

INVALID = (400, "CCE.01400001")
MISSING = (404, "CCE.01404001")
NOTES = "The password of {{ .Release.Name }} is {{ .Values.password }}.\n"


@dataclass(frozen=True)
class Made:
    """A release ``web`` with three revisions: installed and upgraded here, rolled back here."""

    server: RunningServer
    namespace: str

    @property
    def path(self) -> str:
        return f"/api/v1/clusters/{self.server.cluster_id}/namespaces/{self.namespace}/releases/web"

    def get(self, part: str = "", *, server: RunningServer | None = None, accept: str = "") -> Any:
        answer = (server or self.server).send("GET", self.path + part, headers={"Accept": accept} if accept else {})
        assert answer.status_code == 200, answer.text
        return answer.text if accept else answer.json()


def upgraded(made: Made, body: dict[str, Any]) -> str:
    """Return the id of the operation, which has succeeded."""
    base = f"/cce/cam/v3/clusters/{made.server.cluster_id}/namespace/{made.namespace}/releases/web"
    answer = made.server.send("PUT", base, json_body=body)
    assert answer.status_code == 200, answer.text
    operation = answer.headers["x-operation-id"]
    wait_for(lambda: made.server.send("GET", f"/api/v1/operations/{operation}").json()["state"] == "succeeded")
    return str(operation)


@pytest.fixture(scope="module")
def made(server: RunningServer, make_namespace: Callable[[], str]) -> Made:
    namespace = make_namespace()
    chart = server.upload(
        build_chart(
            "read",
            templates={"map.yaml": config_map_template(), "secret.yaml": SECRET, "hook.yaml": HOOK, "NOTES.txt": NOTES},
            values={"text": "x", "password": "long-enough", "nested": {"a": 1}},
            app_version="9.1",
        )
    ).json()["id"]
    created = server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={"text": "y"})
    assert created.status_code == 201, created.text
    made = Made(server, namespace)
    wait_for(lambda: made.get()["status"] == "deployed")
    upgraded(made, {"chart_id": chart, "action": "upgrade", "values": {"text": "z", "password": "another-one"}})
    upgraded(made, {"chart_id": chart, "action": "rollback", "parameters": {"release_version": 1}})
    return made


SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-secret"}
stringData: {password: {{ .Values.password | quote }}}
"""
HOOK = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-hook", annotations: {helm.sh/hook: "post-install,test", helm.sh/hook-weight: "3"}}
data: {password: {{ .Values.password | quote }}}
"""


def test_a_release_is_shown_as_helm_has_it(made: Made, helm_cli: HelmCommand):
    shown = made.get()
    judge = json.loads(helm_cli("status", "web", "-n", made.namespace, "-o", "json"))
    listed = json.loads(helm_cli("list", "-n", made.namespace, "-o", "json"))[0]
    assert (shown["revision"], shown["status"], shown["description"]) == (
        judge["version"],
        judge["info"]["status"],
        judge["info"]["description"],
    )
    assert f"{shown['chart_name']}-{shown['chart_version']}" == listed["chart"]
    assert shown["app_version"] == listed["app_version"] == "9.1"
    assert shown["notes"] == judge["info"]["notes"] == "The password of web is long-enough.\n"
    assert (shown["operation"], shown["problem"], shown["manager"], shown["labels"]) == (None, "", "", {})
    assert shown["cluster_id"] == made.server.cluster_id
    cause = shown["changed_by"]
    operation = made.server.send("GET", f"/api/v1/operations/{cause['operation_id']}").json()
    assert (cause["cause"], operation["action"], operation["revision"]) == ("rollback", "rollback", 3)
    assert cause["user_id"] == operation["user_id"]
    assert cause["user_name"]
    assert made.get("?revision=1")["changed_by"]["cause"] == "install"
    assert [made.get(f"?revision={number}")["status"] for number in (1, 2, 3)] == [
        "superseded",
        "superseded",
        "deployed",
    ]


def test_a_cluster_is_named_by_id_or_name(made: Made):
    name = made.get()["cluster_name"]
    by_name = made.server.send("GET", made.path.replace(made.server.cluster_id, name))
    assert by_name.json()["cluster_id"] == made.server.cluster_id
    for wrong in ("nowhere", add_tenant(made.server).project_id):
        answer = made.server.send("GET", made.path.replace(made.server.cluster_id, wrong))
        assert f"cluster '{wrong}' does not exist" in assert_error(answer, *MISSING)


def test_what_is_not_there_is_named(made: Made):
    for path, text in (
        (f"{made.path}?revision=9", "has no revision 9; the next lower one is 3"),
        (f"{made.path}x", "release 'webx' does not exist"),
    ):
        answer = made.server.send("GET", path)
        assert text in assert_error(answer, *MISSING)
    assert_error(made.server.send("GET", f"{made.path}?revision=0"), *INVALID)


def test_readers_without_the_right_see_no_values_in_texts(made: Made):
    reader = add_person(made.server, "CCE ReadOnlyAccess").server
    assert made.get(server=reader)["notes"] == "The password of web is ***.\n"


def test_the_list_has_the_release_and_says_what_it_was_asked(made: Made):
    answer = made.server.send("GET", f"/api/v1/releases?namespace={made.namespace}&totals=true")
    assert answer.status_code == 200, answer.text
    [item] = answer.json()
    shown = made.get()
    assert {name: item[name] for name in item if name in shown and name != "age_seconds"} == {
        name: shown[name] for name in item if name in shown and name != "age_seconds"
    }
    assert answer.headers["x-pilothouse-totals"] == "deployed=1"
    assert "x-pilothouse-marker" not in answer.headers
    [few] = made.server.send("GET", f"/api/v1/releases?namespace={made.namespace}&fields=status,revision").json()
    assert set(few) == {"cluster_id", "cluster_name", "namespace", "name", "status", "revision"}


def test_the_list_as_a_table_says_the_same(made: Made):
    path = f"/api/v1/releases?namespace={made.namespace}"
    [item] = made.server.send("GET", path).json()
    for accept in ("application/json;as=Table", "application/json; as=table, application/json"):
        answer = made.server.send("GET", path, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json;as=Table"
        table = answer.json()
        assert table["columns"] == list(item)
        [row] = (dict(zip(table["columns"], values, strict=True)) for values in table["rows"])
        at, shown = datetime.fromisoformat(row.pop("updated_at")), datetime.fromisoformat(item["updated_at"])
        assert timedelta(0) <= at - shown < timedelta(milliseconds=1)
        same = item.keys() - {"updated_at", "age_seconds"}
        assert {name: row[name] for name in same} == {name: item[name] for name in same}
        assert row.keys() == item.keys() - {"updated_at"}
    assert made.server.send("GET", f"{path}&fields=odd", headers={"Accept": accept}).status_code == 400


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("status=deployedd", "status: 'deployedd' is unknown; did you mean deployed?"),
        ("status=deployed,zzz", "status: 'zzz' is unknown; there are: unknown, deployed"),
        ("sort=updates", "sort: 'updates' is unknown; did you mean updated?"),
        ("manager=fluxx", "manager: 'fluxx' is unknown; did you mean flux?"),
        ("fields=chart", "fields: 'chart' is unknown; did you mean chart_name?"),
        ("changed_since=yesterday", "changed_since: "),
        ("limit=0", "limit: "),
        ("marker=x", "marker: 'x' is not a value of X-Pilothouse-Marker"),
        ("marker=WyJ4Il0=", "marker: "),
    ],
)
def test_wrong_parameters_of_the_list_are_explained(server: RunningServer, query: str, text: str):
    answer = server.send("GET", f"/api/v1/releases?{query}")
    assert text in assert_error(answer, *INVALID)


def test_a_marker_of_another_list_is_refused(made: Made):
    for name in ("other", "third"):
        archive = build_chart(name, templates={"map.yaml": config_map_template()}, values={"text": "x"})
        chart = made.server.upload(archive).json()["id"]
        made.server.create(chart_id=chart, namespace=made.namespace, name=name, version="0.1.0", values={})
    path = f"/api/v1/releases?namespace={made.namespace}&limit=1"
    first = made.server.send("GET", f"{path}&sort=updated")
    marker = first.headers["x-pilothouse-marker"]
    second = made.server.send("GET", f"{path}&sort=updated&marker={marker}")
    assert second.status_code == 200, second.text
    assert second.json()[0]["name"] != first.json()[0]["name"]
    for other in (f"{path}&sort=-updated", f"{path}&sort=updated&name=t", f"{path}&sort=name"):
        answer = made.server.send("GET", f"{other}&marker={marker}")
        assert "marker: it belongs to a list with other filters or another order" in assert_error(answer, *INVALID)


@pytest.mark.parametrize("at", ["yesterday", "2026-02-30T00:00:00+00:00", "2026-02-03T00:00:00", 7, None])
def test_a_marker_whose_date_is_none_is_refused(made: Made, at: object):
    path = f"/api/v1/releases?namespace={made.namespace}&sort=updated"
    digest = list_digest(ReleaseFilter(namespace=made.namespace), ReleaseSort("updated"))
    for place, status in ((["2026-02-03T00:00:00+00:00", "c", "n", "r"], 200), ([at, "c", "n", "r"], 400)):
        answer = made.server.send("GET", f"{path}&marker={write_marker(tuple(place), digest)}")
        assert answer.status_code == status, answer.text
    assert "is not a value of X-Pilothouse-Marker" in assert_error(answer, *INVALID)


def test_parts_are_what_helm_gets(made: Made, helm_cli: HelmCommand):
    def helm(*arguments: str) -> str:
        return helm_cli("get", *arguments, "-n", made.namespace)

    for query, arguments in (("", ()), ("?revision=2", ("--revision", "2"))):
        number = 2 if query else 3
        values = made.get(f"/values{query}")
        assert values == {"revision": number, "layer": "user", "values": json.loads(helm(*VALUES, *arguments))}
        computed = made.get(f"/values?layer=computed{query.replace('?', '&')}")["values"]
        assert computed == json.loads(helm(*VALUES, "--all", *arguments))
        manifest = helm("manifest", "web", *arguments)
        assert made.get(f"/manifest{query}")["manifest"].strip() == manifest.strip()
        assert made.get(f"/manifest{query}", accept="application/yaml").strip() == manifest.strip()
        assert made.get(f"/hooks{query}", accept="application/yaml").split() == helm("hooks", "web", *arguments).split()
        notes = helm("notes", "web", *arguments).removeprefix("NOTES:\n").strip()
        assert made.get(f"/notes{query}")["notes"].strip() == notes
        assert made.get(f"/notes{query}", accept="text/plain").strip() == notes
    text = made.get("/values?revision=2", accept="application/yaml")
    assert yaml.safe_load(text) == {"text": "z", "password": "another-one"}
    assert made.get("/values?layer=chart")["values"] == {"text": "x", "password": "long-enough", "nested": {"a": 1}}
    [hook] = made.get("/hooks")["hooks"]
    assert (hook["name"], hook["events"], hook["weight"]) == ("web-hook", ["post-install", "test"], 3)


VALUES = ("values", "web", "-o", "json")


def test_the_history_tells_who_wrote_each_revision_and_why(made: Made, helm_cli: HelmCommand):
    judge = json.loads(helm_cli("history", "web", "-n", made.namespace, "-o", "json"))
    found = made.get("/history")
    assert [(one["revision"], one["status"], one["description"]) for one in found] == [
        (one["revision"], one["status"], one["description"]) for one in reversed(judge)
    ]
    assert [one["changed_by"]["cause"] for one in found] == ["rollback", "upgrade", "install"]
    assert len({one["changed_by"]["operation_id"] for one in found}) == 3
    assert len(yaml.safe_load(made.get("/history", accept="application/yaml"))) == 3


def test_a_revision_that_another_client_wrote_has_no_cause(
    server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    chart = server.upload(build_chart("foreign", templates={"map.yaml": config_map_template()}, values={"text": "x"}))
    server.create(chart_id=chart.json()["id"], namespace=namespace, name="web", version="0.1.0", values={})
    made = Made(server, namespace)
    wait_for(lambda: made.get()["status"] == "deployed")
    helm_cli("rollback", "web", "1", "-n", namespace)
    wait_for(lambda: made.get()["revision"] == 2)
    assert made.get()["changed_by"] is None
    assert made.get("?revision=1")["changed_by"]["cause"] == "install"


def test_readers_without_the_right_see_no_values_in_any_part(made: Made):
    reader = add_person(made.server, "CCE ReadOnlyAccess").server
    for part in ("", "/values?layer=computed", "/values?layer=chart", "/manifest", "/notes", "/hooks", "/history"):
        for query in ("", "revision=2"):
            path = part + (("&" if "?" in part else "?") + query if query else "")
            shown = json.dumps(made.get(path, server=reader))
            for secret in ("long-enough", "another-one", "bG9uZy1lbm91Z2g=", "YW5vdGhlci1vbmU="):
                assert secret not in shown, path
    values = made.get("/values?layer=computed", server=reader)["values"]
    assert values == {"nested": {"a": "******"}, "password": "******", "text": "******"}
    manifest = made.get("/manifest", server=reader, accept="application/yaml")
    assert {one["kind"] for one in yaml.safe_load_all(manifest)} == {"ConfigMap", "Secret"}
    assert "# Source: read/templates/secret.yaml" in manifest


def test_reading_what_may_hold_values_is_audited_for_those_who_see_them(made: Made):
    """Texts of a release and of its history may hold values, as its notes do."""

    def noted(user_name: str) -> set[str]:
        rows = made.server.send("GET", "/api/v1/audit?limit=500").json()
        return {
            row["detail"]
            for row in rows
            if (row["action"], row["user"]) == ("pilothouse:values:read", user_name)
            and row["target"].endswith(f"{made.namespace}/web")
        }

    writer, reader = add_person(made.server, "CCE FullAccess"), add_person(made.server, "CCE ReadOnlyAccess")
    for person in (writer, reader):
        made.get(server=person.server)
        made.get("/history", server=person.server)
    wait_for(lambda: noted(writer.name) == {"release", "history"})
    assert noted(reader.name) == set()


def test_parts_of_what_is_not_there_are_refused(made: Made):
    for part in ("values", "manifest", "notes", "hooks"):
        assert "has no revision 9" in assert_error(made.server.send("GET", f"{made.path}/{part}?revision=9"), *MISSING)
        assert "release 'webx' does not exist" in assert_error(
            made.server.send("GET", f"{made.path}x/{part}"), *MISSING
        )
    assert "layer: must be 'user', 'computed' or 'chart', and is 'all'" in assert_error(
        made.server.send("GET", f"{made.path}/values?layer=all"), *INVALID
    )


def test_two_revisions_are_compared_object_by_object(made: Made):
    found = made.get("/diff?from=1&to=2")
    assert (found["from_revision"], found["to_revision"]) == (1, 2)
    assert found["summary"] == {"added": 0, "changed": 2, "removed": 0, "unchanged": 0, "unknown": 0}
    by_kind = {one["kind"]: one for one in found["objects"]}
    assert by_kind["ConfigMap"]["fields"] == [{"path": "/data/text", "change": "changed", "old": "y", "new": "z"}]
    [secret] = by_kind["Secret"]["fields"]
    assert secret["path"].endswith("/password")
    assert (secret["old"], secret["new"]) == ("******", "******")
    assert made.get("/diff")["from_revision"] == 2
    assert made.get("/diff?from=1&to=3")["summary"] == {
        "added": 0,
        "changed": 0,
        "removed": 0,
        "unchanged": 2,
        "unknown": 0,
    }
    reader = add_person(made.server, "CCE ReadOnlyAccess").server
    hidden = {one["kind"]: one["fields"] for one in made.get("/diff?from=1&to=2", server=reader)["objects"]}
    assert [(one["old"], one["new"]) for one in hidden["ConfigMap"]] == [("******", "******")]


def test_revisions_that_cannot_be_compared_are_explained(made: Made):
    for query, text in (("from=9", "has no revision 9"), ("to=1", "no revision before 1 to compare it with")):
        assert text in assert_error(made.server.send("GET", f"{made.path}/diff?{query}"), *MISSING)
    for query in ("from=x", "to=0"):
        assert_error(made.server.send("GET", f"{made.path}/diff?{query}"), *INVALID)
