"""Budgets for requests that read clusters; reads stop when the caller is gone."""

from starlette.types import ASGIApp, Receive, Scope, Send

from pilothouse.http.middleware.disconnect import disconnect_of
from pilothouse.kubernetes.budget import Budget, budgeted
from pilothouse.settings import ClusterSettings


def budget_of(scope: Scope, settings: ClusterSettings) -> Budget:
    """Return a budget of a request, which ends when the caller is gone."""

    def watch_caller() -> None:
        if (disconnect := disconnect_of(scope)) is not None:
            disconnect.then(budget.abandon)

    budget = Budget(seconds=settings.request_seconds, most_bytes=settings.request_bytes, on_first_read=watch_caller)
    return budget


class ClusterReads:
    """Give each HTTP request its budget.

    The handler itself does not end with its caller: writes that it has begun are finished or rolled back in order. Only
    its reads of clusters end, and they are what can take long.
    """

    def __init__(self, app: ASGIApp, settings: ClusterSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; everything that is not HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        with budgeted(budget_of(scope, self._settings)):
            await self._app(scope, receive, send)
