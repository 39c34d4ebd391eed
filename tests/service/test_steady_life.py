"""What the soak does for an hour can be done, and is answered as it should be: each life is led twice."""

import asyncio

from benchmarks.samples import PARTS, take_sample
from benchmarks.soak import soaked, steady_life


async def test_each_life_of_the_soak_can_be_led_and_looked_at():
    with soaked() as (place, monitoring, temporary):
        async with steady_life(place, monitoring) as steady:
            for number in (0, 1):
                await asyncio.gather(*(life(number) for life in steady.lives()))
            sample = await asyncio.to_thread(take_sample, place.server, 0.0, "load", temporary=temporary)
            await steady.client.close()
    assert not steady.client.failures, "requests that were repeated"
    assert {"supervisor", "PostgreSQL", *PARTS} <= sample.held.keys()
    assert all(held.pss > 5 and held.files > 3 and held.threads for held in sample.held.values())
    assert sample.counts["operations"] >= 20
    assert sample.counts["files in the temporary folder"] == 0
