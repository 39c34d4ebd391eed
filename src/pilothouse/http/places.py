"""Where a request is: the cluster and namespace that its path names, for policies that ask for them.

It is done for callers with policies only; a cluster's name in a path is looked up for its id then. What a path does not
name is not known, which counts against the caller (``Caller.require``).
"""

import re
from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from pilothouse.services.identity.bootstrap import Caller

#: The compatible API, the native one, and the console: as their routes, of the decoded path. What a policy is asked
#: about must be what the route acts on, also where a client has encoded a slash.
_PATHS: Final = (
    re.compile(r"/(?:cce|autopilot)/cam/v3/clusters/(?P<cluster>[^/]+)(?:/namespace/(?P<namespace>[^/]+))?(?:/|$)"),
    re.compile(r"/api/v1/clusters/(?P<cluster>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?(?:/|$)"),
    re.compile(r"/console/p/[^/]+/releases/(?P<cluster>[^/]+)/(?P<namespace>[^/]+)/[^/]+(?:/|$)"),
    re.compile(r"/console/p/[^/]+/clusters/(?P<cluster>[^/]+)(?P<namespace>)(?:/|$)"),
)


class Identifier(Protocol):
    """Finds clusters."""

    async def find_id(self, named: str, /, *, project_id: str) -> str | None:
        """Return the id of the project's cluster of that id or name, if it has one."""
        ...


class LocationMiddleware:
    """Tell callers with policies where their request is."""

    def __init__(self, app: ASGIApp, clusters: Identifier) -> None:
        self._app = app
        self._clusters = clusters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; everything that is not HTTP passes through."""
        caller: Caller | None = scope.get("state", {}).get("caller") if scope["type"] == "http" else None
        if caller is not None and caller.policies and caller.project_id:
            found = next((match for path in _PATHS if (match := path.match(scope["path"]))), None)
            if found is not None:
                named = found["cluster"]
                cluster_id = None if "\0" in named else await self._find(caller, named)
                scope["state"]["caller"] = caller.at(cluster_id, found["namespace"] or None)
        await self._app(scope, receive, send)

    async def _find(self, caller: Caller, named: str) -> str:
        """Return the cluster's id; for a cluster that there is not, what was named: no policy is about it."""
        return await self._clusters.find_id(named, project_id=caller.project_id) or named
