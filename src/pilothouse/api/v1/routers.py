"""All routers of the native API, in the order of its description, and limits of bodies before the route is known."""

import sys
from typing import Final

from pilothouse.api.v1 import (
    access_keys,
    audit,
    charts,
    clusters,
    evidence,
    groups,
    health,
    ignore_rules,
    log_in,
    operations,
    plans,
    policies,
    projects,
    release_lists,
    release_reads,
    release_writes,
    releases,
    render,
    source_charts,
    sources,
    users,
    verification,
    webhooks,
)
from pilothouse.api.v1.routing import NativeRoute
from pilothouse.http.json_bodies import FORM

DESCRIPTION: Final = """\
The native API: releases with all options of Helm, plans and drift; operations and what failed; charts and sources;
clusters; users, groups, policies, access keys and projects; webhooks; the audit log. Charts are uploaded, changed and
downloaded by the compatible API, which `/api/v1/compatible-openapi.json` describes; it has releases and log-in in the
vendor's form.

A request is authenticated like one of the compatible API: by a token in `X-Auth-Token` (which `POST /v3/auth/tokens`
gives for a password), or by a signature with an access key (`Authorization: SDK-HMAC-SHA256 …`, which the vendor's SDKs
and `pilothouse` make). The token may be one of an identity provider, and may be sent as `Authorization: Bearer …` too.
`X-Project-Id` chooses another project of the caller.

Every answer carries `X-Request-Id`, which the server's log names too. Every error is a JSON object with code and
message, both in two spellings. Fields that are not known are refused.\
"""

ROUTERS: Final = (
    users.router,
    groups.router,
    policies.router,
    access_keys.router,
    projects.router,
    audit.router,
    clusters.router,
    charts.router,
    source_charts.router,
    sources.router,
    verification.router,
    release_lists.router,
    release_reads.router,
    release_writes.router,
    ignore_rules.router,
    releases.router,
    plans.making,
    plans.listing,
    plans.router,
    render.router,
    operations.router,
    evidence.router,
    webhooks.router,
    log_in.router,
    health.public_router,
    health.router,
)


def _size_of(route: NativeRoute) -> int:
    """Return how many bytes the route reads at most; a form with a file only has the limit of all bodies."""
    if route.body is not None:
        return route.body.limits.size
    content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {})
    return sys.maxsize if "multipart/form-data" in content else FORM.size


#: Only these take more than a form of texts.
_LARGE: Final = [
    (method, route.path_regex, _size_of(route))
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, NativeRoute) and _size_of(route) > FORM.size
    for method in route.methods or ()
]


def largest_body(method: str, path: str) -> int:
    """Return how many bytes the route of that path reads at most, so that larger bodies are refused early."""
    return next((size for name, path_regex, size in _LARGE if name == method and path_regex.match(path)), FORM.size)
