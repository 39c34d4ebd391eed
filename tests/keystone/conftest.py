"""A real Keystone, and a server that accepts its tokens."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.support.keystone import PASSWORD, Keystone, run_keystone
from tests.support.servers import RunningServer, open_folder, run_server

#: Longer than a test takes between two requests, and short enough to be waited for.
CACHE_SECONDS = 5.0
#: As much as a busy machine takes for an answer of Keystone.
ANSWER_SECONDS = 10


@dataclass(frozen=True)
class Accepting:
    """The server, and the Keystone that it knows."""

    server: RunningServer
    keystone: Keystone

    def ask(self, token: str, path: str = "/v2/charts", method: str = "GET", **headers: str) -> httpx2.Response:
        """Send a request with that token, as OpenStack's clients send it."""
        sent = {"X-Auth-Token": token, **{name.replace("_", "-"): value for name, value in headers.items()}}
        with httpx2.Client(base_url=self.server.url, trust_env=False, timeout=60) as http:
            return http.request(method, path, headers=sent, json={} if method == "POST" else None)

    def group(self, name: str, role: str, project_id: str | None = None) -> str:
        """Grant a role to roles of Keystone; return the group's id."""
        made = self.server.send("POST", "/api/v1/groups", json_body={"name": name, "provider": "keystone"})
        assert made.status_code == 201, made.text
        group_id: str = made.json()["id"]
        body = {"role": role, "project_id": project_id}
        granted = self.server.send("POST", f"/api/v1/groups/{group_id}/roles", json_body=body)
        assert granted.status_code == 200, granted.text
        return group_id


@pytest.fixture(scope="module")
def keystone() -> Iterator[Keystone]:
    with open_folder() as folder, run_keystone(folder) as running:
        for project in ("shop", "other"):
            running.add("project", project, domain_id="default")
        for person, role, project in (
            ("alice", "member", "shop"),
            ("alice", "member", "other"),
            ("bob", "reader", "shop"),
            ("carol", "member", "other"),
            ("dave", "member", "shop"),
            ("erin", "member", "shop"),
            ("frank", "admin", "shop"),
            ("gina", "member", "shop"),
            ("gina", "service", "shop"),
        ):
            if person not in running.ids:
                running.add("user", person, domain_id="default")
            running.grant(person, role, project)
        yield running


@pytest.fixture(scope="module")
def accepting(keystone: Keystone, kubeconfig: str) -> Iterator[Accepting]:
    with open_folder() as folder:
        password = folder / "keystone-password"
        password.write_text(PASSWORD + "\n")
        environment = {
            "PILOTHOUSE_KEYSTONE__URL": keystone.url,
            "PILOTHOUSE_KEYSTONE__PASSWORD_FILE": str(password),
            "PILOTHOUSE_KEYSTONE__ALLOW_LOOPBACK": "true",
            "PILOTHOUSE_KEYSTONE__CACHE_SECONDS": str(CACHE_SECONDS),
            "PILOTHOUSE_KEYSTONE__ANSWER_SECONDS": str(ANSWER_SECONDS),
            "PILOTHOUSE_KEYSTONE__REFUSED_PER_SECOND": "0",
            "PILOTHOUSE_IDENTITY__ASK_AGAIN_SECONDS": "1",
            "PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.2",
        }
        with run_server(folder, kubeconfig=kubeconfig, environment=environment) as server:
            running = Accepting(server, keystone)
            running.group("Default/shop:member", "CCE FullAccess", server.project_id)
            running.group(f"{keystone.ids['shop']}:reader", "CCE ReadOnlyAccess", server.project_id)
            running.group("Default/shop:admin", "te_admin")
            yield running
