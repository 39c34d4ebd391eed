"""``pilothouse mcp``: an assistant reads releases over its standard streams, driven by the library's own client."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.support.charts import build_chart, config_map_template
from tests.support.plans import uploaded
from tests.support.servers import RunningServer, wait_for
from tests.support.users import add_person

READS = {"list_releases", "show_release", "get_release_part", "diff_revisions", "drift", "explain_failure"}
CHANGES = {"plan_upgrade", "plan_rollback", "apply_plan"}
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-secret"}
stringData: {password: {{ .Values.password | quote }}}
"""


@asynccontextmanager
async def assistant(server: RunningServer, *arguments: str) -> AsyncIterator[ClientSession]:
    """A session with ``pilothouse mcp`` as this server's caller."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PILOTHOUSE_URL": server.url,
        "CLOUD_SDK_AK": server.access_key,
        "CLOUD_SDK_SK": server.secret_key,
    }
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "pilothouse", "mcp", *arguments], env=environment
    )
    async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


async def ask(session: ClientSession, tool: str, **arguments: Any) -> Any:
    """What the tool answers."""
    answer = await session.call_tool(tool, arguments)
    assert not answer.is_error, answer
    return answer.structured_content


async def refusal(session: ClientSession, tool: str, **arguments: Any) -> str:
    answer = await session.call_tool(tool, arguments)
    assert answer.is_error
    return str(answer.content[0].text)  # type: ignore[union-attr]  # tools of ours answer with texts


@pytest.fixture(scope="module")
def namespace(server: RunningServer, make_namespace: Callable[[], str]) -> str:
    """A namespace with two revisions of the release ``web``."""
    made = make_namespace()
    templates = {"map.yaml": config_map_template(), "secret.yaml": SECRET}
    chart = server.upload(build_chart("assisted", templates=templates, values={"text": "x", "password": "long-enough"}))
    chart_id = chart.json()["id"]
    server.create(chart_id=chart_id, namespace=made, name="web", version="0.1.0", values={})
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{made}/releases/web"
    wait_for(lambda: server.send("GET", path).json()["status"] == "deployed")
    base = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{made}/releases/web"
    body = {"chart_id": chart_id, "action": "upgrade", "values": {"text": "y"}}
    assert server.send("PUT", base, json_body=body).status_code == 200
    wait_for(lambda: (now := server.send("GET", path).json())["status"] == "deployed" and now["revision"] == 2)
    return made


async def test_an_assistant_reads_what_the_person_may_read(server: RunningServer, namespace: str):
    async with assistant(server, "--cluster", server.cluster_id, "-n", namespace) as session:
        offered = (await session.list_tools()).tools
        assert {tool.name for tool in offered} == READS | CHANGES
        reading = {tool.name for tool in offered if tool.annotations is not None and tool.annotations.read_only_hint}
        assert reading == READS
        listed = await ask(session, "list_releases", namespace=namespace)
        assert [one["name"] for one in listed["releases"]] == ["web"]
        shown = await ask(session, "show_release", name="web")
        assert (shown["namespace"], shown["cluster_id"]) == (namespace, server.cluster_id)
        values = await ask(session, "get_release_part", name="web", part="values", revision=1)
        assert values["values"]["revision"] == 1
        tree = await ask(session, "get_release_part", name="web", part="resources")
        assert {one["kind"] for one in tree["resources"]["objects"]} == {"ConfigMap", "Secret"}
        differing = await ask(session, "diff_revisions", name="web", from_revision=1, to_revision=2)
        assert [one["kind"] for one in differing["objects"]] == ["ConfigMap"]
        drifted = await ask(session, "drift", name="web")
        assert (drifted["objects"], drifted["summary"]["unchanged"]) == ([], 2)


async def test_a_failure_is_explained_by_its_evidence(server: RunningServer, make_namespace: Callable[[], str]):
    namespace = make_namespace()
    broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: same}\ndata: {a: 1}\n"
    chart = uploaded(server, build_chart("broken", templates={"map.yaml": broken}, values={}))
    made = server.create(chart_id=chart, namespace=namespace, name="bad", version="0.1.0", values={})
    operation = made.headers["x-operation-id"]
    wait_for(lambda: server.send("GET", f"/api/v1/operations/{operation}").json()["state"] == "failed")
    async with assistant(server, "--cluster", server.cluster_id, "-n", namespace) as session:
        told = await ask(session, "explain_failure", name="bad")
        assert told["operation"]["id"] == operation
        assert told["evidence"][0]["error"]
        assert told == await ask(session, "explain_failure", operation_id=operation)


async def test_a_plan_is_applied_only_with_the_digest_that_a_person_gives(
    server: RunningServer, make_namespace: Callable[[], str]
):
    namespace = make_namespace()
    archive = build_chart("planned", templates={"map.yaml": config_map_template()}, values={"text": "x"})
    chart = uploaded(server, archive)
    server.create(chart_id=chart, namespace=namespace, name="web", version="0.1.0", values={})
    path = f"/api/v1/clusters/{server.cluster_id}/namespaces/{namespace}/releases/web"
    wait_for(lambda: server.send("GET", path).json()["status"] == "deployed")
    async with assistant(server, "--cluster", server.cluster_id, "-n", namespace) as session:
        plan = await ask(session, "plan_upgrade", name="web", chart_id=chart, values_yaml="text: planned")
        assert plan["summary"]["changed"] == 1
        assert [planned["kind"] for planned in plan["objects"]] == ["ConfigMap"]
        reviewed = server.send("GET", f"/api/v1/plans/{plan['id']}").json()
        assert reviewed["digest"] not in json.dumps(plan)
        assert "digest" in await refusal(session, "apply_plan", plan_id=plan["id"], digest="0" * 64)
        applied = await ask(session, "apply_plan", plan_id=plan["id"], digest=reviewed["digest"])
        wait_for(lambda: server.send("GET", f"/api/v1/operations/{applied['id']}").json()["state"] == "succeeded")
        values = await ask(session, "get_release_part", name="web", part="values")
        assert values["values"]["values"] == {"text": "planned"}
        back = await ask(session, "plan_rollback", name="web", revision=1)
        assert (back["action"], back["summary"]["changed"]) == ("rollback", 1)


async def test_without_the_right_to_read_values_they_are_masked(server: RunningServer, namespace: str):
    reader = add_person(server, "CCE ReadOnlyAccess").server
    async with assistant(reader, "--cluster", server.cluster_id, "-n", namespace) as session:
        for part in ("values", "manifest", "resources", "history"):
            text = json.dumps(await ask(session, "get_release_part", name="web", part=part))
            assert "long-enough" not in text, part
        text = json.dumps(await ask(session, "diff_revisions", name="web", from_revision=1, to_revision=2))
        assert '"old": "******"' in text


async def test_refusals_are_told_with_what_to_do(server: RunningServer, namespace: str):
    async with assistant(server) as session:
        assert "release 'nowhere' does not exist" in await refusal(
            session, "show_release", name="nowhere", cluster=server.cluster_id, namespace=namespace
        )
        assert "list_releases has them" in await refusal(session, "show_release", name="web")
        assert "did you mean deployed?" in await refusal(session, "list_releases", status="deployedd")
        assert "operation_id" in await refusal(session, "explain_failure")
        assert "part" in await refusal(session, "get_release_part", name="web", part="secrets")
    nobody = add_person(server).server
    async with assistant(nobody) as session:
        assert await refusal(session, "list_releases")
