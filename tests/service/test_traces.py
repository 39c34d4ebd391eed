"""Traces across processes, as a real collector gets them."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.charts import build_chart
from tests.support.otlp_collector import CollectedSpan, Collector, run_collector
from tests.support.servers import RunningServer, open_folder, run_server, wait_for
from tests.support.workloads import hook_template

_SECRET = "hunter2-of-the-values"
_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with run_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(folder: Path, collector: Collector, kubeconfig: str) -> Iterator[RunningServer]:
    """A server that sends its traces to the collector."""
    environment = {
        "PILOTHOUSE_TRACES__ENDPOINT": collector.url,
        "PILOTHOUSE_TRACES__HEADERS": "Authorization=Bearer%20of-the-collector,X-Tenant=one",
        "PILOTHOUSE_TRACES__SERVICE_NAME": "pilothouse-test",
        "PILOTHOUSE_TRACES__SEND_SECONDS": "0.2",
        "PILOTHOUSE_LOG_FORMAT": "json",
    }
    with run_server(folder, kubeconfig=kubeconfig, environment=environment) as server:
        yield server


def chart_id(server: RunningServer) -> str:
    templates = {
        "config.yaml": (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-c}\n"
            "data: {text: {{ .Values.password | quote }}}\n"
        ),
        "secret.yaml": (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}-s}\n"
            "stringData: {text: {{ .Values.password | quote }}}\n"
        ),
        "hook.yaml": hook_template("post-install", fate="succeed-after-1"),
    }
    archive = build_chart("traced", templates=templates, values={"password": ""})
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def order(server: RunningServer, namespace: str, name: str, *, chart: str, **headers: str) -> httpx2.Response:
    body = {"chart_id": chart, "namespace": namespace, "name": name, "values": {"password": _SECRET}}
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/releases"
    answer = server.send("POST", path, json_body=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


def test_a_trace_leads_from_the_request_to_what_helm_did_in_the_cluster(
    traced: RunningServer, collector: Collector, namespace: str
):
    chart = chart_id(traced)
    answer = order(traced, namespace, "seen", chart=chart, traceparent=f"00-{_TRACE}-{_PARENT}-01")
    assert traced.wait_until_final(namespace, "seen")["status"] == "DEPLOYED"
    attempt = wait_for(lambda: [one for one in collector.of_trace(_TRACE) if one.kind == "consumer"])[0]
    by_id = {one.span_id: one for one in collector.of_trace(_TRACE)}

    (request,) = [one for one in by_id.values() if one.kind == "server"]
    assert (request.name, request.parent_id) == ("POST /cce/cam/v3/clusters/{cluster_id}/releases", _PARENT)
    assert answer.headers["traceparent"] == f"00-{_TRACE}-{request.span_id}-01"
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["pilothouse.request_id"] == answer.headers["x-request-id"]
    assert (attempt.name, attempt.attributes["pilothouse.attempt"]) == ("attempt install", 1)
    assert attempt.attributes["pilothouse.operation_id"] == answer.headers["x-operation-id"]
    assert chain(by_id, attempt) == ["attempt install", "accept install", request.name]
    assert (request.part, attempt.part, attempt.service) == ("api", "worker", "pilothouse-test")
    (helm,) = [one for one in by_id.values() if one.name == "helm install" and one.part == "worker"]
    assert helm.parent_id == attempt.span_id
    steps = [one for one in collector.of_trace(_TRACE) if one.parent_id == helm.span_id]
    assert "hook Job" in [one.name for one in steps]
    assert all(helm.began <= one.began <= one.ended <= helm.ended for one in steps)
    reads = [one for one in by_id.values() if one.name == "GET Kubernetes"]
    assert {one.part for one in reads} == {"api", "worker"}
    assert all(one.parent_id in by_id for one in by_id.values() if one is not request), "no gap in the chain"


def chain(by_id: dict[str, CollectedSpan], span: CollectedSpan) -> list[str]:
    """Return the names of the span and of all above it."""
    above = by_id.get(span.parent_id)
    return [span.name, *(chain(by_id, above) if above is not None else ())]


def test_the_logs_of_both_processes_name_the_trace(traced: RunningServer, namespace: str, folder: Path):
    trace = uuid.uuid4().hex
    answer = order(traced, namespace, "logged", chart=chart_id(traced), traceparent=f"00-{trace}-{_PARENT}-01")
    assert traced.wait_until_final(namespace, "logged")["status"] == "DEPLOYED"

    def logged() -> dict[str, dict[str, str]] | None:
        lines = [json.loads(line) for line in (folder / "serve.log").read_text().splitlines() if trace in line]
        found = {line["event"]: line for line in lines}
        return found if "operation_ended" in found else None

    events = wait_for(logged)
    assert events is not None
    assert {"operation_accepted", "request_served", "operation_started", "operation_ended"} <= set(events)
    assert {line["trace_id"] for line in events.values()} == {trace}
    assert events["request_served"]["request_id"] == answer.headers["x-request-id"]
    assert events["operation_ended"]["operation_id"] == answer.headers["x-operation-id"]


def test_no_span_has_what_a_client_chose_or_may_keep_to_itself(
    traced: RunningServer, collector: Collector, namespace: str
):
    trace = uuid.uuid4().hex
    refused = {"chart_id": chart_id(traced), "namespace": namespace, "name": "kept", "values": {"password": _SECRET}}
    path = f"/cce/cam/v3/clusters/{traced.cluster_id}/releases?note={_SECRET}"
    headers = {"traceparent": f"00-{trace}-{_PARENT}-01"}
    assert traced.send("POST", path, json_body=refused, headers=headers).status_code == 201
    assert traced.wait_until_final(namespace, "kept")["status"] == "DEPLOYED"
    wait_for(lambda: [one for one in collector.of_trace(trace) if one.kind == "consumer"])

    for span in collector.spans:
        text = f"{span.name} {span.attributes} {span.others}"
        for chosen in (_SECRET, namespace, "kept-c", "Bearer", traced.access_key, traced.secret_key):
            assert chosen not in text, span
    assert all(one["authorization"] == "Bearer of-the-collector" for one in collector.headers)
    assert all(one["x-tenant"] == "one" for one in collector.headers)


@pytest.mark.parametrize(
    "sent",
    [
        f"00-{'0' * 32}-{_PARENT}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"ff-{_TRACE}-{_PARENT}-01",
        f"00-{_TRACE.upper()}-{_PARENT}",
        "nonsense",
        "",
    ],
)
def test_a_header_that_is_no_traceparent_begins_a_trace(traced: RunningServer, sent: str):
    answer = httpx2.get(f"{traced.url}/api/v1/health", headers={"traceparent": sent}, trust_env=False)

    # 1: recorded; 2: the id is random (W3C, level 2)
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]", answer.headers["traceparent"])
    assert found is not None
    assert found[1] not in (_TRACE, "0" * 32)


def test_two_headers_begin_a_trace_and_one_that_is_not_sampled_is_not_recorded(
    traced: RunningServer, collector: Collector
):
    trace = uuid.uuid4().hex
    parent = f"00-{trace}-{_PARENT}-01"
    twice = httpx2.get(
        f"{traced.url}/api/v1/health", headers=[("traceparent", parent), ("traceparent", parent)], trust_env=False
    )
    unsampled = httpx2.get(
        f"{traced.url}/api/v1/health", headers={"traceparent": f"00-{trace}-{_PARENT}-00"}, trust_env=False
    )

    assert trace not in twice.headers["traceparent"]
    assert re.fullmatch(rf"00-{trace}-[0-9a-f]{{16}}-00", unsampled.headers["traceparent"])
    last = twice.headers["traceparent"].split("-")[1]
    wait_for(lambda: collector.of_trace(last))
    assert collector.of_trace(trace) == []


def test_a_collector_that_fails_costs_no_request_and_is_said_once(
    traced: RunningServer, collector: Collector, folder: Path
):
    collector.refuses = True
    try:
        for _ in range(3):
            assert httpx2.get(f"{traced.url}/api/v1/health", trust_env=False).status_code == 200
        wait_for(lambda: "traces_not_sent" in (folder / "serve.log").read_text(), seconds=30)
    finally:
        collector.refuses = False
    httpx2.get(f"{traced.url}/api/v1/health", trust_env=False)
    wait_for(lambda: "traces_sent_again" in (folder / "serve.log").read_text(), seconds=30)
    said = [json.loads(line)["event"] for line in (folder / "serve.log").read_text().splitlines() if line[:1] == "{"]
    assert not [event for event in said if "503" in event]
