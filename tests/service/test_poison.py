"""Rows that break whatever is done with them: each costs its own operation, never the worker, nor the next one."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from pilothouse.auth.sealing import MasterKeys
from tests.contract.test_release_deletions import chart_with
from tests.support.charts import build_chart, config_map_template
from tests.support.releases import HelmCommand, OneRelease
from tests.support.repairs import look_again
from tests.support.servers import RunningServer, part, wait_for


@pytest.fixture
def release(server: RunningServer, namespace: str, helm_cli: HelmCommand) -> OneRelease:
    return OneRelease(server, namespace, "poison", helm_cli)


@pytest.fixture
def worker(server: RunningServer) -> int:
    """Return the pid of the worker, which is to be the same in the end."""
    return part(server, "worker")


_ENDED = "SELECT state, status_description, attempt FROM operations WHERE id = %s AND finished_at IS NOT NULL"


@contextmanager
def frozen(worker: int) -> Iterator[None]:
    """Nothing is taken meanwhile."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


@contextmanager
def broken_kubeconfig(server: RunningServer, connection: psycopg.Connection) -> Iterator[None]:
    """Yield the stored kubeconfig is whole, but no text: nobody foresees that."""
    keys = MasterKeys.load_or_create(server.data_dir / "master.key")
    broken = keys.seal(b"\xff", context=f"kubeconfig:{server.cluster_id}")
    (kubeconfig,) = connection.execute(
        "SELECT kubeconfig_sealed FROM clusters WHERE id = %s", [server.cluster_id]
    ).fetchall()[0]
    write = "UPDATE clusters SET kubeconfig_sealed = %s WHERE id = %s"
    connection.execute(write, [broken, server.cluster_id])
    try:
        yield
    finally:
        connection.execute(write, [kubeconfig, server.cluster_id])


def accepted(release: OneRelease, connection: psycopg.Connection, chart: str) -> tuple[Any, ...]:
    """Return the id of an install that nobody has taken yet."""
    assert release.create(chart).status_code == 201
    (found,) = connection.execute("SELECT id FROM operations WHERE namespace = %s", [release.namespace]).fetchall()
    return tuple(found)


def assert_shown(release: OneRelease, status: str) -> None:
    """Check that it is shown and listed in that status."""
    listed = release.server.send("GET", f"/cce/cam/v3/clusters/{release.server.cluster_id}/releases")
    one = release.server.send("GET", release.path)
    assert (one.status_code, listed.status_code) == (200, 200), (one.text, listed.text)
    assert one.json()["status"] == status
    assert status in [each["status"] for each in listed.json() if each["namespace"] == release.namespace]


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
    with psycopg.connect(release.server.database_url, autocommit=True) as connection, ExitStack() as broken:
        with frozen(worker):
            found = accepted(release, connection, chart)
            broken.enter_context(broken_kubeconfig(release.server, connection))
        state, text, _ = wait_for(lambda: connection.execute(_ENDED, found).fetchone() or ())
    assert state == "failed"
    assert text.startswith("gave up after 3 attempts: an error inside Pilothouse")
    assert part(release.server, "worker") == worker


@pytest.mark.parametrize("part_of_it", ["request_sealed", "shown_sealed"])
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("newer", "a newer Pilothouse wrote it (version 4, this one reads 3); upgrade the workers"),
        ("fields", "missing required field"),
        ("list", "not a JSON object"),
        ("bytes", "it is damaged"),
        ("short", "is damaged, or another version of Pilothouse sealed it"),
        ("key", "needs master key 00000000, which the key file does not hold"),
    ],
)
def test_an_order_that_cannot_be_read_fails_its_operation_with_the_reason(
    release: OneRelease, worker: int, *, part_of_it: str, how: str, cause: str
):
    chart = upload(release, a=config_map_template("a"))
    keys = MasterKeys.load_or_create(release.server.data_dir / "master.key")
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        with frozen(worker):
            found = accepted(release, connection, chart)
            read = f"SELECT {part_of_it} FROM operations WHERE id = %s"  # noqa: S608 - a column of ours
            sealed = connection.execute(read.encode(), found).fetchall()[0][0]
            written = {
                "newer": keys.seal(b'{"version": 4}', context=f"operation:{found[0]}"),
                "fields": keys.seal(b'{"of_another_version": 1}', context=f"operation:{found[0]}"),
                "list": keys.seal(b"[1]", context=f"operation:{found[0]}"),
                "bytes": sealed[:-1] + bytes([sealed[-1] ^ 1]),
                "short": b"",
                "key": MasterKeys({b"\0" * 4: b"\0" * 32}).seal(b"{}", context=f"operation:{found[0]}"),
            }[how]
            write = f"UPDATE operations SET {part_of_it} = %s WHERE id = %s"  # noqa: S608
            connection.execute(write.encode(), [written, found[0]])
            assert_shown(release, "PENDING_INSTALL")
        state, text, attempts = wait_for(lambda: connection.execute(_ENDED, found).fetchone() or ())
        assert_shown(release, "FAILED")
        (left,) = connection.execute("SELECT request_sealed FROM operations WHERE id = %s", found).fetchall()
    assert (state, attempts, left) == ("failed", 1, (None,))
    assert text.startswith("the request data of the operation cannot be read: ")
    assert cause in text
    assert release.delete().status_code == 200
    assert part(release.server, "worker") == worker


def is_pending(release: OneRelease) -> bool:
    """Whether helm has begun its first revision."""
    try:
        return release.statuses() == ["pending-install"]
    except subprocess.CalledProcessError:  # there is no revision yet
        return False


def test_an_order_that_is_damaged_after_it_began_leaves_no_lock(release: OneRelease, worker: int):
    """Its worker dies in a hook; the next one finds the revision locked and cannot read what was to be done."""
    stalling = release.server.upload(chart_with("post-install", stall=True), parameters='{"override": true}')
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        answer = release.create(str(stalling.json()["id"]), parameters={"include_hooks": True})
        found = [answer.headers["x-operation-id"]]
        wait_for(lambda: is_pending(release))
        connection.execute("UPDATE operations SET request_sealed = '' WHERE id = %s", found)
        os.kill(worker, signal.SIGKILL)
        state, text, _ = wait_for(lambda: connection.execute(_ENDED, found).fetchone() or (), seconds=60)
    assert state == "failed"
    assert text.startswith("the request data of the operation cannot be read: ")
    assert release.statuses() == ["failed"]
    assert release.settled()["status"] == "FAILED"


def test_nothing_is_left_of_the_orders_of_what_has_ended(release: OneRelease):
    chart = upload(release, a=config_map_template("a"))
    release.create(chart, values={"text": "of an order"})
    release.settled()
    release.update(chart_id=chart)
    release.settled()
    release.rollback(1)
    release.settled()
    release.delete()
    release.gone()
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        left = connection.execute(
            "SELECT action, request_sealed, shown_sealed FROM operations WHERE namespace = %s ORDER BY created_at",
            [release.namespace],
        ).fetchall()
    assert left == [(action, None, None) for action in ("install", "upgrade", "rollback", "uninstall")]


def test_a_failed_install_is_shown_with_its_values_after_its_order_is_dropped(release: OneRelease):
    chart = upload(release, a='{{ fail "no" }}')
    release.create(chart, values={"text": "of a failure"})
    shown = release.settled()
    assert (shown["status"], shown["values"]) == ("FAILED", '{"text":"of a failure"}')


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
        with broken_kubeconfig(release.server, connection):
            (row,) = connection.execute(
                "INSERT INTO repairs (operation_id, cluster_id, namespace, release_name, due_at)"
                " SELECT id, cluster_id, namespace, release_name, clock_timestamp() FROM operations"
                " WHERE namespace = %s RETURNING operation_id, due_at",
                [release.namespace],
            ).fetchall()
            later = "SELECT 1 FROM repairs WHERE operation_id = %s AND due_at > %s AND lease_until IS NULL"
            wait_for(lambda: connection.execute(later, row).fetchone())
        connection.execute("DELETE FROM repairs WHERE operation_id = %s", [row[0]])
    assert look_again(release) == []
    assert part(release.server, "worker") == worker
