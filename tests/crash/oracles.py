"""Who is asked what happened and is not us: the API server's audit log, the cluster's objects, the helm command."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from lightkube import Client
from lightkube.resources.core_v1 import ConfigMap, Service

from tests.crash.releases import LABEL
from tests.support.releases import HelmCommand

_WRITES = frozenset({"create", "update", "patch", "delete"})
_OURS = ("pilothouse",)
_REFUSED = 400


@dataclass(frozen=True)
class Write:
    """One write that the API server saw; times are seconds since the epoch."""

    at: float
    verb: str
    resource: str
    name: str
    code: int
    audit_id: str

    @property
    def arrived(self) -> bool:
        """Whether it changed anything."""
        return self.code < _REFUSED

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name} ({self.code})"


class AuditLog:
    """The API server's own record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._seen: list[Write] = []

    def writes(self, *, namespace: str, release: str) -> list[Write]:
        """Return what our programs wrote about the release, in the order of arrival; always ask for one namespace."""
        self._read(namespace)
        return sorted((one for one in self._seen if _is_of(one.name, release)), key=lambda one: one.at)

    def _read(self, namespace: str) -> None:
        mark = f'"{namespace}"'.encode()
        for line in self._lines():
            if mark not in line:
                continue
            event = json.loads(line)
            about = event.get("objectRef") or {}
            if (
                event["verb"] in _WRITES
                and str(event.get("userAgent", "")).startswith(_OURS)
                and about.get("namespace") == namespace
            ):
                self._seen.append(
                    Write(
                        at=datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp(),
                        verb=event["verb"],
                        resource=about["resource"],
                        name=str(about.get("name", "")),
                        code=int((event.get("responseStatus") or {}).get("code", 0)),
                        audit_id=event["auditID"],
                    )
                )

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _lines(self) -> Iterator[bytes]:
        while True:
            start = self._file.tell()
            line = self._file.readline()
            if line.endswith(b"\n"):
                yield line
                continue
            self._file.seek(start)
            if self._path.stat().st_ino == Path(f"/proc/self/fd/{self._file.fileno()}").stat().st_ino:
                return
            self._file.close()  # the log was rotated
            self._file = self._path.open("rb")


def _is_of(name: str, release: str) -> bool:
    return name == release or name.startswith((f"{release}-", f"sh.helm.release.v1.{release}.v"))


#: An object's kind and name, and what of its content the chart decides.
Objects = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Revision:
    """One revision as helm tells it."""

    number: int
    status: str
    description: str


@dataclass(frozen=True)
class Witness:
    """The cluster and helm, asked about one release."""

    api: Client
    helm: HelmCommand
    namespace: str
    release: str

    def history(self) -> list[Revision]:
        """All revisions, the oldest first; empty when helm knows of no release."""
        try:
            text = self.helm("history", self.release, "-n", self.namespace, "-o", "json")
        except subprocess.CalledProcessError as error:
            if "release: not found" in error.stderr:
                return []
            raise
        return [Revision(one["revision"], one["status"], one["description"]) for one in json.loads(text)]

    def manifest(self, revision: int) -> Objects:
        """Return the objects of a revision, as helm says that they are to be."""
        text = self.helm("get", "manifest", self.release, "-n", self.namespace, "--revision", str(revision))
        documents = [one for one in yaml.safe_load_all(text) if one]
        return {(one["kind"], one["metadata"]["name"]): _content(one) for one in documents}

    def objects(self) -> Objects:
        """Return the objects of the release that there are."""
        found: Objects = {}
        kinds: tuple[type[ConfigMap | Service], ...] = (ConfigMap, Service)
        for kind in kinds:
            for one in self.api.list(kind, namespace=self.namespace, labels={LABEL: self.release}):
                document = one.to_dict()
                found[kind.__name__, document["metadata"]["name"]] = _content(document)
        return found


def _content(document: dict[str, Any]) -> str:
    if "data" in document:
        return json.dumps(document["data"], sort_keys=True)
    return str([port["port"] for port in document["spec"]["ports"]])
