"""A pod of a release: its containers, their logs as they come, and what Kubernetes says of it."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import READ_LOGS
from pilothouse.console.release import PREFIX, look, place_of, show_page
from pilothouse.console.rendering import fragment, refusal
from pilothouse.console.requests import caller_of, not_one_of, wrong
from pilothouse.console.streams import END, QUIET, REFUSED, message
from pilothouse.console.texts import gettext
from pilothouse.errors import Forbidden, NotAuthenticated, NotFound, PilothouseError
from pilothouse.http.audit import note_read
from pilothouse.http.event_streams import EventStreams
from pilothouse.http.requests import service_of
from pilothouse.services.releases.details import ReleaseDetails
from pilothouse.services.releases.pod_logs import LogQuery, PodDetail, ReleasePods
from pilothouse.store.operations import release_key

#: How many lines a page shows, by choice.
_TAILS: Final = (100, 300, 1000)
_FOLLOWED: Final = 300


def _read_query(request: Request) -> LogQuery:
    query = {name: request.query_params.get(name, "") for name in ("pod", "namespace", "container", "tail")}
    if not query["pod"]:
        raise wrong("pod", gettext("missing; choose one among the live objects of the release"))
    tail = query.pop("tail") or str(_TAILS[0])
    if tail not in map(str, _TAILS):
        raise not_one_of("tail", tail, map(str, _TAILS))
    return LogQuery(**query, tail=int(tail), previous="previous" in request.query_params)


async def show_pod(request: Request) -> Response:
    """Show a pod, its events and a log; what the cluster does not give is said in its place."""
    query, pods = _read_query(request), service_of(request, ReleasePods)
    shown: dict[str, Any] = {"wanted": query, "pod": None, "log": None, "refused": None, "unread": ""}
    try:
        shown["pod"] = await look(request, partial(pods.show, pod=query.pod, namespace=query.namespace), part="pod")
    except PilothouseError as error:
        shown["refused"] = refusal(request, error)
    follow = "follow" in request.query_params and not query.previous
    if shown["pod"] is not None and query.previous and _never_restarted(shown["pod"], query.container):
        shown["unread"] = gettext("It has not restarted: there is no run before this one.")
    elif shown["pod"] is not None and caller_of(request).may(READ_LOGS):
        try:
            shown["log"] = await look(request, partial(pods.read_log, query=query), part="logs", right=READ_LOGS)
        except PilothouseError as error:
            shown["unread"] = refusal(request, error).text
    return await show_page(
        request, "release_pod.html", tab="resources", follow=follow, tails=_TAILS, logs_right=READ_LOGS, **shown
    )


def _never_restarted(pod: PodDetail, container: str) -> bool:
    """Return whether the container that is named, or the first one, runs or has run and did not restart."""
    found = next((found for found in pod.containers if container in {"", found.name}), None)
    return found is not None and found.started and found.restarts == 0


async def follow_log(request: Request) -> Response:
    """Send the last lines of a log as they come: each message has all of them, so that none can be missed."""
    query, caller, pods = _read_query(request), caller_of(request), service_of(request, ReleasePods)
    place = await service_of(request, ReleaseDetails).locate(caller, place_of(request))
    caller.require(READ_LOGS)
    key = release_key(place.cluster, place.namespace, place.name)
    note_read(request, READ_LOGS, target=key, target_name=place.name, detail="logs, followed")
    followed = LogQuery(query.pod, query.namespace, query.container, _FOLLOWED)

    async def messages() -> AsyncIterator[bytes]:
        try:
            async for log in pods.follow_log(caller, place, followed):
                if log is None:
                    yield QUIET
                else:
                    yield message(await fragment(request, "release_log.html", log=log, unread="", follow=True))
        except (NotAuthenticated, Forbidden):
            yield REFUSED
            return
        except (NotFound, PilothouseError) as error:
            text = refusal(request, error).text
            yield message(await fragment(request, "release_log.html", log=None, unread=text, follow=True))
        yield END

    return service_of(request, EventStreams).open(caller, messages())


ROUTES: Final = [
    Route(f"{PREFIX}/pod", show_pod, methods=["GET"]),
    Route(f"{PREFIX}/pod/live", follow_log, methods=["GET"]),
]
