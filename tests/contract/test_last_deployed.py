"""A rollback without a revision, and an undo, go back to what ran, not to what a failed rollback left superseded."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightkube import Client
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.support.charts import build_chart, config_map_template
from tests.support.own_releases import OwnRelease
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.wire import assert_error

ARCHIVE = build_chart(
    "breaks",
    templates={"x.yaml": config_map_template(), "y.yaml": config_map_template("{{ .Values.suffix }}")},
    values={"text": "x", "suffix": "b"},
)
BROKEN = {"set": "suffix=Not_Valid"}
Writer = Callable[[OwnRelease], None]


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return str(server.upload(ARCHIVE, parameters='{"override": true}').json()["id"])


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OwnRelease:
    return OwnRelease(server, namespace, "web", helm_cli)


def take_field(direct: Client, release: OwnRelease) -> None:
    """Let another tool own a field of the release, so that whatever would change it is refused."""
    other = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "of another"}}
    direct.patch(
        *(ConfigMap, "web-config", other),
        namespace=release.namespace,
        patch_type=PatchType.APPLY,
        field_manager="other-tool",
        force=True,
    )


def give_back(direct: Client, release: OwnRelease) -> None:
    direct.delete(ConfigMap, "web-config", namespace=release.namespace)


def by_pilothouse(release: OwnRelease) -> None:
    release.ended(release.send("POST", "/rollback", {"revision": 1}), "failed")


def by_helm(release: OwnRelease) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        release.helm("rollback", "web", "1", "-n", release.namespace)
    assert "conflict" in failed.value.stderr


@pytest.mark.parametrize("fail_rollback", [by_pilothouse, by_helm])
def test_a_repeated_rollback_goes_where_the_failed_one_was_to_go(
    release: OwnRelease, chart: str, direct: Client, fail_rollback: Writer
):
    release.deployed(chart)
    release.ended(release.put(chart, BROKEN), "failed")
    take_field(direct, release)
    fail_rollback(release)
    # what Helm makes of what it started from, and of what was deployed
    assert [one[1] for one in release.helm_history()] == ["deployed", "superseded", "failed"]
    give_back(direct, release)
    refused = release.send("POST", "/rollback", {"revision": 2})
    assert_error(refused, 400, "CCE.01400001")
    assert "revision 2 is superseded and was never deployed" in refused.json()["error_msg"]
    if fail_rollback is by_helm:
        wait_for(lambda: [one for one in release.get("/history") if one["revision"] == 3])
    release.ended(release.send("POST", "/rollback"))
    assert release.helm_history()[-1] == (4, "deployed", "Rollback to 1")


def test_an_undo_goes_back_to_what_ran_last_though_nothing_is_deployed(release: OwnRelease, chart: str, direct: Client):
    release.deployed(chart)
    release.deployed(chart, {"set": "suffix=c"})
    take_field(direct, release)
    by_pilothouse(release)  # what was deployed is superseded by it
    give_back(direct, release)
    release.ended(release.put(chart, BROKEN), "failed")
    take_field(direct, release)
    by_pilothouse(release)
    give_back(direct, release)
    assert [one[1] for one in release.helm_history()] == [*["superseded"] * 2, "failed", "superseded", "failed"]
    undone = release.ended(release.put(chart, BROKEN, rollback_on_failure=True), "failed")
    assert undone["text"].endswith("; rolled back to revision 2, as revision 7"), undone
    assert release.helm_history()[-1] == (7, "deployed", "Rollback to 2")


def test_an_undo_writes_to_objects_as_its_upgrade_did_and_prunes_no_history(
    release: OwnRelease, server: RunningServer, direct: Client, tmp_path: Path
):
    # the object that Kubernetes refuses comes before the one whose field another tool owns
    first = config_map_template("{{ .Values.first }}")
    templates = {"first.yaml": first, "map.yaml": config_map_template()}
    archive = build_chart("undone", templates=templates, values={"text": "x", "first": "a"})
    chart = str(server.upload(archive, parameters='{"override": true}').json()["id"])
    (tmp_path / "undone.tgz").write_bytes(archive)
    for _ in range(11):
        release.helm("upgrade", "--install", "web", str(tmp_path / "undone.tgz"), "-n", release.namespace)
    take_field(direct, release)
    options: dict[str, Any] = {"force_conflicts": True, "rollback_on_failure": True, "history_max": 0}
    undone = release.ended(release.put(chart, {"set": "first=Not_Valid"}, **options), "failed")
    assert undone["text"].endswith("; rolled back to revision 11, as revision 13"), undone
    assert [one[0] for one in release.helm_history()] == list(range(2, 14))
