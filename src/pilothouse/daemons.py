"""Composition root of the processes behind the API: worker and observer."""

import asyncio
import signal
from collections.abc import Callable, Coroutine

import structlog
import uvloop

from pilothouse.liveness import answering
from pilothouse.monitoring import Probes, monitored, no_gauges
from pilothouse.observer.observer import Observer
from pilothouse.open_files import raise_open_files
from pilothouse.queue import Queue
from pilothouse.services.releases.dependencies import ReleaseDependencies
from pilothouse.services.releases.index import ReleaseIndex
from pilothouse.services.releases.preflight import Preflight
from pilothouse.settings import Settings
from pilothouse.store.takes import Caps
from pilothouse.tracing import traced
from pilothouse.webhook_targets import Targets
from pilothouse.wiring import Runtime, build_runtime, freeze_gc
from pilothouse.worker.actions.registry import Actions
from pilothouse.worker.index_writer import IndexWriter
from pilothouse.worker.runner import Runner
from pilothouse.worker.webhooks.deliveries import Deliveries

log = structlog.get_logger(__name__)


def run_worker(settings: Settings, *, database_url: str, name: str = "") -> None:
    """Carry out operations until SIGTERM or SIGINT, then drain; for ``name`` see Runner."""
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answering(lambda ready: _work(settings, database_url, name, ready)))


def run_observer(settings: Settings, *, database_url: str) -> None:
    """Maintain the release index until SIGTERM or SIGINT, then give its clusters to other observers."""
    raise_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answering(lambda ready: _observe(settings, database_url, ready)))


async def _answering(work: Callable[[Callable[[], None]], Coroutine[None, None, None]]) -> None:
    with answering() as ready:
        await work(ready)


async def _work(settings: Settings, database_url: str, name: str, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = build_runtime(
        settings,
        database_url=database_url,
        engine_children=settings.worker.operations,
        engine_waiting=settings.worker.waiting,
        generic_plans=True,
    )
    targets = Targets(settings.webhooks, settings.cluster)
    # Beside the rest: what a dead worker held is looked at and unlocked while the engine warms up.
    warming = asyncio.create_task(_warm(runtime, stop))
    telling = asyncio.create_task(Deliveries(runtime.database, runtime.keys, targets, settings.webhooks).run())
    try:
        queue = Queue(
            runtime.database,
            poll_seconds=settings.worker.poll_seconds,
            caps=Caps.of_worker(
                settings.worker.operations,
                reserved=settings.worker.reserved,
                per_project=settings.queue.running_per_project,
                per_cluster=settings.queue.running_per_cluster,
                attempts=settings.worker.attempts,
            ),
        )
        shared = ReleaseDependencies(
            runtime.database, runtime.keys, runtime.clusters, runtime.engine, settings, Preflight(settings)
        )
        index_writer = IndexWriter(runtime.clusters, ReleaseIndex(runtime.keys))
        await asyncio.sleep(0)  # the engine is being started: operations wait for it
        with (
            traced(settings.traces, "worker"),
            monitored(settings.monitoring, Probes(not_ready=runtime.engine_not_ready, gauges=no_gauges)),
        ):
            runner = Runner(runtime.database, queue, Actions(shared), index_writer, settings, name=name)
            saying = asyncio.create_task(_say_ready(ready, runner.started, warming))
            try:
                await runner.run(stop)
            finally:
                saying.cancel()
        if warming.done():
            warming.result()
    finally:
        for task in (warming, telling):
            task.cancel()
        await asyncio.gather(warming, telling, return_exceptions=True)
        await runtime.close()


async def _say_ready(
    ready: Callable[[], None], started: asyncio.Event, warming: asyncio.Task[None] | None = None
) -> None:
    """Tell the supervisor when the process does its work; if it cannot get warm, others tell that."""
    if warming is not None:
        await asyncio.wait([warming])
        if warming.cancelled() or warming.exception() is not None:
            return
    await started.wait()
    ready()


async def _warm(runtime: Runtime, stop: asyncio.Event) -> None:
    """Start the engine; if that fails the worker ends."""
    try:
        await runtime.engine.start()
    except BaseException:
        stop.set()
        raise
    runtime.note_build("worker")
    log.info("engine_ready", **runtime.engine.versions)
    freeze_gc()


async def _observe(settings: Settings, database_url: str, ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = build_runtime(settings, database_url=database_url, engine_children=1)
    freeze_gc()
    try:
        index = ReleaseIndex(runtime.keys)
        observer = Observer(runtime.database, runtime.clusters, index, settings.observer)

        async def not_ready() -> str:
            return await observer.not_ready() or await runtime.not_ready()

        runtime.note_build("observer")
        with monitored(settings.monitoring, Probes(not_ready=not_ready, gauges=no_gauges)):
            saying = asyncio.create_task(_say_ready(ready, observer.started))
            try:
                await observer.run(stop)
            finally:
                saying.cancel()
    finally:
        await runtime.close()
