"""What an archive that is made to cost much costs: time of the processor, and memory."""

import time
import tracemalloc

import pytest

from pilothouse.chart_archive.charts import ChartArchive, inspect_chart
from pilothouse.errors import InvalidChart
from pilothouse.settings import ChartLimits
from tests.support.archives import BOMBS, COSTLY, MIB


def inspect(archive: bytes) -> ChartArchive:
    return inspect_chart(archive, limits=ChartLimits())


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_a_second(name: str):
    bomb = BOMBS[name]()
    started = time.process_time()
    with pytest.raises(InvalidChart):
        inspect(bomb)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_large_and_allowed_takes_at_most_a_second(name: str):
    archive = COSTLY[name]()
    started = time.process_time()
    assert inspect(archive).name == "demo"
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("name", ["eight archives of 19 files", "archives inside archives", "alias bomb", "deep flow"])
def test_a_bomb_needs_little_memory(name: str):
    bomb = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidChart):
            inspect(bomb)
        assert tracemalloc.get_traced_memory()[1] < 30 * MIB
    finally:
        tracemalloc.stop()
