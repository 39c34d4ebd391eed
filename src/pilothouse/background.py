"""The composition root of what works behind the API: worker and observer."""

import asyncio
import signal

import uvloop

from pilothouse.observer.observer import Observer
from pilothouse.parts import build_parts, settle_memory
from pilothouse.queue import Queue
from pilothouse.services.release_index import ReleaseIndex
from pilothouse.settings import Settings
from pilothouse.worker.actions import Actions
from pilothouse.worker.records import Records
from pilothouse.worker.runner import Runner


def run_worker(settings: Settings, *, database_url: str, name: str = "") -> None:
    """Carries out operations until SIGTERM or SIGINT, then drains; for ``name`` see Runner."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(settings, database_url, name))


def run_observer(settings: Settings, *, database_url: str) -> None:
    """Keeps the release index until SIGTERM or SIGINT, then gives its clusters to the others."""
    asyncio.run(_observe(settings, database_url))


async def _work(settings: Settings, database_url: str, name: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = build_parts(settings, database_url=database_url, engine_children=settings.worker.operations)
    await parts.engine.start()
    settle_memory()
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
    settle_memory()
    try:
        index = ReleaseIndex(parts.keys)
        await Observer(parts.database, parts.clusters, index, settings.observer).run(stop)
    finally:
        await parts.close()
