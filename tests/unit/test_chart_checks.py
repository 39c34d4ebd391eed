"""How many archives are looked at at once, and what becomes of those that find no place."""

import asyncio
import io
import threading
from pathlib import Path

import pytest

from pilothouse.engine.pool import EnginePool
from pilothouse.errors import Busy, InvalidChart
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.settings import ChartLimits, EngineSettings
from tests.support.charts import config_map_chart


class Slow(io.BytesIO):
    """An archive that can be read only when the test says so."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reading, self.may_go_on = threading.Event(), threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.reading.set()
        assert self.may_go_on.wait(30)
        return super().read(size)


def make_checks(folder: Path) -> ChartChecks:
    """For one archive at a time; without lint the engine is not needed."""
    settings = EngineSettings.model_validate({"children": 1, "queue_seconds": 0.05})
    return ChartChecks(
        EnginePool(settings, state_dir=folder), limits=ChartLimits.model_validate({}), engine_settings=settings
    )


async def test_who_finds_no_place_in_time_is_told_to_come_again(tmp_path: Path):
    checks = make_checks(tmp_path)
    slow = Slow(config_map_chart("slow"))
    first = asyncio.create_task(checks.check(slow, lint=False, project_id="project"))
    try:
        await asyncio.to_thread(slow.reading.wait, 30)
        with pytest.raises(Busy, match="retry"):
            await checks.check(io.BytesIO(config_map_chart()), lint=False, project_id="project")
    finally:
        slow.may_go_on.set()
    assert (await first).name == "slow"
    assert (await checks.check(io.BytesIO(config_map_chart()), lint=False, project_id="project")).name == "demo"


async def test_a_refused_archive_frees_its_place(tmp_path: Path):
    checks = make_checks(tmp_path)
    for _ in range(3):
        with pytest.raises(InvalidChart):
            await checks.check(io.BytesIO(b"no chart"), lint=False, project_id="project")
    assert (await checks.check(io.BytesIO(config_map_chart()), lint=False, project_id="project")).name == "demo"
