"""A row that is damaged costs what needs just that row, with an answer that names it, and nothing beside it."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation
from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from pilothouse.store import cluster_watches
from pilothouse.store.tables import metadata
from tests.service.test_poison import frozen
from tests.support.chart_sources import added, repository
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import looking_again
from tests.support.servers import RunningServer, open_folder, part, run_server, wait_for
from tests.support.wire import assert_error

INTERNAL = (500, "CCE.01500001")


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Iterator[RunningServer]:
    """Yield a server of its own: what was damaged is not always put back as it was."""
    with open_folder() as folder, run_server(folder, kubeconfig=kubeconfig) as running:
        yield running


@pytest.fixture(scope="module")
def rows(server: RunningServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "damaged", helm_cli)


@pytest.fixture
def chart(server: RunningServer) -> str:
    return str(server.upload(config_map_chart("damaged"), parameters='{"override": true}').json()["id"])


@pytest.fixture
def second(server: RunningServer, kubeconfig: str) -> Iterator[str]:
    """Another registration of the cluster, to be damaged."""
    body = {"name": f"second-{uuid.uuid4().hex[:10]}", "kubeconfig": kubeconfig}
    answer = server.send("POST", "/api/v1/clusters", json_body=body)
    assert answer.status_code == 201, answer.text
    cluster_id = str(answer.json()["id"])
    yield cluster_id
    server.send("DELETE", f"/api/v1/clusters/{cluster_id}")


@contextmanager
def damaged(rows: psycopg.Connection, column: str, row: str, value: object) -> Iterator[None]:
    """Yield the column holds this value in that row until the block ends."""
    table, name = column.split(".")
    names = {"table": sql.Identifier(table), "column": sql.Identifier(name)}
    find = sql.SQL("SELECT {column} FROM {table} WHERE id = %s").format(**names)
    write = sql.SQL("UPDATE {table} SET {column} = %s WHERE id = %s").format(**names)
    (whole,) = rows.execute(find, [row]).fetchall()[0]
    rows.execute(write, [value, row])
    try:
        yield
    finally:
        rows.execute(write, [whole, row])


#: What is read as anything but text or a number, and where it is damaged by a test.
PARSED = {
    "access_keys.secret_sealed": "here",
    "chart_sources.credentials_sealed": "here",
    "charts.values_json": "here",
    "clusters.kubeconfig_sealed": "here",
    "idempotency_keys.record_sealed": "tests/contract/test_idempotency_key.py",
    "operation_evidence.found": "here",
    "operations.request_sealed": "tests/service/test_poison.py",
    "operations.shown_sealed": "tests/service/test_poison.py",
    "plans.comparison_sealed": "here",
    "plans.plan_sealed": "here",
    "release_revisions.values_sealed": "here",
    "repairs.objects": "here",
    "webhooks.target_sealed": "tests/service/test_webhooks.py",
}


def test_every_column_that_is_parsed_is_damaged_by_a_test():
    found = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.endswith(("_sealed", "_json")) or "JSON" in (column.comment or "").split(":")[0].split()
    }
    assert found - {"release_revisions.values_text_size"} == set(PARSED)


WORDS = {
    f"{table.name}.{str(check.name).rpartition(f'ck_{table.name}_')[2]}"
    for table in metadata.sorted_tables
    for check in table.constraints
    if isinstance(check, CheckConstraint)
}


#: JSON that is not what a column holds.
_OF_ANOTHER_KIND = {"data": "[]", "events": "{}", "facts": "[]", "rules": "{}"}
#: What a row needs beside; its references are looked at after its words.
FILLING = {
    Text: "filling",
    Integer: 1,
    BigInteger: 1,
    LargeBinary: b"",
    DateTime: datetime.now(UTC),
    Boolean: True,
    JSONB: "{}",
    ARRAY: "{}",
}
#: What has words of its own, too.
_KNOWN = {"action": "install", "kind": "http", "verification": "none"}


@pytest.mark.parametrize("column", sorted(WORDS))
def test_a_word_that_nobody_knows_cannot_be_written(rows: psycopg.Connection, column: str):
    table, name = column.split(".")
    others = [each for each in metadata.tables[table].columns if not each.nullable and each.name != name]
    values: dict[str, object] = {each.name: FILLING[type(each.type)] for each in others}
    values |= {each: _KNOWN[each] for each in values if each in _KNOWN}
    values |= {name: _OF_ANOTHER_KIND.get(name, "damaged")}
    statement = sql.SQL("INSERT INTO {table} ({columns}) VALUES ({values})").format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(map(sql.Identifier, values)),
        values=sql.SQL(", ").join(map(sql.Literal, values.values())),
    )
    with pytest.raises(CheckViolation, match=f"ck_{table}_{name}"):
        rows.execute(statement)


def test_an_access_key(server: RunningServer, rows: psycopg.Connection):
    with damaged(rows, "access_keys.secret_sealed", server.access_key, b"\x01"):
        assert_error(server.send("GET", "/v2/charts"), 401, "APIGW.0301")
    assert server.send("GET", "/v2/charts").status_code == 200


def test_the_credentials_of_a_source(server: RunningServer, rows: psycopg.Connection):
    with repository() as serving:
        serving.files["index.yaml"] = b"apiVersion: v1\nentries: {}\n"
        credentials = {"username": "reader", "password": "secret"}
        body = {"name": "damaged", "kind": "http", "url": serving.url, "ca": serving.ca, "credentials": credentials}
        with added(server, body) as source:
            with damaged(rows, "chart_sources.credentials_sealed", source, b"\x01"):
                answer = server.send("POST", f"/api/v1/sources/{source}/sync")
                assert_error(answer, *INTERNAL)
                assert "source 'damaged': its stored credentials cannot be read" in answer.text
                shown = server.send("GET", "/api/v1/sources").json()
                assert "cannot be read" in next(one["problem"] for one in shown if one["id"] == source)
            assert server.send("POST", f"/api/v1/sources/{source}/sync").status_code == 200


def test_a_plan(server: RunningServer, rows: psycopg.Connection, release: OneRelease, chart: str):
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{release.namespace}/releases/damaged/plan"
    made = server.send("POST", path, json_body={"deploy": {"chart": {"id": chart}}})
    assert made.status_code in (200, 201), made.text
    plan, digest = made.json()["id"], made.json()["digest"]
    with damaged(rows, "plans.plan_sealed", plan, b"\x01"):
        assert_error(server.send("GET", f"/api/v1/plans/{plan}"), 409, "CCE.01409003")
        applied = server.send("POST", f"/api/v1/plans/{plan}/apply", json_body={"digest": digest})
        assert_error(applied, 409, "CCE.01409003")
    with damaged(rows, "plans.comparison_sealed", plan, b"\x01"):
        assert_error(server.send("GET", f"/api/v1/plans/{plan}"), 409, "CCE.01409003")
    assert server.send("GET", f"/api/v1/plans/{plan}").status_code == 200


def values_of(server: RunningServer, chart: str) -> httpx2.Response:
    return server.send("GET", f"/v2/charts/{chart}/values")


@pytest.mark.parametrize("text", ['{"text": "hel', "[]", "", "null", '{"text": hello}'])
def test_default_values(release: OneRelease, chart: str, rows: psycopg.Connection, text: str):
    server = release.server
    words = (chart, "charts.values_json", "PUT /v2/charts/")
    with damaged(rows, "charts.values_json", chart, text):
        assert_error(values_of(server, chart), *INTERNAL, *words)
        assert_error(release.create(chart), *INTERNAL, *words)
        listed = server.send("GET", "/v2/charts")
        assert (listed.status_code, chart in listed.text) == (200, True)
        archive = server.send("GET", f"/v2/charts/{chart}/archive")
        assert archive.status_code == 200, "with which it is mended"
    assert values_of(server, chart).status_code == 200


def shown_evidence(server: RunningServer, operation_id: str) -> list[dict[str, Any]]:
    answer = server.send("GET", f"/api/v1/operations/{operation_id}/evidence")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.parametrize("text", ['{"error": ', "[]", '{"error": "of another form"}', "7"])
def test_evidence_of_one_attempt(release: OneRelease, chart: str, rows: psycopg.Connection, text: str):
    operation_id = release.create(chart).headers["x-operation-id"]
    release.settled()
    whole: dict[str, object] = {
        name: [] for name in ("blocking", "conflicts", "objects", "pods", "events", "missing")
    } | {"error": "no"}
    for attempt, found in ((1, text), (2, json.dumps(whole))):
        rows.execute(
            "INSERT INTO operation_evidence (operation_id, attempt, found) VALUES (%s, %s, %s)",
            [operation_id, attempt, found],
        )
    first, second = shown_evidence(release.server, operation_id)
    assert (first["error"], second["error"]) == ("", "no")
    assert "operation_evidence.found" in first["missing"][0]


def refused(answer: httpx2.Response, cluster_id: str) -> None:
    assert_error(answer, *INTERNAL, "stored kubeconfig cannot be read", cluster_id, "PUT /api/v1/clusters/")


@pytest.mark.parametrize("change", [lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]), lambda _: b""])
def test_a_kubeconfig(
    release: OneRelease,
    chart: str,
    second: str,
    kubeconfig: str,
    rows: psycopg.Connection,
    *,
    change: Callable[[bytes], bytes],
):
    server = release.server
    server.wait_until_listed(second)
    worker, observer = part(server, "worker"), part(server, "observer")
    body = {"chart_id": chart, "namespace": release.namespace, "name": "other", "values": {}}
    path = f"/cce/cam/v3/clusters/{second}/releases"
    (sealed,) = rows.execute("SELECT kubeconfig_sealed FROM clusters WHERE id = %s", [second]).fetchall()[0]
    write = "UPDATE clusters SET kubeconfig_sealed = %s WHERE id = %s"
    with frozen(worker):  # accepted before, and taken after the damage
        answer = server.send("POST", path, json_body=body)
        assert answer.status_code == 201, answer.text
        rows.execute(write, [change(bytes(sealed)), second])
        rows.execute("SELECT pg_notify(%s, %s)", [cluster_watches.CHANNEL, second])
    ended = "SELECT status_description FROM operations WHERE id = %s AND state = 'failed'"
    text = wait_for(lambda: rows.execute(ended, [answer.headers["x-operation-id"]]).fetchone() or ())
    assert "stored kubeconfig cannot be read" in str(text)
    wait_for(lambda: "stored kubeconfig cannot be read" in server.index(second)["error"])
    refused(server.send("POST", path, json_body=body), second)
    refused(server.send("GET", f"/api/v1/clusters/{second}/probe"), second)
    assert server.send("GET", path).status_code == 200, "the index needs no credentials"
    assert second in server.send("GET", "/api/v1/clusters").text
    assert release.create(chart).status_code == 201
    assert release.settled()["status"] == "DEPLOYED", "other clusters are served"
    assert (part(server, "worker"), part(server, "observer")) == (worker, observer)
    mended = server.send("PUT", f"/api/v1/clusters/{second}/kubeconfig", json_body={"kubeconfig": kubeconfig})
    assert mended.status_code == 200, mended.text
    assert server.send("GET", f"/api/v1/clusters/{second}/probe").status_code == 200


@pytest.mark.parametrize("objects", ["[", "{}", "[[1]]", '[["v1"]]', "7"])
def test_objects_that_a_repair_remembers(release: OneRelease, chart: str, rows: psycopg.Connection, objects: str):
    release.create(chart)
    release.settled()
    with looking_again(release) as said:
        rows.execute("UPDATE repairs SET objects = %s WHERE namespace = %s", [objects, release.namespace])
    assert said == []


def test_the_values_of_a_revision(release: OneRelease, chart: str, rows: psycopg.Connection):
    release.create(chart)
    assert "hello" in release.settled()["values"]
    rows.execute("UPDATE release_revisions SET values_sealed = 'x' WHERE namespace = %s", [release.namespace])
    shown = release.show()
    assert shown.status_code == 200, shown.text
    assert shown.json()["status"] == "DEPLOYED"
    assert "does not open" in shown.json()["values"]
    listed = release.server.send("GET", f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases")
    assert release.namespace in [each["namespace"] for each in listed.json()]
