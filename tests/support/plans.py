"""The calls about plans of one release, and the judge of what they did."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

MOVED = (409, "CCE.01409003")


def uploaded(server: RunningServer, archive: bytes, *, lints: bool = True) -> str:
    answer = server.upload(archive, parameters=json.dumps({"override": True, "skip_lint": not lints}))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@dataclass(frozen=True)
class Planned:
    """The calls about one release."""

    server: RunningServer
    namespace: str
    helm: HelmCommand
    name: str = "web"

    @property
    def path(self) -> str:
        return f"/api/v1/clusters/{self.server.cluster_id}/namespaces/{self.namespace}/releases/{self.name}"

    def ask(self, body: dict[str, Any], server: RunningServer | None = None) -> httpx2.Response:
        return (server or self.server).send("POST", f"{self.path}/plan", json_body=body, timeout=120)

    def plan(self, chart: str, *layers: dict[str, Any], mode: str = "replace", **options: Any) -> dict[str, Any]:
        deploy = {"chart": {"id": chart}, "values": list(layers), "values_mode": mode, "options": options}
        return self.made(self.ask({"deploy": deploy}))

    def made(self, answer: httpx2.Response) -> dict[str, Any]:
        assert answer.status_code == 201, answer.text
        plan: dict[str, Any] = answer.json()
        return plan

    def apply(
        self,
        plan: dict[str, Any],
        server: RunningServer | None = None,
        *,
        digest: str = "",
        key: str = "",
        wait: int = 60,
    ) -> httpx2.Response:
        return (server or self.server).send(
            "POST",
            f"/api/v1/plans/{plan['id']}/apply",
            json_body={"digest": digest or plan["digest"]},
            headers={"Prefer": f"wait={wait}", **({"Idempotency-Key": key} if key else {})},
            timeout=120,
        )

    def applied(self, plan: dict[str, Any]) -> dict[str, Any]:
        answer = self.apply(plan)
        assert answer.status_code == 200, answer.text
        operation: dict[str, Any] = answer.json()
        assert operation["state"] == "succeeded", operation
        return operation

    def get(self, what: str) -> str:
        return str(self.helm("get", what, self.name, "-n", self.namespace))

    def history(self) -> list[dict[str, Any]]:
        """Return the revisions as helm tells them, oldest first."""
        found: list[dict[str, Any]] = json.loads(self.helm("history", self.name, "-n", self.namespace, "-o", "json"))
        return found
