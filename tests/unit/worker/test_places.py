"""Which operations of a worker hold a place, and when the next may begin."""

import asyncio

import pytest

from pilothouse.worker.places import Place, Places


async def enter(places: Places, name: str, *, project: str = "p") -> Place:
    place = await asyncio.wait_for(places.enter(), 1)
    assert place is not None
    place.hold(name, project)
    return place


async def is_full(places: Places) -> bool:
    entering = asyncio.create_task(places.enter())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    full = not entering.done()
    entering.cancel()
    for place in await asyncio.gather(entering, return_exceptions=True):
        if isinstance(place, Place):
            place.leave()
    return full


@pytest.mark.parametrize("phase", ["wait", "hook"])
async def test_who_only_waits_lets_the_next_begin_until_it_works_again(phase: str):
    places = Places(1, waiting=4)
    first = await enter(places, "first")
    assert await is_full(places)
    first.notice("apply")
    assert await is_full(places)
    first.notice(phase)
    first.notice("storage")
    assert list(places.at_rest) == ["first"]
    second = await enter(places, "second")
    first.notice("apply")
    assert list(places.at_rest) == []
    second.leave()
    assert await is_full(places), "the one that went on has the place"
    first.leave()
    assert not await is_full(places)


async def test_more_than_may_wait_hold_their_places_until_there_is_room():
    places = Places(1, waiting=2)
    first, second = [await waiting(places, name, project=name) for name in ("first", "second")]
    third = await waiting(places, "third", project="third")
    assert sorted(places.at_rest) == ["first", "second"]
    assert await is_full(places)
    second.leave()
    assert sorted(places.at_rest) == ["first", "third"]
    assert not await is_full(places)
    for place in (first, third):
        place.leave()
    one = await enter(places, "one")
    assert await is_full(places), "no place came from nowhere"
    one.leave()


async def waiting(places: Places, name: str, *, project: str = "p") -> Place:
    place = await enter(places, name, project=project)
    place.notice("wait")
    return place


async def test_one_project_has_half_of_the_room_for_those_who_wait():
    places = Places(2, waiting=4)
    of_one = [await waiting(places, f"a{number}", project="a") for number in range(3)]
    assert sorted(places.at_rest) == ["a0", "a1"]
    of_other = [await waiting(places, f"b{number}", project="b") for number in range(2)]
    assert sorted(places.at_rest) == ["a0", "a1", "b0", "b1"]
    assert not await is_full(places)
    for place in [*of_one, *of_other]:
        place.leave()


async def test_without_room_to_wait_everybody_holds_a_place():
    places = Places(1, waiting=0)
    place = await waiting(places, "one")
    assert await is_full(places)
    place.work()
    place.leave()
    assert not await is_full(places)


async def test_a_place_given_to_who_gives_up_at_that_moment_goes_to_the_next():
    places = Places(1, waiting=0)
    held = await enter(places, "held")
    leaving, staying = asyncio.create_task(places.enter()), asyncio.create_task(places.enter())
    await asyncio.sleep(0)
    held.leave()
    leaving.cancel()
    place = await asyncio.wait_for(staying, 1)
    assert place is not None
    await asyncio.gather(leaving, return_exceptions=True)
    place.leave()


async def test_nobody_enters_once_it_is_closed():
    places = Places(1, waiting=0)
    held = await enter(places, "held")
    entering = asyncio.create_task(places.enter())
    await asyncio.sleep(0)
    places.close()
    assert await entering is None
    assert await places.enter() is None
    held.leave()
