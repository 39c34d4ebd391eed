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
from pilothouse.services.releases.preflight import Preflight
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
    watch = LoopWatch()
    audit = Audit(runtime.database, settings.audit)
    authentication = Authentication(runtime.database, runtime.keys, settings.identity, audit)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
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

    app = FastAPI(
        title="Pilothouse",
        version=__version__,
        description=DESCRIPTION,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_nul)],
    )
    app.state.audit = audit
    app.state.services = {}
    form = ReleaseSerializer(ZoneInfo(settings.time_zone), settings.releases)
    preflight = Preflight(settings)
    shared = ReleaseDependencies(runtime.database, runtime.keys, runtime.clusters, runtime.engine, settings, preflight)
    releases, updates, deletions = Releases(shared), Updates(shared), Deletions(shared)
    idempotency = Idempotency(runtime.database, runtime.keys, settings)
    standing = Standing(runtime.database, again_seconds=settings.identity.ask_again_seconds)
    view = ReleaseView(runtime.database, runtime.keys, runtime.clusters, settings.releases, standing)
    waits = ReleaseWaits(
        view,
        notifications,
        standing,
        waiting=Counted(
            what="requests that wait", per_key=settings.waits_per_user, whose="this user", in_all=settings.waits
        ),
    )
    checks = ChartChecks(runtime.engine, limits=settings.charts, engine_settings=settings.engine)
    charts = Charts(
        runtime.database,
        checks,
        standing,
        quota=settings.chart_quota,
        quota_bytes=settings.chart_quota_bytes,
        engine_settings=settings.engine,
    )
    # The vendor's wire is described by a document of its own; our own API describes itself.
    for prefix in release_routes.PREFIXES:
        router = release_routes.routes(
            releases,
            updates,
            deletions,
            view,
            waits,
            standing=standing,
            idempotency=idempotency,
            form=form,
            longest_timeout_seconds=settings.worker.longest_timeout_seconds,
            prefix=prefix,
        )
        app.include_router(router, include_in_schema=False)
    for prefix in chart_routes.PREFIXES:
        app.include_router(chart_routes.routes(charts, prefix=prefix), include_in_schema=False)
    _include_identity(app, runtime, audit)
    app.include_router(compatible_description.routes(), include_in_schema=False)
    for native in ROUTERS:
        app.include_router(native)
    app.include_router(reference.routes(app.openapi))
    _add_services(
        app,
        audit,
        watch,
        runtime.database,
        runtime.clusters,
        Unlocks(runtime.database, runtime.keys, runtime.clusters, settings.releases, preflight=preflight),
        Operations(runtime.database, notifications, standing),
        Cancellations(runtime.database),
        EventStreams(
            what="event streams", per_key=settings.streams_per_user, whose="this user", in_all=settings.streams
        ),
    )
    app.add_exception_handler(PilothouseError, handle)
    app.add_exception_handler(404, route_not_found)
    app.add_exception_handler(405, route_not_found)
    app.add_exception_handler(Exception, internal_error)
    return stack.wrap(
        ClusterReads(app, settings.cluster),
        settings=settings,
        authenticator=authentication,
        is_public=_is_public,
        clock=lambda: datetime.now(UTC),
        largest_body=_largest_body,
    )


def _add_services(app: FastAPI, *services: object) -> None:
    """Give routes of our own API these services, each by its class."""
    app.state.services.update({type(one): one for one in services})


def _include_identity(app: FastAPI, runtime: Runtime, audit: Audit) -> None:
    """Include the vendor's routes of callers, and register the services that ours share with them."""
    settings = runtime.settings
    passwords = Passwords(runtime.database, settings.identity, audit)
    tokens = Tokens(runtime.database, passwords, settings.identity, audit)
    projects = Projects(runtime.database, region=settings.region)
    app.include_router(version_routes.routes(), include_in_schema=False)
    app.include_router(token_routes.routes(tokens, region=settings.region), include_in_schema=False)
    app.include_router(project_routes.routes(projects), include_in_schema=False)
    _add_services(
        app,
        projects,
        Users(runtime.database, passwords),
        AccessKeys(runtime.database, runtime.keys, passwords, settings.identity),
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
