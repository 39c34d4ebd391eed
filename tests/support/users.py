"""Users made through the API, with their password, roles and access key."""

import dataclasses
import uuid

from tests.support.servers import RunningServer
from tests.support.tokens import token_of

PASSWORD = "a password of eight and more"


@dataclasses.dataclass(frozen=True)
class Person:
    """A user; ``server`` sends requests signed with its key."""

    id: str
    name: str
    server: RunningServer

    def token(self) -> str:
        """Return a new token for the server's project."""
        return token_of(self.server, name=self.name, password=PASSWORD)


def add_person(server: RunningServer, *roles: str, project_id: str | None = None) -> Person:
    """Return a new user of the server's account with those roles, in one project or the whole account."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    made = server.send("POST", "/api/v1/users", json_body={"name": name, "password": PASSWORD})
    assert made.status_code == 201, made.text
    user_id = made.json()["id"]
    for role in roles:
        body = {"role": role, "project_id": project_id}
        granted = server.send("POST", f"/api/v1/users/{user_id}/roles", json_body=body)
        assert granted.status_code == 200, granted.text
    body = {"user_id": user_id, "password": server.password}
    if not roles:  # a key takes a role, which may be withdrawn afterwards
        server.send("POST", f"/api/v1/users/{user_id}/roles", json_body={"role": "readonly"})
    elif project_id is not None:
        body["project_id"] = project_id
    key = server.send("POST", "/api/v1/accesskeys", json_body=body)
    assert key.status_code == 201, key.text
    if not roles:
        server.send("DELETE", f"/api/v1/users/{user_id}/roles/readonly")
    own = dataclasses.replace(
        server, access_key=key.json()["access_key"], secret_key=key.json()["secret_key"], password=PASSWORD
    )
    return Person(user_id, name, own)
