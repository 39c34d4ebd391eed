"""Composition root of the API: imports every layer that serves HTTP. Builds what the process needs, and runs it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
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
from pilothouse.api.v1 import log_in as log_in_routes
from pilothouse.api.v1 import reference
from pilothouse.api.v1.routers import DESCRIPTION, ROUTERS, largest_body
from pilothouse.console.app import create_console
from pilothouse.console.requests import largest_body as largest_form
from pilothouse.errors import DatabaseUnavailable, PilothouseError
from pilothouse.http.cluster_reads import ClusterReads
from pilothouse.http.connections import ConnectionLimits, most_connections
from pilothouse.http.endpoints import HEALTH_PATH, endpoints
from pilothouse.http.errors import handle
from pilothouse.http.event_streams import EventStreams
from pilothouse.http.gateway_errors import internal_error, route_not_found
from pilothouse.http.handshake import Handshake
from pilothouse.http.json_bodies import LOGIN, RELEASE
from pilothouse.http.middleware import stack
from pilothouse.http.middleware.session import CONSOLE, is_console
from pilothouse.http.places import LocationMiddleware
from pilothouse.http.protocol import GatewayProtocol
from pilothouse.http.requests import refuse_nul
from pilothouse.http.server import GatewayServer, TlsContext, certificate_files
from pilothouse.liveness import answering
from pilothouse.loop_watch import LoopWatch
from pilothouse.metrics import EVENT_LOOP_BLOCKED
from pilothouse.monitoring import Probes, monitored
from pilothouse.open_files import raise_open_files
from pilothouse.services.admin.audit import Audit
from pilothouse.services.admin.audit_export import AuditExport
from pilothouse.services.charts.archives import Charts
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.services.charts.signatures import Signatures
from pilothouse.services.charts.trust import Trust
from pilothouse.services.cluster_drift import ClusterDrift
from pilothouse.services.cluster_walls import ClusterWalls
from pilothouse.services.identity.access_keys import AccessKeys
from pilothouse.services.identity.authentication import Authentication
from pilothouse.services.identity.bearers import Bearers
from pilothouse.services.identity.device_log_in import DeviceLogIns
from pilothouse.services.identity.groups import Groups
from pilothouse.services.identity.issuers import issuers_of
from pilothouse.services.identity.passwords import Passwords
from pilothouse.services.identity.policies import Policies
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.provider_users import ProviderUsers
from pilothouse.services.identity.sealed_forms import SealedForms
from pilothouse.services.identity.sessions import Sessions
from pilothouse.services.identity.single_sign_on import SingleSignOn
from pilothouse.services.identity.standing import Standing
from pilothouse.services.identity.tokens import Tokens
from pilothouse.services.identity.users import Users
from pilothouse.services.metrics import DatabaseMetrics
from pilothouse.services.operations.cancel import Cancellations
from pilothouse.services.operations.idempotency import Idempotency
from pilothouse.services.operations.notifications import Notifications
from pilothouse.services.operations.read import Operations
from pilothouse.services.operations.wait import OperationWaits
from pilothouse.services.releases.create import Releases
from pilothouse.services.releases.delete import Deletions
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.deploy import Deployments
from pilothouse.services.releases.details import ReleaseDetails
from pilothouse.services.releases.differences import ReleaseDifferences
from pilothouse.services.releases.drift_reads import ReleaseDrifts
from pilothouse.services.releases.parts import ReleaseParts
from pilothouse.services.releases.plans import Plans
from pilothouse.services.releases.pod_logs import ReleasePods
from pilothouse.services.releases.preflight import Preflight
from pilothouse.services.releases.project_list import ProjectReleases
from pilothouse.services.releases.read import ReleaseView
from pilothouse.services.releases.render import Renders
from pilothouse.services.releases.run_tests import ReleaseTests
from pilothouse.services.releases.tree import ReleaseTrees
from pilothouse.services.releases.unlock import Unlocks
from pilothouse.services.releases.update import Updates
from pilothouse.services.releases.wait import ReleaseWaits
from pilothouse.services.sources.charts import SourceCharts
from pilothouse.services.sources.pull import ChartPulls
from pilothouse.services.sources.push import ChartPushes
from pilothouse.services.sources.sources import Sources
from pilothouse.services.sources.sync import SourceSync
from pilothouse.services.webhooks import Webhooks
from pilothouse.settings import Settings
from pilothouse.shares import Counted
from pilothouse.tracing import traced
from pilothouse.webhook_targets import Targets
from pilothouse.wiring import Runtime, build_runtime, freeze_gc

if TYPE_CHECKING:
    from pilothouse.oidc.code_flow import CodeFlow
    from pilothouse.oidc.device_flow import DeviceFlow
    from pilothouse.services.identity.oidc_users import OidcUsers

_PUBLIC = frozenset(
    {
        *(HEALTH_PATH, log_in_routes.PATH),
        *(reference.OPENAPI_PATH, reference.REFERENCE_PATH, compatible_description.PATH),
    }
)


def create_app(runtime: Runtime, notifications: Notifications) -> ASGIApp:
    """Return the HTTP application behind its gateway; it starts and stops the engine with the server's lifespan."""
    settings = runtime.settings
    audit, watch = Audit(runtime.database, settings.audit), LoopWatch()
    app = FastAPI(
        title="Pilothouse",
        version=__version__,
        description=DESCRIPTION,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lambda app: _running(runtime, notifications, audit, watch, app.state.services[SourceSync]),
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
    people, devices, bearers = _providers(runtime, audit)
    standing = Standing(runtime.database, again_seconds=settings.identity.ask_again_seconds, issuers=bearers)
    services = (
        *(settings.worker, runtime.database, runtime.clusters, audit, watch, standing, AuditExport(audit, standing)),
        *_identity_services(runtime, audit, people, devices),
        Webhooks(runtime.database, runtime.keys, Targets(settings.webhooks, settings.cluster), settings.webhooks),
        *(*_chart_services(runtime, standing), *_release_services(runtime, notifications, standing)),
    )
    app.state.root_path = settings.root_path
    app.state.services = {type(service): service for service in services}
    _include_routes(app)
    app.mount(CONSOLE, create_console(settings, app.state.services))
    return stack.wrap(
        LocationMiddleware(ClusterReads(app, settings.cluster), runtime.clusters),
        settings=settings,
        authenticator=Authentication(runtime.database, runtime.keys, settings.identity, audit, bearers=bearers),
        is_public=_is_public,
        clock=lambda: datetime.now(UTC),
        largest_body=_largest_body,
        sessions=app.state.services[Sessions],
    )


@asynccontextmanager
async def _running(
    runtime: Runtime, notifications: Notifications, audit: Audit, watch: LoopWatch, sources: SourceSync
) -> AsyncIterator[None]:
    """Run what the application needs beside its requests."""
    with answering() as ready:
        await runtime.engine.start()
        watch.start()
        tasks = [asyncio.create_task(notifications.listen()), asyncio.create_task(audit.keep_writing())]
        if runtime.settings.sources.sync:
            tasks.append(asyncio.create_task(sources.keep_syncing()))
        EVENT_LOOP_BLOCKED.set_function(watch.longest_seconds)
        runtime.note_build("api")
        freeze_gc()
        try:
            with (
                traced(runtime.settings.traces, "api"),
                monitored(runtime.settings.monitoring, _probes(runtime, notifications)),
            ):
                ready()
                yield
        finally:
            await watch.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(DatabaseUnavailable):
                await audit.write(all_of_it=True)
            await runtime.close()


def _probes(runtime: Runtime, notifications: Notifications) -> Probes:
    async def not_ready() -> str:
        return "it is stopping" if notifications.closed else await runtime.engine_not_ready()

    return Probes(not_ready=not_ready, gauges=DatabaseMetrics(runtime.database).read)


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


def _providers(
    runtime: Runtime, audit: Audit
) -> "tuple[tuple[CodeFlow, OidcUsers] | None, tuple[DeviceFlow, OidcUsers] | None, Bearers]":
    """Return what logs in at identity providers, browsers and terminals, if any can, and what verifies their tokens.

    Servers without providers do not load what these need, 4 MB.
    """
    settings, people, devices, keystone_users = runtime.settings, None, None, None
    look_up = runtime.clients.resolver.of("identity providers")
    users = ProviderUsers(
        runtime.database,
        audit,
        groups_seconds=settings.oidc.groups_seconds,
        first_domain=settings.identity.first_domain,
    )
    if settings.oidc.file is not None:
        from pilothouse.oidc.code_flow import CodeFlow  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.oidc.device_flow import DeviceFlow  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.oidc.provider import providers_of  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.services.identity.oidc_users import OidcUsers  # noqa: PLC0415 - loaded where it is set up

        providers = providers_of(settings.oidc, look_up)
        people = CodeFlow(providers), OidcUsers(users, providers)
        devices = DeviceFlow(providers), people[1]
    if settings.keystone.url:
        from pilothouse.keystone.client import Keystone  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.keystone.documents import provider_of  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.keystone.validated import Validated  # noqa: PLC0415 - loaded where it is set up
        from pilothouse.services.identity.keystone_users import KeystoneUsers  # noqa: PLC0415 - loaded where it is set up

        keystone = Keystone(settings.keystone, look_up)
        keystone_users = KeystoneUsers(users, Validated(keystone, settings.keystone, provider_of(settings.keystone)))
    return people, devices, Bearers(oidc=people[1] if people is not None else None, keystone=keystone_users)


def _identity_services(
    runtime: Runtime,
    audit: Audit,
    people: "tuple[CodeFlow, OidcUsers] | None",
    devices: "tuple[DeviceFlow, OidcUsers] | None",
) -> tuple[object, ...]:
    database, settings = runtime.database, runtime.settings
    passwords = Passwords(database, settings.identity, audit)
    sessions = Sessions(database, passwords, settings.identity, audit)
    tokens = Tokens(database, passwords, settings.identity, audit)
    return (
        tokens,
        DeviceLogIns(database, tokens, audit, often=settings.identity.logins_per_second, people=devices),
        sessions,
        SingleSignOn(runtime.keys, sessions, settings.oidc, audit, people=people),
        SealedForms(runtime.keys),
        Projects(database, region=settings.region),
        Users(database, passwords),
        Policies(database),
        ClusterWalls(database, runtime.clusters, runtime.clients),
        ClusterDrift(database, settings.observer),
        Groups(database, issuers_of(settings)),
        AccessKeys(database, runtime.keys, passwords, settings.identity),
    )


def _chart_services(runtime: Runtime, standing: Standing) -> tuple[object, ...]:
    settings, database = runtime.settings, runtime.database
    checks = ChartChecks(runtime.engine, limits=settings.charts, engine_settings=settings.engine)
    signatures = Signatures(runtime.engine, settings.engine)
    trust = Trust(database, signatures)
    charts = Charts(
        *(database, checks, trust, standing),
        quota=settings.chart_quota,
        quota_bytes=settings.chart_quota_bytes,
        engine_settings=settings.engine,
    )
    sync = SourceSync(database, runtime.keys, runtime.engine, settings)
    pulls = ChartPulls(database, sync, checks, signatures, settings.sources)
    sources = Sources(database, runtime.keys, sync, pulls, signatures=signatures, settings=settings)
    pushes = ChartPushes(database, sync, pulls, settings, checks=checks, trust=trust)
    return trust, charts, sync, pulls, pushes, sources, SourceCharts(database, pulls, settings.charts)


def _release_services(runtime: Runtime, notifications: Notifications, standing: Standing) -> tuple[object, ...]:
    settings, database, keys, clusters = runtime.settings, runtime.database, runtime.keys, runtime.clusters
    preflight = Preflight(settings)
    shared = ReleaseDependencies(database, keys, clusters, runtime.engine, settings, preflight)
    details = ReleaseDetails(database, keys, clusters)
    view = ReleaseView(database, keys, clusters, settings.releases, standing)
    waiting = Counted(
        what="requests that wait", per_key=settings.waits_per_user, whose="this user", in_all=settings.waits
    )
    releases, updates, operations = Releases(shared), Updates(shared), Operations(database, notifications, standing)
    deployments, deletions = Deployments(shared, releases, updates), Deletions(shared)
    return (
        releases,
        updates,
        deployments,
        deletions,
        ReleaseTests(shared, updates),
        Plans(shared, deployments, updates, deletions),
        Renders(shared),
        Unlocks(shared),
        view,
        ReleaseWaits(view, notifications, standing, waiting=waiting),
        ReleaseSerializer(ZoneInfo(settings.time_zone), settings.releases),
        Idempotency(database, keys, settings),
        ProjectReleases(database, settings.releases),
        details,
        ReleaseParts(settings.releases),
        ReleaseDifferences(details),
        ReleaseTrees(clusters, details),
        ReleasePods(clusters, details, standing),
        ReleaseDrifts(shared, details),
        operations,
        OperationWaits(operations, notifications, standing, waiting=waiting),
        Cancellations(database),
        EventStreams(
            what="event streams", per_key=settings.streams_per_user, whose="this user", in_all=settings.streams
        ),
    )


def _is_public(method: str, path: str) -> bool:
    """Return True for routes without authentication: log-in, and the versions that its clients ask for before."""
    if method == "POST":
        return path in {token_routes.PATH, log_in_routes.PATH}
    return path in _PUBLIC or (method == "GET" and path in version_routes.PATHS)


def _largest_body(method: str, path: str) -> int:
    """Return how many bytes a route reads at most, so that larger bodies are refused early."""
    if path == token_routes.PATH:
        return LOGIN.size
    if path.startswith(chart_routes.PREFIXES):
        return sys.maxsize
    if path.startswith(release_routes.PREFIXES):
        return RELEASE.size
    if is_console(path):
        return largest_form(path)
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
