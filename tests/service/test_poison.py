"""Rows that break whatever is done with them: each costs its own operation, never the worker, nor the next one."""

import os
import signal

import psycopg
import pytest

from pilothouse.auth.sealing import MasterKeys
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import look_again
from tests.support.servers import RunningServer, part, wait_for


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "poison", helm_cli)


@pytest.fixture
def worker(server: RunningServer) -> int:
    """The pid of the worker, which is to be the same in the end."""
    return part(server, "worker")


def upload(release: OneRelease, **templates: str) -> str:
    archive = build_chart("poison", templates={f"{name}.yaml": text for name, text in templates.items()})
    answer = release.server.upload(archive, parameters='{"override": true, "skip_lint": true}')
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        pytest.param('{apiVersion: v1, kind: "Fo\\0o", metadata: {name: x}}', "Foo", id="kind"),
        pytest.param('{apiVersion: v1, kind: ConfigMap, metadata: {name: "fo\\0o"}}', "foo", id="name"),
    ],
)
def test_a_text_that_the_database_cannot_hold_is_told_without_what_it_cannot(
    release: OneRelease, worker: int, template: str, cause: str
):
    release.create(upload(release, a=template))
    shown = release.settled()
    assert shown["status"] == "FAILED"
    assert cause in shown["status_description"]
    assert "gave up" not in shown["status_description"]
    assert part(release.server, "worker") == worker


def test_an_operation_that_breaks_every_attempt_fails_after_three(release: OneRelease, worker: int):
    chart = upload(release, a=config_map_template("a"))
    keys = MasterKeys.load_or_create(release.server.data_dir / "master.key")
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        os.kill(worker, signal.SIGSTOP)
        try:
            assert release.create(chart).status_code == 201
            found = connection.execute("SELECT id FROM operations WHERE namespace = %s", [release.namespace]).fetchone()
            assert found is not None
            sealed = keys.seal(b'{"action": "install", "of_another_version": 1}', context=f"operation:{found[0]}")
            connection.execute("UPDATE operations SET request_sealed = %s WHERE id = %s", [sealed, found[0]])
        finally:
            os.kill(worker, signal.SIGCONT)
        ended = "SELECT state, status_description FROM operations WHERE id = %s AND finished_at IS NOT NULL"
        state, text = wait_for(lambda: connection.execute(ended, found).fetchone() or ())
        connection.execute("DELETE FROM operations WHERE id = %s", found)  # its values cannot be shown
    assert state == "failed"
    assert text.startswith("gave up after 3 attempts: an error inside Pilothouse")
    assert part(release.server, "worker") == worker


def test_an_object_that_cannot_be_asked_for_keeps_no_repair_from_its_end(release: OneRelease, worker: int):
    role = f"{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: {'r' * 300}}}, rules: []}}"
    release.create(upload(release, a=config_map_template("a"), b=role))
    assert release.settled()["status"] == "DEPLOYED"
    assert look_again(release) == []
    assert part(release.server, "worker") == worker


def test_a_repair_that_breaks_is_put_off_and_others_are_done(release: OneRelease, worker: int):
    release.create(upload(release, a=config_map_template("a")))
    assert release.settled()["status"] == "DEPLOYED"
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        (row,) = connection.execute(
            "INSERT INTO repairs (operation_id, cluster_id, namespace, release_name, objects, due_at)"
            " SELECT id, cluster_id, namespace, release_name, '[[1]]', clock_timestamp() FROM operations"
            " WHERE namespace = %s RETURNING operation_id, due_at",
            [release.namespace],
        ).fetchall()
        later = "SELECT 1 FROM repairs WHERE operation_id = %s AND due_at > %s AND lease_until IS NULL"
        wait_for(lambda: connection.execute(later, row).fetchone())
        connection.execute("DELETE FROM repairs WHERE operation_id = %s", [row[0]])
    assert look_again(release) == []
    assert part(release.server, "worker") == worker
