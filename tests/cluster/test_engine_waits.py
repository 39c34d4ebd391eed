"""A call that only waits for its cluster keeps no other call of the pool waiting, on a real Kubernetes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, ProgressEvent
from pilothouse.errors import Busy
from pilothouse.settings import EngineSettings
from tests.support.charts import build_chart, config_map_chart
from tests.support.engines import unvetted
from tests.support.workloads import deployment_template, hook_template

MOST_WAITING = 2


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[EnginePool]:
    pool = EnginePool(
        EngineSettings(children=1, idle_seconds=0.2), state_dir=tmp_path, route=unvetted, most_waiting=MOST_WAITING
    )
    await pool.start()
    yield pool
    await pool.close()


class Waiting:
    """Installs that never become ready, ended with the block."""

    def __init__(self, pool: EnginePool, kubeconfig: str, namespace: str) -> None:
        self._pool = pool
        self._where: dict[str, Any] = {"kubeconfig": kubeconfig, "namespace": namespace}
        self._calls: list[asyncio.Task[object]] = []

    async def begin(self, name: str, chart: bytes) -> None:
        """Return when it waits."""
        waits = asyncio.Event()

        def notice(event: ProgressEvent) -> None:
            if event.phase in {"wait", "hook"}:
                waits.set()

        request = InstallRequest(**self._where, release_name=name, chart=chart, wait="ready", timeout_seconds=60)
        call = self._pool.run(request, deadline_seconds=60, on_progress=notice)
        self._calls.append(asyncio.create_task(call))
        await asyncio.wait_for(waits.wait(), 30)

    async def install(self, name: str, seconds: float) -> str:
        request = InstallRequest(**self._where, release_name=name, chart=config_map_chart())
        return (await self._pool.run(request, deadline_seconds=30, queue_seconds=seconds)).status

    async def end(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


@pytest.fixture
async def waiting(pool: EnginePool, kubeconfig: str, namespace: str) -> AsyncIterator[Waiting]:
    made = Waiting(pool, kubeconfig, namespace)
    yield made
    await made.end()


NEVER_READY = build_chart("stuck", templates={"d.yaml": deployment_template(fate="never-ready")})
ENDLESS_HOOK = build_chart("hooked", templates={"h.yaml": hook_template("pre-install", fate="never-ready")})


@pytest.mark.parametrize("chart", [NEVER_READY, ENDLESS_HOOK], ids=["readiness", "hook"])
async def test_another_call_begins_while_the_only_child_waits(waiting: Waiting, chart: bytes):
    await waiting.begin("stuck", chart)
    assert await waiting.install("small", 20) == "deployed"


async def test_more_than_may_wait_beside_keep_the_next_call_waiting(waiting: Waiting):
    for number in range(MOST_WAITING + 1):
        await waiting.begin(f"stuck-{number}", NEVER_READY)
    with pytest.raises(Busy):
        await waiting.install("small", 2)


async def test_children_beside_those_that_wait_end_when_nobody_needs_them(waiting: Waiting, pool: EnginePool):
    await waiting.begin("stuck", NEVER_READY)
    assert await waiting.install("small", 20) == "deployed"
    await waiting.end()
    assert await waiting.install("again", 20) == "deployed"
    async with asyncio.timeout(10):
        while len(pool._children) > 1 or pool._adding:  # noqa: ASYNC110 - what is waited for is a process
            await asyncio.sleep(0.05)
    assert await waiting.install("last", 20) == "deployed"
