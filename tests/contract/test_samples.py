"""The programs in ``examples``: the vendor's SDKs for Python, Java and Go, steered by their environment only.

Java and Go are built with what is installed here, from their own caches; without the compiler they are skipped.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.charts import build_chart
from tests.support.samples import BUILDERS, Programs, ToolMissing
from tests.support.servers import RunningServer

TEMPLATE = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  image: {{ .Values.imageTag | quote }}
  policy: {{ .Values.imagePullPolicy }}
"""
LIFECYCLE = """\
upload_chart: NAME 1.0.0
list_charts: listed
show_chart: NAME-1.0.0.tgz
show_chart_values: values
show_user_charts_quotas: Charts
download_chart: same bytes
update_chart: same id
create_release: PENDING_INSTALL 1
show_release: DEPLOYED 1
list_releases: DEPLOYED 1
update_release: PENDING_UPGRADE 2
show_release: DEPLOYED 2
show_release_history: 2 DEPLOYED, 1 SUPERSEDED
update_release: PENDING_ROLLBACK 3
show_release: DEPLOYED 3
show_release_history: 3 DEPLOYED, 2 SUPERSEDED, 1 SUPERSEDED
delete_release: 200
show_release: 404
delete_chart: 200
"""


@pytest.fixture(scope="module", params=list(BUILDERS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def programs(language: str, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Return the language's programs, built once."""
    try:
        return BUILDERS[language](tmp_path_factory.mktemp(language))
    except ToolMissing as missing:
        pytest.skip(f"the {language} programs: {missing}")


@pytest.fixture
def chart(language: str, tmp_path: Path) -> Path:
    """Return a chart with the two values of the page, of a name that no other language uses."""
    file = tmp_path / f"sample-{language}-1.0.0.tgz"
    file.write_bytes(
        build_chart(
            f"sample-{language}",
            "1.0.0",
            templates={"map.yaml": TEMPLATE},
            values={"basic": {"app_name": "sample"}, "imageTag": "v1", "imagePullPolicy": "Always"},
        )
    )
    return file


def run(
    server: RunningServer, programs: Programs, command: list[str], **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Return the program with nothing but the variables that its description names."""
    environment = {
        "PATH": os.environ["PATH"],
        "CLOUD_SDK_AK": server.access_key,
        "CLOUD_SDK_SK": server.secret_key,
        "HUAWEICLOUD_SDK_REGION_CCE_CN_NORTH_4": server.url,
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": server.url,
        "CLUSTER_ID": server.cluster_id,
        **variables,
    }
    if programs.https_look_up:
        environment.update(HUAWEICLOUD_SDK_IAM_ENDPOINT=server.tls_url, SSL_CERT_FILE=str(server.ca))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_pages_calls_make_a_release_with_the_values_sent(
    server: RunningServer,
    programs: Programs,
    chart: Path,
    namespace: str,
    helm_cli: Callable[..., str],
):
    chart_id = server.upload(chart.read_bytes(), parameters='{"override": true}').json()["id"]
    done = run(server, programs, programs.create_release, CHART_ID=chart_id, NAMESPACE=namespace, NAME="nino21")
    assert (done.returncode, done.stderr) == (0, "")
    for fact in (
        "PENDING_INSTALL",
        "Initial install underway",
        server.cluster_id,
        chart.name.removesuffix("-1.0.0.tgz"),
    ):
        assert fact in done.stdout
    assert server.wait_until_final(namespace, "nino21")["status"] == "DEPLOYED"
    values = json.loads(helm_cli("get", "values", "nino21", "-n", namespace, "-o", "json"))
    assert values == {"imageTag": "v2", "imagePullPolicy": "IfNotPresent"}


def test_all_fourteen_operations_in_one_life(
    server: RunningServer,
    programs: Programs,
    chart: Path,
    namespace: str,
    helm_cli: Callable[..., str],
):
    done = run(server, programs, programs.lifecycle, CHART=str(chart), NAMESPACE=namespace, NAME="whole-life")
    assert done.stderr == ""
    assert done.stdout == LIFECYCLE.replace("NAME", chart.name.removesuffix("-1.0.0.tgz"))
    assert done.returncode == 0
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


def test_a_refusal_reaches_the_program_with_its_status_code_text_and_request_id(
    server: RunningServer, programs: Programs, namespace: str
):
    missing = "3c138b72-7ce4-6d76-7c55-604cdb2ce423"
    done = run(server, programs, programs.create_release, CHART_ID=missing, NAMESPACE=namespace)
    assert done.returncode == 1
    assert done.stdout == ""
    for fact in ("404", "CCE.01404001", missing):
        assert fact in done.stderr
    assert re.search(r"\b[0-9a-f]{32}\b", done.stderr)
