"""A write that is sent again with the same Idempotency-Key: done once, answered alike."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psycopg
import pytest

from pilothouse.auth.sealing import MasterKeys
from tests.contract.test_release_deletions import chart_with
from tests.support.charts import build_chart, config_map_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.wire import assert_error, exchange

USED = (422, "CCE.01422001")
INVALID = (400, "CCE.01400001")


@pytest.fixture(scope="module")
def chart(server: RunningServer) -> str:
    return str(server.upload(config_map_chart("repeated")).json()["id"])


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "web", helm_cli)


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def create(release: OneRelease, key: dict[str, str], chart_id: str, **body: Any) -> httpx2.Response:
    wanted = {"chart_id": chart_id, "namespace": release.namespace, "name": release.name, **body}
    path = f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases"
    return release.server.send("POST", path, json_body=wanted, headers=key)


def delete(release: OneRelease, key: dict[str, str]) -> httpx2.Response:
    return release.server.send("DELETE", release.path, headers=key)


def assert_repeated(again: httpx2.Response, first: httpx2.Response) -> None:
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["x-operation-id"] == first.headers["x-operation-id"]
    assert again.headers["x-pilothouse-repeated"] == "true"
    assert "x-pilothouse-repeated" not in first.headers


def test_every_write_is_done_once_and_answered_alike_also_when_all_is_over(release: OneRelease, chart: str):
    creating, updating, deleting = new_key(), new_key(), new_key()
    created = create(release, creating, chart, values={"text": "one"}, description="mine")
    assert (created.status_code, created.json()["status"]) == (201, "PENDING_INSTALL")
    assert_repeated(create(release, creating, chart, values={"text": "one"}, description="mine"), created)
    assert release.settled()["status"] == "DEPLOYED"

    updated = release.update(chart_id=chart, values={"text": "two"}, headers=updating)
    assert updated.json()["status"] == "PENDING_UPGRADE"
    assert_repeated(release.update(chart_id=chart, values={"text": "two"}, headers=updating), updated)
    release.settled()
    assert_repeated(release.update(chart_id=chart, values={"text": "two"}, headers=updating), updated)
    assert release.statuses() == ["superseded", "deployed"]

    deleted = delete(release, deleting)
    assert deleted.json()["status"] == "DELETING"
    release.gone()
    assert_repeated(delete(release, deleting), deleted)
    assert_repeated(release.update(chart_id=chart, values={"text": "two"}, headers=updating), updated)
    assert_repeated(create(release, creating, chart, values={"text": "one"}, description="mine"), created)
    assert_error(release.show(), 404, "CCE.01404001")


def test_requests_at_the_same_moment_are_one(release: OneRelease, chart: str):
    key = new_key()
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: create(release, key, chart), range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["x-operation-id"] for answer in answers}) == 1
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert sum("x-pilothouse-repeated" in answer.headers for answer in answers) == 4
    release.settled()
    key = new_key()
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda _: release.update(chart_id=chart, headers=key), range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-operation-id"] for answer in answers}) == 1
    release.settled()
    assert len(release.history()) == 2


def test_a_key_stands_for_one_request(release: OneRelease, chart: str):
    key = new_key()
    assert create(release, key, chart).status_code == 201
    text = key["Idempotency-Key"]
    assert_error(create(release, key, chart, values={"text": "other"}), *USED, f"Idempotency-Key: '{text}'", "new key")
    assert_error(create(release, key, "no-such-chart"), *USED)
    release.settled()
    assert_error(delete(release, key), *USED)
    assert_error(release.update(chart_id=chart, headers=key), *USED)
    assert_error(release.update(chart_id=chart, parameters={"dry_run": True}, headers=key), *USED)
    assert_error(
        release.server.send("PUT", release.path + "?show_resources=true", json_body={"chart_id": chart}, headers=key),
        *USED,
    )
    assert release.statuses() == ["deployed"]


def test_what_changes_the_order_beside_the_body_is_part_of_the_request(release: OneRelease, chart: str):
    key = new_key()
    ours = {**key, "X-Pilothouse-Timeout": "60", "X-Pilothouse-Of-Tomorrow": "1"}
    assert create(release, ours, chart).status_code == 201
    assert create(release, ours, chart).headers["x-pilothouse-repeated"] == "true"
    for other in ({"X-Pilothouse-Timeout": "61"}, {"X-Pilothouse-Wait": "hooks"}, {"X-Pilothouse-Of-Tomorrow": "2"}):
        assert_error(create(release, {**ours, **other}, chart), *USED)
    release.settled()


def test_a_request_that_was_refused_leaves_its_key_free(release: OneRelease, chart: str):
    key = new_key()
    assert_error(create(release, key, "no-such-chart"), 404, "CCE.01404001")
    assert create(release, key, chart, parameters={"dry_run": True}).status_code == 201
    first = create(release, key, chart)
    assert first.status_code == 201
    release.settled()
    assert_error(create(release, new_key(), chart), 409, "CCE.01409001")


def test_a_delete_that_ends_an_install_is_repeated(release: OneRelease, server: RunningServer):
    stalling = server.upload(chart_with("post-install", stall=True), parameters='{"override": true}').json()["id"]
    created = create(release, new_key(), stalling)
    key, late = new_key(), new_key()
    deleted = delete(release, key)
    assert deleted.headers["x-operation-id"] == created.headers["x-operation-id"]
    assert_repeated(delete(release, key), deleted)
    while_deleting = delete(release, late)
    assert while_deleting.json()["status"] == "DELETING"
    release.gone()
    assert_repeated(delete(release, key), deleted)
    assert_repeated(delete(release, late), while_deleting)


def test_the_answer_stays_the_first_one_when_its_operation_was_undone(release: OneRelease, server: RunningServer):
    stalling = server.upload(chart_with("pre-upgrade", stall=True), parameters='{"override": true}').json()["id"]
    assert create(release, new_key(), stalling).status_code == 201
    release.settled()
    key, hooks = new_key(), {"include_hooks": True}
    updated = release.update(chart_id=stalling, parameters=hooks, headers=key)
    assert updated.json()["status"] == "PENDING_UPGRADE"
    cancelled = server.send("POST", f"/api/v1/operations/{updated.headers['x-operation-id']}/cancel")
    assert cancelled.status_code in {200, 202}, cancelled.text
    assert_repeated(release.update(chart_id=stalling, parameters=hooks, headers=key), updated)
    assert release.settled()["status"] == "DEPLOYED"
    assert_repeated(release.update(chart_id=stalling, parameters=hooks, headers=key), updated)


def test_a_delete_that_dismisses_a_failure_is_repeated(release: OneRelease, server: RunningServer):
    archive = build_chart("broken", templates={"c.yaml": config_map_template() + "{{ fail .Values.text }}"}, values={})
    broken = server.upload(archive, parameters='{"skip_lint": true, "override": true}').json()["id"]
    create(release, new_key(), broken)
    assert release.settled()["status"] == "FAILED"
    key = new_key()
    deleted = delete(release, key)
    assert deleted.status_code == 200
    assert release.show().status_code == 404
    assert_repeated(delete(release, key), deleted)


def test_the_keys_of_others_are_others(release: OneRelease, chart: str, server: RunningServer):
    key = new_key()
    assert create(release, key, chart).status_code == 201
    stranger = add_tenant(server)
    theirs = stranger.send("DELETE", release.path, headers=key)
    assert_error(theirs, 404, "CCE.01404001")
    release.settled()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "0 characters"), ("x" * 256, "256 characters"), ("two words", "'two words'"), ("\xe9", "visible ASCII")],
)
def test_a_key_that_is_none_is_refused(server: RunningServer, text: str, words: str):
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/default/releases/none"
    assert_error(exchange(server, "DELETE", path, headers=[("Idempotency-Key", text)]), *INVALID, words)


def test_two_keys_are_refused(server: RunningServer):
    path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/default/releases/none"
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    assert_error(exchange(server, "DELETE", path, headers=headers), *INVALID, "2 times")


@pytest.mark.parametrize(
    ("change", "readable"),
    [({"made_up_later": [1]}, True), ({"cancel_keeps": None}, False), ({"finished_at": "soon"}, False)],
)
def test_an_answer_that_another_version_wrote_is_given_as_far_as_it_can_be_read(
    release: OneRelease, chart: str, *, change: dict[str, Any], readable: bool
):
    key = new_key()
    first = create(release, key, chart)
    assert first.status_code == 201
    keys = MasterKeys.load_or_create(release.server.data_dir / "master.key")
    context = f"idempotency-key:{first.headers['x-operation-id']}"
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        ((sealed,),) = connection.execute(
            "SELECT record_sealed FROM idempotency_keys WHERE key = %s", [key["Idempotency-Key"]]
        ).fetchall()
        record = json.loads(keys.unseal(sealed, context=context)) | change
        connection.execute(
            "UPDATE idempotency_keys SET record_sealed = %s WHERE key = %s",
            [keys.seal(json.dumps(record).encode(), context=context), key["Idempotency-Key"]],
        )
    again = create(release, key, chart)
    if readable:
        assert_repeated(again, first)
    else:
        assert_error(again, *USED, "its answer cannot be read")
