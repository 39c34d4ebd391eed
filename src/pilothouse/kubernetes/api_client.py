"""Requests to one API server with Kubernetes errors and pagination; how they are sent: ``transport``."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pilothouse.errors import ClusterUnavailable
from pilothouse.kubernetes.budget import wait_for_turn
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.transport import Answer, AnswerTooLarge, Transport

#: A page that is larger is asked for with fewer objects; an object has at most 1.5 MiB (etcd's limit of a request).
_LARGEST_ANSWER = 8 * 1024 * 1024
_PAGE = 100
#: A list goes on after a page without objects, but no real one does so often.
_MOST_EMPTY_PAGES = 10
_LONGEST_TOKEN = 8 * 1024
_NOT_FOUND, _GONE = 404, 410
_VERSION = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class ListPage:
    """A page of a list, and the metadata of the whole list."""

    items: list[dict[str, Any]]
    metadata: dict[str, Any]


class ListExpired(ClusterUnavailable):
    """The server no longer knows the moment from which a list or watch wants to continue (410)."""


class ApiClient:
    """Send requests to one API server as one account; close its connections when they are no longer needed.

    Raises ClusterUnavailable or ClusterDenied.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._asking = 0
        self._retired = False

    @property
    def server(self) -> str:
        """Return the server's address as registered."""
        return self.transport.server

    async def list_objects(
        self, path: str, params: dict[str, str], *, accept: str = "application/json"
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a list, page by page."""
        async for page in self.list_pages(path, params, accept=accept):
            for item in page.items:
                yield item

    async def list_pages(
        self, path: str, params: dict[str, str], *, accept: str = "application/json"
    ) -> AsyncIterator[ListPage]:
        """Yield the pages of a list from one snapshot; ListExpired if the server no longer has that snapshot."""
        limit, token, empty = _PAGE, "", 0
        while True:
            page = {**params, "limit": str(limit), **({"continue": token} if token else {})}
            try:
                answer = await self.ask("GET", path, params=page, accept=accept, taken={_GONE})
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            if not answer.ok:
                raise ListExpired(f"{self.server}: the list changed while it was read; retry")
            metadata, items = mapping(answer.body.get("metadata")), objects_in(answer.body.get("items"))
            yield ListPage(items, metadata)
            token = metadata.get("continue") or ""
            if not token:
                return
            empty += not items
            if not isinstance(token, str) or len(token) > _LONGEST_TOKEN or empty > _MOST_EMPTY_PAGES:
                raise ClusterUnavailable(f"{self.server} returns an endless list")

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        accept: str = "application/json",
        body: Any = None,
        content_type: str = "application/json",
        taken: set[int] | None = None,
        largest: int | None = None,
    ) -> Answer:
        """Return a success, or an error with a status in ``taken``; any other error is ClusterUnavailable."""
        await wait_for_turn()
        async with self.counted():
            answer = await self.transport.ask(
                method,
                path,
                params=params,
                accept=accept,
                body=body,
                content_type=content_type,
                largest=largest or _LARGEST_ANSWER,
            )
        if answer.ok or answer.status in (taken or {_NOT_FOUND}):
            return answer
        detail = f": {answer.message}" if answer.message else ""
        raise ClusterUnavailable(f"{self.server} answered {answer.status}{detail}")

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """Keep the connections open for the requests made inside, even if the client is retired meanwhile."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            await self._close_if_idle()

    def retire(self) -> asyncio.Task[None]:
        """Close the connections when no request is under way; the returned task closes idle ones now."""
        self._retired = True
        return asyncio.get_running_loop().create_task(self._close_if_idle())

    async def _close_if_idle(self) -> None:
        if self._retired and not self._asking:
            await self.transport.close()


def objects_in(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects of a list; none if the value is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def resource_version(metadata: object) -> int:
    """Return the resourceVersion in an object's metadata; ClusterUnavailable if there is no comparable one.

    Kubernetes 1.35 and newer guarantee decimal numbers; etcd has never had anything else. Source: KEP 5504.
    """
    text = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(text, str) or not _VERSION.fullmatch(text) or int(text) > _LARGEST_VERSION:
        raise ClusterUnavailable("the cluster's API server returned a resourceVersion that is not a number")
    return int(text)
