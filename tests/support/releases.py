"""The calls about one release, and what Helm says about it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.servers import RunningServer

HelmCommand = Callable[..., str]

#: The eight flags as Terraform sends them when its block is there and nothing in it is set.
TERRAFORM_FLAGS: dict[str, Any] = {
    "dry_run": False,
    "name_template": "",
    "no_hooks": False,
    "replace": False,
    "recreate": False,
    "reset_values": False,
    "release_version": 0,
    "include_hooks": False,
}


@dataclass(frozen=True)
class OneRelease:
    """One release by its name, through the API; ``helm`` is the independent judge."""

    server: RunningServer
    namespace: str
    name: str
    helm: HelmCommand

    @property
    def path(self) -> str:
        return f"/cce/cam/v3/clusters/{self.server.cluster_id}/namespace/{self.namespace}/releases/{self.name}"

    def create(self, chart_id: str, **body: Any) -> httpx2.Response:
        return self.server.create(chart_id=chart_id, namespace=self.namespace, name=self.name, **body)

    def update(self, *, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
        wanted = {"action": "upgrade", "parameters": {}, "values": {}, **body}
        return self.server.send("PUT", self.path, json_body=wanted, headers=headers)

    def rollback(self, revision: int = 0, **flags: Any) -> httpx2.Response:
        return self.update(action="rollback", chart_id="", parameters={"release_version": revision, **flags})

    def delete(self) -> httpx2.Response:
        return self.server.send("DELETE", self.path)

    def show(self) -> httpx2.Response:
        return self.server.send("GET", self.path, headers={"Prefer": "wait=60"})

    def settled(self) -> dict[str, Any]:
        """Return the release once nothing is under way; it must still be there."""
        answer = self.show()
        assert answer.status_code == 200, answer.text
        release: dict[str, Any] = answer.json()
        assert not release["status"].startswith("PENDING"), release
        return release

    def gone(self, *, seconds: float = 60) -> None:
        """Return once show answers 404."""
        until = time.monotonic() + seconds
        while (answer := self.show()).status_code != 404:
            assert answer.status_code == 200, answer.text
            assert time.monotonic() < until, answer.text

    def history(self) -> list[dict[str, Any]]:
        """Revisions as helm tells them, oldest first."""
        found: list[dict[str, Any]] = json.loads(self.helm("history", self.name, "-n", self.namespace, "-o", "json"))
        return found

    def statuses(self) -> list[str]:
        """Return the statuses of all revisions, oldest first, as helm tells them."""
        return [one["status"] for one in self.history()]

    def values(self) -> dict[str, Any]:
        """All values, as helm tells them."""
        text = self.helm("get", "values", self.name, "--all", "-n", self.namespace, "-o", "json")
        found: dict[str, Any] = json.loads(text)
        return found


def planned_install(server: RunningServer, *, cluster_id: str, chart_id: str, namespace: str) -> str:
    """Return the id of a plan to install the chart, of a release that is not there."""
    path = f"/api/v1/clusters/{cluster_id}/namespaces/{namespace}/releases/planned/plan"
    answer = server.send("POST", path, json_body={"deploy": {"chart": {"id": chart_id}}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
