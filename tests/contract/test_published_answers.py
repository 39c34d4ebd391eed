"""Our answers beside the ones that the vendor's reference publishes: the same keys, types and string formats.

Against charts made to match, the same content too, but for ids, times and names.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer

PUBLISHED: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text())
OPERATIONS: dict[str, Any] = PUBLISHED["operations"]
MAGENTO, NEO4J = PUBLISHED["charts"]
#: What differs from call to call.
IDS_TIMES_AND_NAMES = {"id", "cluster_id", "cluster_name", "namespace", "name", "create_at", "update_at"}
FORMATS = {
    "time with an offset": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"),
    "time in UTC": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    "id": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "archive": re.compile(r"[^/]+\.tgz"),
    "status": re.compile(r"[A-Z]+(_[A-Z]+)*"),
    "empty": re.compile(r""),
}


@dataclass(frozen=True)
class Answers:
    """One answer of each operation, in the order in which they were asked for."""

    responses: dict[str, httpx2.Response]
    neo4j_archive: bytes


def chart_like(published: dict[str, Any], *, name: str | None = None) -> bytes:
    """Return a chart whose published description would be that one."""
    return build_chart(
        name or published["name"],
        published["version"],
        templates={"map.yaml": config_map_template(data="fixed")},
        values=json.loads(published["values"]),
        files={"README.md": "# A chart\n"} if published["instruction"] else None,
        metadata={"description": published["description"], "icon": published["icon_url"]},
    )


@pytest.fixture(scope="module")
def answers(server: RunningServer, make_namespace: Any) -> Answers:
    """Every operation called once, with the published requests where there are any."""
    made: dict[str, httpx2.Response] = {}
    archive = chart_like(NEO4J)
    releases = f"/cce/cam/v3/clusters/{server.cluster_id}"
    namespace = make_namespace()
    release = f"{releases}/namespace/{namespace}/releases/testwww"

    magento = server.upload(chart_like(MAGENTO), parameters='{"override": true}').json()["id"]
    made["upload_chart"] = server.upload(archive, parameters='{"override": true}')
    neo4j = made["upload_chart"].json()["id"]
    made["list_charts"] = server.send("GET", "/v2/charts")
    made["show_chart"] = server.send("GET", f"/v2/charts/{neo4j}")
    made["download_chart"] = server.send("GET", f"/v2/charts/{neo4j}/archive")
    made["show_chart_values"] = server.send("GET", f"/v2/charts/{magento}/values")
    made["show_user_charts_quotas"] = server.send("GET", f"/v2/charts/{server.project_id}/quotas")
    request = {**OPERATIONS["create_release"]["request"], "chart_id": magento, "namespace": namespace}
    made["create_release"] = server.create(**{**request, "name": "testwww", "values": {}})
    assert server.wait_until_final(namespace, "testwww")["status"] == "DEPLOYED"
    made["list_releases"] = server.send("GET", f"{releases}/releases?namespace={namespace}")
    made["show_release"] = server.send("GET", release)
    request = {**OPERATIONS["update_release"]["request"], "chart_id": magento}
    made["update_release"] = server.send("PUT", release, json_body=request)
    assert server.wait_until_final(namespace, "testwww")["status"] == "DEPLOYED"
    made["show_release_history"] = server.send("GET", f"{release}/history")
    made["delete_release"] = server.send("DELETE", release)
    form = httpx2.Request("PUT", server.url, files={"content": ("neo4j.tgz", archive)})
    form.read()
    made["update_chart"] = server.send(
        "PUT", f"/v2/charts/{neo4j}", body=form.content, headers={"Content-Type": form.headers["content-type"]}
    )
    made["delete_chart"] = server.send("DELETE", f"/v2/charts/{neo4j}")
    return Answers(responses=made, neo4j_archive=archive)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_answers_in_the_published_shape(answers: Answers, operation: str):
    published, response = OPERATIONS[operation], answers.responses[operation]
    assert response.status_code == published["status"], response.text
    if operation == "download_chart":
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["content-disposition"] == f'attachment; filename="{NEO4J["chart_url"]}"'
        assert response.content == answers.neo4j_archive
        return
    assert response.headers["content-type"] == "application/json"
    expected, ours = published["answer"], response.json()
    if operation == "delete_release":
        # that example was written down without them; every other operation has them
        expected = {**expected, "description": "text", "status_description": "text"}
    if operation == "list_charts":
        ours = [row for row in ours if row["chart_url"] == MAGENTO["chart_url"]]  # others may be on the server too
    assert list(differences(expected, ours)) == []


def test_create_release_of_a_chart_like_the_published_one_answers_the_same_but_for_ids_times_and_names(
    answers: Answers,
):
    published = OPERATIONS["create_release"]["answer"]
    assert without_ids_times_and_names(answers.responses["create_release"].json()) == without_ids_times_and_names(
        published
    )


@pytest.mark.parametrize("operation", ["list_releases", "show_release"])
def test_a_release_read_back_is_the_published_one_but_for_ids_times_names_and_progress(
    answers: Answers, operation: str
):
    published = OPERATIONS["show_release"]["answer"]
    answer = answers.responses[operation].json()
    ours = answer[0] if isinstance(answer, list) else answer
    progress = {"description": "Install complete", "status": "DEPLOYED", "status_description": "Install complete"}
    assert without_ids_times_and_names(ours) == {**without_ids_times_and_names(published), **progress}


@pytest.mark.parametrize("operation", ["upload_chart", "show_chart", "update_chart", "delete_chart"])
def test_a_chart_like_the_published_one_is_described_the_same_but_for_ids_and_times(answers: Answers, operation: str):
    ours = answers.responses[operation].json()
    assert without_ids_times_and_names(ours) == without_ids_times_and_names(OPERATIONS[operation]["answer"])
    assert ours["name"] == NEO4J["name"]


def test_the_list_describes_a_chart_like_the_published_one_the_same(answers: Answers):
    found = [one for one in answers.responses["list_charts"].json() if one["chart_url"] == MAGENTO["chart_url"]]
    assert [without_ids_times_and_names(one) for one in found] == [without_ids_times_and_names(MAGENTO)]


def test_chart_values_are_an_object_here_and_the_same_as_in_the_text(answers: Answers):
    assert answers.responses["show_chart_values"].json() == {"values": json.loads(MAGENTO["values"])}


def without_ids_times_and_names(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in IDS_TIMES_AND_NAMES}


def differences(published: Any, ours: Any, where: str = "") -> Iterator[str]:
    """Yield what has another key, type or string format; each row of our lists is compared with the published one."""
    if type(published) is not type(ours):
        yield f"{where}: {type(published).__name__} is published, and not {ours!r}"
    elif where.endswith(".values") and isinstance(ours, dict):
        return  # a chart's values have the chart's keys
    elif isinstance(published, dict):
        if published.keys() != ours.keys():
            yield f"{where}: other keys: {sorted(published.keys() ^ ours.keys())}"
        for key in published.keys() & ours.keys():
            yield from differences(published[key], ours[key], f"{where}.{key}")
    elif isinstance(published, list):
        if not ours:
            yield f"{where}: nothing to compare"
        for row in ours:
            yield from differences(published[0], row, f"{where}[]")
    elif isinstance(published, str):
        yield from text_differences(published, ours, where)


def text_differences(published: str, ours: str, where: str) -> Iterator[str]:
    for name, form in FORMATS.items():
        if form.fullmatch(published) and not form.fullmatch(ours):
            yield f"{where}: {name} is published, and not {ours!r}"
    if published.startswith("{") and json.dumps(json.loads(ours), separators=(",", ":"), sort_keys=True) != ours:
        yield f"{where}: compact JSON with sorted keys is published, and not {ours!r}"
    if published.startswith("http") and urlsplit(ours).scheme != "https":
        yield f"{where}: an address is published, and not {ours!r}"
