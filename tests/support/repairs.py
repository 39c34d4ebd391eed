"""The repair that follows an operation, made due at once; and the late writer whose work it undoes: this is Helm."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from tests.support.releases import OneRelease
from tests.support.servers import wait_for


def write_late(helm: Client, release: OneRelease, suffix: str, text: str) -> None:
    name = f"{release.name}-{suffix}"
    marks = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
    metadata = ObjectMeta(name=name, labels={"app.kubernetes.io/managed-by": "Helm"}, annotations=marks)
    body = ConfigMap(metadata=metadata, data={"text": text})
    helm.patch(ConfigMap, name, body, namespace=release.namespace, patch_type=PatchType.APPLY)


@contextmanager
def looking_again(release: OneRelease, *, objects: list[list[str]] | None = None) -> Iterator[list[str]]:
    """Yield the repair is due from here; after the block it is done, and the list has the events that it left."""
    said: list[str] = []
    with psycopg.connect(release.server.database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT id FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1", [release.namespace]
        ).fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO repairs (operation_id, cluster_id, namespace, release_name, objects, due_at)"
            " SELECT id, cluster_id, namespace, release_name, %s, clock_timestamp() FROM operations WHERE id = %s",
            [json.dumps(objects or []), row[0]],
        )
        yield said
        due = "SELECT 1 FROM repairs WHERE operation_id = %s"
        wait_for(lambda: connection.execute(due, [row[0]]).fetchone() is None, seconds=60)
        events = connection.execute(
            "SELECT kind || ' ' || text FROM operation_events WHERE operation_id = %s AND kind LIKE 'o%%' ORDER BY id",
            [row[0]],
        ).fetchall()
    said += [one[0] for one in events]


def look_again(release: OneRelease, *, objects: list[list[str]] | None = None) -> list[str]:
    """Return the repair is due now; once it is done, the events that it left."""
    with looking_again(release, objects=objects) as said:
        pass
    return said
