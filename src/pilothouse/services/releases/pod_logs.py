"""The pods of a release: their containers, what Kubernetes says of them, and the logs of their containers.

A cluster's account may read every pod, so that a pod is shown only if its owner references lead to an object of the
release. Texts are masked as evidence of failures is: a release's values, data of its own Secrets, credentials, and what
looks like a secret.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from pilothouse.auth.policy import READ_LOGS, READ_VALUES
from pilothouse.errors import ClusterUnavailable, InvalidArgument, NotFound
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.paths import checked_name
from pilothouse.kubernetes.pods import Pods, event_facts, shown_lines
from pilothouse.kubernetes.readiness import Container, containers, is_healthy, mapping, pod_problem
from pilothouse.kubernetes.transport import StreamRefused
from pilothouse.masking_thread import in_masking_thread
from pilothouse.redaction import Masks, masks_of, masks_of_data
from pilothouse.services.clusters import ClusterConnection, Clusters, cluster_error_context
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import Standing
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.live import read_unsuperseded
from pilothouse.services.releases.masking import masks_of_stored
from pilothouse.services.releases.pod_owners import OwnObjects, find_pod, named_objects
from pilothouse.states import ReleaseStatus

_GET: Final = "cce:release:get"
MOST_LINES: Final = 1000
#: Of an answer, and what a page that follows a log is sent again each time.
_ROOM: Final = 192 * 1024
_FOLLOWED_ROOM: Final = 48 * 1024
_LONGEST_LINE: Final = 4000
_LONGEST_WORD: Final = 1000
#: A log that is read once, and one that is followed until whoever does it begins again.
_SECONDS: Final = 10.0
_FOLLOWED_SECONDS: Final = 900.0
#: How long a follower is told nothing before it learns that the connection lives, and how often it is told something.
_QUIET_SECONDS: Final = 10.0
_APART_SECONDS: Final = 1.0
_MOST_CONTAINERS: Final = 50
_MOST_EVENTS: Final = 50

Object = dict[str, Any]


@dataclass(frozen=True)
class LogQuery:
    """What is wanted of which container; by default of the pod's first one.

    ``namespace``: the pod's, if it is not the release's.
    """

    pod: str
    namespace: str = ""
    container: str = ""
    tail: int = 200
    previous: bool = False


@dataclass(frozen=True)
class PodDetail:
    """A pod of the release; ``containers`` have the names of all that it should have, and states as far as known."""

    namespace: str
    name: str
    phase: str
    problem: str
    containers: list[Container]
    events: list[Object]


@dataclass(frozen=True)
class ContainerLog:
    """The last lines of a log, oldest first; ``cut``: there was no room for all that were wanted."""

    namespace: str
    pod: str
    container: str
    previous: bool
    lines: list[str] = field(repr=False)
    cut: bool


@dataclass(frozen=True)
class _Looked:
    """A pod that belongs to the release, and how its texts are masked."""

    cluster: ClusterConnection
    pod: Object
    namespace: str
    name: str
    masks: list[Masks]

    def clean(self, text: str) -> str:
        for each in self.masks:
            text = each.apply(text)
        return text[:_LONGEST_WORD]

    def container(self, named: str) -> str:
        """Return the name of a container that the pod has."""
        known = list(_names(self.pod))
        if not named and known:
            return known[0]
        if named not in known:
            raise NotFound(
                f"pod {self.name!r} has no container {named[:80]!r}; it has {', '.join(known[:20]) or 'none'}"
            )
        return named


class _Tail:
    """The last lines of a log, at most so many and so many bytes."""

    def __init__(self, lines: int, size: int) -> None:
        self.lines: deque[bytes] = deque()
        self.cut, self.dropped = False, 0
        self._most, self._room = lines, size

    def add(self, some: Iterable[bytes]) -> None:
        for line in some:
            self.lines.append(line)
            self._room -= len(line) + 1
            while len(self.lines) > 1 and (self._room < 0 or len(self.lines) > self._most):
                self.cut = self.cut or self._room < 0
                self._room += len(self.lines.popleft()) + 1
                self.dropped += 1


class ReleasePods:
    """Read the pods of releases, and their logs."""

    def __init__(self, clusters: Clusters, details: ReleaseDetails, standing: Standing) -> None:
        self._clusters = clusters
        self._details = details
        self._standing = standing

    async def show(self, caller: Caller, place: ReleaseRef, *, pod: str, namespace: str = "") -> PodDetail:
        """Return a pod of the release in the cluster of that id, with its events; NotFound if it is none of it."""
        caller.require(_GET)
        looked = await self._look(caller, place, LogQuery(pod, namespace))
        async with self._connected(looked) as pods:
            found = await pods.list_events(namespace=looked.namespace, kind="Pod", name=looked.name)

        def tell() -> PodDetail:
            events = sorted(map(event_facts, found), key=lambda one: one["at"])[-_MOST_EVENTS:]
            known = {container.name: container for container in islice(containers(looked.pod), _MOST_CONTAINERS)}
            waiting = Container("", "not started", started=False, failed=False, restarts=0)
            listed = [known.get(name, waiting) for name in _names(looked.pod)]
            return PodDetail(
                looked.namespace,
                looked.name,
                str(mapping(looked.pod.get("status")).get("phase") or "")[:_LONGEST_WORD],
                "" if is_healthy(looked.pod) else looked.clean(pod_problem(looked.pod)),
                [
                    Container(
                        name,
                        looked.clean(container.state),
                        started=container.started,
                        failed=container.failed,
                        restarts=container.restarts,
                    )
                    for name, container in zip(_names(looked.pod), listed, strict=True)
                ],
                [event | {key: looked.clean(event[key]) for key in ("reason", "text")} for event in events],
            )

        return await in_masking_thread(tell)

    async def read_log(self, caller: Caller, place: ReleaseRef, query: LogQuery) -> ContainerLog:
        """Return the last lines of a container's log, in 10 s at most.

        Raises NotFound if the pod is none of the release, or the container has no such log.
        """
        caller.require(READ_LOGS)
        _check(query)
        looked = await self._look(caller, place, query)
        container, tail = looked.container(query.container), _Tail(query.tail, _ROOM)
        async with self._connected(looked) as pods:
            log = pods.read_log(
                namespace=looked.namespace,
                pod=looked.name,
                container=container,
                most_lines=query.tail,
                previous=query.previous,
                seconds=_SECONDS,
            )
            async with aclosing(log):
                async for some in log:
                    tail.add(some)
                    if len(tail.lines) + tail.dropped > query.tail:
                        break  # it sends more than it was asked for
        return await in_masking_thread(_container_log, looked, container, query, tail, _ROOM)

    async def follow_log(
        self, caller: Caller, place: ReleaseRef, query: LogQuery
    ) -> AsyncIterator[ContainerLog | None]:
        """Yield the last lines again whenever there are more, until the log or a quarter of an hour ends.

        None means that there are no more yet. The caller's rights are checked again every few seconds.
        """
        caller.require(READ_LOGS)
        _check(query)
        looked, rights = await self._look(caller, place, query), [READ_LOGS]
        if caller.may(READ_VALUES):
            rights.append(READ_VALUES)  # what was looked up hides none of them
        container, tail = looked.container(query.container), _Tail(query.tail, _FOLLOWED_ROOM)
        news = asyncio.Event()
        reading = asyncio.create_task(self._read_on(looked, container, query, tail, news))
        try:
            while True:
                news.clear()
                ended = reading.done()
                caller = await self._ask_again(caller, rights)
                yield await in_masking_thread(_container_log, looked, container, query, tail, _FOLLOWED_ROOM)
                if ended:
                    await reading
                    return
                await asyncio.sleep(_APART_SECONDS)
                while not await _happened(news):
                    caller = await self._ask_again(caller, rights)
                    yield None
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, ClusterUnavailable, NotFound):
                await reading

    async def _ask_again(self, caller: Caller, rights: list[str]) -> Caller:
        caller = await self._standing.ask(caller, after_seconds=self._standing.again_seconds)
        for right in rights:
            caller.require(right)
        return caller

    async def _read_on(
        self, looked: _Looked, container: str, query: LogQuery, tail: _Tail, news: asyncio.Event
    ) -> None:
        try:
            async with self._connected(looked) as pods, asyncio.timeout(_FOLLOWED_SECONDS):
                log = pods.read_log(
                    namespace=looked.namespace,
                    pod=looked.name,
                    container=container,
                    most_lines=query.tail,
                    follow=True,
                    seconds=_FOLLOWED_SECONDS,
                )
                async for some in log:
                    tail.add(some)
                    if some:
                        news.set()
        except TimeoutError:
            pass
        finally:
            news.set()

    @asynccontextmanager
    async def _connected(self, looked: _Looked) -> AsyncIterator[Pods]:
        pods = self._clusters.connect_pods(looked.cluster)
        try:
            with cluster_error_context(looked.cluster):
                yield pods
        except ClusterUnavailable as error:
            refused = error.__cause__
            if isinstance(refused, StreamRefused) and refused.status in {400, 404}:
                raise NotFound(f"there is no such log now: {looked.clean(str(refused))}") from error
            raise
        finally:
            await pods.close()

    async def _look(self, caller: Caller, place: ReleaseRef, query: LogQuery) -> _Looked:
        """Return the pod if it is one of the release's, else raise NotFound."""
        stored = await self._details.read_stored(place, None)
        cluster = await self._clusters.reach(place.cluster, project_id=None)
        client, revisions = self._clusters.client(cluster), [stored]
        with cluster_error_context(cluster):
            if stored.status != ReleaseStatus.DEPLOYED:  # its pods may still be the deployed revision's
                revisions = [
                    stored for stored, _ in await read_unsuperseded(client, place.namespace, place.name)
                ] or revisions
            parts = [await asyncio.to_thread(named_objects, revision) for revision in revisions]
            namespace = checked_name(query.namespace or stored.target_namespace)
            own = OwnObjects(stored, parts)
            async with client.within_limit():
                pod = await find_pod(client, own, namespace=namespace, name=checked_name(query.pod))
        if pod is None:
            raise NotFound(
                f"pod {query.pod!r} in namespace {namespace!r} is none of release {place.name!r}, or is gone"
            )
        documents = [document for made, hooks in parts for _, document in (*made, *hooks)]
        hides = not caller.may(READ_VALUES)
        masks = await in_masking_thread(_masks, cluster, revisions, documents, hides=hides)
        return _Looked(cluster, pod, namespace, query.pod, masks)


def _check(query: LogQuery) -> None:
    if not 1 <= query.tail <= MOST_LINES:
        raise InvalidArgument(f"tail: {query.tail} is not a number of lines from 1 to {MOST_LINES}")


async def _happened(news: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(_QUIET_SECONDS):
            return await news.wait()
    except TimeoutError:
        return False


def _masks(
    cluster: ClusterConnection, revisions: list[StoredRelease], documents: list[Object], *, hides: bool
) -> list[Masks]:
    secrets = [document for document in documents if document.get("kind") == "Secret"]
    data, plain = ([mapping(secret.get(key)) for secret in secrets] for key in ("data", "stringData"))
    public = {
        text
        for revision in revisions
        for text in (revision.namespace, revision.name, revision.chart_name, revision.chart_version)
    }
    made = [
        masks_of(
            values={str(number): revision.config for number, revision in enumerate(revisions)},
            merged_values={str(number): revision.values for number, revision in enumerate(revisions)},
            kubeconfig=cluster.kubeconfig,
            public=public,
        ).prepare(),
        masks_of_data(*data, plain=plain).prepare(),
    ]
    return [*made, masks_of_stored(*revisions)] if hides else made


def _container_log(looked: _Looked, container: str, query: LogQuery, tail: _Tail, room: int) -> ContainerLog:
    lines = shown_lines(tail.lines, looked.masks, longest=_LONGEST_LINE, room=room)
    return ContainerLog(looked.namespace, looked.name, container, query.previous, lines, tail.cut)


def _names(pod: Object) -> Iterator[str]:
    """Yield the names of the containers that the pod should have, the ordinary ones first."""
    spec = mapping(pod.get("spec"))
    listed = [spec.get(key) for key in ("containers", "initContainers", "ephemeralContainers")]
    found = (mapping(one).get("name") for some in listed if isinstance(some, list) for one in some)
    yield from islice(dict.fromkeys(name[:63] for name in found if isinstance(name, str) and name), _MOST_CONTAINERS)
