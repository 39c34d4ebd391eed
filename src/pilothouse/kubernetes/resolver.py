"""DNS lookups of API servers' names with the system's resolver.

A name server that does not answer blocks a thread for half a minute, and users who register clusters choose the names.
So each project can use only some of the lookup slots, callers wait only briefly, and a name that is already being
looked up is not looked up again.
"""

import asyncio
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from pilothouse.errors import Busy, ClusterUnavailable
from pilothouse.settings import ClusterSettings
from pilothouse.shares import FairSlots

#: Return the IP addresses of a name; raise ClusterUnavailable if none is found in time.
LookUp = Callable[[str], Awaitable[list[str]]]

_MOST_WAITING: Final = 100
_MOST_NAMES_EACH: Final = 256
#: Of ``answer_seconds``, which the connection and the answer need, too.
_SHARE_OF_ANSWER: Final = 0.6


class Resolver:
    """Look up names for all projects of a process; belongs to one event loop.

    It vets nothing: callers vet the addresses, cached ones and new ones alike.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        """Take the number of slots and the waiting time of callers from the settings."""
        self._seconds = min(settings.lookup_seconds, settings.answer_seconds * _SHARE_OF_ANSWER)
        self._known_seconds = settings.known_addresses_seconds
        self._slots = FairSlots(
            settings.lookups,
            what="names are being looked up at every place",
            most_waiting=_MOST_WAITING,
            most=settings.lookups_per_project,
        )
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}
        self._known: dict[str, OrderedDict[str, tuple[float, list[str]]]] = {}

    def of(self, project: str) -> LookUp:
        """Return the lookup that uses the slots of this project."""
        return partial(self.find, project=project)

    async def find(self, host: str, *, project: str) -> list[str]:
        """Return the IP addresses of a name; the last known ones if the lookup is late.

        Raises ClusterUnavailable if there are none, or the project has too many lookups.
        """
        try:
            async with asyncio.timeout(self._seconds):
                addresses = await self._look_up(host, project)
        except (TimeoutError, Busy) as error:
            if recalled := self._recall(host, project):
                return recalled
            raise ClusterUnavailable(
                f"the name {host} was not resolved within {self._seconds:g} s; its name server is slow, or too many "
                "names of this project are being resolved"
            ) from error
        except (OSError, UnicodeError) as error:
            raise ClusterUnavailable(f"the name {host} cannot be resolved") from error
        self._remember(host, project, addresses)
        return addresses

    async def _look_up(self, host: str, project: str) -> list[str]:
        if host not in self._under_way:
            await self._slots.acquire(project, seconds=None)
            if host in self._under_way:
                self._slots.release(project)
            else:
                self._begin(host, project)
        return list(await asyncio.shield(self._under_way[host]))

    def _begin(self, host: str, project: str) -> None:
        """Start a dedicated thread, outside the process's thread pool; the process's exit does not wait for it."""
        loop = asyncio.get_running_loop()
        found = self._under_way[host] = loop.create_future()
        found.add_done_callback(lambda done: done.cancelled() or done.exception())  # the caller may be gone

        def end(addresses: list[str], failure: Exception | None) -> None:
            self._under_way.pop(host, None)
            self._slots.release(project)
            if found.done():
                return
            if failure is not None:
                found.set_exception(failure)
            else:
                self._remember(host, project, addresses)
                found.set_result(addresses)

        def run() -> None:
            addresses, failure = [], None
            try:
                entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except (OSError, UnicodeError) as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, addresses, failure)

        threading.Thread(target=run, name=f"resolve {host[:40]}", daemon=True).start()

    def _remember(self, host: str, project: str, addresses: list[str]) -> None:
        names = self._known.setdefault(project, OrderedDict())
        names[host] = (time.monotonic(), addresses)
        names.move_to_end(host)
        if len(names) > _MOST_NAMES_EACH:
            names.popitem(last=False)

    def _recall(self, host: str, project: str) -> list[str]:
        names = self._known.get(project)
        if names is None or host not in names:
            return []
        at, addresses = names[host]
        return list(addresses) if time.monotonic() - at <= self._known_seconds else []
