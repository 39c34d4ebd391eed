import asyncio

from pilothouse.kubernetes.budget import Pace, paced, wait_for_turn


async def test_requests_begin_no_faster_than_the_pace_whichever_task_makes_them():
    loop = asyncio.get_running_loop()
    began: list[float] = []

    async def ask() -> None:
        await wait_for_turn()
        began.append(loop.time())

    with paced(Pace(100)):
        await asyncio.gather(*(ask() for _ in range(6)))
    assert began[-1] - began[0] >= 0.049


async def test_without_a_pace_nobody_waits():
    before = asyncio.get_running_loop().time()
    for _ in range(1000):
        await wait_for_turn()
    assert asyncio.get_running_loop().time() - before < 1
