"""Show Release History through the vendor's client, judged by ``helm history``."""

import json
from collections.abc import Callable

import pytest
from huaweicloudsdkcce.v3 import ShowReleaseHistoryRequest

from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer
from tests.support.wire import assert_error

Helm = Callable[..., str]
_STATUS = {"deployed": "DEPLOYED", "superseded": "SUPERSEDED", "failed": "FAILED"}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("chart") / "chart.tgz"
    file.write_bytes(build_chart(templates={"map.yaml": config_map_template()}, values={"text": "x"}))
    return str(file)


def test_every_revision_is_shown_newest_first_as_helm_has_it(
    server: RunningServer, namespace: str, helm_cli: Helm, chart: str
):
    helm_cli("install", "web", chart, "-n", namespace)
    helm_cli("upgrade", "web", chart, "-n", namespace, "--set", "text=second")
    helm_cli("rollback", "web", "1", "-n", namespace)
    server.wait_until_shown(namespace, "web", revision=3)
    request = ShowReleaseHistoryRequest(cluster_id=server.cluster_id, namespace=namespace, name="web")
    shown = server.sdk().show_release_history(request).body
    by_helm = json.loads(helm_cli("history", "web", "-n", namespace, "-o", "json"))
    assert [(one.version, one.status, one.status_description) for one in shown] == [
        (row["revision"], _STATUS[row["status"]], row["description"]) for row in reversed(by_helm)
    ]
    assert [json.loads(one.values)["text"] for one in shown] == ["x", "second", "x"]


def test_only_the_revisions_that_helm_keeps_are_shown(
    server: RunningServer, namespace: str, helm_cli: Helm, chart: str
):
    helm_cli("install", "web", chart, "-n", namespace)
    for number in range(4):
        helm_cli("upgrade", "web", chart, "-n", namespace, "--set", f"text={number}", "--history-max", "3")
    server.wait_until_shown(namespace, "web", revision=5)
    answer = server.send(
        "GET", f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/web/history"
    ).json()
    assert [one["version"] for one in answer] == [5, 4, 3]


def test_the_history_of_what_does_not_exist_is_not_found(server: RunningServer, namespace: str):
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases"
    assert_error(server.send("GET", f"{path}/nothing/history"), 404, "CCE.01404001", "nothing", namespace)
    assert_error(server.send("GET", f"{path}/No_Name/history"), 404, "CCE.01404001", "No_Name")
