"""A database that an earlier version left, with work under way: it is migrated, and the work is carried on.

The migrations up to 0013 are those of that version, unchanged; the rows are as it wrote them.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from pilothouse.auth.sealing import MasterKeys
from pilothouse.kubernetes.addresses import addresses_of
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.settings import ClusterSettings
from pilothouse.store.database import Database
from pilothouse.store.migration import current_revision, migrate_on, newest_revision
from tests.support.charts import config_map_chart
from tests.support.databases import drop_database
from tests.support.servers import open_folder, run_server, wait_for

PREVIOUS = "0013"
VALUES = {"text": "accepted by the version before"}


@dataclass
class Installation:
    """The folder of the server, its database, and the namespace of its releases."""

    folder: Path
    database_url: str
    namespace: str
    keys: MasterKeys

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.database_url, autocommit=True)


@pytest.fixture
def previous(database_url: str, namespace: str, kubeconfig: str) -> Iterator[Installation]:
    """Yield a project with a cluster and a chart, as the earlier version left it, and nothing migrated yet."""
    name = f"previous_{uuid.uuid4().hex[:12]}"
    address = Database(database_url).url.set(drivername="postgresql", database=name)
    with psycopg.connect(database_url, autocommit=True) as server, open_folder() as folder:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            url = address.render_as_string(hide_password=False)
            engine = create_engine(Database(url).url)
            with engine.begin() as connection:
                migrate_on(connection, PREVIOUS)
            engine.dispose()
            (folder / "data").mkdir()
            # there are users: the start makes none, and writes no credentials
            nobody = dict.fromkeys(("access_key", "secret_key", "project_id", "password"), "")
            (folder / "first.json").write_text(json.dumps(nobody))
            keys = MasterKeys.load_or_create(folder / "data" / "master.key")
            made = Installation(folder, url, namespace, keys)
            add_project(made, kubeconfig)
            yield made
        finally:
            drop_database(server, name)


def add_project(made: Installation, kubeconfig: str) -> None:
    config = sanitise(kubeconfig, addresses=addresses_of(ClusterSettings(allow_loopback=True)))
    chart = config_map_chart("kept")
    digest = hashlib.sha256(chart).hexdigest()
    sealed = made.keys.seal(config.text.encode(), context="kubeconfig:c")
    about: dict[str, object] = {"description": "", "icon_url": "", "instruction": "", "values_json": "{}"}
    of_project: dict[str, object] = {"project_id": "p"}
    with made.connect() as connection:
        insert(connection, "domains", {"id": "d", "name": "old"})
        insert(connection, "projects", {"id": "p", "domain_id": "d", "name": "old"})
        insert(connection, "users", {"id": "u", "domain_id": "d", "name": "old", "password_hash": ""})
        cluster = {**of_project, "id": "c", "name": "old", "server": config.server, "kubeconfig_sealed": sealed}
        insert(connection, "clusters", cluster)
        insert(connection, "chart_archives", {"digest": digest, "content": chart, "size": len(chart)})
        row = {**of_project, **about, "id": "chart", "name": "kept", "version": "1.0.0", "digest": digest}
        insert(connection, "charts", row)


def insert(connection: psycopg.Connection, table: str, row: dict[str, object]) -> None:
    places = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})".encode(), list(row.values()))  # noqa: S608


def accept(made: Installation, release: str, **different: object) -> str:
    """Return the id of an install of that release, with its order in one part, as that version sealed it."""
    operation_id = str(uuid.uuid4())
    order = {
        "action": "install",
        "values": VALUES,
        "merged_values": VALUES,
        "disable_hooks": True,
        "replace": False,
        "wait": "none",
    }
    row = {
        "id": operation_id,
        "project_id": "p",
        "user_id": "u",
        "cluster_id": "c",
        "request_id": "r",
        "namespace": made.namespace,
        "release_name": release,
        "action": "install",
        "state": "queued",
        "chart_id": "chart",
        "chart_name": "kept",
        "chart_version": "1.0.0",
        "deadline_seconds": 300,
        "request_sealed": made.keys.seal(json.dumps(order).encode(), context=f"operation:{operation_id}"),
    }
    with made.connect() as connection:
        ((digest,),) = connection.execute("SELECT digest FROM charts").fetchall()
        insert(connection, "operations", {**row, "chart_digest": digest, **different})
    return operation_id


def test_a_database_of_the_version_before_is_migrated_and_its_operations_go_on(previous: Installation):
    queued = accept(previous, "queued")
    taken = accept(previous, "taken", state="running", attempt=1, worker="dead:1:0")
    ended = accept(previous, "ended", state="failed", status_description="refused")
    with previous.connect() as connection:
        connection.execute("UPDATE operations SET lease_until = now() - interval '1 min' WHERE id = %s", [taken])
        connection.execute("UPDATE operations SET finished_at = now() WHERE id = %s", [ended])
        insert(connection, "observations", {"cluster_id": "c", "epoch": 3, "resource_version": 5})
    variables = {"PILOTHOUSE_DATABASE_URL": previous.database_url}
    with run_server(previous.folder, kubeconfig=None, environment=variables), previous.connect() as connection:
        assert current_revision(Database(previous.database_url)) == newest_revision()

        def states() -> dict[str, str]:
            return dict(connection.execute("SELECT id, state FROM operations").fetchall())

        going = {"queued", "running"}
        found = wait_for(lambda: {} if going & set(states().values()) else states(), seconds=60)
        texts = connection.execute("SELECT id, status_description FROM operations").fetchall()
        assert found == {queued: "succeeded", taken: "succeeded", ended: "failed"}, texts
        wrote = connection.execute(
            "SELECT release_name, revision, wrote_revision, crashes FROM operations WHERE id <> %s ORDER BY 1", [ended]
        ).fetchall()
        assert wrote == [("queued", 1, True, 0), ("taken", 1, True, 1)]
        # what was indexed by the version before is read again
        ((epoch,),) = connection.execute("SELECT epoch FROM cluster_watches WHERE cluster_id = 'c'").fetchall()
        assert epoch > 3
