"""The composition root: the only module that sees every layer. Builds what a process needs, and runs it."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import uvicorn
import uvloop
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from pilothouse import __version__
from pilothouse.api import access_keys as access_key_api
from pilothouse.api import clusters as cluster_api
from pilothouse.api import evidence as evidence_api
from pilothouse.api import health, reference
from pilothouse.api import operations as operation_api
from pilothouse.api import projects as project_api
from pilothouse.api import releases as release_api
from pilothouse.api import users as user_api
from pilothouse.auth.sealing import MasterKeys
from pilothouse.cce import charts as chart_routes
from pilothouse.cce import description as compatible_description
from pilothouse.cce import projects as project_routes
from pilothouse.cce import releases as release_routes
from pilothouse.cce import tokens as token_routes
from pilothouse.cce import versions as version_routes
from pilothouse.cce.models import ReleaseForm
from pilothouse.cluster.addresses import resolve_server
from pilothouse.cluster.client import ClusterClients
from pilothouse.engine.pool import EnginePool
from pilothouse.errors import PilothouseError
from pilothouse.gateway import stack
from pilothouse.gateway.errors import internal_error, route_not_found
from pilothouse.gateway.listeners import GatewayServer, TlsContext, certificate_files, endpoints
from pilothouse.observer.observer import Observer
from pilothouse.queue import Queue
from pilothouse.services.access_keys import AccessKeys
from pilothouse.services.announcements import Announcements
from pilothouse.services.authentication import Authentication
from pilothouse.services.cancellations import Cancellations
from pilothouse.services.chart_checks import ChartChecks
from pilothouse.services.charts import Charts
from pilothouse.services.clusters import Clusters
from pilothouse.services.idempotency import Idempotency
from pilothouse.services.operations import Operations
from pilothouse.services.passwords import Passwords
from pilothouse.services.preflight import Preflight
from pilothouse.services.projects import Projects
from pilothouse.services.release_deletions import Deletions
from pilothouse.services.release_index import ReleaseIndex
from pilothouse.services.release_unlocks import Unlocks
from pilothouse.services.release_updates import Updates
from pilothouse.services.release_view import ReleaseView
from pilothouse.services.releases import Releases
from pilothouse.services.tokens import Tokens
from pilothouse.services.users import Users
from pilothouse.settings import Settings
from pilothouse.store.database import Database
from pilothouse.web.description import describe
from pilothouse.web.errors import handle
from pilothouse.web.requests import refuse_nul
from pilothouse.worker.actions import Actions
from pilothouse.worker.records import Records
from pilothouse.worker.runner import Runner

OPENAPI_PATH = "/api/v1/openapi.json"
_PUBLIC = frozenset({health.HEALTH_PATH, OPENAPI_PATH, reference.REFERENCE_PATH, compatible_description.PATH})


@dataclass(frozen=True)
class Parts:
    """What every kind of process is made of."""

    settings: Settings
    database: Database
    keys: MasterKeys
    clients: ClusterClients
    clusters: Clusters
    engine: EnginePool

    async def close(self) -> None:
        """Ends children and connections."""
        await self.engine.close()
        await self.clients.close()
        await self.database.close()


def build_parts(settings: Settings, *, database_url: str, engine_children: int) -> Parts:
    """Builds the parts; nothing is started or connected yet."""
    database = Database(database_url)
    keys = MasterKeys.load_or_create(settings.master_key)
    clients = ClusterClients(settings.cluster)
    engine_settings = settings.engine.model_copy(update={"children": engine_children})
    return Parts(
        settings=settings,
        database=database,
        keys=keys,
        clients=clients,
        clusters=Clusters(database, keys, clients, settings.cluster),
        engine=EnginePool(
            engine_settings,
            state_dir=settings.data_dir / "engine",
            charts=settings.charts,
            route=lambda kubeconfig: resolve_server(kubeconfig, settings.cluster),
        ),
    )


def create_app(parts: Parts, announcements: Announcements) -> ASGIApp:
    """The HTTP application behind its gateway; starts and ends the engine with the server's lifespan."""
    settings = parts.settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.engine.start()
        listening = asyncio.create_task(announcements.listen())
        _settle_memory()
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await parts.close()

    app = FastAPI(
        title="Pilothouse",
        version=__version__,
        lifespan=lifespan,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_nul)],
    )
    form = ReleaseForm(ZoneInfo(settings.time_zone), settings.releases)
    preflight = Preflight(settings)
    releases = Releases(parts.database, parts.keys, parts.clusters, parts.engine, settings, preflight=preflight)
    updates = Updates(parts.database, parts.keys, parts.clusters, parts.engine, settings, preflight=preflight)
    deletions = Deletions(parts.database, parts.keys, parts.clusters, settings, preflight=preflight)
    idempotency = Idempotency(parts.database, parts.keys, settings)
    view = ReleaseView(parts.database, parts.keys, parts.clusters, settings.releases)
    checks = ChartChecks(parts.engine, limits=settings.charts, engine_settings=settings.engine)
    charts = Charts(parts.database, checks, quota=settings.chart_quota)
    # The vendor's wire is described by a document of its own; our own API describes itself.
    for prefix in release_routes.PREFIXES:
        router = release_routes.routes(
            releases, updates, deletions, view, announcements, idempotency=idempotency, form=form, prefix=prefix
        )
        app.include_router(router, include_in_schema=False)
    for prefix in chart_routes.PREFIXES:
        app.include_router(chart_routes.routes(charts, prefix=prefix), include_in_schema=False)
    _include_identity(app, parts)
    app.include_router(cluster_api.routes(parts.clusters))
    app.include_router(release_api.routes(Unlocks(parts.database, parts.keys, parts.clusters)))
    operations = Operations(parts.database, announcements)
    app.include_router(operation_api.routes(operations, Cancellations(parts.database)))
    app.include_router(evidence_api.routes(operations))
    app.include_router(health.routes(parts.database))
    app.include_router(compatible_description.routes(), include_in_schema=False)
    describe(app, public=_is_public)
    app.include_router(reference.routes(app.openapi))
    app.add_exception_handler(PilothouseError, handle)
    app.add_exception_handler(404, route_not_found)
    app.add_exception_handler(405, route_not_found)
    app.add_exception_handler(Exception, internal_error)
    return stack.wrap(
        app,
        settings=settings,
        authenticator=Authentication(parts.database, parts.keys, settings.identity),
        is_public=_is_public,
        clock=lambda: datetime.now(UTC),
    )


def _include_identity(app: FastAPI, parts: Parts) -> None:
    """The routes about who may call: the vendor's part of them, and ours."""
    settings = parts.settings
    passwords = Passwords(parts.database, settings.identity)
    tokens = Tokens(parts.database, passwords, settings.identity)
    projects = Projects(parts.database, region=settings.region)
    app.include_router(version_routes.routes(), include_in_schema=False)
    app.include_router(token_routes.routes(tokens, region=settings.region), include_in_schema=False)
    app.include_router(project_routes.routes(projects), include_in_schema=False)
    app.include_router(user_api.routes(Users(parts.database, passwords)))
    app.include_router(access_key_api.routes(AccessKeys(parts.database, parts.keys)))
    app.include_router(project_api.routes(projects))


def _is_public(method: str, path: str) -> bool:
    """What strangers may call: a token has to come from somewhere, and its clients ask for versions before."""
    if method == "POST":
        return path == token_routes.PATH
    return path in _PUBLIC or (method == "GET" and path in version_routes.PATHS)


def run_api(settings: Settings, *, database_url: str) -> None:
    """Serves HTTP and HTTPS until SIGTERM or SIGINT."""
    listeners = endpoints(settings)
    tls = TlsContext(lambda: certificate_files(settings), ciphers=settings.tls.ciphers) if settings.tls.port else None
    parts = build_parts(settings, database_url=database_url, engine_children=settings.engine.children)
    announcements = Announcements(parts.database)
    config = uvicorn.Config(
        create_app(parts, announcements),
        log_config=None,
        timeout_graceful_shutdown=10,
        proxy_headers=False,
        **stack.server_options(),
    )
    GatewayServer(config, listeners, tls=tls, on_stop=announcements.close).run()


def run_worker(settings: Settings, *, database_url: str, name: str = "") -> None:
    """Carries out operations until SIGTERM or SIGINT, then drains; for ``name`` see Runner."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(settings, database_url, name))


def run_observer(settings: Settings, *, database_url: str) -> None:
    """Keeps the release index until SIGTERM or SIGINT, then gives its clusters to the others."""
    asyncio.run(_observe(settings, database_url))


def _settle_memory() -> None:
    """Takes what was loaded at the start out of the collector's sight: walking it costs requests 30 ms at a time."""
    gc.collect()
    gc.freeze()


async def _work(settings: Settings, database_url: str, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = build_parts(settings, database_url=database_url, engine_children=settings.worker.operations)
    await parts.engine.start()
    _settle_memory()
    try:
        queue = Queue(
            parts.database,
            poll_seconds=settings.worker.poll_seconds,
            running_per_cluster=settings.queue.running_per_cluster,
        )
        actions = Actions(parts.database, parts.keys, parts.clusters, parts.engine, settings)
        records = Records(parts.clusters, ReleaseIndex(parts.keys))
        await Runner(parts.database, queue, actions, records, settings, name=name).run(stop)
    finally:
        await parts.close()


async def _observe(settings: Settings, database_url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = build_parts(settings, database_url=database_url, engine_children=1)
    _settle_memory()
    try:
        index = ReleaseIndex(parts.keys)
        await Observer(parts.database, parts.clusters, index, settings.observer).run(stop)
    finally:
        await parts.close()
