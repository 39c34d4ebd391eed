"""Callers of every kind, what each may do, and whole requests to every route.

What a caller may is worked out here from the names of the roles, apart from the code that decides it.
"""

import http.client
import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from string import Formatter
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.route_table import EVERYBODY, PUBLIC, SEES_PROJECT, Route
from tests.support.servers import RunningServer

#: Which ids belong to a project, and which to an account.
PROJECT_IDS: Final = frozenset({"cluster_id", "cluster", "chart_id", "operation_id", "plan_id", "webhook_id", "source"})
ACCOUNT_IDS: Final = frozenset({"project_id", "user_id", "group_id", "policy_id", "access_key", "token"})
_READS: Final = frozenset({"get", "list", "download", "getQuota"})

#: A project, another one of the same account, and one of another account.
OWN: Final = "own"
BESIDE: Final = "beside"
ABROAD: Final = "abroad"

Ids = dict[str, str]
#: What tells the namespace of a request: its name, or an operation that is in it.
_PLACES: Final = frozenset({"namespace", "operation_id"})


def may(roles: frozenset[str], action: str) -> bool:
    """Return whether one of these roles covers an action, as the vendor's permission tables say."""
    service, _, verb = action.split(":")
    all_of_cce = service == "cce" or action == "pilothouse:logs:read"
    covers = {
        "te_admin": True,
        "CCE Administrator": all_of_cce,
        "CCE FullAccess": all_of_cce,
        "CCE ReadOnlyAccess": service == "cce" and verb in _READS,
        "readonly": verb in _READS or verb.startswith(("get", "list")),
    }
    return any(covers[role] for role in roles)


@dataclass(frozen=True)
class Caller:
    """Somebody who sends requests; ``home`` is the project that its credentials act in, empty for none."""

    name: str
    home: str
    roles: frozenset[str] = frozenset()  # in its project, those for the whole account included
    account_roles: frozenset[str] = frozenset()
    alive: bool = True
    key: tuple[str, str] | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    project_id: str = ""
    sees_own: bool = True  # the project OWN: whether its user has a role there
    # Beginnings of actions that a policy allows or denies it: everywhere, in the namespace of OWN, or where a request
    # does not say of which namespace it is, as those about plans.
    allowed: tuple[str, ...] = ()
    allowed_here: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    denied_here: tuple[str, ...] = ()
    denied_unplaced: tuple[str, ...] = ()
    of_namespace: bool = False  # one of its policies is about a namespace

    def may(self, action: str, names: Collection[str] = ()) -> bool:
        """Return whether the action is this caller's, in its own project or account; ``names``: ids of the request."""
        if action in {PUBLIC, EVERYBODY, SEES_PROJECT}:
            return True
        here, unplaced = not _PLACES.isdisjoint(names), "plan_id" in names
        denied = (*self.denied, *(self.denied_here if here else ()), *(self.denied_unplaced if unplaced else ()))
        if action.startswith(denied):
            return False
        if self.home and action.startswith((*self.allowed, *(self.allowed_here if here else ()))):
            return True
        if action.startswith(("iam:", "pilothouse:audit:", "pilothouse:status:", "pilothouse:wall:")):
            return may(self.account_roles, action)
        return bool(self.home) and may(self.roles, action)


@dataclass(frozen=True)
class World:
    """What there is in three places (OWN, BESIDE, ABROAD), the administrator of each, and all callers."""

    server: RunningServer
    ids: dict[str, Ids]
    admins: dict[str, Caller]
    callers: list[Caller]

    def unknown(self) -> Ids:
        """Return ids of the same form that nothing has, and names that are refused."""
        digits = uuid.uuid4().hex
        return dict.fromkeys(self.ids[OWN], digits) | {
            "operation_id": str(uuid.uuid4()),
            "chart_id": str(uuid.uuid4()),
            "plan_id": str(uuid.uuid4()),
            "access_key": digits[:20].upper(),
            "token": self.ids[OWN]["token"][:-8] + digits[:8],
            "role": self.ids[OWN]["role"],
            "region": self.ids[OWN]["region"],
            "namespace": self.ids[OWN]["namespace"],
            "fresh": "no valid name!",
            "kubeconfig": "none",
            "repository": "none",
        }


class Wire:
    """One connection for all requests."""

    def __init__(self, server: RunningServer) -> None:
        self._host = urlsplit(server.url).netloc
        self._connection = http.client.HTTPConnection(self._host, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, caller: Caller, method: str, target: str, *, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        """Return status and text of the answer to a request with the caller's credentials."""
        sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        if caller.project_id:
            sent["X-Project-Id"] = caller.project_id
        if caller.token is not None:
            sent["X-Auth-Token"] = caller.token
        if caller.key is not None:
            path, _, query = target.partition("?")
            request = SignedRequest(
                method=method,
                raw_path=path.encode(),
                query_string=query.encode(),
                headers=[(b"host", self._host.encode())],
                body_digest=body_digest(body),
                body_empty=not body,
            )
            sent |= sign(request, access_key=caller.key[0], secret_key=caller.key[1], now=datetime.now(UTC))
        try:
            self._connection.request(method, target, body=body, headers=sent)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # ended after an answer before the body was read
            self._connection.close()
            self._connection.request(method, target, body=body, headers=sent)
            answer = self._connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def words_of(path: str, route: Route) -> set[str]:
    """Return which ids a request to the route names."""
    texts = [path, route.query, *route.headers.values(), *_texts(route.body)]
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


def request(path: str, route: Route, ids: Ids, archive: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return target, headers and body of a whole request that names these ids."""
    quoted = {name: quote(value, safe="") for name, value in ids.items()}
    target = path.format(**quoted) + ("?" + route.query.format(**quoted) if route.query else "")
    headers = {name: value.format(**ids) for name, value in route.headers.items()}
    if route.archive:
        content_type, form = form_of(archive)
        return target, headers | {"Content-Type": content_type}, form
    body = b"" if route.body is None else json.dumps(_filled(route.body, ids)).encode()
    return target, headers, body


def broken_bodies(route: Route, ids: Ids) -> list[bytes]:
    """Return bodies that the route cannot read, with headers as for a whole one; none for a route without a body."""
    if route.archive:
        return [b"no form"]
    if route.body is None:
        return []
    if route.for_whom:
        whose = {route.for_whom: _filled(route.body, ids)[route.for_whom]}
        return [json.dumps({**whose, "surplus": 1, "project_id": 1}).encode()]
    return [b"{", b"[]", b'{"surplus": 1}', b""]


def form_of(archive: bytes) -> tuple[str, bytes]:
    """Return content type and body of a chart upload."""
    form = httpx2.Request("POST", "http://form", files={"content": ("chart.tgz", archive)})
    return form.headers["content-type"], form.read()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _filled(value: Any, ids: Ids) -> Any:
    if isinstance(value, str):
        return value.format(**ids)
    if isinstance(value, dict):
        return {key: _filled(one, ids) for key, one in value.items()}
    return [_filled(one, ids) for one in value] if isinstance(value, list) else value
