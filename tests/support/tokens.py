"""Tokens as a client gets and uses them."""

from typing import Any

import httpx2

from tests.support.servers import RunningServer

PATH = "/v3/auth/tokens"


def login(
    password: str, *, name: str = "admin", domain: str = "pilothouse", scope: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the body that the vendor documents."""
    user = {"name": name, "password": password, "domain": {"name": domain}}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    if scope is not None:
        auth["scope"] = scope
    return {"auth": auth}


def send(
    server: RunningServer,
    method: str,
    path: str,
    *,
    token: str | None = None,
    json: Any = None,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx2.Response:
    """Return a request with a token, or without any credentials."""
    wanted = {"Content-Type": "application/json;charset=utf8", **(headers or {})}
    if token is not None:
        wanted["X-Auth-Token"] = token
    with httpx2.Client(timeout=60, trust_env=False) as http:
        return http.request(method, server.url + path, json=json, content=content, headers=wanted)


def ask(server: RunningServer, body: Any, *, query: str = "") -> httpx2.Response:
    """Return a request for a token, as a stranger sends it."""
    return send(server, "POST", PATH + query, json=body)


def token_of(
    server: RunningServer, *, name: str = "admin", domain: str = "pilothouse", password: str = "", project: str = ""
) -> str:
    """Return a token for the project, by default the server's own, for the administrator or another user."""
    scope = {"project": {"id": project or server.project_id}}
    answer = ask(server, login(password or server.password, name=name, domain=domain, scope=scope))
    assert answer.status_code == 201, answer.text
    return answer.headers["x-subject-token"]
