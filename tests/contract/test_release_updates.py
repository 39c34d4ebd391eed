"""Update Release: upgrades and rollbacks over the wire, each judged by helm."""

import json
import uuid
from typing import Any

import pytest
from huaweicloudsdkcce.v3 import (
    CreateReleaseReqBody,
    CreateReleaseRequest,
    DeleteReleaseRequest,
    ReleaseReqBodyParams,
    ShowReleaseHistoryRequest,
    ShowReleaseRequest,
    UpdateReleaseReqBody,
    UpdateReleaseRequest,
)
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap

from tests.support.charts import build_chart, config_map_template, hook_job_template, web_chart
from tests.support.releases import TERRAFORM_FLAGS, HelmCommand, OneRelease
from tests.support.servers import RunningServer, wait_for
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error
from tools.localcluster.cluster import RunningCluster

INVALID = (400, "CCE.01400001")
MISSING = (404, "CCE.01404001")
FORBIDDEN = (403, "CCE.01403001")

SLOW = "    metadata: {annotations: {pilothouse.dev/simulate: never-ready}}\n    spec:\n      restartPolicy"


def hooked(version: str, *, stall: bool = False) -> bytes:
    """One ConfigMap named by ``suffix``, and one hook before an upgrade, which never ends if it stalls."""
    hook = hook_job_template("pre-upgrade")
    if stall:
        hook = hook.replace("    spec:\n      restartPolicy", SLOW)
    return build_chart(
        "updated",
        version,
        templates={"config.yaml": config_map_template(suffix="{{ .Values.suffix }}"), "hook.yaml": hook},
        values={"text": version, "suffix": "config", "kept": {"a": 1, "b": 2}},
    )


def upload(server: RunningServer, archive: bytes) -> str:
    answer = server.upload(archive, parameters='{"override": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def first(server: RunningServer) -> str:
    return upload(server, hooked("1.0.0"))


@pytest.fixture(scope="module")
def second(server: RunningServer) -> str:
    return upload(server, hooked("2.0.0"))


@pytest.fixture(scope="module")
def stalling(server: RunningServer) -> str:
    return upload(server, hooked("3.0.0", stall=True))


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand, first: str) -> OneRelease:
    """Return a deployed release of the first chart."""
    one = OneRelease(server, namespace, "web", helm_cli)
    assert one.create(first, values={"text": "mine"}).status_code == 201
    assert one.settled()["status"] == "DEPLOYED"
    return one


def names_of(kubernetes: RunningCluster, kind: Any, namespace: str) -> list[str]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        found = [one.metadata.name for one in api.list(kind, namespace=namespace)]
    return sorted(name for name in found if name != "kube-root-ca.crt")


def test_the_vendors_client_updates_rolls_back_and_deletes(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, first: str, second: str
):
    sdk = server.sdk()
    place = {"cluster_id": server.cluster_id, "namespace": namespace, "name": "sdk"}
    judge = OneRelease(server, namespace, "sdk", helm_cli)
    sdk.create_release(
        CreateReleaseRequest(
            cluster_id=server.cluster_id,
            body=CreateReleaseReqBody(chart_id=first, namespace=namespace, name="sdk", version="1.0.0", values={}),
        )
    )
    judge.settled()
    body = UpdateReleaseReqBody(
        chart_id=second, action="upgrade", values={"text": "new"}, parameters=ReleaseReqBodyParams()
    )
    answer = sdk.update_release(UpdateReleaseRequest(**place, body=body))
    assert (answer.status, answer.version, answer.chart_version) == ("PENDING_UPGRADE", 2, "2.0.0")
    assert judge.settled()["status"] == "DEPLOYED"
    body = UpdateReleaseReqBody(
        chart_id=second, action="rollback", values={}, parameters=ReleaseReqBodyParams(release_version=1)
    )
    answer = sdk.update_release(UpdateReleaseRequest(**place, body=body))
    assert (answer.status, answer.version, answer.chart_version) == ("PENDING_ROLLBACK", 3, "1.0.0")
    shown = judge.settled()
    assert (shown["status"], shown["version"], shown["status_description"]) == ("DEPLOYED", 3, "Rollback to 1")
    assert judge.statuses() == ["superseded", "superseded", "deployed"]
    history = sdk.show_release_history(ShowReleaseHistoryRequest(**place))
    assert [(one.version, one.status) for one in history.body] == [
        (3, "DEPLOYED"),
        (2, "SUPERSEDED"),
        (1, "SUPERSEDED"),
    ]
    gone = json.loads(sdk.delete_release(DeleteReleaseRequest(**place)).raw_content)
    assert (gone["status"], gone["name"]) == ("DELETING", "sdk")
    judge.gone()
    with pytest.raises(ClientRequestException) as caught:
        sdk.show_release(ShowReleaseRequest(**place))
    assert caught.value.status_code == 404
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


def test_an_upgrade_answers_with_the_sixteen_fields_and_what_it_is_going_to_be(release: OneRelease, second: str):
    answer = release.update(chart_id=second, values={"text": "hers"})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert len(shown) == 16
    assert answer.headers["x-operation-id"]
    assert (shown["status"], shown["version"], shown["chart_version"]) == ("PENDING_UPGRADE", 2, "2.0.0")
    assert json.loads(shown["values"]) == {"text": "hers", "suffix": "config", "kept": {"a": 1, "b": 2}}
    after = release.settled()
    assert (after["status"], after["status_description"]) == ("DEPLOYED", "Upgrade complete")
    assert json.loads(after["values"]) == json.loads(shown["values"]) == release.values()
    assert after["create_at"] == shown["create_at"]


@pytest.mark.parametrize(
    ("flags", "values", "text"),
    [
        pytest.param({}, {}, "mine", id="no values: the old ones are kept"),
        pytest.param({}, {"kept": {"a": 5}}, "2.0.0", id="new values only over the chart's"),
        pytest.param({"replace": True}, {"kept": {"a": 5}}, "mine", id="replace: laid over the old ones"),
        pytest.param({"reset_values": True}, {}, "2.0.0", id="reset_values: back to the chart's"),
        pytest.param({"reset_values": True, "replace": True}, {"kept": {"a": 5}}, "2.0.0", id="reset_values wins"),
    ],
)
def test_which_values_an_upgrade_keeps(
    release: OneRelease, second: str, flags: dict[str, Any], values: dict[str, Any], text: str
):
    answer = release.update(chart_id=second, values=values, parameters=flags)
    assert json.loads(answer.json()["values"])["text"] == text
    assert release.settled()["status"] == "DEPLOYED"
    found = release.values()
    assert found["text"] == text
    assert found["kept"]["a"] == values.get("kept", {}).get("a", 1)
    assert json.loads(release.show().json()["values"]) == found


@pytest.mark.parametrize(("flags", "runs"), [({}, False), ({"include_hooks": True}, True)])
def test_hooks_of_an_update_run_only_when_they_are_included(
    release: OneRelease,
    second: str,
    kubernetes: RunningCluster,
    flags: dict[str, Any],
    runs: bool,  # noqa: FBT001 (a value of the table above)
):
    release.update(chart_id=second, parameters=flags)
    assert release.settled()["status"] == "DEPLOYED"
    assert ("web-hook" in names_of(kubernetes, Job, release.namespace)) == runs


def test_no_hooks_wins_over_included_hooks(release: OneRelease, second: str, kubernetes: RunningCluster):
    release.update(chart_id=second, parameters={"include_hooks": True, "no_hooks": True})
    assert release.settled()["status"] == "DEPLOYED"
    assert "web-hook" not in names_of(kubernetes, Job, release.namespace)


def test_a_dry_run_of_an_upgrade_or_a_rollback_changes_nothing(release: OneRelease, second: str):
    answer = release.update(chart_id=second, parameters={"dry_run": True}, values={"text": "dust"})
    assert (answer.status_code, answer.json()["status"], answer.json()["version"]) == (200, "PENDING_UPGRADE", 2)
    assert answer.json()["status_description"] == "Dry run complete"
    assert json.loads(answer.json()["values"])["text"] == "dust"
    assert "x-operation-id" not in answer.headers
    release.update(chart_id=second)
    release.settled()
    answer = release.rollback(1, dry_run=True)
    assert (answer.status_code, answer.json()["status"], answer.json()["version"]) == (200, "PENDING_ROLLBACK", 3)
    assert release.statuses() == ["superseded", "deployed"]


def test_a_dry_run_that_does_not_render_says_where(server: RunningServer, release: OneRelease):
    broken = upload(server, build_chart("updated", "9.0.0", templates={"x.yaml": '{{ fail "as it must" }}'}))
    message = assert_error(release.update(chart_id=broken, parameters={"dry_run": True}), *INVALID, "as it must")
    assert "templates/x.yaml" in message
    assert release.statuses() == ["deployed"]


def test_an_upgrade_that_does_not_render_fails_and_the_release_stays(server: RunningServer, release: OneRelease):
    broken = upload(server, build_chart("updated", "9.0.1", templates={"x.yaml": '{{ fail "as it must" }}'}))
    assert release.update(chart_id=broken).status_code == 200
    shown = release.settled()
    assert shown["status"] == "FAILED"
    assert "as it must" in shown["status_description"]
    assert release.statuses() == ["deployed"]


def test_values_that_break_the_new_charts_schema_fail_with_helms_words(server: RunningServer, release: OneRelease):
    schema = json.dumps({"properties": {"text": {"type": "integer"}}})
    strict = upload(
        server,
        build_chart(
            "updated", "9.1.0", templates={"c.yaml": config_map_template()}, values={"text": 1},
            schema=schema,
        ),
    )  # fmt: skip
    assert release.update(chart_id=strict, values={"text": "no number"}).status_code == 200
    shown = release.settled()
    assert shown["status"] == "FAILED"
    assert "schema" in shown["status_description"]
    assert release.statuses() == ["deployed"]


def test_a_release_whose_only_revision_failed_is_upgraded(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, first: str, kubernetes: RunningCluster
):
    one = OneRelease(server, namespace, "reborn", helm_cli)
    one.create(first, values={"suffix": "Not_A_Name"})
    assert one.settled()["status"] == "FAILED"
    assert one.update(chart_id=first, values={"text": "alive"}).status_code == 200
    assert one.settled()["status"] == "DEPLOYED"
    assert one.statuses() == ["superseded", "deployed"]  # as helm itself leaves it
    assert names_of(kubernetes, ConfigMap, namespace) == ["reborn-config"]


def half_refused(server: RunningServer) -> str:
    """Return a chart whose ConfigMap is named by ``one``, and which is refused after that while it is ``bad``."""
    templates = {
        "a.yaml": config_map_template("{{ .Values.one }}"),
        "z.yaml": "{{ if .Values.bad }}apiVersion: v1\nkind: Service\nmetadata: {name: Not_A_Name}\n{{ end }}",
    }
    archive = build_chart(f"half-{uuid.uuid4().hex[:8]}", templates=templates, values={"text": "x", "bad": False})
    return upload(server, archive)


@pytest.mark.parametrize("then", ["upgrade", "delete"])
def test_what_a_failed_upgrade_left_goes_with_the_next_success_or_the_delete(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster, then: str
):
    chart, one = half_refused(server), OneRelease(server, namespace, "half", helm_cli)
    one.create(chart, values={"one": "first"})
    assert one.settled()["status"] == "DEPLOYED"
    one.update(chart_id=chart, values={"one": "second", "bad": True})
    assert one.settled()["status"] == "FAILED"
    assert names_of(kubernetes, ConfigMap, one.namespace) == ["half-first", "half-second"]
    if then == "upgrade":
        one.update(chart_id=chart, values={"one": "third"})
        assert one.settled()["status"] == "DEPLOYED"
        assert names_of(kubernetes, ConfigMap, one.namespace) == ["half-third"]
    else:
        one.delete()
        one.gone()
        assert names_of(kubernetes, ConfigMap, one.namespace) == []


def test_a_rollback_without_a_number_passes_over_failed_revisions(
    server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    chart, one = half_refused(server), OneRelease(server, namespace, "half", helm_cli)
    one.create(chart, values={"one": "first"})
    one.settled()
    one.update(chart_id=chart, values={"one": "second", "bad": True})
    assert one.settled()["status"] == "FAILED"
    one.update(chart_id=chart, values={"one": "third"})
    assert one.settled()["status"] == "DEPLOYED"
    assert one.rollback().is_success
    assert one.settled()["status_description"] == "Rollback to 1"
    assert one.values()["one"] == "first"


def test_a_dry_run_shows_the_values_of_subcharts_and_imported_ones(
    server: RunningServer, namespace: str, helm_cli: HelmCommand
):
    inner = build_chart("inner", values={"exports": {"data": {"from": "inner"}}, "own": {"a": 1}})
    archive = build_chart(
        f"outer-{uuid.uuid4().hex[:8]}",
        templates={"a.yaml": config_map_template()},
        values={"text": "x", "inner": {"own": {"b": 2}}},
        unpacked_subcharts=[inner],
        metadata={"dependencies": [{"name": "inner", "version": "0.1.0", "repository": "", "import-values": ["data"]}]},
    )
    chart, one = upload(server, archive), OneRelease(server, namespace, "outer", helm_cli)
    dry = one.create(chart, values={"text": "y"}, parameters={"dry_run": True})
    one.create(chart, values={"text": "y"})
    settled = one.settled()
    assert settled["status"] == "DEPLOYED"
    assert json.loads(dry.json()["values"]) == json.loads(settled["values"]) == one.values()
    assert one.values()["from"] == "inner"
    again = one.update(chart_id=chart, values={"text": "z"}, parameters={"dry_run": True})
    assert json.loads(again.json()["values"]) == one.values() | {"text": "z"}


def test_an_install_that_never_began_is_told_in_one_voice(server: RunningServer, namespace: str, helm_cli: HelmCommand):
    template = "apiVersion: no.such/v1\nkind: Thing\nmetadata: {name: x}\n"
    chart = upload(server, build_chart(f"never-{uuid.uuid4().hex[:8]}", templates={"a.yaml": template}))
    never = OneRelease(server, namespace, "never", helm_cli)
    never.create(chart)
    assert never.settled()["status"] == "FAILED"
    assert_error(never.update(chart_id=chart), *MISSING, "never installed", "create it again, or delete it")
    assert_error(never.rollback(), *MISSING, "never installed")
    assert never.delete().is_success
    never.gone()


def test_create_with_replace_removes_what_the_failed_revision_left_behind(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
):
    two = build_chart(
        "left",
        "1.0.0",
        templates={
            "a.yaml": config_map_template("{{ .Values.one }}"),
            "b.yaml": config_map_template("kept").replace(
                "metadata:\n", "metadata:\n  annotations: {helm.sh/resource-policy: keep}\n"
            ),
            # installed after ConfigMaps, and refused
            "z.yaml": "{{ if .Values.bad }}apiVersion: v1\nkind: Service\nmetadata: {name: Not_A_Name}\n{{ end }}",
        },
        values={"text": "x", "one": "old", "bad": True},
    )
    chart = upload(server, two)
    one = OneRelease(server, namespace, "left", helm_cli)
    one.create(chart)
    assert one.settled()["status"] == "FAILED"
    assert names_of(kubernetes, ConfigMap, namespace) == ["left-kept", "left-old"]
    answer = one.create(chart, values={"one": "new", "bad": False}, parameters={"replace": True})
    assert answer.status_code == 201, answer.text
    assert answer.json()["version"] == 2
    assert one.settled()["status"] == "DEPLOYED"
    assert names_of(kubernetes, ConfigMap, namespace) == ["left-kept", "left-new"]


def test_recreate_restarts_the_workloads(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, kubernetes: RunningCluster
):
    chart = upload(server, web_chart("restarted"))
    one = OneRelease(server, namespace, "again", helm_cli)
    one.create(chart)
    one.settled()

    def restarted_at() -> str | None:
        with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
            found = api.get(Deployment, "again-restarted", namespace=namespace)
        assert found.spec is not None
        assert found.spec.template.metadata is not None
        return (found.spec.template.metadata.annotations or {}).get("kubectl.kubernetes.io/restartedAt")

    one.update(chart_id=chart)
    one.settled()
    assert restarted_at() is None
    one.update(chart_id=chart, parameters={"recreate": True})
    assert one.settled()["status"] == "DEPLOYED"
    assert restarted_at() is not None


def test_ten_revisions_are_kept(release: OneRelease, second: str):
    for number in range(11):
        assert release.update(chart_id=second, values={"text": str(number)}).status_code == 200
        assert release.settled()["status"] == "DEPLOYED"
    assert [one["revision"] for one in release.history()] == list(range(3, 13))

    def shown() -> list[int]:
        return [one["version"] for one in release.server.send("GET", f"{release.path}/history").json()]

    wait_for(lambda: shown() == list(range(12, 2, -1)))  # what Helm pruned is seen within a moment


@pytest.mark.parametrize("action", ["downgrade", "UPGRADE", " upgrade"])
def test_an_unknown_action_is_refused_and_the_known_ones_named(release: OneRelease, first: str, action: str):
    assert_error(release.update(chart_id=first, action=action), *INVALID, "action:", "upgrade, rollback")


def test_bad_updates_are_refused_with_their_reason(release: OneRelease, server: RunningServer, first: str):
    assert_error(release.update(chart_id=""), *INVALID, "chart_id: missing")
    assert_error(release.update(chart_id="no-such-chart"), *MISSING, "chart_id", "'no-such-chart'")
    assert_error(release.rollback(-1), *INVALID, "release_version", "-1")
    assert_error(release.rollback(7), *MISSING, "release_version", "revision 7")
    assert_error(release.rollback(), *MISSING, "release_version", "before 1")
    assert_error(release.update(chart_id=first, values=[]), *INVALID, "values", "an array")
    assert_error(release.update(chart_id=first, parameters={"recreate": "yes"}), *INVALID, "parameters.recreate")
    foreign = add_tenant(server)
    hers = upload(foreign, hooked("1.0.0"))
    assert_error(release.update(chart_id=hers), *MISSING, "chart_id")
    assert release.statuses() == ["deployed"]


def test_updating_or_deleting_what_does_not_exist_is_not_found(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, first: str
):
    nobody = OneRelease(server, namespace, "nobody", helm_cli)
    assert_error(nobody.update(chart_id=first), *MISSING, "'nobody'")
    assert_error(nobody.rollback(1), *MISSING, "'nobody'")
    assert_error(nobody.delete(), *MISSING, "'nobody'")


def test_an_upgrade_to_a_chart_of_another_name_is_allowed(server: RunningServer, release: OneRelease):
    other = upload(server, build_chart("other", "1.0.0", templates={"c.yaml": config_map_template()}))
    answer = release.update(chart_id=other, values={"text": "x"})
    assert answer.json()["chart_name"] == "other"
    assert release.settled()["chart_name"] == "other"


def test_a_second_update_while_one_runs_is_forbidden_in_the_words_that_terraform_waits_for(
    release: OneRelease, first: str, second: str, stalling: str
):
    held = release.update(chart_id=stalling, parameters={"include_hooks": True}, headers={"X-Pilothouse-Timeout": "8"})
    assert held.status_code == 200, held.text
    for answer in (release.update(chart_id=second), release.rollback(1), release.delete()):
        message = assert_error(answer, *FORBIDDEN, "Update release is forbidden")
        assert "Update release is forbidden" in message[:200]
    shown = release.settled()  # the hook never ends: the time limit does
    assert shown["status"] == "FAILED"
    assert release.statuses() == ["deployed", "failed"]
    assert release.update(chart_id=first).status_code == 200
    assert release.settled()["status"] == "DEPLOYED"


class TestTerraform:
    """What the vendor's provider sends and expects."""

    def test_an_update_with_zero_valued_flags_and_an_empty_action_is_an_upgrade(self, release: OneRelease, second: str):
        answer = release.update(chart_id=second, action="", values={"text": "tf"}, parameters=TERRAFORM_FLAGS)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "PENDING_UPGRADE"
        shown = release.settled()
        assert (shown["status"], shown["version"]) == ("DEPLOYED", 2)

    def test_what_it_requires_in_list_and_history_is_never_empty(self, release: OneRelease, second: str):
        release.update(chart_id=second, action="", parameters={})
        release.settled()
        listed = release.server.send("GET", f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases").json()
        rows = [row for row in listed if row["name"] == "web" and row["namespace"] == release.namespace]
        rows += release.server.send("GET", f"{release.path}/history").json()
        assert len(rows) == 3
        for row in rows:
            for key in ("chart_name", "chart_version", "cluster_id", "cluster_name", "create_at", "description",
                        "name", "namespace", "status", "status_description", "update_at", "values"):  # fmt: skip
                assert row[key], (key, row)
            assert row["version"] >= 1

    def test_destroy_deletes_the_chart_while_its_release_is_deleting(
        self, server: RunningServer, namespace: str, helm_cli: HelmCommand
    ):
        chart = upload(server, hooked("1.0.7"))
        one = OneRelease(server, namespace, "destroyed", helm_cli)
        one.create(chart)
        one.settled()
        assert one.delete().json()["status"] == "DELETING"
        assert server.send("DELETE", f"/v2/charts/{chart}").status_code == 200
        one.gone()


def test_the_autopilot_twins_do_the_same(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, first: str, second: str
):
    def send(method: str, path: str, body: Any = None) -> Any:
        return server.send(method, f"/autopilot/cam/v3/clusters/{server.cluster_id}{path}", json_body=body)

    one = OneRelease(server, namespace, "twin", helm_cli)
    path = f"/namespace/{namespace}/releases/twin"
    assert send("POST", "/releases", {"chart_id": first, "namespace": namespace, "name": "twin"}).status_code == 201
    one.settled()
    body = {"chart_id": second, "action": "upgrade", "values": {}, "parameters": {}}
    assert send("PUT", path, body).json()["status"] == "PENDING_UPGRADE"
    one.settled()
    assert [row["version"] for row in send("GET", f"{path}/history").json()] == [2, 1]
    assert send("GET", path).json()["chart_version"] == "2.0.0"
    assert "twin" in [row["name"] for row in send("GET", "/releases").json()]
    assert send("DELETE", path).json()["status"] == "DELETING"
    one.gone()
