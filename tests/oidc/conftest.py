"""A real provider, and a server that knows it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.support.oidc_provider import OidcProvider, run_provider
from tests.support.servers import RunningServer, open_folder, run_server

#: Who is at the provider, with their groups there.
PEOPLE = {
    "alice": ["pilothouse-admins", "staff"],
    "bob": ["pilothouse-readers"],
    "carol": ["staff"],
    "dave": ["pilothouse-movers"],
    "erin": ["pilothouse-admins"],
    "admin": ["pilothouse-readers"],
    "frank": ["pilothouse-admins"],
    "gina": ["pilothouse-clerks"],
    "hugo": ["pilothouse-clerks"],
    "ivan": ["pilothouse-admins", "pilothouse-clerks"],
}
PUBLIC_URL = "http://pilothouse.test"


@dataclass(frozen=True)
class SignedOn:
    """The server, and the provider that it knows as ``corp``."""

    server: RunningServer
    provider: OidcProvider

    def group(self, name: str, role: str, project_id: str | None = None) -> str:
        """Grant a role to a group of the provider; return the group's id."""
        made = self.server.send("POST", "/api/v1/groups", json_body={"name": name, "provider": "corp"})
        if made.status_code == 409:
            rows = self.server.send("GET", "/api/v1/groups").json()
            group_id = next(row["id"] for row in rows if row["name"] == name)
        else:
            assert made.status_code == 201, made.text
            group_id = made.json()["id"]
        body = {"role": role, "project_id": project_id}
        granted = self.server.send("POST", f"/api/v1/groups/{group_id}/roles", json_body=body)
        assert granted.status_code == 200, granted.text
        return str(group_id)


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with open_folder() as folder:
        back_at = (f"{PUBLIC_URL}/console/login/from/corp", f"{PUBLIC_URL}/console/login/from/down")
        with run_provider(folder, PEOPLE, back_at) as running:
            yield running


@pytest.fixture(scope="module")
def signed_on(provider: OidcProvider) -> Iterator[SignedOn]:
    with open_folder() as folder:
        described = folder / "providers.yaml"
        described.write_text(yaml.safe_dump({"providers": _providers(provider)}))
        environment = {
            "PILOTHOUSE_OIDC__FILE": str(described),
            "PILOTHOUSE_OIDC__PUBLIC_URL": PUBLIC_URL,
            "PILOTHOUSE_OIDC__ALLOW_LOOPBACK": "true",
            "PILOTHOUSE_OIDC__RETRY_SECONDS": "0.1",
            "PILOTHOUSE_AUDIT__GATHER_SECONDS": "0.2",
        }
        with run_server(folder, kubeconfig=None, environment=environment) as server:
            running = SignedOn(server, provider)
            running.group("pilothouse-admins", "te_admin")
            running.group("pilothouse-readers", "CCE ReadOnlyAccess", server.project_id)
            yield running


def _providers(provider: OidcProvider) -> list[dict[str, object]]:
    """Return the provider, and one that nobody answers for."""
    down = provider.describe(name="down", title="Broken Inc", issuer="http://127.0.0.1:9/o")
    return [provider.describe(), down]
