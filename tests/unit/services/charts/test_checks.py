"""How many archives are looked at at once, and what becomes of those that find no place."""

import asyncio
import io
import threading
from pathlib import Path
from typing import Any

import pytest

from pilothouse.engine.pool import EnginePool
from pilothouse.errors import Busy, InvalidChart
from pilothouse.services.charts.checks import ChartChecks
from pilothouse.settings import ChartLimits, EngineSettings
from tests.support.charts import build_chart, config_map_chart


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"templates": {"x.yaml": "{{ nope }}"}}, "[ERROR] templates/: parse error at (demo/templates/x.yaml:1)"),
        ({"templates": {"x.yaml": "a: [\n"}}, "[ERROR] templates/x.yaml: unable to parse YAML"),
        ({"metadata": {"dependencies": "none"}}, "[ERROR] chart: unable to extract tarball: "),
        ({"metadata": {"annotations": ["a"]}}, "[ERROR] "),
        ({"schema": '{"required": ["z"]}', "values": {"a": 1}}, "[ERROR] values.yaml: "),
    ],
    ids=["function", "yaml", "dependencies", "annotations", "schema"],
)
async def test_lint_names_no_folder_of_ours_with_a_blank_in_its_path(
    tmp_path: Path, changes: dict[str, Any], words: str
):
    """helm/helm's findings hold the path of the folder that the archive was unpacked to."""
    folder = tmp_path / "data of pilothouse"
    settings = EngineSettings.model_validate({"children": 1})
    engine = EnginePool(settings, state_dir=folder)
    await engine.start()
    try:
        checks = ChartChecks(engine, limits=ChartLimits.model_validate({}), engine_settings=settings)
        with pytest.raises(InvalidChart) as refused:
            await checks.check(io.BytesIO(build_chart(**changes)), lint=True, project_id="project")
    finally:
        await engine.close()
    assert words in str(refused.value)
    for part in ("data of pilothouse", "of pilothouse", "helm-lint", str(tmp_path)):
        assert part not in str(refused.value)
