"""One browser for each file: what it leaves running would be that file's fault."""

import uuid
from collections.abc import Callable, Iterator
from hashlib import sha256

import orjson
import pytest
from playwright.sync_api import Browser

from tests.support.browsers import Visit, run_browser, visit
from tests.support.chart_sources import Repository, added, repository
from tests.support.charts import build_chart, config_map_template
from tests.support.servers import RunningServer
from tests.support.workloads import deployment_template


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    with run_browser() as running:
        yield running


@pytest.fixture
def person(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    """The account's administrator, logged in."""
    with visit(browser, server) as made:
        made.log_in()
        yield made


@pytest.fixture(scope="module")
def charts(server: RunningServer) -> dict[str, str]:
    """The ids of a chart in two versions, and of one whose pods no node takes."""
    note = "NOTES.txt"
    made = {
        "plain": build_chart(
            "seen", "1.0.0", templates={"config.yaml": config_map_template(), note: "Say {{ .Values.text }}\n"},
            values={"text": "hello"},
        ),
        "next": build_chart(
            "seen", "1.1.0", templates={"config.yaml": config_map_template(), note: "Say {{ .Values.text }}\n"},
            values={"text": "hello again"},
        ),
        "stuck": build_chart(
            "stuck", "1.0.0", templates={"web.yaml": deployment_template(selector="{nowhere: 'yes'}", replicas=3)}
        ),
    }  # fmt: skip
    found = {}
    for name, archive in made.items():
        answer = server.upload(archive, parameters='{"override": true}')
        assert answer.status_code == 201, answer.text
        found[name] = str(answer.json()["id"])
    return found


@pytest.fixture
def install(server: RunningServer, namespace: str, charts: dict[str, str]) -> Callable[[str], None]:
    """Installs the plain chart under a name, and waits for it."""

    def install_one(name: str) -> None:
        answer = server.create(chart_id=charts["plain"], namespace=namespace, name=name, values={})
        assert answer.status_code == 201, answer.text
        assert server.wait_until_final(namespace, name)["status"] == "DEPLOYED"

    return install_one


@pytest.fixture
def start_stuck(server: RunningServer, namespace: str, charts: dict[str, str]) -> Callable[..., str]:
    """Starts an install that waits for pods that no node takes; gives the operation."""

    def start(name: str, *, seconds: int = 600) -> str:
        answer = server.send(
            "POST",
            f"/cce/cam/v3/clusters/{server.cluster_id}/releases",
            json_body={"chart_id": charts["stuck"], "namespace": namespace, "name": name, "values": {}},
            headers={"X-Pilothouse-Wait": "ready", "X-Pilothouse-Timeout": str(seconds)},
        )
        assert answer.status_code == 201, answer.text
        return answer.headers["x-operation-id"]

    return start


@pytest.fixture(scope="module")
def source(server: RunningServer) -> Iterator[tuple[str, Repository]]:
    """A source of two charts, one in three versions, and what serves it."""
    with repository() as serving:
        entries: dict[str, list[dict[str, object]]] = {}
        for name, version in (("webapp", "1.0.0"), ("webapp", "1.1.0"), ("webapp", "2.0.0-rc.1"), ("tools", "0.1.0")):
            archive = build_chart(
                name, version, templates={"config.yaml": config_map_template()}, values={"text": f"of {version}"},
                files={"README.md": f"# {name}\n\nRead me before {version}.\n"}, app_version="7.4",
                metadata={"description": f"What {name} is for"},
            )  # fmt: skip
            file = f"{name}-{version}.tgz"
            serving.files[file] = archive
            entries.setdefault(name, []).append({
                "apiVersion": "v2", "name": name, "version": version, "appVersion": "7.4", "urls": [file],
                "description": f"What {name} is for", "digest": sha256(archive).hexdigest(),
                "created": "2026-11-03T10:00:00Z",
            })  # fmt: skip
        serving.files["index.yaml"] = orjson.dumps({"apiVersion": "v1", "entries": entries})
        name = f"seen-{uuid.uuid4().hex[:8]}"
        body = {"name": name, "kind": "http", "url": serving.url, "ca": serving.ca, "sync_seconds": 0}
        with added(server, body):
            yield name, serving
