"""Composition root of the API: imports every layer that serves HTTP. Builds what the process needs, and runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from pilothouse import __version__
from pilothouse.api.cce import charts as chart_routes
from pilothouse.api.cce import description as compatible_description
from pilothouse.api.cce import projects as project_routes
from pilothouse.api.cce import releases as release_routes
from pilothouse.api.cce import tokens as token_routes
from pilothouse.api.cce import versions as version_routes
from pilothouse.api.cce.models import ReleaseSerializer
from pilothouse.api.v1 import reference
from pilothouse.api.v1.operations import EventStreams
from pilothouse.api.v1.routers import DESCRIPTION, ROUTERS, largest_body
from pilothouse.errors import DatabaseUnavailable, PilothouseError
from pilothouse.http.cluster_reads import ClusterReads
from pilothouse.http.connections import ConnectionLimits, most_connections
from pilothouse.http.endpoints import HEALTH_PATH, endpoints
from pilothouse.http.errors import handle
from pilothouse.http.gateway_errors import internal_error, route_not_found
from pilothouse.http.handshake import Handshake
from pilothouse.http.json_bodies import LOGIN, RELEASE
from pilothouse.http.middleware import stack
from pilothouse.http.protocol import GatewayProtocol
from pilothouse.http.requests import refuse_nul
from pilothouse.http.server import GatewayServer, TlsContext, certificate_files
from pilothouse.liveness import answering
from pilothouse.loop_watch import LoopWatch
from pilothouse.open_files import raise_open_files
from pilothouse.services.admin.audit import Audit
from pilothouse.services.charts.archives import Charts
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.identity.access_keys import AccessKeys
from pilothouse.services.identity.authentication import Authentication
from pilothouse.services.identity.passwords import Passwords
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.standing import Standing
from pilothouse.services.identity.tokens import Tokens
from pilothouse.services.identity.users import Users
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.operations.idempotency import Idempotency
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.operations.read import Operations
from pilothouse.services.releases.create import Releases
from pilothouse.services.releases.delete import Deletions
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.details import ReleaseDetails
from pilothouse.services.releases.differences import ReleaseDifferences
from pilothouse.services.releases.parts import ReleaseParts
from pilothouse.services.releases.preflight import Preflight
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.releases.read import ReleaseView
from pilothouse.services.releases.unlock import Unlocks
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.wait import ReleaseWaits
from pilothouse.settings import Settings
from pilothouse.shares import Counted
from pilothouse.wiring import Runtime, build_runtime, freeze_gc

_PUBLIC = frozenset({HEALTH_PATH, reference.OPENAPI_PATH, reference.REFERENCE_PATH, compatible_description.PATH})


def create_app(runtime: Runtime, notifications: Notifications) -> ASGIApp:
    """Return the HTTP application behind its gateway; it starts and stops the engine with the server's lifespan."""
    settings = runtime.settings
    audit, watch = Audit(runtime.database, settings.audit), LoopWatch()
    app = FastAPI(
        title="Pilothouse",
        version=__version__,
        description=DESCRIPTION,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lambda _: _running(runtime, notifications, audit, watch),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_nul)],
        exception_handlers={
            PilothouseError: handle,
            404: route_not_found,
            405: route_not_found,
            Exception: internal_error,
        },
    )
    standing = Standing(runtime.database, again_seconds=settings.identity.ask_again_seconds)
    services = (
        *(settings.worker, runtime.database, runtime.clusters, audit, watch, standing),
        *_identity_services(runtime, audit),
        Charts(
            runtime.database,
            ChartChecks(runtime.engine, limits=settings.charts, engine_settings=settings.engine),
            standing,
            quota=settings.chart_quota,
            quota_bytes=settings.chart_quota_bytes,
            engine_settings=settings.engine,
        ),
        *_release_services(runtime, notifications, standing),
    )
    app.state.services = {type(one): one for one in services}
    _include_routes(app)
    return stack.wrap(
        ClusterReads(app, settings.cluster),
        settings=settings,
        authenticator=Authentication(runtime.database, runtime.keys, settings.identity, audit),
        is_public=_is_public,
        clock=lambda: datetime.now(UTC),
        largest_body=_largest_body,
    )


@asynccontextmanager
async def _running(
    runtime: Runtime, notifications: Notifications, audit: Audit, watch: LoopWatch
) -> AsyncIterator[None]:
    """Run what the application needs beside its requests."""
    with answering():
        await runtime.engine.start()
        watch.start()
        tasks = [asyncio.create_task(notifications.listen()), asyncio.create_task(audit.keep_writing())]
        freeze_gc()
        try:
            yield
        finally:
            await watch.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(DatabaseUnavailable):
                await audit.write(all_of_it=True)
            await runtime.close()


def _include_routes(app: FastAPI) -> None:
    """Include the routes of both dialects; the vendor's is described by a document of its own."""
    for prefix in release_routes.PREFIXES:
        app.include_router(release_routes.router, prefix=prefix, include_in_schema=False)
    for prefix in chart_routes.PREFIXES:
        app.include_router(chart_routes.router, prefix=prefix, include_in_schema=False)
    for router in (version_routes.router, token_routes.router, project_routes.router, compatible_description.routes()):
        app.include_router(router, include_in_schema=False)
    for router in (*ROUTERS, reference.routes(app.openapi)):
        app.include_router(router)


def _identity_services(runtime: Runtime, audit: Audit) -> tuple[object, ...]:
    database, settings = runtime.database, runtime.settings
    passwords = Passwords(database, settings.identity, audit)
    return (
        Tokens(database, passwords, settings.identity, audit),
        Projects(database, region=settings.region),
        Users(database, passwords),
        AccessKeys(database, runtime.keys, passwords, settings.identity),
    )


def _release_services(runtime: Runtime, notifications: Notifications, standing: Standing) -> tuple[object, ...]:
    settings, database, keys, clusters = runtime.settings, runtime.database, runtime.keys, runtime.clusters
    preflight = Preflight(settings)
    shared = ReleaseDependencies(database, keys, clusters, runtime.engine, settings, preflight)
    details = ReleaseDetails(database, keys, clusters)
    view = ReleaseView(database, keys, clusters, settings.releases, standing)
    waiting = Counted(
        what="requests that wait", per_key=settings.waits_per_user, whose="this user", in_all=settings.waits
    )
    return (
        Releases(shared),
        Updates(shared),
        Deletions(shared),
        Unlocks(database, keys, clusters, settings.releases, preflight=preflight),
        view,
        ReleaseWaits(view, notifications, standing, waiting=waiting),
        ReleaseSerializer(ZoneInfo(settings.time_zone), settings.releases),
        Idempotency(database, keys, settings),
        ProjectReleases(database, settings.releases),
        details,
        ReleaseParts(settings.releases),
        ReleaseDifferences(details),
        Operations(database, notifications, standing),
        Cancellations(database),
        EventStreams(
            what="event streams", per_key=settings.streams_per_user, whose="this user", in_all=settings.streams
        ),
    )


def _is_public(method: str, path: str) -> bool:
    """Return True for routes without authentication: log-in, and the versions that its clients ask for before."""
    if method == "POST":
        return path == token_routes.PATH
    return path in _PUBLIC or (method == "GET" and path in version_routes.PATHS)


def _largest_body(method: str, path: str) -> int:
    """Return how many bytes a route reads at most, so that larger bodies are refused early."""
    if path == token_routes.PATH:
        return LOGIN.size
    if path.startswith(chart_routes.PREFIXES):
        return sys.maxsize
    if path.startswith(release_routes.PREFIXES):
        return RELEASE.size
    return largest_body(method, path)


def run_api(settings: Settings, *, database_url: str) -> None:
    """Serve HTTP and HTTPS until SIGTERM or SIGINT."""
    listeners = endpoints(settings)
    tls = TlsContext(lambda: certificate_files(settings), ciphers=settings.tls.ciphers) if settings.tls.port else None
    runtime = build_runtime(settings, database_url=database_url, engine_children=settings.engine.children)
    notifications = Notifications(runtime.database)
    config = uvicorn.Config(
        create_app(runtime, notifications),
        log_config=None,
        timeout_graceful_shutdown=10,
        proxy_headers=False,
        **stack.server_options(settings),
    )
    GatewayProtocol.head_seconds = settings.http.head_seconds
    GatewayProtocol.write_seconds = settings.http.write_seconds
    Handshake.seconds = settings.http.handshake_seconds
    GatewayProtocol.limits = ConnectionLimits(
        most=most_connections(settings.http, open_files=raise_open_files()),
        most_per_address=settings.http.connections_per_address,
        most_bytes=settings.http.waiting_bytes,
        trusted=settings.trusted_networks,
    )
    GatewayServer(config, listeners, tls=tls, on_stop=notifications.close).run()
