"""What followers of one thing share."""

import asyncio

import pytest

from pilothouse.console.streams import Shared, message


async def test_it_is_made_once_for_all_who_ask_and_the_newest_are_kept():
    shared, made = Shared[int](most=2), []

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(1)
        return len(made)

    assert await asyncio.gather(*(shared.share("a", make) for _ in range(50))) == [1] * 50
    assert await shared.share("a", make) == 1
    assert [await shared.share(key, make) for key in ("b", "c", "a")] == [2, 3, 4]


async def test_who_leaves_takes_it_from_nobody_and_a_failure_is_not_kept():
    shared, begun = Shared[str](most=2), asyncio.Event()

    async def make() -> str:
        begun.set()
        await asyncio.sleep(0.01)
        return "made"

    first = asyncio.create_task(shared.share("a", make))
    await begun.wait()
    other = asyncio.create_task(shared.share("a", make))
    await asyncio.sleep(0)
    first.cancel()
    assert await other == "made"

    async def fail() -> str:
        raise ValueError("not this time")

    with pytest.raises(ValueError, match="not this time"):
        await shared.share("b", fail)
    assert await shared.share("b", make) == "made"


def test_a_message_has_each_line_of_its_part():
    assert message("<p>\n\n</p>") == b"data: <p>\ndata: \ndata: </p>\n\n"
