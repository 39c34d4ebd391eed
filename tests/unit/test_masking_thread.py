"""Masks are prepared off the event loop, those of few values without waiting for another tenant's many."""

import asyncio
import threading

from pilothouse.masking_thread import in_masking_thread, mask, prepare
from pilothouse.redaction import MASK, masks_of

MANY = {f"k{number}": f"value-{number}" for number in range(2_000)}


async def test_few_values_do_not_wait_for_the_many_of_others():
    going_on = threading.Event()
    others = asyncio.create_task(in_masking_thread(going_on.wait, 30))
    await asyncio.sleep(0)
    many = asyncio.create_task(prepare(lambda: masks_of(values=MANY), MANY))
    try:
        few = {"password": "hunter22"}
        async with asyncio.timeout(10):
            masks = await prepare(lambda: masks_of(values=few), few)
            assert await mask(masks, "it was hunter22") == f"it was {MASK}"
        assert not many.done()
    finally:
        going_on.set()
        await others
    assert (await many).apply("it was value-1999") == f"it was {MASK}"
