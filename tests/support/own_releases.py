"""The calls of the native API about one release; ``helm`` is the independent judge."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer


@dataclass(frozen=True)
class OwnRelease:
    """One release by its name, through the native API."""

    server: RunningServer
    namespace: str
    name: str
    helm: HelmCommand

    @property
    def path(self) -> str:
        return f"/api/v1/clusters/{self.server.cluster_id}/namespaces/{self.namespace}/releases/{self.name}"

    def send(self, method: str, part: str = "", body: Any = None, *, wait: int = 60, **headers: str) -> httpx2.Response:
        preferred = {"Prefer": f"wait={wait}"} if wait else {}
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.server.send(method, self.path + part, json_body=body, headers={**preferred, **named}, timeout=120)

    def put(self, chart: str, *layers: dict[str, Any], mode: str = "replace", **options: Any) -> httpx2.Response:
        body = {"chart": {"id": chart}, "values": list(layers), "values_mode": mode, "options": options}
        return self.send("PUT", "", body)

    def deployed(self, chart: str, *layers: dict[str, Any], mode: str = "replace", **options: Any) -> dict[str, Any]:
        """The operation of a PUT, which has succeeded."""
        return self.ended(self.put(chart, *layers, mode=mode, **options))

    def ended(self, answer: httpx2.Response, state: str = "succeeded") -> dict[str, Any]:
        """The operation in an answer, which has ended so."""
        assert answer.status_code == 200, answer.text
        operation: dict[str, Any] = answer.json()
        assert operation["state"] == state, operation
        return operation

    def get(self, part: str = "") -> Any:
        answer = self.server.send("GET", self.path + part)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def helm_values(self) -> Any:
        return json.loads(self.helm("get", "values", self.name, "-n", self.namespace, "-o", "json"))

    def helm_history(self) -> list[tuple[int, str, str]]:
        found = json.loads(self.helm("history", self.name, "-n", self.namespace, "-o", "json"))
        return [(one["revision"], one["status"], one["description"]) for one in found]

    def manifest(self) -> str:
        return str(self.helm("get", "manifest", self.name, "-n", self.namespace))
