"""Which operations of a worker hold a slot, and when the next may begin."""

import asyncio

import pytest

from pilothouse.worker.slots import Slot, Slots


async def enter(slots: Slots, name: str, *, project: str = "p") -> Slot:
    slot = await asyncio.wait_for(slots.enter(), 1)
    assert slot is not None
    slot.hold(name, project)
    return slot


async def is_full(slots: Slots) -> bool:
    entering = asyncio.create_task(slots.enter())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    full = not entering.done()
    entering.cancel()
    for slot in await asyncio.gather(entering, return_exceptions=True):
        if isinstance(slot, Slot):
            slot.leave()
    return full


@pytest.mark.parametrize("phase", ["wait", "hook"])
async def test_who_only_waits_lets_the_next_begin_until_it_works_again(phase: str):
    slots = Slots(1, waiting=4)
    first = await enter(slots, "first")
    assert await is_full(slots)
    first.notice("apply")
    assert await is_full(slots)
    first.notice(phase)
    first.notice("storage")
    assert list(slots.waiting) == ["first"]
    second = await enter(slots, "second")
    first.notice("apply")
    assert list(slots.waiting) == []
    second.leave()
    assert await is_full(slots), "the one that went on has the slot"
    first.leave()
    assert not await is_full(slots)


async def test_more_than_may_wait_hold_their_places_until_there_is_room():
    slots = Slots(1, waiting=2)
    first, second = [await waiting(slots, name, project=name) for name in ("first", "second")]
    third = await waiting(slots, "third", project="third")
    assert sorted(slots.waiting) == ["first", "second"]
    assert await is_full(slots)
    second.leave()
    assert sorted(slots.waiting) == ["first", "third"]
    assert not await is_full(slots)
    for slot in (first, third):
        slot.leave()
    one = await enter(slots, "one")
    assert await is_full(slots), "no slot came from nowhere"
    one.leave()


async def waiting(slots: Slots, name: str, *, project: str = "p") -> Slot:
    slot = await enter(slots, name, project=project)
    slot.notice("wait")
    return slot


async def test_one_project_has_half_of_the_room_for_those_who_wait():
    slots = Slots(2, waiting=4)
    of_one = [await waiting(slots, f"a{number}", project="a") for number in range(3)]
    assert sorted(slots.waiting) == ["a0", "a1"]
    of_other = [await waiting(slots, f"b{number}", project="b") for number in range(2)]
    assert sorted(slots.waiting) == ["a0", "a1", "b0", "b1"]
    assert not await is_full(slots)
    for slot in [*of_one, *of_other]:
        slot.leave()


async def test_without_room_to_wait_everybody_holds_a_place():
    slots = Slots(1, waiting=0)
    slot = await waiting(slots, "one")
    assert await is_full(slots)
    slot.work()
    slot.leave()
    assert not await is_full(slots)


async def test_a_place_given_to_who_gives_up_at_that_moment_goes_to_the_next():
    slots = Slots(1, waiting=0)
    held = await enter(slots, "held")
    leaving, staying = asyncio.create_task(slots.enter()), asyncio.create_task(slots.enter())
    await asyncio.sleep(0)
    held.leave()
    leaving.cancel()
    slot = await asyncio.wait_for(staying, 1)
    assert slot is not None
    await asyncio.gather(leaving, return_exceptions=True)
    slot.leave()


async def test_nobody_enters_once_it_is_closed():
    slots = Slots(1, waiting=0)
    held = await enter(slots, "held")
    entering = asyncio.create_task(slots.enter())
    await asyncio.sleep(0)
    slots.close()
    assert await entering is None
    assert await slots.enter() is None
    held.leave()
