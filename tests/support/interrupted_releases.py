"""A release that is interrupted: its operation and its objects, and ways to kill what works on it."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import psycopg
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, PersistentVolumeClaim
from lightkube.types import PatchType

from tests.support.releases import OneRelease
from tests.support.servers import RunningServer, children, part, wait_for

#: Settings of a server whose dead workers are noticed soon.
SHORT_LEASES = {
    "PILOTHOUSE_WORKER__LEASE_SECONDS": "3",
    "PILOTHOUSE_WORKER__FENCE_SECONDS": "2",
    "PILOTHOUSE_WORKER__RENEW_SECONDS": "0.5",
    "PILOTHOUSE_WORKER__LEASE_MARGIN_SECONDS": "0.5",
}

Kill = Callable[[RunningServer], None]
Found = TypeVar("Found", Job, ConfigMap, PersistentVolumeClaim)


@dataclass(frozen=True)
class Place:
    """One release in a namespace of its own, and what is in that namespace."""

    one: OneRelease
    api: Client

    def has_config(self) -> bool:
        return self.find(ConfigMap, f"{self.one.name}-config") is not None

    def text(self) -> str | None:
        """Return what the live ConfigMap says."""
        found = self.find(ConfigMap, f"{self.one.name}-config")
        return (found.data or {}).get("text") if found is not None else None

    def operation(self) -> tuple[str, int, int]:
        """State, attempts and crashes of the last operation."""
        with psycopg.connect(self.one.server.database_url) as connection:
            row = connection.execute(
                "SELECT state, attempt, crashes FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1",
                [self.one.namespace],
            ).fetchone()
        assert row is not None
        return row

    def has_begun(self) -> bool:
        """Whether the last operation may have written to the cluster."""
        with psycopg.connect(self.one.server.database_url) as connection:
            row = connection.execute(
                "SELECT last_writing_attempt FROM operations WHERE namespace = %s ORDER BY created_at DESC LIMIT 1",
                [self.one.namespace],
            ).fetchone()
        return row is not None and row[0] is not None

    def is_at(self, wanted: tuple[str, int, int]) -> bool:
        return self.operation() == wanted

    def has_crashed(self, times: int) -> bool:
        return self.operation()[2] == times

    def events(self) -> list[str]:
        """Return the kinds of all events but progress and logs, of which a busy machine has more."""
        with psycopg.connect(self.one.server.database_url) as connection:
            rows = connection.execute(
                "SELECT e.kind FROM operation_events e JOIN operations o ON o.id = e.operation_id"
                " WHERE o.namespace = %s ORDER BY e.id",
                [self.one.namespace],
            ).fetchall()
        return [row[0] for row in rows if not row[0].endswith(("_progress", "_log"))]

    def write_late(self, text: str) -> None:
        """Apply the ConfigMap as Helm, like a writer that was only frozen and wakes up."""
        name, release = f"{self.one.name}-config", self.one
        marks = {"meta.helm.sh/release-name": release.name, "meta.helm.sh/release-namespace": release.namespace}
        metadata = ObjectMeta(name=name, labels={"app.kubernetes.io/managed-by": "Helm"}, annotations=marks)
        self.api.patch(
            ConfigMap,
            name,
            ConfigMap(metadata=metadata, data={"text": text}),
            namespace=release.namespace,
            patch_type=PatchType.APPLY,
            field_manager="helm",
        )

    def repair(self) -> None:
        """Make the planned repair due, and wait for its end."""
        due = "UPDATE repairs SET due_at = clock_timestamp() WHERE namespace = %s"
        left = "SELECT 1 FROM repairs WHERE namespace = %s"
        with psycopg.connect(self.one.server.database_url, autocommit=True) as connection:
            assert connection.execute(due, [self.one.namespace]).rowcount == 1
            wait_for(lambda: connection.execute(left, [self.one.namespace]).fetchone() is None)

    def interrupt(self, kill: Kill, *, after: str = "") -> str:
        """Kills while the hook of the running operation runs; gives its Job's uid, not ``after``."""
        uid = wait_for(lambda: self.operation()[0] == "running" and self.job(other_than=after))
        kill(self.one.server)
        return str(uid)

    def job(self, *, other_than: str = "") -> str:
        """Return the uid of the hook's Job; empty if there is none."""
        found = self.find(Job, f"{self.one.name}-hook")
        uid = found.metadata.uid if found is not None and found.metadata is not None else None
        return uid if uid and uid != other_than else ""

    def find(self, kind: type[Found], name: str) -> Found | None:
        """Return the object of that kind, if it is there."""
        try:
            return self.api.get(kind, name, namespace=self.one.namespace)
        except ApiError as error:
            if error.status.code != HTTPStatus.NOT_FOUND:
                raise
            return None


def kill_worker(server: RunningServer) -> None:
    os.kill(part(server, "worker"), signal.SIGKILL)


def kill_children(server: RunningServer) -> None:
    for pid in children(part(server, "worker")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def frozen_children(server: RunningServer) -> Iterator[None]:
    """Freeze the worker's engine children, which then take requests and do nothing; wait until it has killed one."""
    worker = part(server, "worker")
    frozen = children(worker)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
        wait_for(lambda: not set(frozen) <= set(children(worker)))
    finally:
        for pid in set(frozen) & set(children(worker)):
            os.kill(pid, signal.SIGCONT)
